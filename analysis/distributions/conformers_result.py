"""Populations of the wells of dihedrals, and of the conformers of molecules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Panel, Record, Table
from asecalc_ml.analysis.checks.energy_exchange import TimeAverages
from asecalc_ml.analysis.distributions.internal_coordinates import of_pattern
from asecalc_ml.analysis.figures import draw_bars
from asecalc_ml.analysis.number_text import percent, with_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 12


class Population(Record):
    """Fraction of the time that a dihedral spends in a well, or a molecule as a conformer."""

    name: str
    fraction: float
    error: float | None = Field(description="standard error of the fraction; null where the run is too short")
    note: str = Field(description="why there is no error")
    n_changes: int = Field(description="how often it began or ended")

    @property
    def measured(self) -> str:
        """Percent with error, or with the reason why there is none."""
        if self.error is None:
            return f"{percent(self.fraction)} (error: {self.note})"
        return f"{with_error(100 * self.fraction, 100 * self.error)} %"


class RotorPopulations(Record):
    """Wells of all dihedrals of one kind together."""

    pattern: str
    atoms: list[list[int]] = Field(description="indices from 0, the first hundred dihedrals")
    n_members: int
    wells: list[Population]


class MoleculePopulations(Record):
    """Conformers of all molecules of one kind together: a well for each dihedral, in their order."""

    formula: str
    n_molecules: int
    patterns: list[str]
    conformers: list[Population] = Field(description="most frequent first")


class ConformersResult(TimeAverages):
    """Populations of dihedral wells, and of conformers."""

    analysis: Literal["conformers"] = "conformers"
    n_frames: int
    wells_deg: dict[str, dict[str, tuple[float, float]]] = Field(
        description="by pattern, each well's name with where it begins and ends"
    )
    rotors: list[RotorPopulations]
    molecules: list[MoleculePopulations]

    def __getitem__(self, pattern: str) -> dict[str, Population]:
        """Wells of a dihedral by name."""
        return {well.name: well for well in of_pattern(self.rotors, pattern, self.analysis).wells}

    def panels(self) -> list[Panel]:
        """Bars for each kind of molecule."""
        return [
            Panel(key=f"{k}", title=f"Conformers of {molecule.formula}", caption=self._caption(molecule))
            for k, molecule in enumerate(self.molecules)
        ]

    def _caption(self, molecule: MoleculePopulations) -> str:
        conformers, shown = molecule.conformers, molecule.conformers[:SHOWN]
        many = f" The {len(shown)} most frequent of {len(conformers)} are shown." * (
            len(shown) < len(conformers)
        )
        of = f" of {molecule.n_molecules} molecules" * (molecule.n_molecules > 1)
        missing = " Where a bar has no error, the run changed too seldom to tell: run longer." * any(
            conformer.error is None for conformer in shown
        )
        return (
            f"Fraction of the time{of} in {self.n_frames:,} frames, with standard errors. A conformer is "
            f"named by the wells of {', '.join(molecule.patterns)}, in this order: "
            f"{self._wells_text(molecule.patterns)}; those that differ by an exchange of equivalent atoms "
            "are one."
            f"{many}{missing}{self.doubt}"
        )

    def _wells_text(self, patterns: list[str]) -> str:
        limits = {name: ends for pattern in patterns for name, ends in self.wells_deg[pattern].items()}
        return ", ".join(f"{name} from {low:g}° to {high:g}°" for name, (low, high) in limits.items())

    def tables(self) -> list[Table]:
        """Wells of each dihedral, and conformers."""
        wells = [
            [rotor.pattern, rotor.n_members, *self._cells(well)]
            for rotor in self.rotors
            for well in rotor.wells
        ]
        conformers = [
            [molecule.formula, molecule.n_molecules, *self._cells(conformer)]
            for molecule in self.molecules
            for conformer in molecule.conformers
        ]
        numbers = ["fraction", "error", "changes"]
        return [
            Table(
                key="wells",
                title="Wells of dihedrals",
                columns=["dihedral", "members", "well", *numbers],
                rows=wells,
                caption="Fractions of the time. The error is from block averages, and given where the run is "
                f"long enough and each changed at least ten times on average.{self.doubt}",
            ),
            Table(
                key="conformers",
                title="Conformers",
                columns=["molecule", "molecules", "conformer", *numbers],
                rows=conformers,
            ),
        ]

    def _draw(self, ax: Axes, panel: str) -> None:
        shown = self.molecules[int(panel)].conformers[:SHOWN]
        draw_bars(
            ax,
            [conformer.name for conformer in shown],
            [conformer.fraction for conformer in shown],
            [conformer.error for conformer in shown],
            "fraction of the time",
        )
        self.draw_doubt(ax)

    def _cells(self, population: Population) -> list[Any]:
        error = self.error_cell(population.error, population.note)
        return [population.name, population.fraction, error, population.n_changes]

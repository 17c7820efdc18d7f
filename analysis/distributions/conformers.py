"""How often a molecule is in each of its conformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from asecalc_ml.analysis.base import Analysis, Measurement, Panel, Record, Table
from asecalc_ml.analysis.checks.energy_exchange import TimeAverages
from asecalc_ml.analysis.distributions.patterns import DihedralPattern
from asecalc_ml.analysis.number_text import percent, with_error

if TYPE_CHECKING:
    from ase import Atoms
    from matplotlib.axes import Axes

    from asecalc_ml.runs import RunReader

THREE_WELLS = {"g-": (-120.0, 0.0), "g+": (0.0, 120.0), "t": (120.0, -120.0)}
TWO_WELLS = {"cis": (-90.0, 90.0), "trans": (90.0, -90.0)}
HELICAL_WELLS = {"M": (-180.0, 0.0), "P": (0.0, 180.0)}
SHOWN = 12


class Population(Record):
    """How much of the time something is so."""

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
        from asecalc_ml.errors import AnalysisError
        from asecalc_ml.structure.topology.patterns import canonical

        known = {one.pattern: one for one in self.rotors}
        if canonical(pattern) not in known:
            raise AnalysisError(f"{self.analysis} measured {', '.join(known)}, not {pattern!r}")
        return {well.name: well for well in known[canonical(pattern)].wells}

    def panels(self) -> list[Panel]:
        """Bars for each kind of molecule."""
        return [
            Panel(key=f"{k}", title=f"Conformers of {one.formula}", caption=self._caption(one))
            for k, one in enumerate(self.molecules)
        ]

    def _caption(self, one: MoleculePopulations) -> str:
        shown = one.conformers[:SHOWN]
        many = f" The {len(shown)} most frequent of {len(one.conformers)} are shown." * (
            len(shown) < len(one.conformers)
        )
        of = f" of {one.n_molecules} molecules" * (one.n_molecules > 1)
        missing = " Where a bar has no error, the run changed too seldom to tell: run longer." * any(
            each.error is None for each in shown
        )
        return (
            f"Fraction of the time{of} in {self.n_frames:,} frames, with standard errors. A conformer is "
            f"named by the wells of {', '.join(one.patterns)}, in this order: {self._wells_text(one)}; those "
            "that differ by an exchange of equivalent atoms are one."
            f"{many}{missing}{self.doubt}"
        )

    def _wells_text(self, one: MoleculePopulations) -> str:
        limits = {name: ends for pattern in one.patterns for name, ends in self.wells_deg[pattern].items()}
        return ", ".join(f"{name} from {low:g}° to {high:g}°" for name, (low, high) in limits.items())

    def tables(self) -> list[Table]:
        """Wells of each dihedral, and conformers."""
        wells = [
            [one.pattern, one.n_members, *self._cells(well)] for one in self.rotors for well in one.wells
        ]
        conformers = [
            [one.formula, one.n_molecules, *self._cells(each)]
            for one in self.molecules
            for each in one.conformers
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
        from asecalc_ml.analysis.figures import draw_bars

        shown = self.molecules[int(panel)].conformers[:SHOWN]
        draw_bars(
            ax,
            [one.name for one in shown],
            [one.fraction for one in shown],
            [one.error for one in shown],
            "fraction of the time",
        )
        self.draw_doubt(ax)

    def _cells(self, one: Population) -> list[Any]:
        return [one.name, one.fraction, self.error_cell(one.error, one.note), one.n_changes]


class Conformers(Analysis):
    """Populations of gauche and trans, and of the conformers that they make.

    By default one dihedral for each bond whose turning makes another conformer: in no ring, and not of a
    group that looks the same when turned, such as methyl or the NH2 of an amide. It is the dihedral of the
    neighbors with the highest priority that are equivalent to no other, of an amide the angle ω of peptides;
    an amine has two, such as g+/t. A planar atom at one end of the bond, such as a carbon with three
    neighbors, makes two wells, cis and trans; peroxides and disulfides have the two helices P and M, other
    bonds g+, g- and t. Conformers that differ by an exchange of equivalent atoms are one, so that
    names and populations do not depend on the order of atoms.
    """

    result: ClassVar = ConformersResult
    needs_times: ClassVar = True

    dihedrals: list[DihedralPattern] | None = Field(
        None, min_length=1, description="such as [C-C-C-O]; empty for one of each bond that can turn"
    )
    wells_deg: dict[str, tuple[float, float]] | None = Field(
        None,
        description="where each well begins and ends, such as {g-: [-120, 0], g+: [0, 120], t: [120, -120]}; "
        "together the whole circle",
    )

    @field_validator("wells_deg")
    @classmethod
    def _is_a_circle(cls, wells: dict | None) -> dict | None:
        from asecalc_ml.analysis.distributions.wells import covers_the_circle

        if wells is not None and not covers_the_circle(wells):
            raise ValueError(
                f"wells_deg: each well must begin where another one ends, once around the circle; got {wells}"
            )
        return wells

    def check_start(self, atoms: Atoms) -> None:
        """Dihedrals that there are."""
        from asecalc_ml.analysis.distributions.conformers_measurement import choose_dihedrals

        choose_dihedrals(atoms, self.dihedrals)

    def prepare(self, run: RunReader) -> Measurement:
        """Find the dihedrals; AnalysisError where there are none."""
        from asecalc_ml.analysis.distributions.conformers_measurement import ConformersMeasurement

        return ConformersMeasurement(run, self)

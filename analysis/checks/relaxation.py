"""How a relaxation converged: energy and largest force by step, and changes of the bonds."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import AliasChoices, Field

from asecalc_ml.analysis.base import Analysis, Panel, Result, Table, Verdict
from asecalc_ml.analysis.figures import BLUE, VERMILION
from asecalc_ml.errors import AnalysisError
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import bond_changes, find_bonds_and_shifts

if TYPE_CHECKING:
    from ase import Atoms
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.base import AnyRun


class RelaxationResult(Result):
    """Energy and largest force along a relaxation, and bond lengths before and after."""

    analysis: Literal["relaxation"] = "relaxation"
    limit_eV_A: float = Field(description="largest force of a relaxed structure")
    energies_eV: list[float] = Field(description="energy after each step")
    largest_forces_eV_A: list[float] = Field(
        validation_alias=AliasChoices("largest_forces_eV_A", "forces_eV_A"),
        description="largest force on an atom after each step",
    )
    bonds: list[str] = Field(description="bonds of the structure as it was given")
    lengths_before_A: list[float]
    lengths_after_A: list[float]
    n_broken: int = Field(
        validation_alias=AliasChoices("n_broken", "broken"), description="bonds of the start that are broken"
    )
    n_formed: int = Field(
        validation_alias=AliasChoices("n_formed", "formed"), description="bonds that were not there"
    )

    @property
    def n_steps(self) -> int:
        """Steps made."""
        return len(self.energies_eV) - 1

    def verdicts(self) -> list[Verdict]:
        """Whether a minimum was reached, and whether it is the same molecule."""
        last = self.largest_forces_eV_A[-1]
        reached = Verdict(
            check="the structure is relaxed",
            status="passed" if last <= self.limit_eV_A else "failed",
            text=f"largest force {last:.4g} eV/Å after {self.n_steps} steps, limit {self.limit_eV_A:g} eV/Å",
        )
        changed = self.n_broken or self.n_formed
        bonds = Verdict(
            check="the bonds are those of the start",
            status="failed" if changed else "passed",
            text=f"{self.n_broken} broken, {self.n_formed} formed, of {len(self.bonds)}",
        )
        return [reached, bonds]

    def panels(self) -> list[Panel]:
        """Largest force, and energy, by step."""
        captions = {
            "forces": f"Largest force on an atom after each step; dashed: {self.limit_eV_A:g} eV/Å.",
            "energies": f"Energy after each step, above that of the last, {self.energies_eV[-1]:.6f} eV.",
        }
        titles = {"forces": "Largest force", "energies": "Energy"}
        return [Panel(key=key, title=titles[key], caption=text) for key, text in captions.items()]

    def tables(self) -> list[Table]:
        """Energies, and bond lengths."""
        columns = ["energy at the start (eV)", "relaxed (eV)", "gained (eV)", "steps"]
        first, last = self.energies_eV[0], self.energies_eV[-1]
        energy = Table(
            key="energy", title="Energy", columns=columns, rows=[[first, last, first - last, self.n_steps]]
        )
        lengths = zip(self.bonds, self.lengths_before_A, self.lengths_after_A, strict=True)
        rows = [[name, before, after, after - before] for name, before, after in lengths]
        columns = ["bond", "as given (Å)", "relaxed (Å)", "change (Å)"]
        return [energy, Table(key="bonds", title="Bond lengths", columns=columns, rows=rows)]

    def data(self) -> list[Table]:
        """Energy and largest force by step."""
        steps = enumerate(zip(self.energies_eV, self.largest_forces_eV_A, strict=True))
        rows = [[step, energy, force] for step, (energy, force) in steps]
        columns = ["step", "energy (eV)", "largest force (eV/Å)"]
        return [Table(key="steps", title="Steps", columns=columns, rows=rows)]

    def _draw(self, ax: Axes, panel: str) -> None:
        last = self.energies_eV[-1]
        above = [1000 * (energy - last) for energy in self.energies_eV]
        values = self.largest_forces_eV_A if panel == "forces" else above
        ax.plot(values, color=BLUE, marker="o", markersize=3)
        label = "largest force (eV/Å)" if panel == "forces" else "energy − last (meV)"
        ax.set(xlabel="step", ylabel=label)
        ax.locator_params(axis="x", integer=True)
        if panel == "forces":
            ax.set_yscale("log")
            ax.axhline(self.limit_eV_A, color=VERMILION, dashes=(5, 3))


class Relaxation(Analysis):
    """How a relaxation converged, and which bond lengths it changed."""

    result: ClassVar = RelaxationResult
    reads: ClassVar = "RELAXATION"

    def run(self, run: AnyRun) -> RelaxationResult:
        """Read the steps and the two structures; AnalysisError where nothing was relaxed to its end."""
        steps, after = run.read_relaxation(), run.read_relaxed()
        if after is None or not len(steps.get("step", ())):
            raise AnalysisError("the run holds no finished relaxation", remedy="resume it")
        return RelaxationResult(
            limit_eV_A=run.relaxation_limit,
            energies_eV=steps["energy_eV"].tolist(),
            largest_forces_eV_A=steps["largest_force_eV_A"].tolist(),
            **_bonds(run.atoms, after),
        )


def _bonds(before: Atoms, after: Atoms) -> dict:
    """Bonds of the start with their lengths in both structures, and how many changed."""
    bonds, shifts = find_bonds_and_shifts(before)
    broken, formed = bond_changes(bonds, after)
    symbols = before.get_chemical_symbols()
    return {
        "bonds": [f"{symbols[i]}{i}-{symbols[j]}{j}" for i, j in bonds],
        "lengths_before_A": _lengths(before, bonds, shifts),
        "lengths_after_A": _lengths(after, bonds, shifts),
        "n_broken": len(broken),
        "n_formed": len(formed),
    }


def _lengths(atoms: Atoms, bonds: np.ndarray, shifts: np.ndarray) -> list[float]:
    """Lengths of bonds, each with its own image, Å."""
    vectors = pair_vectors(atoms.positions, bonds.T, shifts, atoms.cell.array)
    return np.linalg.norm(vectors, axis=1).tolist()

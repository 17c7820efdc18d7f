"""Frequencies, zero-point energy and normal modes of a run that has computed second derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from ase.data import atomic_numbers
from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Panel, Result, Table, Verdict
from asecalc_ml.analysis.figures import PALETTE, RULE
from asecalc_ml.analysis.functions.harmonic import normal_modes, rigid_motions, zero_point_energy
from asecalc_ml.analysis.number_text import minus
from asecalc_ml.errors import AnalysisError
from asecalc_ml.structure.rigid_motions import rotations

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.base import AnyRun

LISTED = 5  # imaginary frequencies named in a verdict


class NormalModesResult(Result):
    """Harmonic frequencies and the modes that belong to them."""

    analysis: Literal["normal-modes"] = "normal-modes"
    method: str = Field(description="autograd or finite-differences")
    frequencies_per_cm: list[float] = Field(description="ascending; imaginary ones as negative numbers")
    rigid_per_cm: list[float] = Field(description="of translations and rotations, before these were removed")
    zero_point_energy_eV: float = Field(description="of the real frequencies")
    largest_force_eV_A: float
    limit_eV_A: float = Field(description="largest force of a minimum")
    atoms: list[str] = Field(description="element and number of the atoms that were free to move")
    shares: dict[str, list[float]] = Field(description="share of each element in each mode's kinetic energy")
    modes: list[list[float]] = Field(description="displacements x, y, z of each atom, of norm 1")

    @property
    def imaginary(self) -> list[float]:
        """Absolute values of the imaginary frequencies, 1/cm, the largest first."""
        return [-value for value in self.frequencies_per_cm if value < 0]

    def verdicts(self) -> list[Verdict]:
        """Whether the structure is a minimum, by its forces and by its frequencies."""
        forces = f"largest force {self.largest_force_eV_A:.3g} eV/Å, limit {self.limit_eV_A:g} eV/Å"
        is_relaxed = self.largest_force_eV_A <= self.limit_eV_A
        listed = ", ".join(f"{value:.1f}i" for value in self.imaginary[:LISTED])
        text = f"{len(self.imaginary)} of {len(self.frequencies_per_cm)} are imaginary ({listed} cm⁻¹)"
        residual = max(map(abs, self.rigid_per_cm), default=0.0)
        status = "failed" if self.imaginary else "passed"
        if self.imaginary and self.imaginary[0] <= residual:
            status = "undecided"
            text += (
                f", no larger than what is left of translations and rotations ({residual:.1f} cm⁻¹): relax "
                "to smaller forces, or compute the Hessian in float64"
            )
        return [
            Verdict(check="no force is left", status="passed" if is_relaxed else "failed", text=forces),
            Verdict(
                check="all frequencies are real",
                status=status,
                text=text if self.imaginary else f"{len(self.frequencies_per_cm)} normal modes",
            ),
        ]

    def panels(self) -> list[Panel]:
        """The stick spectrum."""
        caption = (
            f"A stick for each of {len(self.frequencies_per_cm)} harmonic frequencies, divided by the shares "
            "of the elements in the mode's kinetic energy. Intensities are not computed."
        )
        if self.imaginary:
            caption += " Imaginary frequencies stand left of zero."
        return [Panel(key="spectrum", title="Harmonic frequencies", caption=caption)]

    def tables(self) -> list[Table]:
        """Frequencies with what moves in them, and the zero-point energy."""
        rows = [
            [k, _wavenumber(value), *(shares[k - 1] for shares in self.shares.values())]
            for k, value in enumerate(self.frequencies_per_cm, 1)
        ]
        columns = ["mode", "frequency (cm⁻¹)", *(f"share of {element}" for element in self.shares)]
        caption = (
            f"Harmonic, by {self.method.replace('-', ' ')}. Share: of the kinetic energy. Translations and "
            "rotations are projected out; before, they came out at "
            f"{minus(', '.join(f'{value:.1f}' for value in self.rigid_per_cm)) or 'nothing'} cm⁻¹."
        )
        summary = [[1000 * self.zero_point_energy_eV, len(self.frequencies_per_cm), len(self.imaginary)]]
        columns_of_summary = ["zero-point energy (meV)", "modes", "imaginary"]
        return [
            Table(key="summary", title="Zero-point energy", columns=columns_of_summary, rows=summary),
            Table(key="frequencies", title="Frequencies", columns=columns, rows=rows, caption=caption),
        ]

    def data(self) -> list[Table]:
        """Displacements of every mode."""
        names = [f"{atom} {axis}" for atom in self.atoms for axis in "xyz"]
        pairs = zip(self.frequencies_per_cm, self.modes, strict=True)
        rows = [[value, *mode] for value, mode in pairs]
        return [Table(key="modes", title="Normal modes", columns=["frequency (cm⁻¹)", *names], rows=rows)]

    def _draw(self, ax: Axes, panel: str) -> None:
        bottom = [0.0] * len(self.frequencies_per_cm)
        for (element, shares), color in zip(self.shares.items(), PALETTE * len(self.shares), strict=False):
            top = [low + share for low, share in zip(bottom, shares, strict=True)]
            ax.vlines(self.frequencies_per_cm, bottom, top, color=color, linewidth=2.2, label=element)
            bottom = top
        lowest, highest = (limit(self.frequencies_per_cm) for limit in (min, max))
        margin = 0.04 * (highest - min(lowest, 0.0))
        ax.set(xlabel="frequency (cm⁻¹)", xlim=(min(lowest, 0.0) - margin, highest + margin))
        ax.set(ylabel="share of element", ylim=(0, 1.18), yticks=[0, 0.5, 1])
        if self.imaginary:
            ax.axvline(0, color=RULE, linewidth=0.8)
        ax.legend(loc="upper center", ncols=6, borderaxespad=0.0, handlelength=1.0)


class NormalModes(Analysis):
    """Normal modes and their frequencies, translations and rotations projected out."""

    result: ClassVar = NormalModesResult
    reads: ClassVar = "HESSIAN"

    def run(self, run: AnyRun) -> NormalModesResult:
        """Diagonalise; AnalysisError where the run holds no second derivatives."""
        hessian = run.read_hessian()  # arrays of its file, by name
        if hessian is None:
            raise AnalysisError(
                "the run holds no second derivatives", remedy="run protocol vibrations to its end"
            )
        # the structure that second derivatives belong to, and its atoms that were free to move
        free, masses = hessian["free"], hessian["masses"][hessian["free"]]
        atoms = run.atoms.copy()
        atoms.set_positions(hessian["positions"], apply_constraint=False)
        # translations and rotations of the whole; atoms that are held leave none
        rigid = rigid_motions(atoms.positions, hessian["masses"], rotations(atoms, bool(hessian["linear"])))
        is_whole = len(free) == len(atoms)
        rigid = rigid if is_whole else np.zeros((0, 3 * len(free)))
        modes = normal_modes(hessian["hessian"], masses, rigid)
        symbols = atoms.symbols[free]
        return NormalModesResult(
            method=str(hessian["method"]),
            frequencies_per_cm=modes.per_cm.tolist(),
            rigid_per_cm=modes.rigid_per_cm.tolist(),
            zero_point_energy_eV=zero_point_energy(modes.per_cm),
            largest_force_eV_A=float(hessian["largest_force"]),
            limit_eV_A=run.relaxation_limit,
            atoms=[f"{symbol}{i}" for symbol, i in zip(symbols, free.tolist(), strict=True)],
            shares=_shares(symbols, modes.kinetic),
            modes=modes.modes.reshape(len(modes.per_cm), -1).tolist(),
        )


def _shares(symbols: np.ndarray, kinetic: np.ndarray) -> dict[str, list[float]]:
    """Kinetic energy of each element's atoms in each mode, heavier elements first."""
    elements = sorted(set(symbols), key=lambda element: -atomic_numbers[element])
    return {element: kinetic[:, [s == element for s in symbols]].sum(axis=1).tolist() for element in elements}


def _wavenumber(value: float) -> float | str:
    return value if value >= 0 else f"{-value:.1f}i"

"""Whether the bonds of the starting structure were kept, and none formed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import AliasChoices, Field

from asecalc_ml.analysis.base import Analysis, Measurement, Record, Result, Table, Verdict, no_frame_error
from asecalc_ml.analysis.distributions.internal_coordinates import ChainValues
from asecalc_ml.structure.topology.bonds import (
    BROKEN_TOLERANCE,
    MoleculePairs,
    bond_changes,
    canonical_pattern,
    find_bonds_and_shifts,
    sums_of_radii,
)
from asecalc_ml.structure.topology.chains import Chains

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs.frames import Frames

BOUND = "the molecule stayed bound"
SHOWN = 5
PAIRS_AT_ONCE = 1_000_000  # about 32 MB


# ------------------------------------------------------------------------------------------------ result


class BondChange(Record):
    """A bond that broke or formed."""

    atoms: list[int] = Field(description="indices from 0, as in ASE")
    pattern: str
    change: Literal["broke", "formed"]
    time_fs: float = Field(description="of the first frame that shows it, from the start of production")

    def __str__(self) -> str:
        i, j = self.atoms
        return f"{self.pattern} {i}–{j} {self.change} at {self.time_fs / 1000:.4g} ps"


class ConnectivityResult(Result):
    """Bonds of the starting structure that broke, and pairs that became bonded."""

    analysis: Literal["connectivity"] = "connectivity"
    n_frames: int
    n_bonds: int
    n_frames_checked: int = Field(
        validation_alias=AliasChoices("n_frames_checked", "n_frames_formed"),
        description="frames that were checked for new bonds",
    )
    largest_stretch: float | None = Field(description="longest bond over the sum of its covalent radii")
    changes: list[BondChange]

    def verdicts(self) -> list[Verdict]:
        """Whether the molecule stayed as it was."""
        status, text = ("failed", self._changes_text()) if self.changes else ("passed", self._kept_text())
        return [Verdict(check=BOUND, status=status, text=text)]

    def _changes_text(self) -> str:
        more = len(self.changes) - SHOWN
        return "; ".join(map(str, self.changes[:SHOWN])) + (f"; {more} more" if more > 0 else "")

    def _kept_text(self) -> str:
        everywhere = self.n_frames_checked == self.n_frames
        looked = "" if everywhere else f" (new bonds were looked for in {self.n_frames_checked:,} of them)"
        if not self.n_bonds:
            return f"no bonds at the start, none formed in {self.n_frames:,} frames{looked}"
        return (
            f"{self.n_bonds} bonds kept and none formed in {self.n_frames:,} frames{looked}; the longest "
            f"reached {self.largest_stretch:.2f} times the sum of its covalent radii (broken: 1.6)"
        )

    def tables(self) -> list[Table]:
        """The changes, where there are any."""
        if not self.changes:
            return []
        rows = [
            [change.pattern, "–".join(map(str, change.atoms)), change.change, change.time_fs / 1000]
            for change in self.changes
        ]
        columns = ["bond", "atoms", "change", "time (ps)"]
        return [Table(key="changes", title="Bonds broken and formed", columns=columns, rows=rows)]


# ----------------------------------------------------------------------------------------------- options


class Connectivity(Analysis):
    """Bonds of the starting structure that broke or formed.

    See :func:`asecalc_ml.structure.topology.bonds.bond_changes`.
    """

    result: ClassVar = ConnectivityResult
    needs_times: ClassVar = True

    periodic_frames: int = Field(
        200, gt=0, description="frames of each thousand of a periodic run in which new bonds are looked for"
    )

    def prepare(self, run: AnyRun) -> Measurement:
        """Find the bonds of the starting structure."""
        return ConnectivityMeasurement(run, self.periodic_frames)


# ------------------------------------------------------------------------------------------- measurement


class ConnectivityMeasurement:
    """Looks for the first frame in which each bond is broken, and each other pair bonded."""

    def __init__(self, run: AnyRun, periodic_frames: int):
        self._atoms, self._interval_fs = run.atoms.copy(), run.frame_interval_fs
        self._bonds, shifts = find_bonds_and_shifts(self._atoms)
        self._lengths = ChainValues(run, Chains(self._bonds, shifts[:, None]))
        self._stretch, self._n_frames, self._n_checked = 0.0, 0, 0
        self._periodic_frames, self._periodic = periodic_frames, bool(np.any(run.pbc))
        self._molecule = None if self._periodic else MoleculePairs(self._atoms.numbers, self._bonds)
        self._first: dict[tuple[int, int, str], int] = {}

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        stretch = self._measure_stretch(frames)
        if self._molecule is None:
            self._note(stretch > BROKEN_TOLERANCE, self._bonds, "broke")
            self._find_formed_across_images(frames)
        else:
            self._find_changes(self._molecule, frames.positions)
        self._n_frames += len(frames)

    def conclude(self) -> ConnectivityResult:
        """Return the changes in the order of time."""
        if self._n_frames == 0:
            raise no_frame_error()
        changes = sorted(self._first.items(), key=lambda item: (item[1], item[0]))
        return ConnectivityResult(
            n_frames=self._n_frames,
            n_bonds=len(self._bonds),
            n_frames_checked=self._n_checked,
            largest_stretch=self._stretch if len(self._bonds) else None,
            changes=[self._change(*key, frame) for key, frame in changes],
        )

    def _measure_stretch(self, frames: Frames) -> np.ndarray:
        """Lengths of bonds, each with its own image, over sums of radii, shape (n_frames, n_bonds)."""
        stretch = self._lengths(frames) / sums_of_radii(self._atoms.numbers, self._bonds)
        self._stretch = max(self._stretch, float(stretch.max(initial=0.0)))
        return stretch

    def _find_changes(self, molecule: MoleculePairs, positions: np.ndarray) -> None:
        """In every frame of a structure without periodic images, all pairs of atoms."""
        step = max(1, PAIRS_AT_ONCE // max(1, len(molecule.pairs)))
        for start in range(0, len(positions), step):
            changed = molecule.changed(positions[start : start + step])
            for mask, change in ((molecule.bonded, "broke"), (~molecule.bonded, "formed")):
                self._note(changed[:, mask], molecule.pairs[mask], change, start)
        self._n_checked += len(positions)

    def _find_formed_across_images(self, frames: Frames) -> None:
        """In every n-th frame of a periodic structure, by a neighbor search."""
        step = max(1, len(frames) // self._periodic_frames)
        for frame in range(0, len(frames), step):
            self._atoms.set_cell(frames.cells[frame])
            self._atoms.positions = frames.positions[frame]
            for i, j in bond_changes(self._bonds, self._atoms)[1]:
                self._first.setdefault((i, j, "formed"), self._n_frames + frame)
            self._n_checked += 1

    def _note(self, changed: np.ndarray, pairs: np.ndarray, change: str, offset: int = 0) -> None:
        """Remember the first frame of each pair that changed, boolean of shape (n_frames, n_pairs)."""
        for column in np.flatnonzero(changed.any(axis=0)):
            frame = self._n_frames + offset + int(changed[:, column].argmax())
            i, j = pairs[column].tolist()
            self._first.setdefault((i, j, change), frame)

    def _change(self, i: int, j: int, change: str, frame: int) -> BondChange:
        symbols = self._atoms.get_chemical_symbols()
        pattern = canonical_pattern((symbols[i], symbols[j]))
        return BondChange(atoms=[i, j], pattern=pattern, change=change, time_fs=frame * self._interval_fs)

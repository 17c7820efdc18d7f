"""A run in memory, for analysing frames that no protocol of ours wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class MemoryRun:
    """What an analysis reads of a run, from arrays.

    Parameters
    ----------
    atoms : Atoms
        Starting structure, whose bonds count.
    positions : array, shape (n_frames, n_atoms, 3), Å
    frame_interval_fs : float
    thermo : dict of arrays, shape (n_points,)
        Columns of thermo.csv, such as ``time_fs`` and ``total_eV``.
    options, model_card, events
        As a :class:`~asecalc_ml.rundir.RunReader` gives them.

    Examples
    --------
    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> from asecalc_ml.analysis.bond_lengths import BondLengths
    >>> round(BondLengths().run(MemoryRun.from_frames([water, water], 1.0))["O-H"].average.mean, 3)
    0.969
    """

    atoms: Atoms
    positions: np.ndarray
    frame_interval_fs: float = 1.0
    thermo: Mapping[str, np.ndarray] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    model_card: Mapping[str, Any] | None = None
    events: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def from_frames(cls, frames: Sequence[Atoms], frame_interval_fs: float, **others: Any) -> MemoryRun:
        """Take frames of the same atoms, the first as the starting structure; cells must not change."""
        positions = np.array([atoms.positions for atoms in frames])
        return cls(frames[0].copy(), positions, frame_interval_fs, **others)

    @property
    def cell(self) -> np.ndarray:
        """Cell vectors as rows, shape (3, 3), Å."""
        return self.atoms.cell.array

    @property
    def pbc(self) -> np.ndarray:
        """Periodic directions, shape (3,)."""
        return self.atoms.pbc

    def chunks(self, size: int = 1000) -> Iterator[np.ndarray]:
        """Positions of consecutive frames, at most ``size`` at once."""
        for start in range(0, len(self.positions), size):
            yield self.positions[start : start + size]

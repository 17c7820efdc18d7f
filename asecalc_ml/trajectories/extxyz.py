"""Writes extended XYZ (.extxyz), with as many digits as it takes to read every bit back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.files import write_at
from asecalc_ml.trajectories.writer import Moment, Origin, TrajectoryWriter

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

WAITING_BYTES = 65_536
PROPERTIES = "species:S:1:pos:R:3:momenta:R:3:forces:R:3"


class ExtxyzWriter(TrajectoryWriter):
    """Text: symbols, positions, momenta and forces in ASE's units; cell, energy, step and time in fs.

    Parameters
    ----------
    path : Path
    origin : Origin
        Not kept.
    """

    def __init__(self, path: Path, origin: Origin):
        path.touch()
        self._file = path.open("r+b", buffering=0)
        self._waiting: list[bytes] = []
        self._size = 0

    def append(self, atoms: Atoms, moment: Moment) -> None:
        """Add a frame; it reaches the file when some have come together."""
        content = _frame(atoms, moment).encode()
        self._waiting.append(content)
        self._size += len(content)
        if self._size > WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what waits to the operating system; where the disk is full, no part of a frame stays."""
        if not self._waiting:
            return
        content, end = b"".join(self._waiting), self._file.seek(0, os.SEEK_END)
        try:
            write_at(self._file, content, end)
        except OSError:
            self._file.truncate(end)
            raise
        self._waiting, self._size = [], 0

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            self._file.close()


def _frame(atoms: Atoms, moment: Moment) -> str:
    numbers = np.concatenate([atoms.positions, atoms.get_momenta(), moment.forces], axis=1).tolist()
    rows = [
        f"{symbol} {' '.join(map(repr, row))}"
        for symbol, row in zip(atoms.get_chemical_symbols(), numbers, strict=True)
    ]
    return "\n".join([str(len(atoms)), _comment(atoms, moment), *rows, ""])


def _comment(atoms: Atoms, moment: Moment) -> str:
    words = [f"Properties={PROPERTIES}", f"energy={float(moment.energy)!r}", f"step={moment.step}"]
    if np.isfinite(moment.time_fs):
        words.append(f"time_fs={float(moment.time_fs)!r}")
    words += [f"{name}={atoms.info[name]}" for name in ("charge", "spin") if atoms.info.get(name)]
    words.append(f'pbc="{" ".join("FT"[int(one)] for one in atoms.pbc)}"')
    if atoms.cell.array.any():
        words.insert(0, f'Lattice="{" ".join(map(repr, atoms.cell.array.ravel().tolist()))}"')
    return " ".join(words)

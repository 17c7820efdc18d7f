"""Writes extended XYZ (.extxyz), with as many digits as it takes to read every bit back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from asecalc_ml.files.writing import write_at
from asecalc_ml.runs.trajectories.writer import Moment, Origin, TrajectoryWriter
from asecalc_ml.structure.files.extended_xyz import COLUMNS, FrameText

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

WAITING_BYTES = 65_536
PROPERTIES = f"{COLUMNS}:momenta:R:3:forces:R:3"
OF_A_MOMENT = ("step", "time_fs")


class ExtxyzWriter(TrajectoryWriter):
    """Text: symbols, positions, momenta and forces in ASE's units; cell, energy, step and time in fs.

    Masses, initial charges, initial magnetic moments, tags, ``FixAtoms`` and ``FixCartesian`` are columns
    where they differ from ASE's defaults; ``info`` is in the comment of each frame.

    Parameters
    ----------
    path : Path
    origin : Origin
        Not kept.
    """

    def __init__(self, path: Path, origin: Origin):
        path.touch()
        self._file = path.open("r+b", buffering=0)
        self._text: FrameText | None = None
        self._waiting: list[bytes] = []
        self._size = 0

    @staticmethod
    def keeps(constraint: Any) -> bool:
        """Return True for constraints that a column can express."""
        return type(constraint).__name__ in ("FixAtoms", "FixCartesian")

    def append(self, atoms: Atoms, moment: Moment) -> None:
        """Add a frame; it reaches the file when some have come together."""
        if self._text is None:
            self._text = FrameText(atoms, "momenta", "forces", without=OF_A_MOMENT)
        values = {"energy": float(moment.energy), "step": moment.step}
        if np.isfinite(moment.time_fs):
            values["time_fs"] = float(moment.time_fs)
        content = self._text(atoms, atoms.get_momenta(), moment.forces, **values).encode()
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

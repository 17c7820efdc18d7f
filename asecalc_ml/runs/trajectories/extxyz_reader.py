"""Reads the extended XYZ that :mod:`asecalc_ml.runs.trajectories.extxyz_writer` writes."""

from __future__ import annotations

import mmap
import re
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from asecalc_ml.runs.trajectories.extxyz_writer import PROPERTIES
from asecalc_ml.runs.trajectories.reader import Read, TrajectoryFile, check_numbers, damage_told

COLUMNS = {"positions": (1, 2, 3), "momenta": (4, 5, 6), "forces": (7, 8, 9)}
PIECE_BYTES = 1 << 24  # looked through for line ends at once


class ExtxyzFile(TrajectoryFile):
    """Frames of text. A frame that a kill has cut off at the end is left out.

    Parameters
    ----------
    path : Path
        A file that is missing or empty holds no frames.

    Raises
    ------
    RunError
        If its frames are not what a run writes.
    """

    def __init__(self, path: Path):
        self.path, self.n_frames = path, 0
        self._bytes: bytes | mmap.mmap = b""
        if not path.is_file() or path.stat().st_size == 0:
            return
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._bytes.find(b"\n") >= 0:
            with damage_told(path, "in its first line"):
                self._n_atoms = int(self._bytes[: self._bytes.find(b"\n")])
            self._starts = self._find_frames()
            self.n_frames = len(self._starts) - 1

    def _find_frames(self) -> np.ndarray:
        """Where frames begin, and where the last whole one ends."""
        lines, n_before, starts = self._n_atoms + 2, 0, [np.zeros(1, np.int64)]
        for place in range(0, len(self._bytes), PIECE_BYTES):
            piece = np.frombuffer(self._bytes[place : place + PIECE_BYTES], np.uint8)
            ends = np.flatnonzero(piece == ord("\n"))
            starts.append(place + 1 + ends[(lines - 1 - n_before) % lines :: lines])
            n_before += len(ends)
        return np.concatenate(starts)

    def reader(self, start: int, n_frames: int, numbers: np.ndarray) -> Read:
        """What reads a quantity of some frames; their lines are read once."""
        return _ChunkReader(self, start, n_frames, numbers)

    def lines(self, start: int, n_frames: int) -> list[str]:
        """Lines of some frames."""
        first, last = self._starts[start], self._starts[start + n_frames]
        with damage_told(self.path, f"after frame {start}"):
            return self._bytes[first:last].decode().split("\n")[:-1]


class _ChunkReader:
    """Reads a quantity of some frames."""

    def __init__(self, file: ExtxyzFile, start: int, n_frames: int, numbers: np.ndarray):
        self._file, self._start, self._n_frames, self._numbers = file, start, n_frames, numbers

    def __call__(self, quantity: str) -> np.ndarray:
        with damage_told(self._file.path, f"in or after frame {self._start}"):
            if quantity in COLUMNS:
                rows = np.loadtxt(self._rows, usecols=COLUMNS[quantity], ndmin=2, comments=None)
                return rows.reshape(self._n_frames, len(self._numbers), 3)
            return {"cells": self._cells, "energies": self._energies}[quantity]()

    @cached_property
    def _lines(self) -> list[str]:
        lines = self._file.lines(self._start, self._n_frames)
        if re.search(rf"Properties={PROPERTIES}[: ]", lines[1]) is None:
            raise ValueError("a run's frames have other columns")
        if set(lines[:: int(lines[0]) + 2]) != {lines[0]}:
            raise ValueError("a frame does not begin with its number of atoms")
        self._check_numbers(lines)
        return lines

    def _check_numbers(self, lines: list[str]) -> None:
        from ase.data import atomic_numbers

        n_atoms = int(lines[0])
        numbers = [atomic_numbers[row.partition(" ")[0]] for row in lines[2 : 2 + n_atoms]]
        check_numbers(self._start, self._numbers, np.array(numbers))

    @property
    def _comments(self) -> list[str]:
        return self._lines[1 :: len(self._numbers) + 2]

    @cached_property
    def _rows(self) -> list[str]:
        n_lines = len(self._numbers) + 2
        return [line for k, line in enumerate(self._lines) if k % n_lines > 1]

    def _cells(self) -> np.ndarray:
        find = partial(re.compile(r'\bLattice="([^"]*)"').search)
        matches = [find(comment) for comment in self._comments]
        cells = [np.zeros(9) if match is None else np.array(match[1].split(), float) for match in matches]
        return np.reshape(cells, (-1, 3, 3))

    def _energies(self) -> np.ndarray:
        find = re.compile(r"\benergy=(\S+)").findall
        return np.array([float(find(comment)[0]) for comment in self._comments])

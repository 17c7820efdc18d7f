"""Frames of a trajectory in chunks, of which only what is asked for is read."""

from __future__ import annotations

import json
import math
import mmap
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from asecalc_ml.errors import AnalysisError, RunError

COORDINATES_A_CHUNK = 3_000_000  # 24 MB for each quantity
MAX_FRAMES_A_CHUNK = 1000


@dataclass(frozen=True, eq=False)
class Frames:
    """Consecutive frames of the same atoms.

    Every array is read when it is first looked at, so that who needs positions pays for nothing else.

    Parameters
    ----------
    start : int
        Number of the first frame, counted from the start of the run.
    n_frames : int
    masses : array, shape (n_atoms,), amu
    read : callable
        Maps "positions", "momenta", "forces" or "cells" to an array, or to None where there are none.
    """

    start: int
    n_frames: int
    masses: np.ndarray
    read: Callable[[str], np.ndarray | None]

    def __len__(self) -> int:
        return self.n_frames

    @cached_property
    def positions(self) -> np.ndarray:
        """Positions, shape (n_frames, n_atoms, 3), Å."""
        return self._found("positions")

    @cached_property
    def momenta(self) -> np.ndarray:
        """Momenta in ASE's unit, shape (n_frames, n_atoms, 3); AnalysisError where none were written."""
        return self._found("momenta")

    @cached_property
    def velocities(self) -> np.ndarray:
        """Velocities in Å per ASE's unit of time, shape (n_frames, n_atoms, 3)."""
        return self.momenta / self.masses[:, None]

    @cached_property
    def forces(self) -> np.ndarray:
        """Forces, shape (n_frames, n_atoms, 3), eV/Å; AnalysisError where none were written."""
        return self._found("forces")

    @cached_property
    def cells(self) -> np.ndarray:
        """Cell vectors as rows, shape (n_frames, 3, 3), Å."""
        return self._found("cells")

    def _found(self, quantity: str) -> np.ndarray:
        array = self.read(quantity)
        if array is None:
            raise AnalysisError(
                f"the frames hold no {quantity}: write them with {quantity}, or leave this out"
            )
        return array


def chunk_starts(n_frames: int, n_atoms: int, size: int | None = None) -> Iterator[tuple[int, int]]:
    """First frame and number of frames of each chunk: of at most ``size``, or as many as memory is fine with.

    Examples
    --------
    >>> list(chunk_starts(5, n_atoms=3, size=2))
    [(0, 2), (2, 2), (4, 1)]
    """
    fitting = COORDINATES_A_CHUNK // (3 * max(n_atoms, 1))
    size = size or min(max(fitting, 1), MAX_FRAMES_A_CHUNK)
    for start in range(0, n_frames, size):
        yield start, min(size, n_frames - start)


class TrajectoryFile:
    """Frames of an ASE trajectory (.traj), straight from the mapped file and quicker than through ``Atoms``.

    ASE keeps of each frame its arrays and, after them, a JSON text that says where these are. An index of the
    texts grows with the file. Where the end of the file is missing, the frames before it are found by this
    index, or without it by the beginnings of their texts.

    Parameters
    ----------
    path : Path
        A file that is missing or empty holds no frames.

    Attributes
    ----------
    n_frames : int
        Frames that can be read.
    n_lost : int
        Frames that the file counts and no longer holds.

    Raises
    ------
    RunError
        If it is no such file.
    """

    def __init__(self, path: Path):
        self._path, self._bytes, counted = path, b"", 0
        self._places = self._lengths = np.empty(0, dtype=np.int64)
        if path.is_file() and path.stat().st_size > 0:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            counted, self._places, self._lengths = self._find_texts()
        self.n_frames, self.n_lost = len(self._places), counted - len(self._places)

    def _find_texts(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Frames that the file counts, where the texts of those that are whole begin, and their lengths."""
        size = len(self._bytes)
        with self._damage_told("in its first bytes"):
            if self._bytes[:24] != b"- of UlmASE-Trajectory  " or size < 48:
                raise ValueError("a trajectory of ASE begins otherwise")
        _, counted, index = np.frombuffer(self._bytes, "<i8", 3, 24).tolist()
        if index + 8 * counted <= size:
            places = np.frombuffer(self._bytes, "<i8", counted, index)
        else:
            begins = re.finditer(rb'\{"(?:version|pbc|positions\.)": ', self._bytes)
            places = np.array([found.start() - 8 for found in begins][:counted], dtype=np.int64)
        places = places[(places > 0) & (places + 8 <= size)]
        lengths = np.frombuffer(self._bytes, np.uint8)[places[:, None] + np.arange(8)].view("<i8")[:, 0]
        whole = (lengths > 0) & (lengths <= size - places - 8)
        return counted, places[whole], lengths[whole]

    def text(self, number: int) -> bytes:
        """The JSON text of a frame."""
        place = int(self._places[number]) + 8
        return self._bytes[place : place + int(self._lengths[number])]

    def frame(self, number: int) -> dict:
        """What ASE wrote of a frame, arrays as ``{"ndarray": [shape, type, place]}``.

        Raises
        ------
        RunError
            If its text is damaged.
        """
        with self._damage_told(f"in frame {number}"):
            return json.loads(self.text(number))

    def array(self, reference: dict) -> np.ndarray:
        """The array that an ``{"ndarray": [shape, type, place]}`` refers to, read-only."""
        with self._damage_told("in an array"):
            shape, kind, place = reference["ndarray"]
            size = math.prod(shape)
            return np.frombuffer(self._bytes, np.dtype(kind).newbyteorder("<"), size, place).reshape(shape)

    def doubles(self, places: np.ndarray, size: int) -> np.ndarray:
        """Numbers in double precision from several places on, multiples of 8, shape (n_places, size)."""
        with self._damage_told("in an array"):
            if places.max(initial=0) + 8 * size > len(self._bytes):
                raise ValueError("it lies beyond the end")
            numbers = np.frombuffer(self._bytes, "<f8", len(self._bytes) // 8)
            return numbers[places[:, None] // 8 + np.arange(size)]

    @contextmanager
    def _damage_told(self, where: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self._path} is damaged {where} ({error}): copy it again from where it was whole, or start "
                "the run anew with --overwrite"
            ) from error

    def chunks(self, numbers: np.ndarray, masses: np.ndarray, size: int | None = None) -> Iterator[Frames]:
        """All frames, as those of a structure.

        Parameters
        ----------
        numbers : array of int, shape (n_atoms,)
            Atomic numbers that every frame must have.
        masses : array, shape (n_atoms,), amu
        size : int, optional
            Frames at once.

        Raises
        ------
        RunError
            If a frame has other atoms.
        """
        for start, n_frames in chunk_starts(self.n_frames, len(numbers), size):
            yield Frames(start, n_frames, masses, _ChunkReader(self, start, n_frames, numbers))


class _ChunkReader:
    """Reads a quantity of some frames; their texts are read once."""

    def __init__(self, file: TrajectoryFile, start: int, n_frames: int, numbers: np.ndarray):
        self._file, self._start, self._n_frames, self._numbers = file, start, n_frames, numbers

    def __call__(self, quantity: str) -> np.ndarray | None:
        shape = (self._n_frames, len(self._numbers), 3)
        if quantity == "cells":
            return np.array([one["cell"] for one in self._frames], dtype=float)
        if (places := self._places_of(quantity)) is not None:
            return self._file.doubles(places, 3 * shape[1]).reshape(shape)
        found = [self._reference(one, quantity) for one in self._frames]
        if None in found:
            return None
        return np.array([self._file.array(one) for one in found], dtype=float).reshape(shape)

    def _places_of(self, quantity: str) -> np.ndarray | None:
        """Where the arrays of a quantity begin, found without parsing the texts; None if that fails."""
        begins = rb'"%b\.": \{"ndarray": \[\[%d, 3\], "float64", (\d+)\]\}'
        search = re.compile(begins % (quantity.encode(), len(self._numbers))).search
        found = [search(text) for text in self._texts]
        if None in found or any(b'"_little_endian"' in text for text in self._texts):
            return None
        places = np.array([int(one[1]) for one in found], dtype=np.int64)
        return None if (places % 8).any() else places

    @cached_property
    def _texts(self) -> list[bytes]:
        numbers = range(self._start, self._start + self._n_frames)
        texts = [self._file.text(number) for number in numbers]
        for number, text in zip(numbers, texts, strict=True):
            if b'"numbers."' in text:  # in the first frame, and in all that follow a change
                self._check_numbers(number, self._file.array(self._file.frame(number)["numbers."]))
        return texts

    @cached_property
    def _frames(self) -> list[dict]:
        return [self._file.frame(self._start + k) for k in range(len(self._texts))]

    def _check_numbers(self, number: int, found: np.ndarray) -> None:
        from ase.formula import Formula
        from ase.symbols import Symbols

        if not np.array_equal(found, self._numbers):
            one, start = (Symbols(np.array(z)).get_chemical_formula() for z in (found, self._numbers))
            order = ", in another order" if Formula(one) == Formula(start) else f": {one} in place of {start}"
            raise RunError(
                f"frame {number} of the trajectory has other atoms than the structure at the start{order}. "
                "Frames of different structures cannot be analysed together; give each a run of its own"
            )

    @staticmethod
    def _reference(text: dict, quantity: str) -> dict | None:
        if quantity == "forces":
            return text.get("calculator.", {}).get("forces.")
        return text.get(f"{quantity}.")

"""Reads ASE's own format (.traj) straight from the mapped file."""

from __future__ import annotations

import json
import math
import mmap
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.runs.trajectories.reader import Read, TrajectoryFile, check_numbers, damage_told

if TYPE_CHECKING:
    from ase import Atoms


class TrajFile(TrajectoryFile):
    """Frames of an ASE trajectory (.traj), straight from the mapped file and quicker than through ``Atoms``.

    ASE keeps of each frame its arrays and, after them, a JSON text that says where these are. An index of the
    texts grows with the file. Where the end of the file is missing, the frames before it are found by this
    index, or without it by the beginnings of their texts.

    Parameters
    ----------
    path : Path
        A file that is missing or empty holds no frames.

    Raises
    ------
    RunError
        If it is no such file.
    """

    def __init__(self, path: Path):
        self.path, counted = path, 0
        self._bytes: bytes | mmap.mmap = b""
        self._places = self._lengths = np.empty(0, dtype=np.int64)
        if path.is_file() and path.stat().st_size > 0:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            counted, self._places, self._lengths = self._find_texts()
        self.n_frames, self.n_lost = len(self._places), counted - len(self._places)

    def _find_texts(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Frames that the file counts, where the texts of those that are whole begin, and their lengths."""
        size = len(self._bytes)
        with damage_told(self.path, "in its first bytes"):
            if self._bytes[:24] != b"- of UlmASE-Trajectory  " or size < 48:
                raise ValueError("a trajectory of ASE begins otherwise")
            _, counted, index = np.frombuffer(self._bytes, "<i8", 3, 24).tolist()
            if counted < 0 or index < 0:
                raise ValueError("it counts its frames wrongly")
        if index + 8 * counted <= size:
            places = np.frombuffer(self._bytes, "<i8", counted, index)
        else:
            begins = re.finditer(rb'\{"(?:version|pbc|positions\.)": ', self._bytes)
            places = np.array([match.start() - 8 for match in begins][:counted], dtype=np.int64)
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
        with damage_told(self.path, f"in frame {number}"):
            return json.loads(self.text(number))

    def array(self, reference: dict) -> np.ndarray:
        """The array that an ``{"ndarray": [shape, type, place]}`` refers to, read-only."""
        with damage_told(self.path, "in an array"):
            shape, kind, place = reference["ndarray"]
            size = math.prod(shape)
            return np.frombuffer(self._bytes, np.dtype(kind).newbyteorder("<"), size, place).reshape(shape)

    def doubles(self, places: np.ndarray, size: int) -> np.ndarray:
        """Numbers in double precision from several places on, multiples of 8, shape (n_places, size)."""
        with damage_told(self.path, "in an array"):
            if places.max(initial=0) + 8 * size > len(self._bytes):
                raise ValueError("it lies beyond the end")
            numbers = np.frombuffer(self._bytes, "<f8", len(self._bytes) // 8)
            return numbers[places[:, None] // 8 + np.arange(size)]

    def reader(self, start: int, n_frames: int, numbers: np.ndarray) -> Read:
        """What reads a quantity of some frames; their texts are read once."""
        return _ChunkReader(self, start, n_frames, numbers)

    def structures(self, start: Atoms, numbers: range | None = None) -> Iterator[Atoms]:
        """Frames as ASE wrote them."""
        from ase.io.trajectory import TrajectoryReader

        if self.n_frames:
            with damage_told(self.path), TrajectoryReader(self.path) as trajectory:
                yield from trajectory if numbers is None else map(trajectory.__getitem__, numbers)


class _ChunkReader:
    """Reads a quantity of some frames; their texts are read once."""

    def __init__(self, file: TrajFile, start: int, n_frames: int, numbers: np.ndarray):
        self._file, self._start, self._n_frames, self._numbers = file, start, n_frames, numbers

    def __call__(self, quantity: str) -> np.ndarray | None:
        with damage_told(self._file.path, f"in or after frame {self._start}"):
            return self._read(quantity)

    def _read(self, quantity: str) -> np.ndarray | None:
        shape = (self._n_frames, len(self._numbers), 3)
        if quantity == "cells":
            return np.array([frame["cell"] for frame in self._frames], dtype=float).reshape(-1, 3, 3)
        if quantity == "energies":
            energies = [frame.get("calculator.", {}).get("energy") for frame in self._frames]
            return None if None in energies else np.array(energies, dtype=float).reshape(self._n_frames)
        if (places := self._places_of(quantity)) is not None:
            return self._file.doubles(places, 3 * shape[1]).reshape(shape)
        references = [
            known for frame in self._frames if (known := self._reference(frame, quantity)) is not None
        ]
        if len(references) < self._n_frames:
            return None
        return np.array([self._file.array(reference) for reference in references], dtype=float).reshape(shape)

    def _places_of(self, quantity: str) -> np.ndarray | None:
        """Where the arrays of a quantity begin, found without parsing the texts; None if that fails."""
        begins = rb'"%b\.": \{"ndarray": \[\[%d, 3\], "float64", (\d+)\]\}'
        search = re.compile(begins % (quantity.encode(), len(self._numbers))).search
        matches = [match for text in self._texts if (match := search(text))]
        if len(matches) < len(self._texts) or any(b'"_little_endian"' in text for text in self._texts):
            return None
        places = np.array([int(match[1]) for match in matches], dtype=np.int64)
        return None if (places % 8).any() else places

    @cached_property
    def _texts(self) -> list[bytes]:
        numbers = range(self._start, self._start + self._n_frames)
        texts = [self._file.text(number) for number in numbers]
        for number, text in zip(numbers, texts, strict=True):
            if b'"numbers."' in text:  # in the first frame, and in all that follow a change
                check_numbers(number, self._numbers, self._file.array(self._file.frame(number)["numbers."]))
        return texts

    @cached_property
    def _frames(self) -> list[dict]:
        return [self._file.frame(self._start + k) for k in range(len(self._texts))]

    @staticmethod
    def _reference(text: dict, quantity: str) -> dict | None:
        if quantity == "forces":
            return text.get("calculator.", {}).get("forces.")
        return text.get(f"{quantity}.")

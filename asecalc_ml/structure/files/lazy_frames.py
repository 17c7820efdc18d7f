"""Sequences of frames that are parsed on demand, and their selection by text such as ``0:950``."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from ase import Atoms


class LazyFrames(Sequence["Atoms"]):
    """Sequence of structures that are made when they are taken.

    Parameters
    ----------
    n_frames : int
    make : callable
        Maps a range of frame numbers to an iterator of structures.
    """

    def __init__(self, n_frames: int, make: Callable[[range], Iterator[Atoms]]):
        self._numbers, self.make = range(n_frames), make

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Atoms: ...

    @overload
    def __getitem__(self, index: slice) -> list[Atoms]: ...

    def __getitem__(self, index: int | slice) -> Atoms | list[Atoms]:
        if isinstance(index, slice):
            return list(self.make(self._numbers[index]))
        number = self._numbers[index]
        return next(iter(self.make(range(number, number + 1))))

    def __iter__(self) -> Iterator[Atoms]:
        return iter(self.make(self._numbers))


def joined(parts: Sequence[Sequence[Atoms]]) -> Sequence[Atoms]:
    """Join several sequences of frames; each frame is made when it is taken."""
    if len(parts) == 1:
        return parts[0]
    ends = list(accumulate(map(len, parts)))

    def make(numbers: range) -> Iterator[Atoms]:
        for number in numbers:
            index = bisect_right(ends, number)
            yield parts[index][number - ends[index] + len(parts[index])]

    return LazyFrames(ends[-1], make)


def parse_slice(text: str) -> slice:
    """A slice from text, as Python writes it between brackets.

    Examples
    --------
    >>> parse_slice("0:950")
    slice(0, 950, None)

    Raises
    ------
    ValueError
        If it is none.
    """
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if not 2 <= len(numbers) <= 3 or numbers[2:] == [0]:
        raise ValueError(f"frames is {text!r}, but should look like 0:950, -100: or ::10")
    return slice(*numbers)


def selected_numbers(text: str | None, n_frames: int, source: object) -> range:
    """Numbers of the frames that a slice selects, with a warning if it reaches beyond the file.

    Parameters
    ----------
    text : str or None
        As for :func:`parse_slice`; None selects all.
    n_frames : int
    source : object
        File that the warning names.
    """
    if text is None:
        return range(n_frames)
    asked = parse_slice(text)
    chosen = range(n_frames)[asked]
    ends = [end for end in (asked.start, asked.stop) if end is not None]
    if len(chosen) and any(end > n_frames or end < -n_frames for end in ends):
        warnings.warn(
            f"frames {text} reach beyond the {n_frames} frames of {source}: {len(chosen)} are read. "
            "Correct `frames`, or check that the file is complete",
            stacklevel=3,
        )
    return chosen

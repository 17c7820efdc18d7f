"""A further structure in a file of one structure, which ASE's reader leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase import Atoms

NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?$")
MOST_PLACES = 100


def line_of_further_structure(content: bytes, file_format: str, first: Atoms) -> int | None:
    """Find where a file of concatenated files begins a structure that the reader does not use.

    A further structure begins where the text before a line gives the same structure as the whole, and the
    text from that line on is readable too: velocities or the bonds behind a structure are not. Only lines
    like the first two of the file are tried, and only the last hundred of them.

    Parameters
    ----------
    content : bytes
        Text of the file.
    file_format : str
        ASE's name of the format.
    first : Atoms
        Structure that the reader takes from the whole file.

    Returns
    -------
    int or None
        Number of the line, from 1.
    """
    lines = content.splitlines(keepends=True)
    with TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        for place in islice(_places_like_the_begin(lines), MOST_PLACES):
            if not _is_same(_structure(part, lines[:place], file_format), first):
                return None
            if _structure(part, lines[place:], file_format) is not None:
                return place + 1
    return None


def _places_like_the_begin(lines: list[bytes]) -> Iterator[int]:
    """From the last one: if the text before it is not the whole structure, no shorter one is."""
    kinds = [_kinds(line) for line in lines]
    for place in range(len(lines) - 2, 0, -1):
        is_like_first = kinds[0] and (
            kinds[place] == kinds[0] or lines[place].split()[:1] == lines[0].split()[:1]
        )
        if is_like_first or (kinds[1] and kinds[place + 1] == kinds[1]):
            yield place


def _kinds(line: bytes) -> list[bool]:
    """For each word of a line, whether it is a number."""
    return [NUMBER.match(word) is not None for word in line.split()]


def _structure(path: Path, lines: list[bytes], file_format: str) -> Atoms | None:
    from ase.io import read

    path.write_bytes(b"".join(lines))
    try:
        atoms = read(path, index=0, format=file_format)
    except Exception:  # ASE's readers raise whatever their parsing meets
        return None
    return atoms if len(atoms) else None


def _is_same(one: Atoms | None, other: Atoms) -> bool:
    return (
        one is not None
        and len(one) == len(other)
        and (one.numbers == other.numbers).all()
        and (one.positions == other.positions).all()
        and (one.cell.array == other.cell.array).all()
    )

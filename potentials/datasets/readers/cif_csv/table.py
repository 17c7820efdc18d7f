"""The table of properties: rows by the name of a CIF file, columns of numbers."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asecalc_ml.errors import DatasetError
from asecalc_ml.files.reading import read_text
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames

DIFFERENCE = " - "
VALUE = "value"  # name of the only column of a table without a header
MISSING = ("", "nan", "na", "n/a", "none", "-")


@dataclass(frozen=True)
class PropertyTable:
    """Columns of numbers, and why others are none.

    Parameters
    ----------
    rows : dict of str to int
        Number of the row by the name of its CIF file, without ``.cif``.
    columns : dict of str to ndarray, shape (n_rows,)
        NaN where a cell is empty.
    faulty : dict of str to str
        Columns of which half the cells or more are numbers, and one that is not.
    """

    rows: dict[str, int]
    columns: dict[str, np.ndarray]
    faulty: dict[str, str]


def read_table(path: Path) -> PropertyTable:
    """The table of a CSV file.

    Raises
    ------
    DatasetError
        If it has no rows or no column of numbers, or a structure comes twice.
    """
    text = read_text(path, DatasetError, "name a CSV file in UTF-8 in `table`").removeprefix("\ufeff")
    lines = [(line, row) for line, row in _lines(text) if any(cell.strip() for cell in row)]
    has_header = bool(lines) and not any(_number(cell) is not None for cell in lines[0][1][1:])
    header, lines = (lines[0][1], lines[1:]) if has_header else (None, lines)
    if not lines:
        raise DatasetError(
            f"{path} has no rows;", name=str(path), remedy="give a table with a row for each CIF file"
        )
    names = [name.strip() for name in header] if header else _names(max(len(row) for _, row in lines))
    rows = _rows(lines, path)
    columns, faulty = {}, {}
    for place, name in enumerate(names[1:], 1):
        cells = [(line, row[place].strip() if place < len(row) else "") for line, row in lines]
        values, fault = _column(cells)
        if name and fault is not None:
            faulty[name] = fault
        elif name and values is not None:
            columns[name] = values
    if not columns:
        why = "".join(f": column {name!r}, {fault}" for name, fault in list(faulty.items())[:1])
        raise DatasetError(
            f"{path} has no column of numbers{why};",
            name=str(path),
            value=why,
            remedy="give a table with a number for each CIF file, and leave a cell empty where there is none",
        )
    return PropertyTable(rows, columns, faulty)


def _lines(text: str) -> list[tuple[int, list[str]]]:
    """Number of the last line of each row, and its cells."""
    reader = csv.reader(text.splitlines())
    return [(reader.line_num, row) for row in reader]


def _names(n_columns: int) -> list[str]:
    """Names of the columns of a table without a header."""
    return ["id", VALUE] if n_columns <= 2 else ["id", *(f"{VALUE}{k}" for k in range(1, n_columns))]


def _rows(lines: list[tuple[int, list[str]]], path: Path) -> dict[str, int]:
    names = [row[0].strip().removesuffix(".cif") for _, row in lines]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        where = [line for name, (line, _) in zip(names, lines, strict=True) if name == twice[0]]
        raise DatasetError(
            f"{path} has {twice[0]!r} twice, in lines {where[0]} and {where[1]}"
            f"{f', and {len(twice) - 1} further structures' if len(twice) > 1 else ''};",
            name=str(path),
            value=twice[0],
            remedy="keep one row of each structure",
        )
    return {name: number for number, name in enumerate(names)}


def _column(cells: list[tuple[int, str]]) -> tuple[np.ndarray | None, str | None]:
    """Numbers of a column; None where it holds words, with what is wrong if it mostly holds numbers."""
    given = [(line, cell) for line, cell in cells if cell.lower() not in MISSING]
    words = [(line, cell) for line, cell in given if _number(cell) is None]
    if not given or 2 * len(words) > len(given):
        return None, None
    if words:
        line, cell = words[0]
        return None, f"line {line} has {cell!r}, which is no finite number ({len(words)} cells in all)"
    numbers = [np.nan if cell.lower() in MISSING else float(cell) for _, cell in cells]
    return np.array(numbers), None


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def choose(
    frames: PackedFrames, properties: Mapping[str, str] | None, units: Mapping[str, str], table: Path
) -> PackedFrames:
    """Frames with the properties that are asked for, and with units.

    Parameters
    ----------
    frames : PackedFrames
        With all columns of the table.
    properties : mapping of str to str, or None
        Column, or difference of two columns, by name; None for all columns.
    units : mapping of str to str
    table : Path
        For messages.

    Raises
    ------
    DatasetError
        If there is no such column; the message names the nearest.
    """
    chosen = frames.properties
    try:
        if properties is not None:
            chosen = {name: _values(frames, source) for name, source in properties.items()}
        known = {name: units[name] for name in chosen if name in units}
        for name in units.keys() - chosen.keys() - frames.properties.keys():
            frames.values(name)
    except DatasetError as error:
        raise error.at(str(table)) from None
    return replace(frames, properties=chosen, units=known)


def _values(frames: PackedFrames, source: str) -> np.ndarray:
    """A column, or the difference of two columns, whose names are separated by ``-`` between spaces."""
    if source in frames.properties or DIFFERENCE not in source:
        return frames.values(source)
    minuend, subtrahend = (frames.values(name.strip()) for name in source.split(DIFFERENCE, 1))
    return minuend - subtrahend

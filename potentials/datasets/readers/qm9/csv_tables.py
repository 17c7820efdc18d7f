"""The tables of the package qm9pack."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.packed.frames import Lists, PackedFrames, concatenated, offsets_of, pack
from asecalc_ml.potentials.datasets.readers.qm9.molecules import (
    SCALARS,
    molecules,
    named,
    uncharacterised,
    with_tensors,
)
from asecalc_ml.terminal.progress import progress

if TYPE_CHECKING:
    from typing import TextIO

TENSORS = "qm9_polarizability.csv"
N_ROWS = 2000  # that are parsed together
#: Columns of a table: number, SMILES, number of atoms; lists of elements, positions, charges, frequencies.
INDEX, SMILES, N_ATOMS, ELEMENTS, POSITIONS, CHARGES, FREQUENCIES = 1, 2, 4, 6, 7, 8, 9
N_COLUMNS = FREQUENCIES + 1 + len(SCALARS)
TENSOR_COLUMNS = ["XYZ_file", "A_xx", "A_xy", "A_yy", "A_xz", "A_yz", "A_zz"]
WITHOUT_BRACKETS = str.maketrans("", "", "[]' ")
INSTALL_AGAIN = "install qm9pack again (pip install --force-reinstall --no-deps qm9pack)"


def tables_in(folder: Path) -> list[Path]:
    """The tables of molecules in a folder, and that of the tensors if it is there."""
    tables = sorted(folder.glob("qm9_part*.csv"))
    return [*tables, *folder.glob(TENSORS)] if tables else []


def read_tables(tables: Sequence[Path]) -> PackedFrames:
    """All molecules of the tables.

    Raises
    ------
    DatasetError
        If a row is incomplete, or its lists do not fit its number of atoms.
    """
    parts = [table for table in tables if table.name != TENSORS]
    tensors = {key: row for table in tables if table.name == TENSORS for key, row in _tensors(table)}
    chunks: list[PackedFrames] = []
    size = sum(table.stat().st_size for table in parts)
    with progress("reading QM9", size // 1000, unit="kB") as advance:
        for table in parts:
            with table.open(newline="", encoding="utf-8") as file:
                for rows in _checked_rows(file, table):
                    chunks.append(_parsed(rows, table, tensors))
                    advance(sum(len(cell) for row in rows for cell in row) // 1000)
    return replace(concatenated(chunks), left_out=named(uncharacterised()))  # by the package itself


def _checked_rows(file: TextIO, table: Path) -> Iterator[list[list[str]]]:
    """Rows of a table, some at a time."""
    rows, line = csv.reader(file), 1
    if len(next(rows, [])) != N_COLUMNS:
        raise _damaged(table, f"its first line does not name {N_COLUMNS} columns")
    while chunk := list(islice(rows, N_ROWS)):
        for row in chunk:
            line += 1
            if problem := _problem(row):
                raise _damaged(table, f"line {line} has {problem}")
        yield chunk
    if line == 1:
        raise _damaged(table, "it has no molecule")


def _problem(row: list[str]) -> str | None:
    """Return what a row has that cannot be parsed; None if it can."""
    if len(row) != N_COLUMNS:
        return f"{len(row)} columns in place of {N_COLUMNS}"
    n_atoms = int(row[N_ATOMS]) if row[N_ATOMS].isdigit() else 0
    lengths = [row[column].count(",") + 1 for column in (ELEMENTS, POSITIONS, CHARGES)]
    if lengths != [n_atoms, 3 * n_atoms, n_atoms]:
        return f"lists that do not fit {row[N_ATOMS]!r} atoms"
    return None


def _damaged(table: Path, problem: str) -> DatasetError:
    return DatasetError(
        f"{table} is damaged or cut short: {problem};", name=str(table), value=problem, remedy=INSTALL_AGAIN
    )


def _parsed(rows: list[list[str]], table: Path, tensors: dict[str, np.ndarray]) -> PackedFrames:
    from ase.data import atomic_numbers

    n_atoms = np.array([int(row[N_ATOMS]) for row in rows])
    symbols = ",".join(row[ELEMENTS] for row in rows).translate(WITHOUT_BRACKETS).split(",")
    unknown = np.full((3, 3), np.nan)
    try:
        frames = molecules(
            [int(row[INDEX]) for row in rows],
            np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.uint8),
            _numbers(rows, POSITIONS).reshape(-1, 3),
            n_atoms,
            np.array([row[-len(SCALARS) :] for row in rows]).astype(float),
            smiles=[row[SMILES] for row in rows],
            charges=_numbers(rows, CHARGES),
            frequencies=_frequencies(rows, n_atoms),
        )
    except (ValueError, LookupError) as error:
        where = f"between molecules {rows[0][INDEX]} and {rows[-1][INDEX]} of QM9"
        raise _damaged(table, f"{where} there is something that is no number or element ({error})") from error
    return with_tensors(frames, [tensors.get(row[0], unknown) for row in rows]) if tensors else frames


def _numbers(rows: list[list[str]], column: int) -> np.ndarray:
    """Numbers of the lists in a column, one after the other."""
    text = ",".join(row[column] for row in rows).translate(WITHOUT_BRACKETS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # of text that is no number
        try:
            return np.fromstring(text, sep=",")  # twice as fast as float
        except DeprecationWarning as warning:
            raise ValueError(warning) from None


def _frequencies(rows: list[list[str]], n_atoms: np.ndarray) -> Lists:
    """Frequencies of each molecule, 1/cm.

    Of 334 molecules the tables have two sets of frequencies, one after the other. The second set is kept:
    half its sum is QM9's zero-point energy within 4e-6 Hartree, that of the first set within 4e-3 only.
    """
    lengths = [row[FREQUENCIES].count(",") + 1 for row in rows]
    lists = Lists(_numbers(rows, FREQUENCIES), offsets_of(lengths))
    sets = [lists.of(k) for k in range(len(rows))]
    return pack([one[n:] if len(one) == 2 * n else one for one, n in zip(sets, 3 * n_atoms - 6, strict=True)])


def _tensors(table: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and polarizability tensor of each molecule, a0³."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        if next(rows, []) != TENSOR_COLUMNS:
            raise _damaged(table, f"its first line is not {', '.join(TENSOR_COLUMNS)}")
        for line, row in enumerate(rows, 2):
            try:
                xx, xy, yy, xz, yz, zz = map(float, row[1:])
            except ValueError as error:
                raise _damaged(table, f"line {line}: {error}") from error
            yield row[0], np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])

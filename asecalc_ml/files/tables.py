"""Reads tables of numbers (CSV), also while rows are appended to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asecalc_ml.errors import RunError
from asecalc_ml.files.reading import COPY_AGAIN, Stored, damage_named, read_text


def whole_lines(path: Path) -> list[str]:
    """Lines of a growing file; none if it does not exist.

    A last line without an end was cut off by a kill or a full disk, and is left out.
    """
    text = read_text(path) if path.is_file() else ""
    return text[: text.rfind("\n") + 1].split("\n")[:-1]


def read_table(path: Path, needed: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Columns of a table.

    Parameters
    ----------
    path : Path
    needed : sequence of str, optional
        Columns whose numbers must be finite, which are also those of a table that does not exist yet; all by
        default.

    Returns
    -------
    dict of ndarray, shape (n_rows,)
        Columns by name, which cannot be written to.

    Raises
    ------
    RunError
        If the table is damaged; the message names the line.
    """
    lines = whole_lines(path)
    columns, rows = (lines[0].split(","), lines[1:]) if lines else (list(needed or ()), [])
    with damage_named(path):
        values = _numbers(rows, columns, columns if needed is None else needed)
    if len(set(columns)) < len(columns):
        raise RunError(f"{path} is damaged: a column stands twice in its first line; {COPY_AGAIN}")
    values.setflags(write=False)
    return Stored(zip(columns, values.T, strict=True), path)


def _numbers(rows: list[str], columns: list[str], needed: Sequence[str]) -> np.ndarray:
    """Numbers of a table, shape (n_rows, n_columns).

    Those of the needed columns are finite. Others may be missing (NaN), such as the conserved quantity of an
    ensemble that has none.
    """
    values = np.empty((len(rows), len(columns)))
    for k, row in enumerate(rows):
        cells = row.split(",")
        if len(cells) != len(columns):
            raise ValueError(f"line {k + 2} has {len(cells)} values for {len(columns)} columns")
        try:
            values[k] = list(map(float, cells))
        except ValueError as error:
            raise ValueError(f"line {k + 2}: {error}") from None
    # needed columns must be finite; in the others NaN means "no value", and only infinities are damage
    is_needed = np.isin(columns, needed)
    bad = np.flatnonzero((~np.isfinite(values) & (is_needed | np.isinf(values))).any(axis=1))
    if len(bad):
        raise ValueError(f"line {bad[0] + 2}: a number is not finite")
    return values

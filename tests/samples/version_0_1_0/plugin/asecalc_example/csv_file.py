"""Structures from a table: frame, symbol, x, y, z, fx, fy, fz, energy."""

from __future__ import annotations

import csv
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.options import FreeUnits, make_frame
from asecalc_ml.reading import read_text
from asecalc_ml.units import energy_unit, length_unit

if TYPE_CHECKING:
    from ase import Atoms

COLUMNS = ["frame", "symbol", "x", "y", "z", "fx", "fy", "fz", "energy"]


class ExampleCSV(FreeUnits):
    """Read a table with a row for each atom; rows of one frame have the same number and energy."""

    suffixes: ClassVar = (".atoms.csv",)
    format: Literal["example-csv"] = Field("example-csv", description="name of the reader")

    def _read(self) -> list[Atoms]:
        self.check_file()
        lines = read_text(self.path, DatasetError).splitlines()
        if not lines or lines[0].split(",") != COLUMNS:
            raise DatasetError(f"{self.path}, line 1: expected the columns {','.join(COLUMNS)}")
        rows = list(enumerate(csv.reader(lines[1:]), start=2))
        return [self._frame(list(group)) for _, group in groupby(rows, key=lambda row: row[1][:1])]

    def _frame(self, rows: list[tuple[int, list[str]]]) -> Atoms:
        import numpy as np
        from ase import Atoms

        numbers = np.array([self._numbers(line, row) for line, row in rows])
        atoms = Atoms([row[1] for _, row in rows], numbers[:, :3] * length_unit(self.length_unit))
        return make_frame(
            atoms, numbers[0, 6] * energy_unit(self.energy_unit), numbers[:, 3:6] * self.per_force
        )

    def _numbers(self, line: int, row: list[str]) -> list[float]:
        try:
            numbers = [float(text) for text in row[2:]]
        except ValueError:
            numbers = []
        if len(numbers) != len(COLUMNS) - 2:
            wanted = f"a number, a symbol and {len(COLUMNS) - 2} numbers"
            raise DatasetError(f"{self.path}, line {line}: expected {wanted}. Was the file cut short?")
        return numbers

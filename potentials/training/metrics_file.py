"""Losses and errors of every epoch as CSV: a line each, appended, also by a resumed training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from asecalc_ml.errors import TrainingError
from asecalc_ml.files.full_disk import writing
from asecalc_ml.files.reading import damage_named, read_text
from asecalc_ml.files.tables import whole_lines
from asecalc_ml.files.writing import cut_to_whole_lines, write_whole

REMEDY = "remove that line, or the file: it reports the epochs and decides nothing"


def processor_hours(path: Path) -> float | None:
    """Time of all processor cores that a training took until its last epoch; None where that is not known.

    Parameters
    ----------
    path : Path
        metrics.csv.
    """
    seconds = _seconds(*_rows(path))
    return seconds / 3600 if seconds is not None else None


def read_metrics(path: Path) -> dict[str, list[float]]:
    """Columns of metrics.csv, also while a training writes it; none before its first line.

    Raises
    ------
    RunError
        If it is damaged; the message names the line.
    """
    header, *lines = whole_lines(path) or [""]
    with damage_named(path):
        rows = [[float(cell) for cell in line.split(",")] for line in lines]
        return {name: [row[place] for row in rows] for place, name in enumerate(header.split(","))}


def _rows(path: Path) -> tuple[str, dict[str, list[float]]]:
    """The first line, and the numbers of every other line by its text.

    Raises
    ------
    TrainingError
        If a line is damaged.
    """
    header, *lines = read_text(path, TrainingError, REMEDY).split("\n") if path.exists() else [""]
    rows = {}
    for number, line in enumerate(filter(None, lines), 2):
        with damage_named(path, TrainingError, REMEDY, f"in line {number}"):
            rows[line] = row = [float(cell) for cell in line.split(",")]
            if len(row) != len(header.split(",")) or not math.isfinite(row[0] + row[-1]):
                raise ValueError(line)
    return header, rows


def _seconds(header: str, rows: Mapping[str, Sequence[float]]) -> float | None:
    """The last number of the last row, where there is one and the header calls it ``cpu_s``."""
    return list(rows.values())[-1][-1] if rows and header.endswith(",cpu_s") else None


class MetricsFile:
    """Appends a line at the end of each epoch; lines of epochs that are run again are taken out first.

    The last column, ``cpu_s``, is the time of all processor cores since the first epoch began, in seconds;
    a resumed training goes on counting where the kept lines end.

    Parameters
    ----------
    path : Path
    validation : sequence of str
        Names of the validation errors.

    Attributes
    ----------
    cpu_s_of_others : float
        Time of further processes that take part, s.
    """

    def __init__(self, path: Path, validation: Sequence[str]):
        self.path = path
        self.columns = ("train_loss", "val_loss", *validation)
        self.cpu_s_at_zero = self.cpu_s_of_others = 0.0

    @property
    def cpu_s(self) -> float:
        """Time of all processor cores since the first epoch began, s."""
        return time.process_time() + self.cpu_s_of_others - self.cpu_s_at_zero

    def begin(self, n_epochs_done: int, cpu_s: float | None = None) -> None:
        """Keep the lines of the epochs that are done.

        Parameters
        ----------
        n_epochs_done : int
        cpu_s : float, optional
            Time of all processor cores so far, s; by default that of the last line that is kept.
        """
        cut_to_whole_lines(self.path)
        header, rows = _rows(self.path)
        kept = {line: row for line, row in rows.items() if row[0] <= n_epochs_done}
        cpu_s = _seconds(header, kept) if cpu_s is None else cpu_s
        self.cpu_s_at_zero = time.process_time() - (cpu_s or 0.0)
        write_whole(self.path, "\n".join([",".join(("epoch", *self.columns, "cpu_s")), *kept]) + "\n")

    def append(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write the line of an epoch, counted from 1."""
        values = [repr(metrics[name]) for name in self.columns]
        with writing(self.path), self.path.open("a") as file:
            file.write(",".join([str(epoch), *values, f"{self.cpu_s:.2f}"]) + "\n")

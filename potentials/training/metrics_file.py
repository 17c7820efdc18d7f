"""Losses and errors of every epoch as CSV: a line each, appended, also by a resumed training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import lightning


def processor_hours(path: Path) -> float | None:
    """Time of all processor cores that a training took until its last epoch; None where that is not known.

    Parameters
    ----------
    path : Path
        metrics.csv.
    """
    seconds = _seconds(path.read_text().splitlines())
    return seconds / 3600 if seconds is not None else None


def _seconds(lines: Sequence[str]) -> float | None:
    """The last column of the last line, where there is one and the header calls it ``cpu_s``."""
    return float(lines[-1].split(",")[-1]) if len(lines) > 1 and lines[0].endswith(",cpu_s") else None


class MetricsFile(lightning.Callback):
    """Appends a line at the end of each epoch; lines of epochs that are run again are taken out first.

    The last column, ``cpu_s``, is the time of all processor cores since the first epoch began, in seconds;
    a resumed training goes on counting where the kept lines end.
    """

    def __init__(self, path: Path, validation: Sequence[str]):
        self.path = path
        self.columns = ("train_loss", "val_loss", *validation)
        self.cpu_s_at_zero = 0.0

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines[1:] if int(line.split(",")[0]) <= trainer.current_epoch]
        self.cpu_s_at_zero = time.process_time() - (_seconds([*lines[:1], *kept]) or 0.0)
        self.path.write_text("\n".join([",".join(("epoch", *self.columns, "cpu_s")), *kept]) + "\n")

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        values = [repr(float(trainer.callback_metrics[name])) for name in self.columns]
        cpu_s = f"{time.process_time() - self.cpu_s_at_zero:.2f}"
        with self.path.open("a") as file:
            file.write(",".join([str(trainer.current_epoch + 1), *values, cpu_s]) + "\n")

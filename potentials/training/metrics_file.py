"""Losses and errors of every epoch as CSV: a line each, appended, also by a resumed training."""

from __future__ import annotations

from pathlib import Path

import lightning

COLUMNS = ("train_loss", "val_loss", "val_forces_mae_meV_A", "val_energy_mae_meV")
STRESS_COLUMN = "val_stress_mae_GPa"


class MetricsFile(lightning.Callback):
    """Appends a line at the end of each epoch; lines of epochs that are run again are taken out first."""

    def __init__(self, path: Path, with_stress: bool = False):
        self.path = path
        self.columns = (*COLUMNS, STRESS_COLUMN) if with_stress else COLUMNS

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        lines = self.path.read_text().splitlines()[1:] if self.path.exists() else []
        kept = [line for line in lines if int(line.split(",")[0]) <= trainer.current_epoch]
        self.path.write_text("\n".join([",".join(("epoch", *self.columns)), *kept]) + "\n")

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        values = [repr(float(trainer.callback_metrics[name])) for name in self.columns]
        with self.path.open("a") as file:
            file.write(",".join([str(trainer.current_epoch + 1), *values]) + "\n")

"""A line per epoch, at most one every few seconds, with errors and the time left."""

from __future__ import annotations

import time

import lightning
from rich.console import Console

SECONDS_BETWEEN_LINES = 20.0


class ProgressLines(lightning.Callback):
    """Prints epoch, validation errors and time left; readable in a terminal and in a log file alike."""

    def __init__(self, quiet: bool = False):
        self.console = Console(quiet=quiet, highlight=False)
        self.started = self.printed = time.monotonic()
        self.first_epoch = 0

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.started, self.first_epoch = time.monotonic(), trainer.current_epoch

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES or last:
            self.printed = time.monotonic()
            self.console.print(self._line(trainer))

    def _line(self, trainer: lightning.Trainer) -> str:
        metrics = trainer.callback_metrics
        done = trainer.current_epoch + 1
        per_epoch = (time.monotonic() - self.started) / max(1, done - self.first_epoch)
        left = per_epoch * (trainer.max_epochs - done) / 60
        return (
            f"epoch {done}/{trainer.max_epochs}   validation: forces {metrics['val_forces_mae_meV_A']:.1f} meV/Å, "
            f"energy {metrics['val_energy_mae_meV']:.1f} meV   {per_epoch:.1f} s an epoch, {left:.0f} min left"
        )

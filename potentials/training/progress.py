"""What a training says while it runs: a line every few seconds, with errors and the time left."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator

import lightning

from asecalc_ml.terminal.console import make_console

SECONDS_BETWEEN_LINES = 20.0


class ProgressLines(lightning.Callback):
    """Prints epoch, validation errors and time left; readable in a terminal and in a log file alike."""

    def __init__(self, quiet: bool = False):
        self.console = make_console(quiet=quiet)
        self.started = self.printed = time.monotonic()
        self.first_epoch = 0

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.started, self.first_epoch = time.monotonic(), trainer.current_epoch

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES or last:
            self.printed = time.monotonic()
            with contextlib.suppress(OSError, SystemExit):  # rich exits where nobody reads any more
                self.console.print(self._line(trainer), soft_wrap=True)

    def _line(self, trainer: lightning.Trainer) -> str:
        metrics = trainer.callback_metrics
        done = trainer.current_epoch + 1
        per_epoch = (time.monotonic() - self.started) / max(1, done - self.first_epoch)
        left = per_epoch * (trainer.max_epochs - done) / 60
        errors = [text.format(metrics[name]) for name, text in _VALIDATION.items() if name in metrics]
        return (
            f"epoch {done}/{trainer.max_epochs}   validation: {', '.join(errors)}   "
            f"{per_epoch:.1f} s an epoch, {left:.0f} min left"
        )


_VALIDATION = {
    "val_forces_mae_meV_A": "forces {:.1f} meV/Å",
    "val_energy_mae_meV": "energy {:.1f} meV",
    "val_stress_mae_GPa": "stress {:.3f} GPa",
    "val_dipole_mae_mD": "dipole {:.1f} mD",
}


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep remarks of Lightning and torch on our choices, and on their own future, out of the output."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in ("lightning", "pytorch_lightning", "torch"):
                warnings.filterwarnings("ignore", module=rf"{module}\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

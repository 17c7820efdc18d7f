"""What a training prints while it runs: a line every few seconds, with errors and the time left."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence

from ase import Atoms

from asecalc_ml.terminal.console import make_console
from asecalc_ml.terminal.progress import progress

SECONDS_BETWEEN_LINES = 20.0

#: Atoms of frames from which on one pass over the frames takes more than a few seconds.
MANY_ATOMS = 200_000


class ProgressLines:
    """Prints epoch, validation errors and time left; readable in a terminal and in a log file alike.

    Parameters
    ----------
    max_epochs : int
    quiet : bool
        Print nothing.
    """

    def __init__(self, max_epochs: int, quiet: bool = False):
        self.console, self.max_epochs = make_console(quiet=quiet), max_epochs
        self.started = self.printed = time.monotonic()
        self.n_epochs_before = 0

    def begin(self, n_epochs_done: int) -> None:
        """Start to measure the time of an epoch."""
        self.started, self.n_epochs_before = time.monotonic(), n_epochs_done

    def show(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Print the line of an epoch, counted from 1, if the last line is old or the epoch is the last."""
        if time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES or epoch == self.max_epochs:
            self.printed = time.monotonic()
            with contextlib.suppress(OSError, SystemExit):  # rich exits where nobody reads any more
                self.console.print(self._line(epoch, metrics), soft_wrap=True)

    def _line(self, epoch: int, metrics: Mapping[str, float]) -> str:
        per_epoch = (time.monotonic() - self.started) / max(1, epoch - self.n_epochs_before)
        left = per_epoch * (self.max_epochs - epoch) / 60
        errors = [text.format(metrics[name]) for name, text in _VALIDATION.items() if name in metrics]
        errors += [
            f"{name.removeprefix('val_').removesuffix('_mae')} {error:.4g}"
            for name, error in metrics.items()
            if name.endswith("_mae")
        ]
        return (
            f"epoch {epoch}/{self.max_epochs}   validation: {', '.join(errors)}   "
            f"{per_epoch:.1f} s an epoch, {left:.0f} min left"
        )


_VALIDATION = {
    "val_forces_mae_meV_A": "forces {:.1f} meV/Å",
    "val_energy_mae_meV": "energy {:.1f} meV",
    "val_stress_mae_GPa": "stress {:.3f} GPa",
    "val_dipole_mae_mD": "dipole {:.1f} mD",
}


class ShownFrames:
    """Frames that are gone through once, with progress where that takes more than a few seconds.

    Parameters
    ----------
    label : str
    frames : sequence of Atoms
    quiet : bool
        Show no progress.
    """

    def __init__(self, label: str, frames: Sequence[Atoms], quiet: bool):
        self.label, self.frames = label, frames
        self._quiet = quiet or sum(map(len, frames)) < MANY_ATOMS

    def __iter__(self) -> Iterator[Atoms]:
        with progress(self.label, len(self.frames), self._quiet, unit="frames") as advance:
            for atoms in self.frames:
                yield atoms
                advance(1)


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Keep remarks of torch on its own future out of the output."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\..*")
        yield

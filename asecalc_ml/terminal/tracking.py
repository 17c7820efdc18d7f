"""What is logged to Weights & Biases, beside the files that are always written. It never ends a run."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from asecalc_ml.config.options import Options

INIT_TIMEOUT_S = 60


class WandbOptions(Options):
    """Weights & Biases; never needed, all numbers go to files always."""

    project: str = Field("asecalc-ml", description="project")
    mode: Literal["offline", "online"] = Field(
        "offline", description="offline writes to the directory of the training or run"
    )


class Tracker:
    """Tracks nothing; base of the one that does."""

    def row(self, table: str, values: Mapping[str, float], step: int) -> None:
        """A row of a table that grows with the steps of a run."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """A whole table."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final numbers."""

    def close(self) -> None:
        """End the record."""


class WandbTracker(Tracker):
    """Logs to Weights & Biases until something there fails; then a warning says so, once.

    Parameters
    ----------
    options : WandbOptions
    directory : Path
        Of the run: the run's name there, and where files of the offline mode go.
    began : str
        When the run began, so that the run goes on there, too, where it is resumed or analysed.
    config : mapping
        Options of the run.
    """

    def __init__(self, options: WandbOptions, directory: Path, began: str, config: Mapping[str, Any]):
        self._run: Any = None

        def begin() -> None:
            import wandb

            self._run = wandb.init(
                project=options.project,
                name=directory.name,
                id=hashlib.sha256(f"{directory.name} {began}".encode()).hexdigest()[:16],
                resume="allow" if options.mode == "online" else None,
                mode=options.mode,
                dir=str(directory),
                config=dict(config),
                settings=wandb.Settings(silent=True, init_timeout=INIT_TIMEOUT_S, console="off"),
            )

        self._try(begin)

    def row(self, table: str, values: Mapping[str, float], step: int) -> None:
        """A row of a table that grows with the steps of a run."""
        named = {f"{table}/{name}": value for name, value in values.items()}
        self._tell(lambda run: run.log(named, step=step))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """A whole table."""

        def log(run: Any) -> None:
            import wandb

            run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

        self._tell(log)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final numbers."""
        self._tell(lambda run: run.summary.update(dict(values)))

    def close(self) -> None:
        """Let what waits be sent."""
        self._tell(lambda run: run.finish())

    def _tell(self, action: Callable[[Any], None]) -> None:
        run = self._run
        if run is not None:
            self._try(lambda: action(run))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever it meets: no network, no login, a full disk
            self._run = None
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            warnings.warn(f"Weights & Biases: {reason}. The run goes on without it.", stacklevel=4)


@contextmanager
def tracking(
    options: WandbOptions | None, directory: Path, began: str, config: Mapping[str, Any]
) -> Iterator[Tracker]:
    """A tracker, as the options of a run ask for one."""
    tracker = Tracker() if options is None else WandbTracker(options, directory, began, config)
    try:
        yield tracker
    finally:
        tracker.close()

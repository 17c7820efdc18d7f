"""Weights & Biases."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from asecalc_ml.files.full_disk import writing
from asecalc_ml.tracking.options import RunFacts, TrackerOptions
from asecalc_ml.tracking.tracker import Tracker

if TYPE_CHECKING:
    import psutil

INIT_TIMEOUT_S = 60

#: The process that the package starts to write its files.
SERVICE = "wandb-core"

#: Bytes that are written, and removed, to learn whether there is room for rows.
PROBE = 65_536


class WandbOptions(TrackerOptions):
    """Weights & Biases: offline, each run writes a folder that `wandb sync` uploads later."""

    project: str = Field("asecalc-ml", description="project")
    mode: Literal["offline", "online"] = Field(
        "offline", description="offline writes to the directory of the training or run"
    )

    @property
    def label(self) -> str:
        """Name of the tracker in messages."""
        return "Weights & Biases"

    def start(self, run: RunFacts) -> Tracker:
        """Begin the record of a run, or continue it."""
        return WandbTracker(self, run)

    def give_up(self, is_hanging: bool) -> None:
        """Detach from the package's own process where that has died or hangs.

        Otherwise the package would wait for it, or print a traceback, when Python ends.
        """
        services = list(_services())
        if is_hanging:
            for service in services:
                service.kill()
        if is_hanging or not any(service.status() != "zombie" for service in services):
            with suppress(Exception):
                sys.modules["wandb"].teardown()


class WandbTracker(Tracker):
    """The record of a run at Weights & Biases.

    Parameters
    ----------
    options : WandbOptions
    run : RunFacts
    """

    def __init__(self, options: WandbOptions, run: RunFacts):
        import wandb

        self._folder = run.directory / "wandb"
        self._is_offline = options.mode == "offline"
        self._check_room()
        self._run: Any = wandb.init(
            project=options.project,
            group=options.group,
            name=run.name,
            id=run.identity,
            resume=None if self._is_offline else "allow",
            mode=options.mode,
            dir=str(run.directory),
            config=dict(run.config),
            # a run of its own, also where another one of this process has not ended
            settings=wandb.Settings(
                silent=True, init_timeout=INIT_TIMEOUT_S, console="off", reinit="create_new"
            ),
        )
        for handler in logging.getLogger(
            "wandb"
        ).handlers:  # a full disk would print a traceback for each line
            handler.handleError = lambda record: None  # type: ignore[method-assign]  # of this handler alone

    def row(self, table: str, values: Mapping[str, float], step: int) -> None:
        """Add a row to a table that grows with the steps of a run."""
        self._run.log({f"{table}/{name}": value for name, value in values.items()}, step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """Add a whole table."""
        import wandb

        self._run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Add final numbers."""
        self._run.summary.update(dict(values))

    def close(self) -> None:
        """Let what waits be written, or sent.

        Raises
        ------
        OSError
            If the folder is full: the package itself loses rows without a word.
        """
        self._run.finish()
        self._check_room()

    def _check_room(self) -> None:
        """Raise OSError if the folder of the offline mode is full."""
        if not self._is_offline:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with writing(self._folder), tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
            left = PROBE
            while left:
                left -= file.write(bytes(left))


def _services() -> Iterator[psutil.Process]:
    """Processes of the package that this process has started."""
    import psutil

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.name().startswith(SERVICE):
                yield child

"""Starts the runs of a campaign, looks after those that fail, and ends when nothing is left to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml._lazy import renamed
from asecalc_ml.errors import RunPausedError
from asecalc_ml.jobs import BUSY, FAILED, LOST
from asecalc_ml.jobs.executors import Executor, Job, Outcome
from asecalc_ml.local_modules import added_folders
from asecalc_ml.md_protocols.campaign.state import DONE, STOPPED, WAITING, state_of, steps_of
from asecalc_ml.runs import RunReader
from asecalc_ml.terminal.signals import on_sigterm
from asecalc_ml.tracking.spec import grouped

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.campaign.options import Campaign, GridPoint
    from asecalc_ml.md_protocols.campaign.state import CampaignFolder

LOOK_EVERY_S = 1.0
BUSY_WAIT_S = 3.0  # until a run that another process writes is tried again
RUNNING = "running"


@dataclass(eq=False)
class Status:
    """How far a run is.

    Attributes
    ----------
    point : GridPoint
    directory : Path
    state : str
        waiting, unfinished, to be analysed, running, busy, paused, done or failed.
    text : str
        Why.
    step : int or None
        The last that is known.
    not_before : float
        When it may be started, in seconds of the monotonic clock.
    """

    point: GridPoint
    directory: Path
    state: str
    text: str = ""
    step: int | None = None
    not_before: float = 0.0


class Scheduler:
    """Carries a campaign out.

    Parameters
    ----------
    points : list of GridPoint
    folder : CampaignFolder
    options : Campaign

    Raises
    ------
    RunError
        If a directory holds something else than the run that belongs there.
    """

    def __init__(self, points: list[GridPoint], folder: CampaignFolder, options: Campaign):
        self._folder, self._options = folder, options
        self.statuses = [self._first(point) for point in points]

    def _first(self, point: GridPoint) -> Status:
        path = self._folder.path(point)
        state, why = state_of(path, point.options), self._folder.why_failed(point)
        if state == STOPPED:
            return Status(point, path, state, RunReader(path).ended_early or "", steps_of(path))
        if state != DONE and len(why) > self._options.retries:
            return Status(point, path, FAILED, self._failure(why), steps_of(path))
        text = f"failed before: {why[-1]}" if why and state != DONE else ""
        return Status(point, path, state, text, steps_of(path))

    def run(self, make_executor: Callable[[], Executor], display: Callable[[Status | None], None]) -> None:
        """Do what is left to do.

        Parameters
        ----------
        make_executor : callable
            Called where anything is.
        display : callable
            Told a status that has changed; None where time has passed.
        """
        left = [status for status in self.statuses if status.state not in (DONE, STOPPED, FAILED)]
        for status in self.statuses:
            if status not in left:
                display(status)
        if not left:
            return
        executor = make_executor()
        try:
            with on_sigterm(self._pause):
                self._work(left, executor, display)
        finally:
            executor.close()

    def _pause(self) -> None:
        """End between two looks at the runs, which pause when the executor is closed."""
        raise RunPausedError(
            f"{self._folder.directory}: the system asked the campaign to end (SIGTERM).",
            name=str(self._folder.directory),
            value="SIGTERM",
            remedy="Begun again, it continues from there",
        )

    def _work(self, left: list[Status], executor: Executor, display: Callable) -> None:
        running: dict[Future[Outcome], Status] = {}
        while left or running:
            for status in self._startable(left, len(running)):
                left.remove(status)
                status.state = RUNNING
                running[executor.start(self._job(status))] = status
                display(status)
            for future in _ended(running):
                status = running.pop(future)
                if self._is_to_be_repeated(status, future.result()):
                    left.append(status)
                display(status)
            for status in running.values():
                status.step = steps_of(status.directory)
            display(None)

    def _startable(self, left: list[Status], n_running: int) -> list[Status]:
        ready = [status for status in left if status.not_before <= time.monotonic()]
        return ready[: self._options.workers - n_running]

    def _job(self, status: Status) -> Job:
        log = self._folder.directory / "logs" / f"{status.point.name}.log"
        options = status.point.options.model_dump(mode="json")
        options["tracking"] = grouped(options["tracking"], self._folder.directory.absolute().name)
        return Job(
            "asecalc_ml.cli.campaign.worker",
            {"directory": str(status.directory.absolute()), "options": options},
            str(Path.cwd()),
            str(log.absolute()),
            added_folders(),
            cpus=options.get("threads") or 1,
        )

    def _is_to_be_repeated(self, status: Status, outcome: Outcome) -> bool:
        status.state, status.text, status.step = outcome.state, outcome.text, steps_of(status.directory)
        if outcome.state == BUSY:  # no failure: it goes on elsewhere
            status.not_before = time.monotonic() + BUSY_WAIT_S
            return True
        if outcome.state not in (FAILED, LOST):
            return False
        self._folder.note_failure(status.point, outcome.text)
        why = self._folder.why_failed(status.point)
        is_left = len(why) <= self._options.retries
        status.state = WAITING if is_left else FAILED
        status.text = f"failed, taken up again: {why[-1]}" if is_left else self._failure(why)
        return is_left

    def _failure(self, why: list[str]) -> str:
        often = "once" if len(why) == 1 else f"{len(why)} times"
        return f"{why[-1].rstrip('.')}. It failed {often} (retries: {self._options.retries})."


def _ended(running: dict[Future[Outcome], Status]) -> set[Future[Outcome]]:
    """Those that have ended, after a while at most."""
    if not running:
        time.sleep(LOOK_EVERY_S)
    return wait(running, LOOK_EVERY_S, FIRST_COMPLETED).done


__getattr__ = renamed(__name__, {"Driver": "Scheduler"})

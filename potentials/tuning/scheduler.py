"""Starts the trials of a search, takes their results, and ends when the budget is spent."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from pathlib import Path

from asecalc_ml import __version__
from asecalc_ml.errors import TuningError
from asecalc_ml.jobs import BUSY, DONE, LOST, PAUSED
from asecalc_ml.jobs.executors import Executor, Job, Outcome, make_executor
from asecalc_ml.local_modules import added_folders
from asecalc_ml.objectives.search_record import sign
from asecalc_ml.potentials.tuning import journal
from asecalc_ml.potentials.tuning.folder import SearchFolder
from asecalc_ml.potentials.tuning.options import TuneOptions
from asecalc_ml.potentials.tuning.proposals import Values, propose
from asecalc_ml.potentials.tuning.results import TRIALS, SearchResults
from asecalc_ml.potentials.tuning.trial import REFUSED, lease
from asecalc_ml.potentials.tuning.trials import FAILED, STOPPED, Trial

LOOK_EVERY_S = 1.0
BUSY_WAIT_S = 3.0  # until a trial that another process still trains is tried again
WORKER = "asecalc_ml.cli.tune.worker"

Display = Callable[["Trial | None"], None]


def number_of_workers(options: TuneOptions) -> tuple[int, int]:
    """Trials at the same time, and GPUs that they share.

    By default as many trials as there are GPUs, or else cores, for: each takes a GPU, or `threads` cores,
    for each of its `devices`.
    """
    gpus = 0
    if options.device != "cpu":
        import torch

        gpus = torch.cuda.device_count()
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fitting = (gpus or here // options.threads) // options.devices
    return options.search.workers or max(1, fitting), gpus


def run_search(
    options: TuneOptions,
    resume: bool = False,
    allow_different: bool = False,
    make_display: Callable[[SearchResults, int], Display] | None = None,
) -> SearchResults:
    """Carry a search out; see :func:`asecalc_ml.potentials.tuning.tune`.

    Parameters
    ----------
    make_display : callable, optional
        From the results, which grow, and the number of workers to what is told of every change.
    """
    search, (workers, gpus) = options.search, number_of_workers(options)
    cores = options.threads * options.devices
    executor = make_executor(search.executor, workers, search.ray_address, cores, gpus)
    # an executor that cannot be had is refused before the search has begun
    with closing(executor), closing(SearchFolder(options, resume, allow_different)) as folder:
        display = make_display(folder.results, workers) if make_display else lambda trial: None
        SearchScheduler(folder, workers, gpus).run(executor, display)
        folder.write_results()
        return folder.results


class SearchScheduler:
    """Carries a search out.

    Parameters
    ----------
    folder : SearchFolder
    workers : int
        Trials at the same time.
    gpus : int
        Number of GPUs; with any, each trial takes one for each of its devices.
    """

    def __init__(self, folder: SearchFolder, workers: int = 1, gpus: int = 0):
        self.folder, self.options = folder, folder.options
        self.workers, self._gpus = workers, gpus
        self._objectives = folder.results.objectives
        self._waiting = list(folder.trials.open)  # those that an earlier session left
        self._not_before: dict[int, float] = {}

    def run(self, executor: Executor, display: Display = lambda trial: None) -> None:
        """Run trials until the budget is spent, those that are open first.

        Parameters
        ----------
        executor : Executor
            Closed at the end, while the lock of the search is held.
        display : callable
            Told a trial that has changed; None where time has passed.

        Raises
        ------
        TuningError
            If the journal cannot be written, or a worker refuses to run trials. What runs is ended, and can
            be continued.
        """
        try:
            self._work(executor, display)
        finally:
            executor.close()

    def _work(self, executor: Executor, display: Display) -> None:
        running: dict[Future[Outcome], Trial] = {}
        while True:
            while len(running) < self.workers and (trial := self._next()) is not None:
                running[executor.start(self._job(trial))] = trial
                display(trial)
            if not running and not self._waiting:
                return
            for future in _ended(running):
                trial = running.pop(future)
                self._take(trial, future.result())
                display(trial)
            display(None)

    def _next(self) -> Trial | None:
        """A trial to start now: one that waits, or a new one."""
        now = time.monotonic()
        ready = [trial for trial in self._waiting if self._not_before.get(trial.number, 0.0) <= now]
        if ready:
            self._waiting.remove(ready[0])
            return ready[0]
        return self._submit() if self._may_submit() else None

    def _may_submit(self) -> bool:
        trials, search = self.folder.trials, self.options.search
        is_early = search.hours is None or trials.seconds < 3600 * search.hours
        return is_early and (search.trials is None or len(trials.trials) < search.trials)

    def _submit(self) -> Trial:
        trials = self.folder.trials
        results = [(trial.values, self._scores(trial)) for trial in trials.ended]
        running = [trial.values for trial in trials.open]
        values: Values = propose(self.options.search, len(trials.trials), results, running)
        self.folder.note(journal.SUBMITTED, trial=len(trials.trials) + 1, values=values)
        return trials.trials[-1]

    def _scores(self, trial: Trial) -> list[float] | None:
        """Objectives to be maximized; None of a trial that failed."""
        if not trial.objectives:
            return None
        return [sign(one) * trial.objectives[one.label] for one in self._objectives]

    def _job(self, trial: Trial) -> Job:
        directory, token = self.folder.directory / TRIALS / trial.name, uuid.uuid4().hex
        self.folder.note(journal.STARTED, trial=trial.number, token=token)
        lease(directory, token)
        training = self.options.trial(trial.values, directory.absolute())
        message = {
            "version": __version__,
            "token": token,
            "directory": str(directory.absolute()),
            "options": training,
            "search": self.options.search.model_dump(mode="json"),
        }
        log = str((directory / "log.txt").absolute())
        devices = int(training.get("devices", 1))
        cpus, gpus = devices * int(training.get("threads", 1)), min(devices, self._gpus)
        return Job(WORKER, message, str(Path.cwd()), log, added_folders(), cpus=cpus, gpus=gpus)

    def _take(self, trial: Trial, outcome: Outcome) -> None:
        """Write the outcome of a trial to the journal."""
        reason = " ".join(outcome.text.split())
        if outcome.state in (DONE, STOPPED):
            self._end(trial, outcome.state, reason, **outcome.values)
        elif outcome.state == REFUSED:
            raise TuningError(
                f"trial {trial.number} could not run: {reason.rstrip('.')}.",
                name=str(self.folder.directory),
                remedy="Remove the cause, and continue with --resume",
            )
        elif outcome.state in (BUSY, PAUSED):  # no failure: it goes on elsewhere, or was asked to end
            self._wait(trial, BUSY_WAIT_S)
        elif outcome.state == LOST and trial.n_lost < self.options.search.retries:
            self.folder.note(journal.LOST, trial=trial.number, reason=reason)
            self._wait(trial, 0.0)
        else:
            times = f" ({trial.n_lost + 1} times)" if outcome.state == LOST and trial.n_lost else ""
            self._end(trial, FAILED, reason + times, objectives={}, numbers={})
        self.folder.write_results()

    def _end(self, trial: Trial, state: str, reason: str, **values: dict[str, float]) -> None:
        self.folder.note(journal.ENDED, trial=trial.number, state=state, reason=reason, **values)

    def _wait(self, trial: Trial, seconds: float) -> None:
        self._not_before[trial.number] = time.monotonic() + seconds
        self._waiting.append(trial)


def _ended(running: dict[Future[Outcome], Trial]) -> set[Future[Outcome]]:
    """Jobs that have ended, after a while at most."""
    if not running:
        time.sleep(LOOK_EVERY_S)
    return wait(running, LOOK_EVERY_S, FIRST_COMPLETED).done

"""The trials of a search and their states, as the journal has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asecalc_ml.potentials.tuning.journal import BEGUN, ENDED, LOST, RESUMED, STARTED, SUBMITTED

#: States of a trial. "stopped": early stopping has ended it; the others are in the words' own sense.
WAITING, RUNNING, DONE, STOPPED, FAILED = "waiting", "running", "done", "stopped", "failed"


@dataclass
class Trial:
    """One trial: a training with values of its own.

    Attributes
    ----------
    number : int
        From 1, in the order of submission.
    values : dict
        Value of each parameter.
    state, reason : str
        One of the five words above; why it failed or was stopped.
    objectives : dict of str to float
        Value of each objective by its label; empty unless the trial is done or stopped.
    numbers : dict of str to float
        What else the trial reported: epochs, cpu_seconds.
    n_lost : int
        How often its process was lost.
    submitted, ended : float
        Times, seconds since 1970.
    """

    number: int
    values: dict[str, Any]
    state: str = WAITING
    reason: str = ""
    objectives: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    n_lost: int = 0
    submitted: float = 0.0
    ended: float | None = None

    @property
    def name(self) -> str:
        """Name of its folder, such as 0007."""
        return f"{self.number:04d}"

    @property
    def has_ended(self) -> bool:
        """True if its result is known, be it that it failed."""
        return self.state in (DONE, STOPPED, FAILED)


class TrialList:
    """Trials of a search.

    Attributes
    ----------
    trials : list of Trial
        In the order of submission.
    ended : list of Trial
        Those that have ended, in the order in which they did.
    seconds : float
        Time between the first and the last event of each session, summed over sessions.
    """

    def __init__(self, events: Iterable[Mapping[str, Any]] = ()):
        self.trials: list[Trial] = []
        self.ended: list[Trial] = []
        self.seconds = 0.0
        self._last: float | None = None
        for event in events:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Change the trials as an event says."""
        kind, time = event["kind"], event["time"]
        if kind in (BEGUN, RESUMED):
            self._last = time
            for trial in self.open:
                trial.state = WAITING
        self.seconds += max(0.0, time - (self._last if self._last is not None else time))
        self._last = time
        if kind == SUBMITTED:
            self.trials.append(Trial(event["trial"], event["values"], submitted=time))
        elif kind in (STARTED, LOST, ENDED):
            self._change(self.trials[event["trial"] - 1], event)

    def _change(self, trial: Trial, event: Mapping[str, Any]) -> None:
        if event["kind"] == STARTED:
            trial.state = RUNNING
        elif event["kind"] == LOST:
            trial.state, trial.n_lost = WAITING, trial.n_lost + 1
        else:
            trial.state, trial.reason, trial.ended = event["state"], event["reason"], event["time"]
            trial.objectives, trial.numbers = event["objectives"], event["numbers"]
            self.ended.append(trial)

    @property
    def open(self) -> list[Trial]:
        """Trials whose result is not known."""
        return [trial for trial in self.trials if not trial.has_ended]

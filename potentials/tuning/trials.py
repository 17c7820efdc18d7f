"""The trials of a search and their states, as the journal has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asecalc_ml.files.reading import damage_named
from asecalc_ml.objectives import TrialRecord
from asecalc_ml.potentials.tuning.journal import BEGUN, ENDED, JOURNAL, LOST, RESUMED, STARTED, SUBMITTED
from asecalc_ml.potentials.tuning.space import Parameter

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
    ended_after_seconds : float or None
        Time that the search had run when the trial ended, over all sessions.
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
    ended_after_seconds: float | None = None

    @property
    def name(self) -> str:
        """Name of its folder, such as 0007."""
        return f"{self.number:04d}"

    @property
    def has_ended(self) -> bool:
        """True if its result is known, be it that it failed."""
        return self.state in (DONE, STOPPED, FAILED)

    def record(self, space: Mapping[str, Parameter]) -> TrialRecord:
        """The trial as plain data."""
        return TrialRecord(
            number=self.number,
            state=self.state,
            reason=self.reason,
            values=self.values,
            fractions={name: parameter.fraction(self.values[name]) for name, parameter in space.items()},
            objectives=self.objectives,
            cpu_seconds=self.numbers.get("cpu_seconds"),
            ended_after_seconds=self.ended_after_seconds,
        )


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
    version : str
        Version of the package that ran the last session.
    """

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.ended: list[Trial] = []
        self.seconds = 0.0
        self.version = ""
        self._last: float | None = None

    @classmethod
    def read(cls, directory: Path, events: Iterable[Mapping[str, Any]]) -> TrialList:
        """Trials as the events of a journal have them.

        Raises
        ------
        RunError
            If an event makes no sense; the message names its line.
        """
        trials = cls()
        for line, event in enumerate(events, 1):
            with damage_named(directory / JOURNAL, place=f"in line {line}"):
                trials.take(event)
        return trials

    def take(self, event: Mapping[str, Any]) -> None:
        """Change the trials as an event says."""
        kind, time = event["kind"], event["time"]
        if kind in (BEGUN, RESUMED):
            self._last, self.version = time, str(event["version"])
            for trial in self.open:
                trial.state = WAITING
        self.seconds += max(0.0, time - (self._last if self._last is not None else time))
        self._last = time
        if kind == SUBMITTED:
            if event["trial"] != len(self.trials) + 1:
                raise ValueError(f"trial {event['trial']} comes after trial {len(self.trials)}")
            self.trials.append(Trial(event["trial"], dict(event["values"]), submitted=time))
        elif kind in (STARTED, LOST, ENDED):
            changed = {trial.number: trial for trial in self.open}.get(event["trial"])
            if changed is None:
                raise ValueError(f"no trial {event['trial']} is open")
            self._change(changed, event)
        elif kind not in (BEGUN, RESUMED):
            raise ValueError(f"no event is called {kind!r}")

    def _change(self, trial: Trial, event: Mapping[str, Any]) -> None:
        if event["kind"] == STARTED:
            trial.state = RUNNING
        elif event["kind"] == LOST:
            trial.state, trial.n_lost = WAITING, trial.n_lost + 1
        else:
            trial.objectives, trial.numbers = _numbers(event["objectives"]), _numbers(event["numbers"])
            trial.state, trial.reason, trial.ended = event["state"], str(event["reason"]), event["time"]
            trial.ended_after_seconds = self.seconds
            if not trial.has_ended:
                raise ValueError(f"no trial ends as {trial.state!r}")
            self.ended.append(trial)

    @property
    def open(self) -> list[Trial]:
        """Trials whose result is not known."""
        return [trial for trial in self.trials if not trial.has_ended]


def _numbers(given: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name; ValueError or TypeError where one is none."""
    if not all(isinstance(value, int | float) for value in given.values()):
        raise ValueError(f"{dict(given)} are no numbers")
    return dict(given)

"""A hyperparameter search as plain data: what a report needs of it, whoever ran it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from asecalc_ml.objectives.objective import ObjectiveOptions

Value = bool | int | float | str


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SearchedParameter(_Plain):
    """A parameter of a search."""

    name: str = Field(description="option of the training, with dots for sections")
    distribution: str = Field(description="distribution of its values as text")
    low: float | None = Field(None, description="lowest value; None of a categorical parameter")
    high: float | None = Field(None, description="highest value; None of a categorical parameter")
    is_logarithmic: bool = Field(False, description="whether each decade is as likely as the next")
    is_integer: bool = Field(False, description="whether its values are whole numbers")
    choices: list[Value] = Field([], description="values of a categorical parameter")

    def place(self, value: Value) -> float:
        """Place of a value on an axis from 0 to 1: categories at equal distances, log ranges logarithmic."""
        if self.choices:
            return place_among(self.choices, value) / (len(self.choices) - 1)
        assert self.low is not None
        assert self.high is not None
        assert not isinstance(value, str)
        scale = math.log if self.is_logarithmic else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))


class SearchedObjective(_Plain):
    """An objective of a search."""

    label: str = Field(description="name of the number with its unit")
    direction: Literal["minimize", "maximize"]


class TrialRecord(_Plain):
    """A trial of a search."""

    number: int = Field(description="from 1, in the order of submission")
    state: str = Field(description="waiting, running, done, stopped (early) or failed")
    reason: str = Field("", description="why it failed or was stopped")
    values: dict[str, Value] = Field(description="value of each parameter")
    fractions: dict[str, float] = Field(
        description="fraction of each parameter's distribution that lies below the value"
    )
    objectives: dict[str, float] = Field({}, description="objectives by label; empty without a result")
    cpu_seconds: float | None = Field(None, description="processor time of its training, s")
    ended_after_seconds: float | None = Field(
        None, description="time that the search had run when the trial ended, s"
    )

    @property
    def has_ended(self) -> bool:
        """True if its result is known, be it that it failed."""
        return self.state in ("done", "stopped", "failed")


class SearchRecord(_Plain):
    """A search: what was searched, how, and its trials up to now."""

    name: str
    version: str = Field(description="version of asecalc-ml that ran it last")
    settings: dict[str, Value | None] = Field(description="how it was searched: method, seed, budget, ...")
    seconds: float = Field(description="time that the search has run, over all sessions, s")
    parameters: list[SearchedParameter]
    objectives: list[SearchedObjective] = Field(description="one or two")
    trials: list[TrialRecord] = Field(description="in the order of submission")

    @property
    def ended(self) -> list[TrialRecord]:
        """Trials whose result is known."""
        return [trial for trial in self.trials if trial.has_ended]

    @property
    def measured(self) -> list[TrialRecord]:
        """Trials with a value of each objective."""
        return [trial for trial in self.trials if trial.objectives]

    def scores(self, trial: TrialRecord) -> list[float]:
        """Objectives of a trial with signs with which larger is better."""
        return [sign(one) * trial.objectives[one.label] for one in self.objectives]

    @property
    def ranks(self) -> dict[int, int]:
        """Rank of each measured trial by its number: 1 + the number of trials that dominate it.

        With one objective these are its ranks; with two, rank 1 is the Pareto front (Fonseca & Fleming 1993).
        """
        import numpy as np

        scores = np.array([self.scores(trial) for trial in self.measured])
        numbers = [trial.number for trial in self.measured]
        # trial j dominates trial i: no score of j is lower, and one is higher
        counts = [int(((scores >= own).all(axis=1) & (scores > own).any(axis=1)).sum()) for own in scores]
        return {number: 1 + count for number, count in zip(numbers, counts, strict=True)}

    @property
    def best(self) -> list[TrialRecord]:
        """Measured trials by rank, those of one rank by the first objective."""
        ranks = self.ranks
        return sorted(
            self.measured, key=lambda trial: (ranks[trial.number], [-score for score in self.scores(trial)])
        )


def sign(objective: SearchedObjective | ObjectiveOptions) -> float:
    """Factor after which larger values of an objective are better."""
    return 1.0 if objective.direction == "maximize" else -1.0


def dominates(scores: Sequence[float], others: Sequence[float]) -> bool:
    """Return True if a trial is better than another in one objective and worse in none."""
    pairs = list(zip(scores, others, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def place_among(choices: Sequence[Value], value: Value) -> int:
    """Place of a value among choices, of which True and 1 are two."""
    places = [k for k, choice in enumerate(choices) if (type(choice), choice) == (type(value), value)]
    if not places:
        raise ValueError(f"{value!r} is none of {list(choices)}")
    return places[0]

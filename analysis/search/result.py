"""The report of a search: its trials, their figures and tables, and what the parameters matter."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal

from asecalc_ml.analysis.base import Cell, Panel, Result, Table, Verdict
from asecalc_ml.analysis.search.figures import (
    draw_importance,
    draw_over_time,
    draw_over_trials,
    draw_pareto_front,
)
from asecalc_ml.analysis.search.importance import ObjectiveImportance, parameter_importance
from asecalc_ml.analysis.search.parallel_coordinates import draw_parallel_coordinates
from asecalc_ml.errors import AnalysisError
from asecalc_ml.objectives import SearchedObjective, SearchRecord, TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_BEST = 10
STATES = ("done", "stopped", "failed", "running", "waiting")
NUMBER = re.compile(r"\d[\d.,]*(e[-+]?\d+)?", re.IGNORECASE)

Draw = Callable[["Axes"], None]


class SearchReport(Result):
    """Trials of a hyperparameter search, and the importance of its parameters."""

    analysis: Literal["search"] = "search"
    record: SearchRecord
    importances: list[ObjectiveImportance]

    @classmethod
    def of(cls, record: SearchRecord) -> SearchReport:
        """Report of a search as it is now.

        Raises
        ------
        AnalysisError
            If no trial has ended.
        """
        if not record.ended:
            raise AnalysisError(
                f"no trial of the search {record.name} has ended, so there is nothing to report",
                name=record.name,
                remedy="ask again when the first trial has ended",
            )
        importances = [parameter_importance(record, objective) for objective in record.objectives]
        return cls(record=record, importances=importances)

    @property
    def summary(self) -> str:
        """The outcome in two sentences."""
        record = self.record
        states = Counter(trial.state for trial in record.trials)
        counts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
        return f"{self._outcome} The search has run for {_clock(record.seconds)}; trials: {counts}."

    @property
    def _outcome(self) -> str:
        record = self.record
        if not record.measured:
            return "No trial has a result."
        if len(record.objectives) > 1:
            return f"The Pareto front has {sum(rank == 1 for rank in record.ranks.values())} trials."
        best, label = record.best[0], record.objectives[0].label
        return f"The best is trial {best.number} with {label} {best.objectives[label]:.4g}."

    def verdicts(self) -> list[Verdict]:
        """Checks of whether the parameters explain each objective."""
        return [importance.verdict for importance in self.importances]

    def panels(self) -> list[Panel]:
        """All figures; none where all trials have failed."""
        return [panel for panel, _ in self._figures()]

    def _draw(self, ax: Axes, panel: str) -> None:
        next(draw for shown, draw in self._figures() if shown.key == panel)(ax)

    def _figures(self) -> Iterator[tuple[Panel, Draw]]:
        """Each panel with what draws it."""
        record = self.record
        if not record.measured:
            return
        if len(record.objectives) > 1:
            panel = Panel(
                key="pareto-front", title="Pareto front", caption=PARETO_FRONT, columns=2, height=1.25
            )
            yield panel, partial(draw_pareto_front, record=record)
        for objective in record.objectives:
            yield from self._courses(objective)
        n_rows = len(record.parameters) + len(record.objectives)
        panel = Panel(
            key="parallel-coordinates",
            title="Parameters and results of all trials",
            caption=PARALLEL_COORDINATES,
            columns=2,
            height=(0.55 * n_rows + 0.7) / 3.1,
        )
        yield panel, partial(draw_parallel_coordinates, record=record)
        for importance in self.importances:
            if importance.parameters:
                panel = Panel(
                    key=f"importance{self._suffix(importance.objective)}",
                    title="Importance of parameters",
                    caption=f"{_importance_caption(importance)} {IMPORTANCE}",
                    height=max(1.0, (0.36 * len(importance.parameters) + 1.4) / 3.1),
                )
                yield panel, partial(draw_importance, importance=importance)

    def _courses(self, objective: SearchedObjective) -> Iterator[tuple[Panel, Draw]]:
        suffix = self._suffix(objective.label)
        panel = Panel(key=f"over-trials{suffix}", title="Best so far over trials", caption=OVER_TRIALS)
        yield panel, partial(draw_over_trials, record=self.record, objective=objective)
        panel = Panel(key=f"over-time{suffix}", title="Best so far over time", caption=OVER_TIME)
        yield panel, partial(draw_over_time, record=self.record, objective=objective)

    def _suffix(self, label: str) -> str:
        """End of a key: nothing for the first objective, -2 for the second."""
        place = [objective.label for objective in self.record.objectives].index(label)
        return f"-{place + 1}" if place else ""

    def tables(self) -> list[Table]:
        """The best trials, states and reasons, importances, and what was searched."""
        tables = [self._best()] if self.record.measured else []
        tables += [self._states()]
        tables += [self._importance(one) for one in self.importances if one.parameters]
        return [*tables, self._settings(), self._space()]

    def data(self) -> list[Table]:
        """All trials that were submitted."""
        record, ranks = self.record, self.record.ranks
        columns = ["ended after (s)", "rank", "reason"]
        rows = [
            [*_row(record, trial), trial.ended_after_seconds, ranks.get(trial.number), trial.reason]
            for trial in record.trials
        ]
        return [Table(key="trials", title="Trials", columns=[*_columns(record), *columns], rows=rows)]

    def _best(self) -> Table:
        record = self.record
        shown = record.best[:N_BEST]
        caption = ""
        if len(record.objectives) > 1:
            caption = (
                "Ordered by the number of trials that dominate the trial; on the Pareto front there is none."
            )
        title = f"The {len(shown)} best trials" if len(shown) > 1 else "The best trial"
        rows = [_row(record, trial) for trial in shown]
        return Table(key="best", title=title, columns=_columns(record), rows=rows, caption=caption)

    def _states(self) -> Table:
        """How many trials are in which state; reasons that differ in numbers alone are counted together."""
        first: dict[tuple[str, str], str] = {}
        counts: Counter[tuple[str, str]] = Counter()
        for trial in self.record.trials:
            kind = (trial.state, NUMBER.sub("#", trial.reason))
            counts[kind] += 1
            first.setdefault(kind, trial.reason)
        ordered = sorted(counts.items(), key=lambda item: (STATES.index(item[0][0]), -item[1]))
        return Table(
            key="states",
            title="States of trials",
            columns=["state", "trials", "reason"],
            rows=[[kind[0], number, first[kind] or None] for kind, number in ordered],
            caption="Reasons that differ in numbers alone are counted together; shown is the first.",
        )

    def _settings(self) -> Table:
        record = self.record
        settings = {**record.settings, "time that the search has run": _clock(record.seconds)}
        rows = [[name, _cell(value)] for name, value in settings.items() if value is not None]
        rows += [[f"objective ({one.direction}d)", one.label] for one in record.objectives]
        rows.append(["version of asecalc-ml", record.version])
        return Table(key="settings", title="How it was searched", columns=["setting", "value"], rows=rows)

    def _space(self) -> Table:
        rows: list[list[Cell]] = [[one.name, one.distribution] for one in self.record.parameters]
        return Table(
            key="space", title="What was searched", columns=["parameter", "distribution of values"], rows=rows
        )

    def _importance(self, importance: ObjectiveImportance) -> Table:
        columns = [
            "parameter", "total index", "95 % interval, from", "to", "first-order index",
            "share of the variance of ranks", "by chance at most (95 %)", "more than chance",
        ]  # fmt: skip
        rows: list[list[Cell]] = [
            [one.name, one.total, one.low, one.high, one.first_order, one.explained, one.chance, one.status]
            for one in importance.parameters
        ]
        return Table(
            key=f"importance{self._suffix(importance.objective)}",
            title=f"Importance of parameters for {importance.objective}",
            columns=columns,
            rows=rows,
            caption="Chance is the bound that the largest share exceeds in 5 % of fits to shuffled results.",
        )


def _columns(record: SearchRecord) -> list[str]:
    labels = [one.label for one in record.objectives]
    return ["trial", "state", *labels, "cpu_seconds", *(one.name for one in record.parameters)]


def _row(record: SearchRecord, trial: TrialRecord) -> list[Cell]:
    objectives = [trial.objectives.get(one.label) for one in record.objectives]
    values = [_cell(trial.values[one.name]) for one in record.parameters]
    return [trial.number, trial.state, *objectives, trial.cpu_seconds, *values]


def _cell(value: bool | float | str | None) -> Cell:
    return str(value).lower() if isinstance(value, bool) else value


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"


def _importance_caption(importance: ObjectiveImportance) -> str:
    named = [one.name for one in importance.parameters if one.status == "passed"]
    if not named:
        return "No single parameter matters more than chance."
    return f"More than chance: {', '.join(named)}."


OVER_TRIALS = (
    "Each point is a trial. A trial that failed is a tick. "
    "Triangles are trials whose value lies beyond the axis."
)
OVER_TIME = (
    "As before, over the time at which each trial ended. "
    "Time between an interruption and the resumption does not count."
)
PARETO_FRONT = (
    "No other trial is better in both objectives than a trial of the front. Numbers are those of trials."
)
PARALLEL_COORDINATES = (
    "A line is a trial. Its place on an axis is its value; ranges that were searched logarithmically have "
    "logarithmic axes. Lines of failed trials end before the objective."
)
IMPORTANCE = (
    "Bars are total Sobol indices: the share of the variance over the whole search space that a parameter "
    "takes part in, alone or together with others, so that bars add up to 1 or more. "
    "Diamonds are first-order indices: the share due to the parameter alone (fANOVA). "
    "The variance is that of the trials' ranks as trees predict them from the parameters. "
    "Intervals (95 %) show how much bars vary with the sample of trials; "
    "they do not contain the error of the trees, which favor the most important parameter. "
    "Bayesian search samples the space unevenly: it has few trials where results are bad, "
    "and what holds there is known least."
)

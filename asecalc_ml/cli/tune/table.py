"""Terminal output of a hyperparameter search: a line for each finished trial, and tables of the best."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from asecalc_ml.terminal.console import make_console, make_table, print_line

if TYPE_CHECKING:
    from asecalc_ml.potentials.tuning.results import SearchResults
    from asecalc_ml.potentials.tuning.trials import Trial

N_BEST = 10


class SearchLines:
    """Prints a line for each trial that has ended, with the best so far and the time left.

    Parameters
    ----------
    results : SearchResults
        Its trials grow while the search runs.
    workers : int
        Trials at the same time.
    """

    def __init__(self, results: SearchResults, workers: int):
        self.results, self.workers = results, workers
        self._began, self._n_before = time.monotonic(), _n_ended(results)

    def show(self, trial: Trial | None) -> None:
        """Print the line of a trial that has ended; nothing of others."""
        if trial is None or not trial.has_ended:
            return
        values = ", ".join(f"{label} {value:.4g}" for label, value in trial.objectives.items())
        words = ", ".join(filter(None, (trial.reason, values)))
        line = f"trial {trial.number}: {trial.state} ({words}); {self._record()}{self._left()}"
        print_line(line, stderr=True)

    def _record(self) -> str:
        best = self.results.best
        if not best:
            return ""
        if len(self.results.objectives) > 1:
            return f"{len(best)} on the Pareto front; "
        return f"best so far: trial {best[0].number}; "

    def _left(self) -> str:
        n_ended, search = _n_ended(self.results), self.results.options.search
        per_trial = (time.monotonic() - self._began) / max(1, n_ended - self._n_before)
        limits = []
        if search.trials is not None:
            limits.append(per_trial * (search.trials - n_ended))
        if search.hours is not None:
            limits.append(3600 * search.hours - self.results.seconds)
        total = f" of {search.trials}" if search.trials is not None else ""
        return f"{n_ended}{total} trials have ended, {_clock(max(0.0, min(limits)))} left"


def show_results(results: SearchResults) -> None:
    """Print how far a search is, and its best trials or its Pareto front."""
    console = make_console()
    console.print(counts(results), soft_wrap=True)
    best = results.best
    if not best:
        return
    labels, parameters = [one.label for one in results.objectives], list(results.options.search.space)
    shown, title = best, "Pareto front"
    if len(labels) == 1:
        shown = best[:N_BEST]
        title = f"The {len(shown)} best trials" if len(shown) > 1 else "The best trial"
    rows = [
        [
            str(trial.number),
            trial.state,
            *(_text(trial.objectives[label]) for label in labels),
            f"{trial.numbers['cpu_seconds']:.0f}",
            *(_text(trial.values[name]) for name in parameters),
        ]
        for trial in shown
    ]
    console.print(make_table(["trial", "state", *labels, "cpu s", *parameters], rows, title))


def counts(results: SearchResults) -> str:
    """How many trials are in which state, and how long the search has run."""
    numbers = Counter(trial.state for trial in results.trials)
    states = ", ".join(f"{number} {state}" for state, number in numbers.items()) or "none has begun"
    search = results.options.search
    planned = f" of {search.trials}" if search.trials is not None else ""
    return (
        f"{results.directory}: {len(results.trials)}{planned} trials ({states}) in {_clock(results.seconds)}"
    )


def _n_ended(results: SearchResults) -> int:
    return sum(trial.has_ended for trial in results.trials)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    """Time as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"

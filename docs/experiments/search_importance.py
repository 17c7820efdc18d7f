"""How often the importances in the report of a search are right, where the right ones are known.

python docs/experiments/search_importance.py [--searches 200] [--trials 40] [--output search_importance.json]

Searches are random points of the unit cube. "null" searches have random objectives, so that any parameter
that is called important is a mistake; with "bound alone" importances are given even if the trees predict
nothing.
The "linear" function is Σ factor x of six parameters, three of which have no effect.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from qm9_common import Record
from scipy.stats import sobol_indices, uniform

from asecalc_ml.analysis.search import importance
from asecalc_ml.analysis.search.importance import ObjectiveImportance, parameter_importance
from asecalc_ml.objectives import SearchedObjective, SearchRecord, TrialRecord
from asecalc_ml.potentials.tuning.space import Parameter

FACTORS = np.array([4.0, 2.0, 1.0, 0.0, 0.0, 0.0])
LOSS = SearchedObjective(label="loss", direction="minimize")
Function = Callable[[np.ndarray], np.ndarray]


def linear(points: np.ndarray) -> np.ndarray:
    """Σ factor x, of points of shape (6, ...)."""
    return np.tensordot(FACTORS, points, axes=1)


def search_of(points: np.ndarray, losses: np.ndarray) -> SearchRecord:
    """A search with a trial for each point, shape (n_trials, n_parameters)."""
    names = [f"x{k + 1}" for k in range(points.shape[1])]
    trials = []
    for number, (point, loss) in enumerate(zip(points.tolist(), losses.tolist(), strict=True), 1):
        values = dict(zip(names, point, strict=True))
        objectives = {LOSS.label: loss}
        trials.append(
            TrialRecord(number=number, state="done", values=values, fractions=values, objectives=objectives)
        )
    parameter = Parameter(uniform=[0.0, 1.0])
    parameters = [parameter.record(name) for name in names]
    return SearchRecord(
        name="test",
        version="",
        settings={},
        seconds=0.0,
        parameters=parameters,
        objectives=[LOSS],
        trials=trials,
    )


def measured(seed: int, n_trials: int, function: Function | None) -> ObjectiveImportance:
    """Importances of a search; its losses are random without a function."""
    random = np.random.default_rng(seed)
    points = random.random((n_trials, len(FACTORS)))
    losses = function(points.T) if function else random.random(n_trials)
    return parameter_importance(search_of(points, losses), LOSS)


def total_indices(function: Function) -> np.ndarray:
    """Total Sobol indices of the ranks of a function, which grow as its distribution function does."""
    values = np.sort(function(np.random.default_rng(0).random((len(FACTORS), 20_000))))

    def ranks(points: np.ndarray) -> np.ndarray:
        return np.searchsorted(values, function(points)) / len(values)

    return sobol_indices(func=ranks, n=4096, dists=[uniform()] * len(FACTORS), rng=0).total_order


def null_row(name: str, n_searches: int, n_trials: int) -> dict[str, object]:
    """How many null searches have a parameter that is called important."""
    n_wrong = sum(
        any(one.status == "passed" for one in measured(seed, n_trials, None).parameters)
        for seed in range(n_searches)
    )
    return {"null searches": name, "searches": n_searches, "with an important parameter": n_wrong}


def linear_rows(n_searches: int, n_trials: int) -> list[dict[str, object]]:
    """For each parameter how often it is called important, and how often the interval holds its index."""
    expected, rows = total_indices(linear), []
    searches = [
        {one.name: one for one in measured(seed, n_trials, linear).parameters} for seed in range(n_searches)
    ]
    for k, index in enumerate(expected):
        found = [search[f"x{k + 1}"] for search in searches if search]
        rows.append(
            {
                "parameter": f"x{k + 1}",
                "total index": float(index),
                "mean estimate": float(np.mean([one.total for one in found])),
                "searches": n_searches,
                "important": sum(one.status == "passed" for one in found),
                "interval holds it": sum(bool(one.low <= index <= one.high) for one in found),
            }
        )
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--output", type=Path, default=Path("search_importance.json"))
    arguments = parser.parse_args()
    n_searches, n_trials = arguments.searches, arguments.trials
    record = Record("Importance of parameters", {"trials": n_trials})
    rows = [null_row("as in the report", n_searches, n_trials)]
    with mock.patch.object(importance, "prediction_skill", return_value=(0.0, 0.0)):
        rows.append(null_row("bound alone", n_searches, n_trials))
    record.add("Null searches", rows)
    record.add("Linear function", linear_rows(max(n_searches // 10, 1), n_trials))
    record.write(arguments.output)


if __name__ == "__main__":
    main()

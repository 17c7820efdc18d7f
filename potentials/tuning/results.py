"""Results of a search, read from its folder, finished or not."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asecalc_ml.config.options import load_options
from asecalc_ml.errors import TuningError
from asecalc_ml.files.reading import damage_named
from asecalc_ml.files.writing import write_whole
from asecalc_ml.objectives import ObjectiveOptions, SearchedObjective, SearchRecord
from asecalc_ml.objectives.search_record import dominates, sign
from asecalc_ml.potentials.tuning.journal import JOURNAL, read_events
from asecalc_ml.potentials.tuning.objectives import parse_objectives
from asecalc_ml.potentials.tuning.options import TuneOptions
from asecalc_ml.potentials.tuning.trials import Trial, TrialList

#: Files of a search's folder: its options, its results, and the folder of the trials.
OPTIONS, RESULTS, TRIALS = "tune.yaml", "results.csv", "trials"


@dataclass(frozen=True)
class SearchResults:
    """Trials of a search, and what compares them.

    Attributes
    ----------
    directory : Path
    options : TuneOptions
        With which the search began, or was last resumed.
    trials : list of Trial
        In the order of submission.
    seconds : float
        Time that the search has run, over all sessions.
    version : str
        Version of the package that ran it last.
    """

    directory: Path
    options: TuneOptions
    trials: list[Trial]
    seconds: float
    version: str

    @property
    def objectives(self) -> list[ObjectiveOptions]:
        """Objectives, with their labels and directions."""
        return parse_objectives(self.options.search.objectives)

    @property
    def best(self) -> list[Trial]:
        """Trials with a result, best first; of two objectives the Pareto front, by the first objective."""
        measured = [trial for trial in self.trials if trial.objectives]
        signs = [sign(objective) for objective in self.objectives]
        labels = [objective.label for objective in self.objectives]

        def scores(trial: Trial) -> list[float]:
            return [a * trial.objectives[label] for a, label in zip(signs, labels, strict=True)]

        if len(labels) > 1:
            measured = [
                trial
                for trial in measured
                if not any(dominates(scores(other), scores(trial)) for other in measured)
            ]
        return sorted(measured, key=scores, reverse=True)

    @property
    def record(self) -> SearchRecord:
        """The search as plain data, which its report is made from."""
        search = self.options.search
        with damage_named(self.directory / JOURNAL):
            trials = [trial.record(search.space) for trial in self.trials]
        is_bayesian = search.method == "bayesian"
        return SearchRecord(
            name=self.options.name,
            version=self.version,
            settings={
                "method": search.method,
                "surrogate": search.surrogate if is_bayesian else None,
                "acquisition": search.acquisition if is_bayesian else None,
                "initial random trials": search.initial_trials if is_bayesian else None,
                "early stopping": search.early_stopping,
                "budget in trials": search.trials,
                "budget in hours": search.hours,
                "seed": search.seed,
            },
            seconds=self.seconds,
            parameters=[parameter.record(name) for name, parameter in search.space.items()],
            objectives=[
                SearchedObjective(label=one.label, direction=one.direction) for one in self.objectives
            ],
            trials=trials,
        )

    def folder(self, trial: Trial) -> Path:
        """Training directory of a trial."""
        return self.directory / TRIALS / trial.name


def read_search(directory: str | Path) -> SearchResults:
    """Read a search from its folder; another process may be running it.

    Raises
    ------
    TuningError
        If there is none.
    RunError, ConfigError
        If its journal or its options are damaged.
    """
    directory = Path(directory)
    if not (directory / JOURNAL).is_file():
        raise TuningError(f"{directory} holds no search: it has no {JOURNAL}", name=str(directory))
    trials = TrialList.read(directory, read_events(directory))
    options = load_options(directory / OPTIONS, TuneOptions)
    results = SearchResults(directory, options, trials.trials, trials.seconds, trials.version)
    _check_complete(results)
    return results


def _check_complete(results: SearchResults) -> None:
    """Refuse a journal whose trials have other parameters or objectives than the options."""
    parameters = set(results.options.search.space)
    measured = {objective.label for objective in results.objectives}
    with damage_named(results.directory / JOURNAL):
        for trial in results.trials:
            is_complete = set(trial.objectives) in (measured, set()) and "cpu_seconds" in trial.numbers
            if set(trial.values) != parameters or not (is_complete or not trial.objectives):
                raise ValueError(f"trial {trial.number} has other parameters or objectives than {OPTIONS}")


def write_results(results: SearchResults) -> Path:
    """Write results.csv: a row for each trial, with the values of all parameters."""
    text = io.StringIO()
    labels = [objective.label for objective in results.objectives]
    parameters = list(results.options.search.space)
    columns = [
        "trial",
        "state",
        "reason",
        *labels,
        "cpu_seconds",
        "epochs",
        "submitted",
        "ended",
        *parameters,
    ]
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for trial in results.trials:
        times = {"submitted": trial.submitted, "ended": trial.ended}
        shown = {name: _cell(value) for name, value in trial.values.items()}
        row = {"trial": trial.number, "state": trial.state, "reason": trial.reason}
        writer.writerow(row | trial.objectives | trial.numbers | times | shown)
    path = results.directory / RESULTS
    write_whole(path, text.getvalue())
    return path


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, bool | list | dict) else value

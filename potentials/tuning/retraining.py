"""A model from a trial of a search: its options, trained anew and registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asecalc_ml.config.nested_options import put_all
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import TuningError
from asecalc_ml.potentials.training.options import TrainingRequest, TrainOptions
from asecalc_ml.potentials.tuning.options import SearchOptions
from asecalc_ml.potentials.tuning.results import SearchResults
from asecalc_ml.potentials.tuning.trials import Trial
from asecalc_ml.store.card import SearchCard


def request_retraining(
    results: SearchResults, number: int | None, given: Mapping[str, Any], **flags: Any
) -> TrainingRequest:
    """Training of a trial's model; see :func:`asecalc_ml.potentials.tuning.retrain`.

    Parameters
    ----------
    results : SearchResults
    number : int or None
        Of the trial; the best by default.
    given : mapping
        Options that take the place of those of the search, by their dotted names.
    **flags
        As of :class:`TrainingRequest`.
    """
    trial = choose_trial(results, number)
    options = results.options.training(trial.values)
    put_all(options, given, "options of the training")
    source = f"trial {trial.number} of {results.directory}"
    training = parse_options(options, TrainOptions, source=source)
    if training.directory and training.directory.absolute().is_relative_to(results.directory.absolute()):
        raise TuningError(
            f"directory is {training.directory}, a folder of the search itself:",
            name="directory",
            value=str(training.directory),
            remedy="choose another one, so that no trial is written over",
        )
    return TrainingRequest(training, search=_search_card(results, trial), **flags)


def choose_trial(results: SearchResults, number: int | None = None) -> Trial:
    """The trial of a number, or the best.

    Raises
    ------
    TuningError
        If it does not exist or has no result, or there are two objectives and no number is given.
    """
    name = str(results.directory)
    if number is not None:
        return _numbered(results, number)
    if not results.best:
        raise TuningError(f"no trial of {name} has a result yet", name=name)
    if len(results.objectives) > 1:
        front = [trial.number for trial in results.best]
        raise TuningError(
            f"the search in {name} has two objectives, and none of its trials is the best in both;",
            name=name,
            allowed=front,
            remedy=f"choose one of the Pareto front, --trial {' or '.join(map(str, front))}",
        )
    return results.best[0]


def _numbered(results: SearchResults, number: int) -> Trial:
    trial = next((trial for trial in results.trials if trial.number == number), None)
    if trial is None:
        problem = f"there is no trial {number} in {results.directory}, which holds {len(results.trials)};"
    elif not trial.objectives:
        reason = f" ({trial.reason})" if trial.reason else ""
        problem = f"trial {number} of {results.directory} has no result, its state is {trial.state}{reason};"
    else:
        return trial
    best = [one.number for one in results.best[:10]]
    remedy = f"the best are {', '.join(map(str, best))}" if best else None
    raise TuningError(problem, name=str(results.directory), value=number, allowed=best, remedy=remedy)


def _search_card(results: SearchResults, trial: Trial) -> SearchCard:
    return SearchCard(
        name=results.options.name,
        method=_method(results.options.search),
        trials=sum(one.has_ended for one in results.trials),
        trial=trial.number,
        objectives=trial.objectives,
        values=trial.values,
    )


def _method(search: SearchOptions) -> str:
    if search.method == "random":
        return search.method
    return f"{search.method} ({search.surrogate}, {search.acquisition})"

"""Hyperparameter search: many trainings from one file, each with other options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.potentials.tuning.options import SearchOptions, TuneOptions
    from asecalc_ml.potentials.tuning.results import SearchResults, read_search
    from asecalc_ml.store.registry import Entry

__all__ = ["SearchOptions", "SearchResults", "TuneOptions", "read_search", "retrain", "tune"]

_OPTIONS, _RESULTS = "asecalc_ml.potentials.tuning.options", "asecalc_ml.potentials.tuning.results"
__getattr__ = lazily(
    __name__,
    {"SearchOptions": _OPTIONS, "TuneOptions": _OPTIONS, "SearchResults": _RESULTS, "read_search": _RESULTS},
)


def tune(options: TuneOptions, resume: bool = False, allow_different: bool = False) -> SearchResults:
    """Search for the options of a training with which it does best.

    Parameters
    ----------
    options : TuneOptions
    resume : bool
        Continue a search that has begun.
    allow_different : bool
        Continue although the search began with another version of the package.

    Returns
    -------
    SearchResults
        Its attribute ``best`` holds the trials, best first.

    Raises
    ------
    ConfigError
        If the space or an objective does not fit the training; known before anything starts.
    TuningError
        If the search cannot start, continue or write its journal.
    """
    from asecalc_ml.potentials.tuning.checks import check_search, check_training
    from asecalc_ml.potentials.tuning.folder import check_folder
    from asecalc_ml.potentials.tuning.scheduler import run_search

    check_folder(options, resume, allow_different)
    check_search(options)
    check_training(options)
    return run_search(options, resume, allow_different)


def retrain(
    directory: str | Path,
    trial: int | None = None,
    options: Mapping[str, Any] | None = None,
    resume: bool = False,
    replace: bool = False,
    quiet: bool = False,
    resume_or_start: bool = False,
) -> Entry | None:
    """Train the model of a trial anew, test it, and register it with its search in the card.

    Parameters
    ----------
    directory : str or Path
        Folder of the search, finished or not.
    trial : int, optional
        Number of the trial; the best by default, where there is one objective.
    options : mapping, optional
        Options of the training that take the place of those of the search, by their dotted names, such as
        ``{"name": "my-model", "max_epochs": 500}``.
    resume, replace, quiet, resume_or_start : bool
        As of :func:`asecalc_ml.potentials.training.train`.

    Returns
    -------
    Entry
        The registered model, as of :func:`asecalc_ml.potentials.training.train`.

    Raises
    ------
    TuningError
        If there is no search or no such trial, or none is the best in both of two objectives.
    AsecalcError
        As of :func:`asecalc_ml.potentials.training.train`.
    """
    from asecalc_ml.potentials.training.run import run
    from asecalc_ml.potentials.tuning.results import read_search
    from asecalc_ml.potentials.tuning.retraining import request_retraining

    flags = {"resume": resume, "replace": replace, "quiet": quiet, "resume_or_start": resume_or_start}
    return run(request_retraining(read_search(directory), trial, options or {}, **flags))

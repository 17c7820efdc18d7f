"""Hyperparameter search: many trainings from one file, each with other options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.potentials.tuning.options import SearchOptions, TuneOptions
    from asecalc_ml.potentials.tuning.results import SearchResults, read_search

__all__ = ["SearchOptions", "SearchResults", "TuneOptions", "read_search", "tune"]

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

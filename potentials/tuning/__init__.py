"""Hyperparameter search: many trainings from one file, each with other options."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.potentials.tuning.options import SearchOptions, TuneOptions
    from asecalc_ml.potentials.tuning.results import SearchResults, read_search

__all__ = ["SearchOptions", "SearchResults", "TuneOptions", "read_search"]

_OPTIONS, _RESULTS = "asecalc_ml.potentials.tuning.options", "asecalc_ml.potentials.tuning.results"
__getattr__ = lazily(
    __name__,
    {"SearchOptions": _OPTIONS, "TuneOptions": _OPTIONS, "SearchResults": _RESULTS, "read_search": _RESULTS},
)

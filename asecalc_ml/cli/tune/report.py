"""The report page of a hyperparameter search: from its folder to `report/search.html`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asecalc_ml.potentials.tuning.results import SearchResults

REPORT = "report"  # folder below that of the search


def write_report(results: SearchResults) -> Path:
    """Write the page of a search, finished or not.

    Returns
    -------
    Path of the page.

    Raises
    ------
    AnalysisError
        If no trial has ended.
    """
    from asecalc_ml.analysis.search import write_search_page

    return write_search_page(results.record, results.directory / REPORT)


def try_report(results: SearchResults, command: str) -> Path | None:
    """Write the page of a search that has ended; whatever prevents it becomes a warning.

    Parameters
    ----------
    results : SearchResults
    command : str
        Command that writes the page later.
    """
    try:
        return write_report(results)
    except Exception as error:  # drawing must not change the outcome of a search
        text = str(error).rstrip(".") or type(error).__name__
        warnings.warn(
            f"the report page could not be written: {text}. The results are whole; `{command}` writes it",
            stacklevel=2,
        )
        return None

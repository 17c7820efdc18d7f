"""The page about a hyperparameter search."""

from __future__ import annotations

from pathlib import Path

from asecalc_ml.analysis.report.page import drawings, render_page
from asecalc_ml.analysis.search.result import SearchReport
from asecalc_ml.files.writing import write_whole
from asecalc_ml.objectives import SearchRecord

PAGE = "search.html"


def write_search_page(record: SearchRecord, directory: str | Path) -> Path:
    """Write a page that holds everything it shows, and the numbers next to it as JSON and CSV.

    Parameters
    ----------
    record : SearchRecord
        Of a search that is finished or not: ``read_search("tuning/NAME").record``.
    directory : str or Path
        Created where it is missing; the command writes to ``tuning/NAME/report``.

    Returns
    -------
    Path of the page.

    Raises
    ------
    AnalysisError
        If no trial has ended.
    """
    report = SearchReport.of(record)
    report.write(directory)
    page = Path(directory) / PAGE
    write_whole(page, render(report))
    return page


def render(report: SearchReport) -> str:
    """The page as text."""
    return render_page(
        "results.html",
        title=f"Search {report.record.name}",
        kind="Hyperparameter search",
        summary=report.summary,
        verdicts=report.verdicts(),
        drawings=list(drawings([report])),
        tables=report.tables(),
    )

"""A page about several runs: one figure for each pattern, and tables of distances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.analysis.base import Table
from asecalc_ml.analysis.report.page import drawings, render_page
from asecalc_ml.files.writing import write_whole

if TYPE_CHECKING:
    from asecalc_ml.analysis.comparing.comparison import Comparison

PAGE = "comparison.html"


def write_page(comparison: Comparison, directory: str | Path) -> Path:
    """Write a page that holds everything it shows, and the numbers as JSON and CSV beside it.

    Parameters
    ----------
    comparison : Comparison
    directory : str or Path
        Created where it is missing.

    Returns
    -------
    Path of the page.
    """
    comparison.write(directory)
    page = Path(directory) / PAGE
    write_whole(page, render(comparison))
    return page


def render(comparison: Comparison) -> str:
    """The page as text."""
    return render_page(
        "results.html",
        title=f"Comparison of {' and '.join(run.name for run in comparison.runs)}",
        kind="Comparison of runs",
        drawings=list(drawings([comparison])),
        tables=[_runs(comparison), *comparison.tables()],
    )


def _runs(comparison: Comparison) -> Table:
    rows = [[run.name, run.model, run.n_frames, run.duration_ps, run.draws] for run in comparison.runs]
    columns = ["run", "calculator", "frames", "duration (ps)", "values of each vibration's energy"]
    return Table(key="runs", title="Runs", columns=columns, rows=rows, caption="The reference first.")

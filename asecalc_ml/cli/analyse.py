"""What the commands do with a run directory once the run is over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.tracking.spec import with_current_name
from asecalc_ml.tracking.trackers import Trackers

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import Result
    from asecalc_ml.runs import RunReader


def analyse(directory: Path) -> Path:
    """Analyse a run as its options say, write its report, and log final numbers where that is asked for.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    AsecalcError
        If an analysis failed, after the results of the others and the report have been written.
    """
    from asecalc_ml.analysis.failures import Failures
    from asecalc_ml.analysis.pipeline import carry_out
    from asecalc_ml.analysis.report.report import write_report
    from asecalc_ml.runs import RunReader

    run = RunReader(directory)
    results, _ = carry_out(run, run.read_options().get("analyses"))
    page = write_report(run)
    _log(run, results)
    failures = Failures(directory)  # those of the report among them
    if failures.all:
        error = failures.error()
        raise type(error)(f"{error}. What the other analyses have found is in {page}")
    return page


def final_numbers(results: list[Result]) -> dict[str, float | None]:
    """Numbers of all results, as ANALYSIS.NAME."""
    return {
        f"{result.analysis}.{name}": value for result in results for name, value in result.scalars().items()
    }


def _log(run: RunReader, results: list[Result]) -> None:
    """Log final numbers to the trackers that the run's options name."""
    config = with_current_name(run.read_options())
    if not config.get("tracking"):
        return
    began = run.read_provenance()["started"]
    with Trackers(config["tracking"]).start(run.directory, began=began, config=config) as tracker:
        tracker.summary(final_numbers(results))
        if columns := run.read_scan_table():
            tracker.table("scan", list(columns), list(zip(*columns.values(), strict=True)))

"""What the commands do with a run directory once the run is over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
    results, _ = carry_out(run, run.options.get("analyses"))
    page = write_report(run)
    if run.options.get("wandb"):
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
    from asecalc_ml.config.options import parse_options
    from asecalc_ml.runs import PROTOCOL
    from asecalc_ml.terminal.tracking import WandbOptions, tracking

    options = parse_options(run.options["wandb"], WandbOptions, f"{run.directory / PROTOCOL}: wandb")
    with tracking(options, run.directory, run.provenance["started"], run.options) as tracker:
        tracker.summary(final_numbers(results))
        if columns := run.scan_table:
            tracker.table("scan", list(columns), list(zip(*columns.values(), strict=True)))

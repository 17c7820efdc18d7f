"""The table of a campaign's results: one row for each run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml.cli.analyse import final_numbers
from asecalc_ml.files.writing import write_whole
from asecalc_ml.tracking.trackers import Trackers

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import Verdict
    from asecalc_ml.md_protocols.campaign.scheduler import Status

Row = dict[str, Any]


def write_tables(directory: Path, statuses: list[Status]) -> list[Path]:
    """Write results.csv and results.json into the folder of a campaign.

    A row holds the run, its state, the values of the grid, the checks that failed or are undecided, and every
    number that its analyses call a result, with errors; columns are ANALYSIS.NAME, with units.
    """
    rows = [_row(status) for status in statuses]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    contents = {"results.csv": text.getvalue(), "results.json": json.dumps(rows, indent=1) + "\n"}
    for name, content in contents.items():
        write_whole(directory / name, content)
    return [directory / name for name in contents]


def track_table(directory: Path, statuses: list[Status]) -> None:
    """Log results.csv to the trackers of the runs, as a record of its own in their group."""
    spec = statuses[0].point.options.tracking
    if not spec:
        return
    with (directory / "results.csv").open(newline="") as file:
        columns, *rows = csv.reader(file)
    name = directory.absolute().name
    with Trackers(spec).start(directory, group=name) as tracker:
        tracker.table("results", columns, rows)


def _row(status: Status) -> Row:
    row = {"run": status.point.name, "state": status.state}
    row |= {option: _plain(value) for option, value in status.point.values.items()}
    return row | _results(status) if status.state in ("done", "stopped") else row


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _results(status: Status) -> Row:
    from asecalc_ml.analysis.failures import Failures
    from asecalc_ml.analysis.pipeline import results_alone

    failures = Failures(status.directory)
    verdicts: list[Verdict] = []
    numbers: Row = {}
    for result in results_alone(status.directory, failures):
        with failures.alone(result.analysis):
            verdicts += result.verdicts()
            numbers |= final_numbers([result])
    verdicts += [failure.verdict for failure in failures.all]
    checks = {
        f"{outcome} checks": "; ".join(verdict.check for verdict in verdicts if verdict.status == outcome)
        for outcome in ("failed", "undecided")
    }
    return checks | numbers

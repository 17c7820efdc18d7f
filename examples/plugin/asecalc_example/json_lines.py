"""A tracker that writes each row as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from asecalc_ml.tracking import RunFacts, Tracker, TrackerOptions


class JSONLines(TrackerOptions):
    """Lines of JSON, one for each row, table and set of final numbers."""

    file: str = Field("log.jsonl", description="name of the file in the directory of the run")

    def start(self, run: RunFacts) -> Tracker:
        """Continue the file of a run, or begin it."""
        return JSONLinesTracker(self, run)


class JSONLinesTracker(Tracker):
    """The record of one run. Errors are left to the caller, which ends the record and not the run."""

    def __init__(self, options: JSONLines, run: RunFacts):
        self._file = (run.directory / options.file).open("a")
        self._write({"run": run.name, "group": options.group, "options": run.config})

    def row(self, table: str, values: Mapping[str, float], step: int) -> None:
        """Add a row to a table that grows with the steps of a run."""
        self._write({"table": table, "step": step, **values})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """Add a whole table."""
        self._write({"table": name, "columns": list(columns), "rows": [list(row) for row in rows]})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Add final numbers."""
        self._write({"summary": dict(values)})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content, default=float) + "\n")

"""The record of one run at a tracker: rows, tables and final numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self


class Tracker:
    """Base of all records; keeps nothing.

    A plugin's record may raise anything: it runs in a thread of its own
    (:class:`asecalc_ml.tracking.background.BackgroundTracker`), and its errors never end a run.
    """

    def row(self, table: str, values: Mapping[str, float], step: int) -> None:
        """Add a row to a table that grows with the steps of a run.

        Parameters
        ----------
        table : str
            Such as "thermo" or "training".
        values : mapping
            Numbers by column, with units in the names.
        step : int
        """

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """Add a whole table."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Add final numbers."""

    def close(self) -> None:
        """End the record, after everything before is written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SeveralTrackers(Tracker):
    """Records of one run at several trackers.

    Parameters
    ----------
    trackers : sequence of Tracker
    """

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = trackers

    def row(self, table: str, values: Mapping[str, float], step: int) -> None:
        """Add a row to each."""
        for tracker in self._trackers:
            tracker.row(table, values, step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """Add a whole table to each."""
        for tracker in self._trackers:
            tracker.table(name, columns, rows)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Add final numbers to each."""
        for tracker in self._trackers:
            tracker.summary(values)

    def close(self) -> None:
        """End each."""
        for tracker in self._trackers:
            tracker.close()

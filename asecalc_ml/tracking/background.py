"""A tracker in a thread of its own: no error of it ends a run, and no delay of it holds a run up."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from asecalc_ml.files.full_disk import reason
from asecalc_ml.tracking.options import RunFacts, TrackerOptions
from asecalc_ml.tracking.tracker import Tracker

#: Calls that may wait. A tracker that lags behind by more has stopped answering.
MOST_WAITING = 20_000

#: Time, s, between two looks for calls: many rows at once take less time than each of them alone.
INTERVAL_s = 1.0

#: Time, s, for everything that waits to be written once the run has ended.
CLOSING_s = 120.0


class BackgroundTracker(Tracker):
    """Passes calls to a tracker's record until something there fails; one warning then says so.

    Parameters
    ----------
    options : TrackerOptions
        Begins the record in the thread, so that a run does not wait for it.
    run : RunFacts
    """

    def __init__(self, options: TrackerOptions, run: RunFacts):
        self._options = options
        self._calls: deque[Callable[[Tracker], None]] = deque()
        self._is_closing = threading.Event()
        self._failure: str | None = None
        self._is_told = False
        self._thread = threading.Thread(target=self._work, args=(run,), daemon=True)
        self._thread.start()

    def row(self, table: str, values: Mapping[str, float], step: int) -> None:
        """Add a row to a table that grows with the steps of a run."""
        copied = dict(values)
        self._pass_on(lambda tracker: tracker.row(table, copied, step))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
        """Add a whole table."""
        self._pass_on(lambda tracker: tracker.table(name, columns, rows))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Add final numbers."""
        copied = dict(values)
        self._pass_on(lambda tracker: tracker.summary(copied))

    def close(self) -> None:
        """Wait until everything is written, for :data:`CLOSING_s` at most."""
        self._is_closing.set()
        self._thread.join(CLOSING_s)
        if self._thread.is_alive() and self._failure is None:
            self._hangs(f"it has not finished within {CLOSING_s:.0f} s")
        self._tell()

    def _pass_on(self, call: Callable[[Tracker], None]) -> None:
        if self._failure is not None:
            self._tell()
        elif len(self._calls) >= MOST_WAITING:
            self._hangs(f"{MOST_WAITING} rows wait, and it takes no more")
        else:
            self._calls.append(call)

    def _work(self, run: RunFacts) -> None:
        try:
            tracker = self._options.start(run)
            while not self._is_closing.wait(INTERVAL_s):
                self._carry_out(tracker)
            self._carry_out(tracker)
            tracker.close()
        except Exception as error:  # whatever it meets: no package, no network, no login, a full disk
            if self._failure is None:  # else it was given up already
                first_line = (reason(error) if isinstance(error, OSError) else str(error)).strip()
                self._failure = first_line.partition("\n")[0] or type(error).__name__
                self._give_up(is_hanging=False)

    def _carry_out(self, tracker: Tracker) -> None:
        """Carry out the calls that wait, unless the record has been given up."""
        while self._calls and self._failure is None:
            self._calls.popleft()(tracker)

    def _hangs(self, what: str) -> None:
        self._failure = what
        self._give_up(is_hanging=True)
        self._tell()

    def _give_up(self, is_hanging: bool) -> None:
        with suppress(Exception):
            self._options.give_up(is_hanging)

    def _tell(self) -> None:
        """Warn in the thread of the run, where warnings are shown, caught or turned into errors."""
        if self._failure is None or self._is_told:
            return
        self._is_told = True
        warnings.warn(
            f"{self._options.label}: {self._failure.rstrip('.')}. The run continues without it, and its own "
            "files have all numbers.",
            stacklevel=4,
        )

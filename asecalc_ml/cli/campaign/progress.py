"""One table of all runs of a campaign, in a terminal; a line for each change elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asecalc_ml.terminal.console import make_console, make_table, print_line

if TYPE_CHECKING:
    from rich.table import Table

    from asecalc_ml.md_protocols.campaign.scheduler import Status

Display = Callable[["Status | None"], None]
MOST_ROWS = 40  # beyond, runs that wait or are done are counted alone
QUIET_STATES = ("waiting", "done")


@contextmanager
def make_display(statuses: list[Status], quiet: bool) -> Iterator[Display]:
    """What shows a status that has changed."""
    from rich.live import Live

    console = make_console(stderr=True)
    if quiet:
        yield lambda status: None
    elif not console.is_terminal:
        yield lambda status: _print(status, statuses) if status else None
    else:
        with Live(progress_table(statuses), console=console, auto_refresh=False) as live:
            yield lambda status: live.update(progress_table(statuses), refresh=True)


def show_status(statuses: list[Status]) -> None:
    """Print the table once, all of it."""
    make_console().print(progress_table(statuses, len(statuses)))


def progress_table(statuses: list[Status], most: int = MOST_ROWS) -> Table:
    """Name, state, step and reason of every run, or of those that matter."""
    shown = statuses
    if len(statuses) > most:
        shown = [status for status in statuses if status.state not in QUIET_STATES]
    rows = (
        (status.point.name, status.state, _step(status), status.text.replace("\n", " "))
        for status in shown[:most]
    )
    return make_table(("run", "state", "step", ""), rows, counts(statuses))


def counts(statuses: list[Status]) -> str:
    """How many runs are in which state."""
    numbers = Counter(status.state for status in statuses)
    return f"{len(statuses)} runs: " + ", ".join(f"{number} {state}" for state, number in numbers.items())


def _step(status: Status) -> str:
    planned = getattr(status.point.options, "steps", None)
    if status.step is None:
        return ""
    return str(status.step) if planned is None else f"{status.step}/{planned}"


def _print(status: Status, statuses: list[Status]) -> None:
    why = f" ({status.text})" if status.text else ""
    print_line(f"{status.point.name}: {status.state}{why}; {counts(statuses)}", stderr=True)

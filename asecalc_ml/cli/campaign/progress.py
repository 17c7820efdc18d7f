"""One table of all runs of a campaign, in a terminal; a line for each change elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from asecalc_ml.md_protocols.campaign.scheduler import Status

Display = Callable[["Status | None"], None]
MOST_ROWS = 40  # beyond, runs that wait or are done are counted alone
QUIET_STATES = ("waiting", "done")


@contextmanager
def make_display(statuses: list[Status], quiet: bool) -> Iterator[Display]:
    """What shows a status that has changed."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if quiet:
        yield lambda status: None
    elif not console.is_terminal:
        yield lambda status: _print(status, statuses) if status else None
    else:
        with Live(progress_table(statuses), console=console, auto_refresh=False) as live:
            yield lambda status: live.update(progress_table(statuses), refresh=True)


def show_status(statuses: list[Status]) -> None:
    """Print the table once, all of it."""
    from rich.console import Console

    console = Console()
    console.width = console.width if console.is_terminal else 1000  # whole lines for grep
    console.print(progress_table(statuses, len(statuses)))


def progress_table(statuses: list[Status], most: int = MOST_ROWS) -> Table:
    """Name, state, step and reason of every run, or of those that matter."""
    from rich.table import Table

    shown = statuses if len(statuses) <= most else [one for one in statuses if one.state not in QUIET_STATES]
    table = Table("run", "state", "step", "", box=None, title=counts(statuses))
    for one in shown[:most]:
        table.add_row(one.point.name, one.state, _step(one), one.text.replace("\n", " "))
    return table


def counts(statuses: list[Status]) -> str:
    """How many runs are in which state."""
    found = Counter(one.state for one in statuses)
    return f"{len(statuses)} runs: " + ", ".join(f"{number} {state}" for state, number in found.items())


def _step(one: Status) -> str:
    planned = getattr(one.point.options, "steps", None)
    if one.step is None:
        return ""
    return str(one.step) if planned is None else f"{one.step}/{planned}"


def _print(status: Status, statuses: list[Status]) -> None:
    why = f" ({status.text})" if status.text else ""
    print(f"{status.point.name}: {status.state}{why}; {counts(statuses)}", file=sys.stderr, flush=True)

"""Progress on stderr: a bar in a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 60.0

Advance = Callable[[float], None]


@contextmanager
def progress(label: str, total: float, quiet: bool = False) -> Iterator[Advance]:
    """Show how far a long task is.

    Parameters
    ----------
    label : str
        What is being done.
    total : float
        The amount at which it is done.
    quiet : bool
        Show nothing.

    Yields
    ------
    callable
        ``advance(amount)``, to be called after each piece of work.
    """
    if quiet:
        yield lambda amount: None
    elif sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(label, total=total)
            yield lambda amount: bar.advance(task, amount)
    else:
        lines = _Lines(label, total)
        yield lines.advance
        lines.end()


def _bar():
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


class _Lines:
    """One line a minute, and one at the end."""

    def __init__(self, label: str, total: float):
        self.label, self.total, self.done = label, total, 0.0
        self.start = self.last = time.monotonic()

    def advance(self, amount: float) -> None:
        self.done += amount
        if time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self._print(f"about {self._left():.0f} s left")

    def end(self) -> None:
        self._print(f"{time.monotonic() - self.start:.0f} s")

    def _left(self) -> float:
        return (time.monotonic() - self.start) * (self.total / self.done - 1) if self.done else float("nan")

    def _print(self, note: str) -> None:
        print(f"{self.label}: {100 * self.done / self.total:.0f} %, {note}", file=sys.stderr, flush=True)

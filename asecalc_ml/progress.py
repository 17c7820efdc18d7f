"""Progress on stderr: a bar in a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 60.0

Advance = Callable[[float], None]


@contextmanager
def progress(label: str, total: float, quiet: bool = False, done: float = 0) -> Iterator[Advance]:
    """Show how far a long task is, how many steps a second it takes, and the time left.

    Parameters
    ----------
    label : str
        What is being done.
    total : float
        Number of steps at which it is done.
    quiet : bool
        Show nothing.
    done : float
        Steps done before, of a task that goes on.

    Yields
    ------
    callable
        ``advance(n_steps)``, to be called after each piece of work.
    """
    if quiet:
        yield lambda n_steps: None
    elif sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(label, total=total, completed=done, rate="")
            start = time.monotonic()

            def advance(n_steps: float) -> None:
                bar.advance(task, n_steps)
                seconds = time.monotonic() - start
                bar.update(task, rate=f"{(bar.tasks[task].completed - done) / seconds:.0f} steps/s")

            yield advance
    else:
        lines = _Lines(label, total, done)
        yield lines.advance
        lines.end()


def _bar():
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


class _Lines:
    """One line a minute, and one at the end."""

    def __init__(self, label: str, total: float, done: float):
        self.label, self.total, self.done, self.before = label, total, done, done
        self.start = self.last = time.monotonic()

    def advance(self, n_steps: float) -> None:
        self.done += n_steps
        if time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self._print(f"about {(self.total - self.done) / self._rate():.0f} s left")

    def end(self) -> None:
        self._print(f"{time.monotonic() - self.start:.0f} s")

    def _rate(self) -> float:
        return max(self.done - self.before, 1e-9) / max(time.monotonic() - self.start, 1e-9)

    def _print(self, note: str) -> None:
        share = f"{100 * self.done / self.total:.0f} %" if self.total else "done"
        print(f"{self.label}: {share}, {self._rate():.0f} steps/s, {note}", file=sys.stderr, flush=True)

"""What a user sees of long work: a bar with steps/s and time left, lines without a terminal, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asecalc_ml.terminal.console import make_console, print_line

if TYPE_CHECKING:
    from rich.console import Console

REDRAW_S = 0.2
LINE_EVERY_S = 60.0


class Progress:
    """Progress of which only warnings are shown; base class of the others."""

    def __init__(self) -> None:
        self.stage, self.unit = "", "steps"
        self._n_steps = self._first = self._step = 0
        self._began = self._shown = 0.0

    def start(self, stage: str, n_steps: int, step: int = 0, unit: str = "steps") -> None:
        """A stage begins, or goes on, at a step."""
        self.unit = unit
        self.stage, self._n_steps, self._first, self._step = stage, n_steps, step, step
        self._began = self._shown = time.monotonic()
        self._draw_start()

    def update(self, step: int) -> None:
        """So many steps are done; costs next to nothing unless something is shown."""
        self._step = step
        if time.monotonic() - self._shown > self._interval:
            self._shown = time.monotonic()
            self._draw()

    def advance(self, n_steps: int) -> None:
        """So many more steps are done."""
        self.update(self._step + n_steps)

    def end(self) -> None:
        """The stage is over."""
        self._draw_end()

    def say(self, text: str) -> None:
        """Print a result."""

    def warn(self, text: str) -> None:
        """Print a warning that the user should act upon."""
        print_line(f"Warning: {text}", stderr=True)

    def close(self) -> None:
        """End the output."""

    @property
    def rate(self) -> float:
        """Steps a second of this stage, as far as this process made them."""
        return (self._step - self._first) / max(time.monotonic() - self._began, 1e-9)

    @property
    def time_left(self) -> str:
        """As h:mm:ss."""
        if self._step == self._first:
            return "?"
        seconds = round((self._n_steps - self._step) / self.rate)
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    _interval = float("inf")

    def _draw_start(self) -> None: ...
    def _draw(self) -> None: ...
    def _draw_end(self) -> None: ...


class LineProgress(Progress):
    """A line a minute on stderr, for logs; results on stdout."""

    _interval = LINE_EVERY_S

    def say(self, text: str) -> None:
        print_line(text)

    def _draw_start(self) -> None:
        self._line(f"{self._n_steps} {self.unit}" + (f", from step {self._step}" if self._step else ""))

    def _draw(self) -> None:
        self._line(f"{self._step} {self.unit}, {self.rate:.0f} {self.unit}/s, {self.time_left} left")

    def _draw_end(self) -> None:
        seconds = time.monotonic() - self._began
        self._line(f"done, {self._step} {self.unit} in {seconds:.1f} s ({self.rate:.0f} {self.unit}/s)")

    def _line(self, text: str) -> None:
        print_line(f"{self.stage}: {text}", stderr=True)


class BarProgress(Progress):
    """A bar, for terminals (rich)."""

    _interval = REDRAW_S

    def __init__(self, console: Console):
        from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bars

        super().__init__()
        label = TextColumn("{task.description}", style="progress.description", markup=False)
        numbers = TextColumn("{task.completed:.0f}/{task.total:.0f}"), TextColumn("{task.fields[speed]}")
        shown = [label, BarColumn(), TaskProgressColumn(), *numbers]
        self._bars = Bars(*shown, console=console, auto_refresh=False)
        self._bars.start()
        self._task = TaskID(0)  # drawing begins with a stage

    def say(self, text: str) -> None:
        self._bars.console.print(text)

    def warn(self, text: str) -> None:
        self._bars.console.print(f"Warning: {text}", style="yellow")

    def close(self) -> None:
        self._bars.stop()

    def _draw_start(self) -> None:
        self._task = self._bars.add_task(self.stage, total=self._n_steps, completed=self._step, speed="")
        self._bars.refresh()

    def _draw(self) -> None:
        self._show(f"{self.rate:.0f} {self.unit}/s, {self.time_left} left")

    def _draw_end(self) -> None:
        self._bars.update(self._task, total=max(self._step, 1))
        self._show(f"{self.rate:.0f} {self.unit}/s")

    def _show(self, speed: str) -> None:
        self._bars.update(self._task, completed=self._step, speed=speed)
        self._bars.refresh()


def make_progress(quiet: bool = False) -> Progress:
    """A bar in a terminal or notebook, lines elsewhere, only warnings if quiet."""
    if quiet:
        return Progress()
    console = make_console(stderr=True)
    return BarProgress(console) if console.is_terminal or console.is_jupyter else LineProgress()


Advance = Callable[[int], None]


@contextmanager
def progress(label: str, total: int, quiet: bool = False, unit: str = "steps") -> Iterator[Advance]:
    """Show how far one task is.

    Yields
    ------
    callable
        ``advance(n)``, to be called after each piece of work.
    """
    shown = make_progress(quiet)
    shown.start(label, total, unit=unit)
    try:
        yield shown.advance
        shown.end()
    finally:
        shown.close()

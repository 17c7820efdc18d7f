"""Bars in a terminal and lines in a log: steps, rates and times left by a clock that the tests set."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from asecalc_ml.terminal import progress as module
from asecalc_ml.terminal.console import make_console
from asecalc_ml.terminal.progress import BarProgress, LineProgress, Progress


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def run(shown: Progress, clock: Clock, seconds_a_step: float = 2.0) -> None:
    """A stage of 100 steps of which 40 were made by another process, up to step 70."""
    shown.start("production", 100, step=40)
    for step in range(41, 71):
        clock.now += seconds_a_step
        shown.update(step)


def test_rate_and_time_left_count_the_steps_of_this_process(clock):
    shown = Progress()
    shown.start("production", 100, step=40)
    assert shown.time_left == "?"
    run(shown, clock)
    assert shown.rate == pytest.approx(0.5)
    assert shown.time_left == "0:01:00"


def test_a_line_a_minute(clock, capsys):
    shown = LineProgress()
    run(shown, clock, seconds_a_step=31.0)
    shown.end()
    shown.say("energy drift: 0.1")
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert lines[0] == "production: 100 steps, from step 40"
    assert lines[1] == "production: 42 steps, 0 steps/s, 0:29:58 left"
    assert lines[-1] == "production: done, 70 steps in 930.0 s (0 steps/s)"
    assert len(lines) == 2 + 15
    assert printed.out == "energy drift: 0.1\n"


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    return make_console(file=io.StringIO())


def drawn(console: Console) -> str:
    return Text.from_ansi(console.file.getvalue()).plain


def test_a_bar_shows_steps_rate_and_time_left(terminal, clock):
    shown = BarProgress(terminal)
    run(shown, clock)
    last = drawn(terminal)
    assert "production" in last
    assert "70/100" in last
    assert "0 steps/s, 0:01:00 left" in last
    shown.end()
    shown.close()
    assert "70/70" in drawn(terminal)  # what was made is all of it


def test_text_beside_a_bar_is_printed_as_it_is(terminal):
    shown = BarProgress(terminal)
    shown.start("explaining C[NH3+]", 10)
    shown.say("elements [C, H], pattern C-[O]")
    shown.warn("hot [bold]")
    shown.close()
    text = drawn(terminal)
    assert "elements [C, H], pattern C-[O]" in text
    assert "Warning: hot [bold]" in text
    assert "explaining C[NH3+]" in text

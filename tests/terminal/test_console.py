"""Consoles: whole lines without a terminal, and lines that nobody reads any more."""

import io
import sys

import pytest

from asecalc_ml.terminal.console import WIDE, make_console, make_table, print_line


def test_rows_are_whole_lines_without_a_terminal():
    """What grep finds: no row is wrapped, and numbers get no colours."""
    text = io.StringIO()
    make_console(file=text).print(make_table(("name", "where"), [("a", "b" * 500)], "title 1.5"))
    assert any(line.split() == ["a", "b" * 500] for line in text.getvalue().splitlines())
    assert "\x1b" not in text.getvalue()


def test_the_width_can_be_chosen():
    assert make_console(file=io.StringIO()).width == WIDE
    assert make_console(file=io.StringIO(), width=150).width == 150


def test_a_quiet_console_prints_nothing():
    text = io.StringIO()
    make_console(file=text, quiet=True).print("something")
    assert not text.getvalue()


@pytest.mark.parametrize("stderr", [False, True])
def test_a_line_goes_to_its_stream(stderr, capsys):
    print_line("a line", stderr=stderr)
    assert tuple(capsys.readouterr()) == (("", "a line\n") if stderr else ("a line\n", ""))


def test_a_reader_that_has_left_ends_nothing(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    print_line("nobody reads this")

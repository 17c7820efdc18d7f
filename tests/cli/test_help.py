"""What `--help` and tables print: every text whole, with its square brackets."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from typer.main import get_command
from typer.testing import CliRunner

from asecalc_ml.cli.app import _escaped
from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.terminal.console import make_console, make_table


def commands(app, path=()):
    """Path and click command of an application, its groups and all commands below."""
    command = get_command(app) if not path else app
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def words(text):
    """Text without what lays it out: line breaks, frames of panels, escapes of markup."""
    return re.sub(r"[\s│╭╮╰╯─]+", "", text.replace("\\[", "["))


ALL = [(app, path, command) for app in (ml, md) for path, command in commands(app)]


@pytest.mark.parametrize(("app", "path", "command"), ALL, ids=[" ".join(path) for _, path, _ in ALL])
def test_help_prints_every_text_whole(app, path, command):
    shown = words(CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "400"}).output)
    texts = [command.help, command.epilog, *(getattr(one, "help", None) for one in command.params)]
    for text in filter(None, texts):
        for paragraph in text.split("\n\n"):
            assert words(paragraph) in shown


@given(st.text(alphabet="a[]/#@ 3\n"))
def test_escaped_help_is_printed_as_it_was_written(text):
    assert Text.from_markup(_escaped(text), emoji=False).plain == text


@pytest.mark.parametrize("text", ["C[C@H](N)O", "[default: C, H]", "data/[a-z]*.xyz", "[/]", "[300, 500]"])
def test_a_console_prints_brackets_in_lines_and_tables(text):
    file = io.StringIO()
    console = make_console(file=file)
    console.print(text)
    console.print(make_table((text,), [(text,)], text))
    assert file.getvalue().count(text) == 4

"""The one place that prints: rich consoles, tables, and lines that may lose their reader."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 1000  # columns without a terminal, so that grep finds whole lines


def make_console(
    *, stderr: bool = False, quiet: bool = False, file: TextIO | None = None, width: int = WIDE
) -> Console:
    """Return a rich console that prints texts as they are, with square brackets, and adds no colours.

    Parameters
    ----------
    stderr : bool
        Print to the standard error.
    quiet : bool
        Print nothing.
    file : TextIO, optional
        Print to this file instead.
    width : int
        Number of columns where the output is neither a terminal nor a notebook.
    """
    from rich.console import Console

    console = Console(stderr=stderr, quiet=quiet, file=file, highlight=False, markup=False, emoji=False)
    if not (console.is_terminal or console.is_jupyter):
        console.width = width
    return console


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """Return a table without lines."""
    from rich.table import Table

    table = Table(*columns, box=None, title=title)
    for row in rows:
        table.add_row(*row)
    return table


def print_line(text: str, *, stderr: bool = False) -> None:
    """Print a line, unless nobody reads it any more: a run of days must not end with its log."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr if stderr else sys.stdout, flush=True)

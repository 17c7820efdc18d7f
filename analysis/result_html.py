"""A result as HTML: its verdicts, first figure and tables, as a notebook shows them."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from asecalc_ml.analysis.figures import BLUE, GREY, VERMILION, svg
from asecalc_ml.analysis.number_text import number_text
from asecalc_ml.outcome import MARKS

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import Panel, Result, Table, Verdict

MOST_ROWS = 60


def html(result: Result) -> str:
    """Verdicts, first figure and tables of a result."""
    first = next(iter(result.panels()), None)
    drawn = figure(result, first) if first else ""
    verdicts, tables = map(_verdict, result.verdicts()), map(_table, result.tables())
    return f"<div><strong>{escape(result.analysis)}</strong>{''.join([*verdicts, drawn, *tables])}</div>"


def figure(result: Result, panel: Panel) -> str:
    """A figure with colours of its own, since a notebook has none of a page's."""
    drawn = svg(result, panel.key, panel.caption)
    for of_page, color in (("--rule", GREY), ("--paper", "none"), ("--run", BLUE), ("--aim", VERMILION)):
        drawn = drawn.replace(f"var({of_page})", color)
    return f'<div style="max-width: {30 * panel.columns}em">{drawn}</div><p>{escape(panel.caption)}</p>'


def _verdict(verdict: Verdict) -> str:
    outcome = f"{MARKS[verdict.status]} {verdict.status}"
    return f"<p>{outcome}: {escape(verdict.check)}. {escape(verdict.text)}</p>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows[:MOST_ROWS])
    left = len(table.rows) - MOST_ROWS
    more = f"<p>{left:,} more rows.</p>" if left > 0 else ""
    return f"<table><caption>{escape(table.title)}</caption><tr>{head}</tr>{rows}</table>{more}"


def _cell(value: Any) -> str:
    text = number_text(value) if isinstance(value, int | float) else "" if value is None else str(value)
    return f"<td>{escape(text)}</td>"

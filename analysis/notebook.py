"""Results in a notebook: verdicts, the first figure and the tables of any; molecules to turn."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from asecalc_ml.analysis.figures import BLUE, GREY, VERMILION, svg
from asecalc_ml.analysis.number_text import number_text
from asecalc_ml.outcome import MARKS

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import Panel, Result, Table, Verdict
    from asecalc_ml.analysis.relevance.output.results import RelevanceResult
    from asecalc_ml.runs import RunReader

MOST_ROWS = 60


def html(result: Result) -> str:
    """What a notebook shows of a result."""
    first = next(iter(result.panels()), None)
    drawn = figure(result, first) if first else ""
    verdicts, tables = map(_verdict, result.verdicts()), map(_table, result.tables())
    return f"<div><strong>{escape(result.analysis)}</strong>{''.join([*verdicts, drawn, *tables])}</div>"


def figure(result: Result, panel: Panel) -> str:
    """A figure with colours of its own, since a notebook has none of a page's."""
    drawn = svg(result, panel.key, panel.caption)
    for of_page, color in (("--rule", GREY), ("--run", BLUE), ("--aim", VERMILION)):
        drawn = drawn.replace(f"var({of_page})", color)
    return f'<div style="max-width: 30em">{drawn}</div><p>{escape(panel.caption)}</p>'


def _verdict(one: Verdict) -> str:
    return f"<p>{MARKS[one.status]} {one.status}: {escape(one.check)}. {escape(one.text)}</p>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows[:MOST_ROWS])
    left = len(table.rows) - MOST_ROWS
    more = f"<p>{left:,} more rows.</p>" if left > 0 else ""
    return f"<table><caption>{escape(table.title)}</caption><tr>{head}</tr>{rows}</table>{more}"


def _cell(value: Any) -> str:
    text = number_text(value) if isinstance(value, int | float) else "" if value is None else str(value)
    return f"<td>{escape(text)}</td>"


@dataclass(frozen=True)
class View:
    """A molecule to turn, in a frame of its own; a notebook shows it.

    Parameters
    ----------
    page : str
        A whole page, as text.
    """

    page: str

    def _repr_html_(self) -> str:
        sealed = 'sandbox="allow-scripts" style="width: 100%; height: 34em; border: 0"'
        return f'<iframe {sealed} srcdoc="{escape(self.page, quote=True)}"></iframe>'


def view(source: RunReader | RelevanceResult) -> View:
    """The viewer of a run's frames, or of relevance, for a notebook.

    Parameters
    ----------
    source : RunReader or RelevanceResult

    Examples
    --------
    >>> from asecalc_ml.analysis import relevance
    >>> from asecalc_ml.structure.loading import load_structure
    >>> found = relevance.explain("torchmdnet-ethanol", load_structure("ethanol"), method="contributions")
    >>> "<canvas" in view(found).page
    True
    """
    from asecalc_ml.analysis.relevance.output.results import RelevanceResult
    from asecalc_ml.analysis.relevance.output.scene import relevance_scene
    from asecalc_ml.analysis.report.page import render_page
    from asecalc_ml.analysis.report.run_scene import run_scene

    scene = relevance_scene(source) if isinstance(source, RelevanceResult) else run_scene(source)
    return View(render_page("view.html", title=scene.title, kind="", scenes=[scene]))

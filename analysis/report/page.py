"""What all pages share: one file without requests, its styles, figures, molecules and script inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from asecalc_ml import __version__
from asecalc_ml.analysis.base import Cell, Panel, Result
from asecalc_ml.analysis.figures import svg
from asecalc_ml.analysis.number_text import number_text
from asecalc_ml.outcome import MARKS

if TYPE_CHECKING:
    from asecalc_ml.analysis.report.viewer import Scene

TEMPLATES = Path(__file__).parent / "templates"


class Drawing(NamedTuple):
    """A figure ready for the page."""

    title: str
    svg: str
    caption: str
    columns: int


def render_page(template: str, title: str, kind: str, scenes: Iterable[Scene] = (), **content: Any) -> str:
    """A page as text.

    The browser is forbidden every request, and every script but the viewer's, which it knows by its hash.

    Parameters
    ----------
    template : str
        File in ``templates/``.
    title, kind : str
        Heading, and the line above it.
    scenes : iterable of Scene
        For the viewer; a page without any has no script.
    **content
        What else the template names.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number_text, "is_number": is_number, "plain": plain_text}
    scenes, script = list(scenes), (TEMPLATES / "viewer.js").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        title=title,
        kind=kind,
        scenes=scenes,
        script=script,
        policy=content_policy(script if scenes else None),
        version=__version__,
        marks=MARKS,
        **content,
    )


def content_policy(script: str | None) -> str:
    """Content security policy of a page with one script, or none."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    if script is None:
        return policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{policy}; script-src 'sha256-{digest}'"


def drawings(
    results: Iterable[Result], chosen: Callable[[Result, Panel], bool] = lambda result, panel: True
) -> Iterator[Drawing]:
    """Figures of results, all by default."""
    for result in results:
        for panel in result.panels():
            if chosen(result, panel):
                label = f"{panel.title}. {panel.caption}"
                yield Drawing(panel.title, svg(result, panel.key, label), panel.caption, panel.columns)


def is_number(value: Cell) -> bool:
    """Whether a table's cell holds a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain_text(value: Any) -> str:
    """A value as it would stand in YAML, on one line."""
    if value is None or isinstance(value, bool):
        return {None: "–", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain_text(item)}" for key, item in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain_text, value)) or "–"
    return f"{value:g}" if isinstance(value, float) else str(value)

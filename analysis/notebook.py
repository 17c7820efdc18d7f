"""Molecules to turn in a notebook: the frames of a run, or relevance."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from asecalc_ml.analysis.relevance.output.results import RelevanceResult
from asecalc_ml.analysis.relevance.output.scene import relevance_scene
from asecalc_ml.analysis.report.page import render_page
from asecalc_ml.analysis.report.run_scene import run_scene

if TYPE_CHECKING:
    from asecalc_ml.runs import RunReader


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
    scene = relevance_scene(source) if isinstance(source, RelevanceResult) else run_scene(source)
    return View(render_page("view.html", title=scene.title, kind="", scenes=[scene]))

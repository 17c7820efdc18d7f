"""Relevance on a page: the molecule to turn, bars of its atoms, and agreement with occlusion."""

from __future__ import annotations

from pathlib import Path

from asecalc_ml.analysis.base import Panel, Result
from asecalc_ml.analysis.pipeline import read_result
from asecalc_ml.analysis.relevance.output.figures import MOLECULE
from asecalc_ml.analysis.relevance.output.results import RelevanceResult
from asecalc_ml.analysis.relevance.output.scene import relevance_scene
from asecalc_ml.analysis.report.page import drawings, render_page
from asecalc_ml.files.writing import write_whole
from asecalc_ml.runs import RESULTS

NAME = "relevance"


def read_relevance(directory: str | Path) -> list[RelevanceResult]:
    """What ``asecalc-ml explain`` has written for a run; empty where it was not asked.

    Raises
    ------
    RunError
        If the file is damaged, or was written by another version.
    """
    path = Path(directory) / RESULTS / f"{NAME}.json"
    if not path.is_file():
        return []
    return [
        read_result(path, RelevanceResult, "`asecalc-ml explain MODEL RUN_DIR` writes it anew, or remove it")
    ]


def write_page(result: RelevanceResult, directory: str | Path) -> Path:
    """Write ``relevance.html``, one file that asks for nothing.

    Parameters
    ----------
    result : RelevanceResult
    directory : str or Path
        Created where it is missing.

    Returns
    -------
    Path of the page.
    """
    page = Path(directory) / f"{NAME}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = render_page(
        "results.html",
        title=f"{structures_text(result)}, {result.what}, {result.model}",
        kind="Relevance of atoms",
        scenes=[relevance_scene(result)],
        drawings=list(drawings([result], is_beside_viewer)),
        tables=result.tables(),
    )
    write_whole(page, text)
    return page


def structures_text(result: RelevanceResult) -> str:
    """What was explained: a formula, or how many structures."""
    formulas = {structure.to_atoms().get_chemical_formula() for structure in result.structures}
    return formulas.pop() if len(formulas) == 1 else f"{len(result.structures):,} structures"


def is_beside_viewer(result: Result, panel: Panel) -> bool:
    """Whether a figure says more than the viewer shows: flat molecules do not."""
    return not (isinstance(result, RelevanceResult) and panel.key.startswith(MOLECULE))

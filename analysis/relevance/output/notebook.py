"""A result in a notebook: a table of atoms with colours, and the first molecule."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.figures import BLUE, VERMILION
from asecalc_ml.analysis.number_text import number_text
from asecalc_ml.analysis.relevance.output.figures import is_one_molecule
from asecalc_ml.analysis.result_html import MOST_ROWS, figure

if TYPE_CHECKING:
    from asecalc_ml.analysis.relevance.output.results import RelevanceResult


def html(result: RelevanceResult) -> str:
    """The first method's molecule, and relevance of each atom by each method."""
    return (
        f"<div><strong>{escape(result.model)}</strong>: {escape(result.target)}, "
        f"{len(result.structures)} structure{'s' if len(result.structures) > 1 else ''}"
        f"{figure(result, next(iter(result.panels())))}{_table(result)}</div>"
    )


def _table(result: RelevanceResult) -> str:
    average = is_one_molecule(result) and len(result.structures) > 1
    columns = [_column(method.frames, average) for method in result.methods]
    head = "".join(f"<th>{escape(method.heading)}</th>" for method in result.methods)
    symbols = result.structures[0].symbols[:MOST_ROWS]
    rows = "".join(f"<tr><td>{symbol}{k}</td>{_cells(columns, k)}</tr>" for k, symbol in enumerate(symbols))
    what = f"Mean of {len(result.structures)} structures" if average else "First structure"
    return f"<table><caption>{what}</caption><tr><th>atom</th>{head}</tr>{rows}</table>"


def _column(frames: list, average: bool) -> np.ndarray:
    chosen = frames if average else frames[:1]
    return np.mean([frame.atoms for frame in chosen], axis=0)


def _cells(columns: list[np.ndarray], atom: int) -> str:
    return "".join(_cell(column[atom], np.abs(column).max()) for column in columns)


def _cell(value: float, largest: float) -> str:
    share = 0 if largest == 0 else round(60 * abs(value) / largest)
    color = VERMILION if value > 0 else BLUE
    return f'<td style="background: {color}{share * 255 // 100:02x}">{number_text(float(value))}</td>'

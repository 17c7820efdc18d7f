"""Figures of a result: bars per atom, the molecule coloured by relevance, agreement with occlusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.base import Panel
from asecalc_ml.analysis.figures import BLUE, GREY, INK, VERMILION
from asecalc_ml.structure.topology.bonds import find_bonds_and_shifts
from asecalc_ml.units import name_with_unit, number_with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.relevance.output.results import MethodRelevance, RelevanceResult, Structure

MOST_BARS = 60  # beyond it labels of atoms cannot be read

CORRELATION = "correlation"
ATOMS, MOLECULE = "atoms-", "molecule-"


def panels(result: RelevanceResult) -> list[Panel]:
    """Two for each method, and the comparison."""
    drawn = []
    for method in result.methods:
        name = f"{method.title} of the {result.what}"
        drawn += [
            Panel(
                key=f"{MOLECULE}{method.method}",
                title=name,
                caption="Atoms and bonds of the first structure, coloured by "
                f"{name_with_unit('relevance', method.unit)}, {_averaged(result)}. Red raises the target, "
                "blue lowers it.",
            ),
            Panel(
                key=f"{ATOMS}{method.method}",
                title=name,
                caption=f"Relevance of each atom, {_averaged(result)}; lines are standard deviations.",
            ),
        ]
    if result.correlations:
        caption = "Spearman's rank correlation between sizes of relevance over atoms; 1 is the same order."
        drawn.append(Panel(key=CORRELATION, title="Agreement with occlusion", caption=caption))
    return drawn


def draw(result: RelevanceResult, ax: Axes, panel: str) -> None:
    """Draw one of :func:`panels`."""
    if panel == CORRELATION:
        _correlations(result, ax)
    elif panel.startswith(MOLECULE):
        _molecule(result, result.of(panel.removeprefix(MOLECULE)), ax)
    else:
        _bars(result, result.of(panel.removeprefix(ATOMS)), ax)


def is_one_molecule(result: RelevanceResult) -> bool:
    """Whether all structures have the same atoms, so that means over them make sense."""
    return len({tuple(structure.symbols) for structure in result.structures}) == 1


def _averaged(result: RelevanceResult) -> str:
    n_frames = len(result.structures)
    if n_frames == 1:
        return "one structure"
    return f"mean of {n_frames} structures" if is_one_molecule(result) else "first structure alone"


def _values(result: RelevanceResult, method: MethodRelevance) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each atom's relevance, or those of the first structure."""
    if not is_one_molecule(result):
        first = np.array(method.frames[0].atoms)
        return first, np.zeros_like(first)
    values = np.array([frame.atoms for frame in method.frames])
    return values.mean(axis=0), values.std(axis=0)


def _labels(result: RelevanceResult) -> list[str]:
    return [f"{symbol}{k}" for k, symbol in enumerate(result.structures[0].symbols)]


def _bars(result: RelevanceResult, method: MethodRelevance, ax: Axes) -> None:
    mean, deviation = _values(result, method)
    places = np.arange(len(mean))
    colors = np.where(mean < 0, BLUE, VERMILION)
    ax.bar(places, mean, color=colors, yerr=deviation if deviation.any() else None, ecolor=GREY, width=0.7)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set(xlabel="atom", ylabel=name_with_unit("relevance", method.unit))
    if len(mean) <= MOST_BARS:
        ax.set_xticks(places, _labels(result), rotation=90 if len(mean) > 12 else 0)


def _molecule(result: RelevanceResult, method: MethodRelevance, ax: Axes) -> None:
    structure, (mean, _) = result.structures[0], _values(result, method)
    plane = _flat(np.array(structure.positions_A))
    largest = float(np.abs(mean).max()) or 1.0
    _bonds(structure, plane, ax)
    colors = [_mixed(value / largest) for value in mean]
    ax.scatter(*plane.T, s=420 if len(plane) < 30 else 90, c=colors, edgecolors=INK, linewidths=0.8, zorder=2)
    if len(plane) < 30:
        for place, label in zip(plane, _labels(result), strict=True):
            ax.text(*place, label, ha="center", va="center", fontsize=8, color="black", zorder=3)
    label = f"largest: {number_with_unit(f'{largest:.3g}', method.unit)}"
    ax.set(aspect="equal", xlabel=label, xticks=[], yticks=[])
    ax.margins(0.15)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def _bonds(structure: Structure, plane: np.ndarray, ax: Axes) -> None:
    bonds, shifts = find_bonds_and_shifts(structure.to_atoms())
    for i, j in bonds[~shifts.any(axis=1)]:
        ax.plot(*plane[[i, j]].T, color=GREY, linewidth=2.5, zorder=1)


def _flat(positions: np.ndarray) -> np.ndarray:
    """Positions in the plane of their two largest extents, shape (n_atoms, 2)."""
    centred = positions - positions.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[:2].T
    return flat if flat.shape[1] == 2 else np.hstack([flat, np.zeros_like(flat)])


def _mixed(fraction: float) -> tuple[float, float, float]:
    """White at zero, towards red for what is positive and blue for what is negative."""
    from matplotlib.colors import to_rgb

    end = np.array(to_rgb(VERMILION if fraction > 0 else BLUE))
    return tuple(1 + abs(fraction) * (end - 1))


def _correlations(result: RelevanceResult, ax: Axes) -> None:
    known = [correlation for correlation in result.correlations if correlation.mean is not None]
    places = np.arange(len(known))
    ax.barh(places, [correlation.mean for correlation in known], color=BLUE, height=0.6)
    ax.plot(
        [correlation.lowest for correlation in known],
        places,
        "|",
        color=VERMILION,
        markersize=12,
        label="lowest structure",
    )
    ax.set_yticks(places, [correlation.method for correlation in known])
    ax.set(
        xlabel="rank correlation",
        xlim=(min([-0.05, *(correlation.lowest - 0.05 for correlation in known)]), 1),
    )
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))

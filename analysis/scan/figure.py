"""The figure of a scan."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from asecalc_ml.analysis.figures import INK, PALETTE, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.scan.curve import Curve, Numbers
    from asecalc_ml.analysis.scan.scan import ScanResult

BAR, GAP = 0.028, 0.012  # height of a bar, and space above it, of the axes
LABEL = 36  # characters
MARGIN = 0.25  # beyond the reference, of its range
FEW = 60  # points up to which each is marked
FAINT = 0.35  # of a state that is not the lowest


def draw_scan(ax: Axes, result: ScanResult, panel: str) -> None:
    """Curves with their bands, the reference dashed, and bars of training data at the bottom."""
    styles = _styles(result)
    models = [curve for curve in result.curves if not curve.is_reference]
    for curve in result.curves:
        _draw_curve(ax, result.values, curve, panel, **styles[curve.label])
    with_bars = [curve for curve in models if curve.seen]
    unit, per = result.unit, result.force_unit
    label = "relative energy (eV)" if panel == "energy" else f"−dE/dq (eV/{per})"
    ax.set(xlabel=f"{result.kind} {result.coordinate} ({unit})", ylabel=label)
    ax.set_xlim(min(result.values), max(result.values))
    _limit(ax, result, panel, room=len(with_bars) * (BAR + GAP))
    for k, curve in enumerate(with_bars):
        spans = [(low, high - low) for low, high in curve.seen]
        place = (GAP + k * (BAR + GAP), BAR)
        ax.broken_barh(
            spans,
            place,
            transform=ax.get_xaxis_transform(),
            color=styles[curve.label]["color"],
            alpha=0.6,
            linewidth=0,
        )
    if panel == "force":
        ax.axhline(0, color=RULE, linewidth=0.8)
    ax.legend(loc="best", borderaxespad=0.2)


def draw_followed(ax: Axes, result: ScanResult, pair: str) -> None:
    """The distance of two other atoms along the coordinate."""
    styles = _styles(result)
    for distance in result.followed:
        if distance.pair == pair:
            y, label = _array(distance.distances_A), _label(distance.calculator)
            ax.plot(result.values, y, label=label, **_marker(result.values), **styles[distance.calculator])
    ax.set(xlabel=f"{result.kind} {result.coordinate} ({result.unit})", ylabel=f"distance {pair} (Å)")
    ax.set_xlim(min(result.values), max(result.values))
    ax.legend(loc="best", borderaxespad=0.2)


def _styles(result: ScanResult) -> dict[str, dict[str, Any]]:
    """Colour of each calculator; the reference is dashed."""
    models = [curve.label for curve in result.curves if not curve.is_reference]
    colors = zip(models, PALETTE * len(models), strict=False)
    styles: dict[str, dict[str, Any]] = {label: {"color": color} for label, color in colors}
    if result.reference:
        styles[result.reference.label] = {"color": INK, "dashes": (4, 2), "linewidth": 1.2}
    return styles


def _draw_curve(ax: Axes, values: list[float], curve: Curve, panel: str, **style: Any) -> None:
    y, spread = _of(curve, panel)
    if curve.lowest:
        ax.plot(values, y, **style, alpha=FAINT)
        y = np.where(curve.lowest, y, np.nan)
    ax.plot(values, y, label=_label(curve.label), **_marker(values), **style)
    if len(spread):
        ax.fill_between(values, y - spread, y + spread, color=style["color"], alpha=0.25, linewidth=0)


def _marker(values: list[float]) -> dict[str, Any]:
    return {"marker": "o" if len(values) <= FEW else None, "markersize": 2.5}


def _label(calculator: str) -> str:
    return shorten(calculator, LABEL, placeholder=" …")


def _of(curve: Curve, panel: str) -> tuple[np.ndarray, np.ndarray]:
    y, spread = (
        (curve.energies_eV, curve.energy_stds_eV) if panel == "energy" else (curve.forces, curve.force_stds)
    )
    return _array(y), _array(spread)


def _limit(ax: Axes, result: ScanResult, panel: str, room: float) -> None:
    """A range of the reference and not of models that have lost their way, with room for the bars."""
    judged = [result.reference] if result.reference else result.curves
    values = np.concatenate([_of(curve, panel)[0] for curve in judged])
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return
    low, high = values.min(), values.max()
    span = max(high - low, 1e-3)
    bottom, top = low - MARGIN * span, high + MARGIN * span
    ax.set_ylim(bottom - room * (top - bottom), top)


def _array(values: Numbers) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)

"""Figures in one style: colour-blind safe, readable at the width of a phone, light or dark."""

from __future__ import annotations

import io
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml.files.writing import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from asecalc_ml.analysis.base import Panel, Result
    from asecalc_ml.analysis.checks.thermo_series import TimeBand
    from asecalc_ml.analysis.comparing.compared_functions import FunctionComparison
    from asecalc_ml.analysis.comparing.comparison import PatternComparison
    from asecalc_ml.analysis.distributions.distribution_result import PatternDistribution

# Okabe & Ito, Color Universal Design (2008)
BLUE, VERMILION = "#0072B2", "#D55E00"
PALETTE = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#8C8C8C"  # visible on white and on black

INK = "#1A2B3C"  # stands for the page's text colour, and is replaced by it
RULE = "#1A2B3D"  # likewise for its thin lines
PAPER = "#FEFEFE"  # likewise for its background

PAGE_COLORS = {
    INK: "currentColor",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    BLUE: "var(--run)",
    VERMILION: "var(--aim)",
}

SIZE_INCHES = (4.6, 3.1)
GAP_INCHES = 0.33  # between the columns of a page, at the scale of its figures
STYLE = {
    "figure.figsize": SIZE_INCHES,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "asecalc-ml",  # the same data give the same file
}


def new_axes(panel: Panel) -> Axes:
    """Axes on a new figure of a panel's size, in matplotlib's current style."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size_inches(panel), layout="constrained")[1]


def size_inches(panel: Panel) -> tuple[float, float]:
    """Width and height of a panel's figure; two columns have the gap between them as well."""
    width, height = SIZE_INCHES
    return panel.columns * width + (panel.columns - 1) * GAP_INCHES, panel.height * height


# ------------------------------------------------------------------------------------------------ drawing


def draw_distribution(ax: Axes, distribution: PatternDistribution, label: str, unit: str) -> None:
    """Density of a run's values as a line, the training data's behind it as a grey area."""
    limits = [*distribution.histogram.edges[[0, -1]]]
    if distribution.training is not None:
        seen = distribution.training.histogram
        name = f"training data, {distribution.training.temperature}"
        ax.stairs(seen.density, seen.edges, fill=True, color=GREY, alpha=0.4, label=name)
        limits += [*seen.edges[[0, -1]]]
    ax.stairs(
        distribution.histogram.density,
        distribution.histogram.edges,
        color=BLUE,
        linewidth=1.6,
        label="this run",
    )
    margin = 0.04 * (max(limits) - min(limits))
    ax.set(xlabel=label, ylabel=f"density (1/{unit})", xlim=(min(limits) - margin, max(limits) + margin))
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])  # room for the legend
    ax.legend(loc="upper left", ncols=2, borderaxespad=0.0, columnspacing=1.2, handlelength=1.4)


def draw_comparison(ax: Axes, comparison: PatternComparison) -> None:
    """Densities of several runs as lines, the reference's dashed, the training data's as a grey area."""
    limits = [edge for curve in comparison.curves for edge in curve.histogram.edges[[0, -1]]]
    if comparison.training is not None:
        seen = comparison.training.histogram
        ax.stairs(seen.density, seen.edges, fill=True, color=GREY, alpha=0.4, label=comparison.training.name)
        limits += [*seen.edges[[0, -1]]]
    for number, (curve, color) in enumerate(
        zip(comparison.curves, PALETTE * len(comparison.curves), strict=False)
    ):
        style: dict[str, Any] = {"linestyle": (0, (4, 2)), "zorder": 4} if number == 0 else {}
        histogram = curve.histogram
        ax.stairs(histogram.density, histogram.edges, color=color, linewidth=1.5, label=curve.name, **style)
    margin = 0.04 * (max(limits) - min(limits))
    label = f"{comparison.quantity} ({comparison.unit})"
    ax.set(
        xlabel=label,
        ylabel=f"density (1/{comparison.unit})",
        xlim=(min(limits) - margin, max(limits) + margin),
    )
    if comparison.period is not None:
        ax.set(xlim=(-comparison.period / 2, comparison.period / 2), xticks=range(-180, 181, 60))
    rows = -(-(len(comparison.curves) + (comparison.training is not None)) // 2)
    ax.set_ylim(0, (1.1 + 0.13 * rows) * ax.get_ylim()[1])  # room for the legend
    ax.legend(loc="upper left", ncols=2, borderaxespad=0.0, columnspacing=1.2, handlelength=1.8)


def draw_functions(ax: Axes, comparison: FunctionComparison, has_reference: bool) -> None:
    """A function of several runs as lines with bands, the reference's dashed."""
    for number, (curve, color) in enumerate(
        zip(comparison.curves, PALETTE * len(comparison.curves), strict=False)
    ):
        style = {"dashes": (4, 2), "zorder": 4} if has_reference and number == 0 else {}
        draw_curve(ax, curve.x, curve.y, curve.errors, color=color, linewidth=1.2, label=curve.name, **style)
    ax.set(xlabel=comparison.x_label, ylabel=comparison.y_label, xlim=(0, comparison.x_end), ylim=(0, None))
    ax.set_ylim(0, (1.1 + 0.13 * -(-len(comparison.curves) // 2)) * ax.get_ylim()[1])  # room for the legend
    ax.legend(loc="upper left", ncols=2, borderaxespad=0.0, columnspacing=1.2, handlelength=1.8)


def draw_band(ax: Axes, band: TimeBand, label: str) -> None:
    """Mean over time as a line between the extremes."""
    ax.fill_between(band.time_ps, band.low, band.high, color=BLUE, alpha=0.25, linewidth=0)
    ax.plot(band.time_ps, band.mean, color=BLUE, linewidth=1.2)
    ax.set(xlabel="time (ps)", ylabel=label)
    ax.margins(x=0.01)


def draw_trend(ax: Axes, band: TimeBand, slope: float) -> None:
    """Straight line of a given slope through the middle of a band."""
    middle_time, middle = sum(band.time_ps) / len(band.time_ps), sum(band.mean) / len(band.mean)
    ends = [band.time_ps[0], band.time_ps[-1]]
    line = [middle + slope * (time - middle_time) for time in ends]
    ax.plot(ends, line, color=VERMILION, dashes=(5, 3), zorder=3)


def draw_aim(ax: Axes, lines: Sequence[Sequence[tuple[float, float]]], label: str) -> None:
    """Lines through points of time in ps and value that was asked for, with their meaning."""
    for line in lines:
        ax.plot(*zip(*line, strict=True), color=VERMILION, dashes=(5, 3), zorder=3, label=label)
        label = "_"  # of the legend's one entry
    ax.legend(loc="best", borderaxespad=0.0)


def draw_limits(ax: Axes, limits: list[float]) -> None:
    """Dashed levels on a logarithmic axis, so that values far below show too."""
    for limit in limits:
        ax.axhline(limit, color=VERMILION, dashes=(5, 3), zorder=3)
    ax.set_yscale("log")


def draw_bars(
    ax: Axes, names: list[str], values: list[float], errors: list[float | None], label: str
) -> None:
    """Horizontal bars with their names, the first on top, and errors where there are any."""
    places = range(len(names))
    ax.barh(places, values, color=BLUE, alpha=0.75, height=0.65)
    known = [
        (value, place, error) for value, place, error in zip(values, places, errors, strict=True) if error
    ]
    if known:
        ax.errorbar(
            [value for value, _, _ in known],
            [place for _, place, _ in known],
            xerr=[error for *_, error in known],
            fmt="none",
            ecolor=INK,
            elinewidth=1.2,
            capsize=3,
        )
    ax.set(xlabel=label, yticks=places, yticklabels=names, xlim=(0, None))
    ax.set_ylim(max(len(names), 3) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")


def draw_curve(
    ax: Axes, x: Sequence[float] | np.ndarray, y: list[float], errors: list[float | None], **style: Any
) -> None:
    """A line with a band of twice its standard error where that is known."""
    (line,) = ax.plot(x, y, **style)
    known = [error is not None for error in errors]
    low, high = (
        [value + sign * 2 * (error or 0.0) for value, error in zip(y, errors, strict=True)]
        for sign in (-1, 1)
    )
    ax.fill_between(x, low, high, where=known, color=line.get_color(), alpha=0.25, linewidth=0)


def draw_ticks(ax: Axes, places: list[float], label: str) -> None:
    """Short lines that hang from the top of a figure, with room for them."""
    if places:
        ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
        ax.vlines(places, 0.94, 1.0, transform=ax.get_xaxis_transform(), color=VERMILION, label=label)
        ax.legend(loc="upper left", bbox_to_anchor=(0.0, 0.93), borderaxespad=0.0)


# ------------------------------------------------------------------------------------------------- saving


def svg(result: Result, panel: str, label: str) -> str:
    """A figure of a result as an SVG element for an HTML page.

    Text stays text. Colours of text and lines follow the page, so that the figure works on white and on
    black.

    Parameters
    ----------
    result : Result
    panel : str
        Key of one of its panels.
    label : str
        Read out in place of the figure.
    """
    from matplotlib import style

    with style.context(["default", STYLE]):  # whatever style the user has set
        figure, text = _drawn(result, panel), io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return inline(text.getvalue(), f"{result.analysis}-{panel}", label)


def write_figures(result: Result, directory: str | Path) -> list[Path]:
    """Write each panel of a result as PNG; the paths."""
    paths = []
    for panel in result.panels():
        paths.append(Path(directory) / f"{result.analysis}-{panel.key}.png")
        write_whole(paths[-1], png(result, panel.key))
    return paths


def png(result: Result, panel: str) -> bytes:
    """A figure of a result as a picture on white."""
    from matplotlib import style

    with style.context(["default", STYLE]):
        figure, picture = _drawn(result, panel), io.BytesIO()
        figure.savefig(picture, format="png", dpi=200, facecolor="white")
    return picture.getvalue()


def _drawn(result: Result, key: str) -> Figure:
    """A panel of a result on a figure of its size, in matplotlib's current style."""
    from matplotlib.figure import Figure

    panel = next(panel for panel in result.panels() if panel.key == key)
    figure = Figure(figsize=size_inches(panel), layout="constrained")
    result.plot(figure.add_subplot(), key)
    return figure


def inline(text: str, name: str, label: str) -> str:
    """Turn an SVG file's text into an element whose ids and colours fit into a page."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{re.sub(r'[^A-Za-z0-9]', '-', name)}-", text)
    for color, of_page in PAGE_COLORS.items():
        text = text.replace(color.lower(), of_page)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font: bold ([\d.]+)px [^;\"]*", r"font-weight: bold; font-size: \1px", text)
    return re.sub(
        r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", _opening(escape(label, quote=True)), text, count=1
    )


def _opening(label: str) -> Any:
    return lambda match: f'<svg {match[1]} role="img" aria-label="{label}">'

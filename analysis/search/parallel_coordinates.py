"""Parallel coordinates: an axis for each parameter and objective, a line through all axes for each trial.

The axes are horizontal, one below the other, so that long names are read without turning the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from asecalc_ml.analysis.figures import BLUE, GREY, INK, PAPER
from asecalc_ml.analysis.search.figures import legend_below
from asecalc_ml.analysis.search.text import wrapped
from asecalc_ml.analysis.search.value_axis import ValueAxis, log_locator, value_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from asecalc_ml.objectives import SearchedObjective, SearchedParameter, SearchRecord

CHARACTERS = 110  # of a tick's label along a whole axis
NEAREST = 0.09  # distance of labels along an axis
COLORS = (BLUE, "#009E73", "#E69F00")  # best to worst rank; visible on white and on black


class CoordinateAxis(NamedTuple):
    """One axis of the figure: its name, its ticks with labels, and the place of each trial by number."""

    name: str
    ticks: list[tuple[float, str]]
    places: dict[int, float]


def draw_parallel_coordinates(ax: Axes, record: SearchRecord) -> None:
    """Draw the lines of all trials that have ended, coloured by rank, the best on top."""
    parameters = [_parameter_row(record, parameter) for parameter in record.parameters]
    objectives = [_objective_row(record, objective) for objective in record.objectives]
    rows = parameters + objectives
    for height, row in enumerate(rows):
        _draw_axis(ax, height, row)
    failed = [trial.number for trial in record.ended if not trial.objectives]
    for number in failed:  # their lines end before the objectives
        label = "failed" if number == failed[0] else None
        _draw_line(ax, number, parameters, color=GREY, linestyle=":", linewidth=1.0, label=label)
    ranks, colormap = record.ranks, _colormap()
    worst = max(ranks.values())
    labelled = {1: "rank 1 (best)", worst: f"rank {worst}"}
    for number, rank in sorted(ranks.items(), key=lambda item: -item[1]):
        fraction = (rank - 1) / max(worst - 1, 1)
        weight = (1 - fraction) ** 4  # the few best stand out
        style = {"color": colormap(fraction), "linewidth": 0.9 + 1.5 * weight, "alpha": 0.4 + 0.55 * weight}
        _draw_line(ax, number, rows, label=labelled.pop(rank, None), **style)
    ax.set(xlim=(-0.04, 1.04), ylim=(len(rows) - 0.45, -0.3), xticks=[], yticks=range(len(rows)))
    ax.set_yticklabels([wrapped(row.name) for row in rows])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    legend_below(ax, 0.05, place="upper left")


def _colormap() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("rank", COLORS)


def _draw_line(ax: Axes, number: int, rows: Sequence[CoordinateAxis], **style: Any) -> None:
    ax.plot([row.places[number] for row in rows], range(len(rows)), **style)


def _draw_axis(ax: Axes, height: int, row: CoordinateAxis) -> None:
    """A horizontal line with ticks, their labels below it."""
    ax.plot([0, 1], [height, height], color=INK, linewidth=1.0, zorder=3)
    for place, label in row.ticks:
        ax.plot([place, place], [height - 0.06, height + 0.06], color=INK, linewidth=1.0, zorder=3)
        side = "left" if place < 0.02 else "right" if place > 0.98 else "center"
        box = {"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.8}
        ax.text(
            place, height + 0.1, label, fontsize=8, ha=side, va="top", linespacing=0.95, bbox=box, zorder=4
        )


# ------------------------------------------------------------------------------------------- rows


def _parameter_row(record: SearchRecord, parameter: SearchedParameter) -> CoordinateAxis:
    places = {trial.number: parameter.place(trial.values[parameter.name]) for trial in record.ended}
    if parameter.choices:
        width = CHARACTERS // len(parameter.choices) - 1
        ticks = [(parameter.place(choice), wrapped(_text(choice), width, 2)) for choice in parameter.choices]
    else:
        assert parameter.low is not None
        assert parameter.high is not None
        bounds, is_log = (parameter.low, parameter.high), parameter.is_logarithmic
        ticks = _ticks(bounds, is_log, parameter.place, parameter.is_integer)
    return CoordinateAxis(parameter.name, ticks, places)


def _objective_row(record: SearchRecord, objective: SearchedObjective) -> CoordinateAxis:
    values = [trial.objectives[objective.label] for trial in record.measured]
    axis = value_axis(values, objective)
    places = dict(
        zip((trial.number for trial in record.measured), axis.places(axis.shown(values)), strict=True)
    )

    def place(value: float) -> float:
        return float(axis.places([value])[0])

    ticks = _ticks((axis.low, axis.high), axis.is_logarithmic, place)
    return CoordinateAxis(objective.label, _marked_ends(ticks, axis, values), places)


def _marked_ends(
    ticks: list[tuple[float, str]], axis: ValueAxis, values: Sequence[float]
) -> list[tuple[float, str]]:
    """Ticks with "≤" or "≥" at an end beyond which there are values."""
    if min(values) < axis.low:
        ticks = [(place, f"≤ {label}") if place == 0 else (place, label) for place, label in ticks]
    if max(values) > axis.high:
        ticks = [(place, f"≥ {label}") if place == 1 else (place, label) for place, label in ticks]
    return ticks


def _ticks(
    bounds: tuple[float, float],
    is_logarithmic: bool,
    place: Callable[[float], float],
    is_integer: bool = False,
) -> list[tuple[float, str]]:
    """Both ends of an axis, and round values between them where there is room."""
    from matplotlib.ticker import MaxNLocator

    low, high = bounds
    locator = log_locator(low, high) if is_logarithmic else MaxNLocator(5, integer=is_integer)
    ticks = [(0.0, _text(low)), (1.0, _text(high))]
    for value in map(float, locator.tick_values(low, high)):
        if low < value < high and min(abs(place(value) - other) for other, _ in ticks) > NEAREST:
            ticks.append((place(value), _text(value)))
    return sorted(ticks)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.0f}" if 1e3 <= abs(value) < 1e5 else f"{value:.3g}"
    return str(value)

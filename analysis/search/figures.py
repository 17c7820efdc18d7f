"""Figures of a search: the best value so far, the Pareto front, and the importance of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import numpy as np

from asecalc_ml.analysis.figures import BLUE, GREY, INK, VERMILION
from asecalc_ml.analysis.search.text import literal, wrapped
from asecalc_ml.analysis.search.value_axis import ValueAxis, value_axis
from asecalc_ml.objectives.search_record import sign

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.search.importance import ObjectiveImportance
    from asecalc_ml.objectives import SearchedObjective, SearchRecord, TrialRecord

MOST_NUMBERS = 12  # trials of a Pareto front that are labelled
TIME_UNITS = (("h", 3600), ("min", 60), ("s", 1))


def draw_over_trials(ax: Axes, record: SearchRecord, objective: SearchedObjective) -> None:
    """Values of trials, and the best so far, over the number of the trial."""
    from matplotlib.ticker import MaxNLocator

    trials = record.ended
    _draw_course(ax, trials, [trial.number for trial in trials], objective)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set(xlabel="trial")


def draw_over_time(ax: Axes, record: SearchRecord, objective: SearchedObjective) -> None:
    """Values of trials, and the best so far, over the time that the search has run."""
    trials = sorted(record.ended, key=_end)
    unit, seconds = next((one for one in TIME_UNITS if record.seconds >= 3 * one[1]), TIME_UNITS[-1])
    _draw_course(ax, trials, [_end(trial) / seconds for trial in trials], objective)
    ax.set(xlabel=f"time that the search has run ({unit})")


def _end(trial: TrialRecord) -> float:
    return trial.ended_after_seconds or 0.0


def _draw_course(
    ax: Axes, trials: Sequence[TrialRecord], places: Sequence[float], objective: SearchedObjective
) -> None:
    """Points of trials in the order given, the best so far as steps, failed trials as ticks."""
    measured = [(place, trial) for place, trial in zip(places, trials, strict=True) if trial.objectives]
    values = [trial.objectives[objective.label] for _, trial in measured]
    axis = value_axis(values, objective)
    is_beyond = axis.is_beyond(values)
    for state, face in (("done", GREY), ("stopped", "none")):
        chosen = [
            trial.state == state and not beyond
            for (_, trial), beyond in zip(measured, is_beyond, strict=True)
        ]
        _draw_points(ax, measured, values, chosen, "o", face, f"{state}{' early' * (state == 'stopped')}")
    marker = "^" if objective.direction == "minimize" else "v"
    _draw_points(ax, measured, axis.shown(values), is_beyond, marker, GREY, "beyond the axis")
    better = min if objective.direction == "minimize" else max
    ends = [place for place, _ in measured] + [places[-1]]
    best = list(accumulate(values, better))
    ax.step(ends, axis.shown([*best, best[-1]]), where="post", color=BLUE, label="best so far", zorder=3)
    failed = [place for place, trial in zip(places, trials, strict=True) if not trial.objectives]
    if failed:
        low = 0.95 if objective.direction == "minimize" else 0.0
        ax.vlines(
            failed, low, low + 0.05, transform=ax.get_xaxis_transform(), color=VERMILION, label="failed"
        )
    axis.apply(ax.yaxis)
    ax.set(ylabel=literal(objective.label))
    legend_below(ax)


def _draw_points(
    ax: Axes,
    measured: Sequence[tuple[float, TrialRecord]],
    values: Sequence[float] | np.ndarray,
    chosen: Iterable[bool],
    marker: str,
    face: str,
    label: str,
) -> None:
    points = [
        (place, value)
        for (place, _), value, is_chosen in zip(measured, values, chosen, strict=True)
        if is_chosen
    ]
    if points:
        x, y = zip(*points, strict=True)
        ax.scatter(x, y, s=18, marker=marker, facecolor=face, edgecolor=GREY, label=label)


def draw_pareto_front(ax: Axes, record: SearchRecord) -> None:
    """Trials in the plane of two objectives, their front as steps."""
    x, y = record.objectives
    ranks = record.ranks
    points = {
        trial.number: (trial.objectives[x.label], trial.objectives[y.label]) for trial in record.measured
    }
    axes = [
        value_axis(values, one)
        for values, one in zip(zip(*points.values(), strict=True), (x, y), strict=True)
    ]
    behind = [point for number, point in points.items() if ranks[number] > 1]
    front = sorted((point, number) for number, point in points.items() if ranks[number] == 1)
    _draw_plane(ax, behind, axes)
    steps = np.array([point for point, _ in front])
    shown_x, shown_y = (axis.shown(column) for axis, column in zip(axes, steps.T, strict=True))
    ax.step(shown_x, shown_y, where="post" if sign(x) < 0 else "pre", color=BLUE, linewidth=1.2)
    ax.scatter(shown_x, shown_y, s=26, color=BLUE, label="Pareto front", zorder=3)
    for place_x, place_y, (_, number) in list(zip(shown_x, shown_y, front, strict=True))[:MOST_NUMBERS]:
        ax.annotate(str(number), (place_x, place_y), (4, 4), textcoords="offset points", fontsize=8)
    axes[0].apply(ax.xaxis)
    axes[1].apply(ax.yaxis)
    ax.set(xlabel=literal(f"{x.label} ({x.direction}d)"), ylabel=literal(f"{y.label} ({y.direction}d)"))
    legend_below(ax)


def _draw_plane(ax: Axes, points: Sequence[tuple[float, float]], axes: Sequence[ValueAxis]) -> None:
    """Dominated trials; those beyond an axis as crosses at its end."""
    for is_beyond, marker, label in ((False, "o", "other trials"), (True, "x", "beyond an axis")):
        chosen = [point for point in points if _is_beyond(point, axes) == is_beyond]
        if chosen:
            x, y = (axis.shown(column) for axis, column in zip(axes, zip(*chosen, strict=True), strict=True))
            ax.scatter(x, y, s=18, color=GREY, marker=marker, label=label)


def _is_beyond(point: Sequence[float], axes: Sequence[ValueAxis]) -> bool:
    return any(bool(axis.is_beyond([value])[0]) for axis, value in zip(axes, point, strict=True))


def draw_importance(ax: Axes, importance: ObjectiveImportance) -> None:
    """Total Sobol indices as bars with intervals, first-order ones as marks, grey if within chance."""
    rows = list(enumerate(importance.parameters))
    for status, color, label in (
        ("passed", BLUE, "total index"),
        ("undecided", GREY, "no more than chance"),
    ):
        bars = {place: one.total for place, one in rows if one.status == status}
        if bars:
            ax.barh(list(bars), list(bars.values()), color=color, alpha=0.75, height=0.6, label=label)
    totals = np.array([one.total for _, one in rows])
    below = totals - [one.low for _, one in rows]
    above = np.array([one.high for _, one in rows]) - totals
    places = range(len(rows))
    ax.errorbar(totals, places, xerr=[below, above], fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
    first = [one.first_order for _, one in rows]
    ax.scatter(
        first, places, marker="D", s=22, facecolor="white", edgecolor=INK, label="first-order index", zorder=3
    )
    label = f"Sobol index (share of the variance)\n{literal(importance.objective)}"
    ax.set(xlabel=label, xlim=(-0.02, 1.02), yticks=places)
    ax.set_yticklabels([wrapped(one.name) for _, one in rows])
    ax.set_ylim(max(len(rows), 3) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    legend_below(ax, 0.7)


def legend_below(
    ax: Axes, inches: float = 0.5, place: Literal["upper left", "upper right"] = "upper right"
) -> None:
    """Put the legend below the axis and its label, where it hides nothing."""
    from matplotlib.transforms import ScaledTranslation

    labels = ax.get_legend_handles_labels()[1]
    below = ScaledTranslation(0, -inches, ax.figure.dpi_scale_trans)
    ax.legend(
        loc=place,
        bbox_to_anchor=(float(place == "upper right"), 0.0),
        bbox_transform=ax.transAxes + below,
        ncols=2 if len(labels) == 4 or max(map(len, labels)) > 16 else 3,
        columnspacing=1.2,
        handletextpad=0.5,
        borderaxespad=0.0,
    )

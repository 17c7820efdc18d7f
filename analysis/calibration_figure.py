"""Figure of how well standard deviations describe errors: three panels for each quantity."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.figures import BLUE, GREY, SIZE_INCHES, STYLE, VERMILION
from asecalc_ml.statistics.calibration import KEPT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.statistics.calibration import Calibration

#: More points than that are drawn as a random sample of so many.
MOST_POINTS = 5000


def calibration_figure(
    measured: Sequence[Calibration], factors: Mapping[str, float] | None = None, file_format: str = "png"
) -> bytes:
    """Draw a row of panels for each quantity: calibration curve, errors, and selective errors.

    Parameters
    ----------
    measured : sequence of Calibration
        At least one.
    factors : mapping of str to float, optional
        Factors of standard deviations by quantity: the curve is drawn with them as well.
    file_format : str
        "png", "pdf" or "svg".
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]):  # whatever style the user has set
        width, height = SIZE_INCHES
        size = (2.4 * width, len(measured) * height)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        rows = figure.subplots(len(measured), 3, squeeze=False)
        for (curve, scatter, selective), one in zip(rows, measured, strict=True):
            _draw_curve(curve, one, (factors or {}).get(one.quantity))
            _draw_errors(scatter, one)
            _draw_selective(selective, one)
        picture = io.BytesIO()
        figure.savefig(picture, format=file_format, dpi=200, facecolor="white")
    return picture.getvalue()


def _draw_curve(ax: Axes, measured: Calibration, factor: float | None) -> None:
    expected = np.linspace(0, 1, 201)
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    label = f"area {measured.miscalibration_area:.3f}"
    ax.plot(expected, measured.observed(expected), color=BLUE, label=label)
    if factor is not None:
        scaled = measured.scaled(factor)
        label = f"std × {factor:.3g}: {scaled.miscalibration_area:.3f}"
        ax.plot(expected, scaled.observed(expected), color=VERMILION, label=label)
    ax.set(
        title=measured.quantity,
        xlabel="expected fraction in the interval",
        ylabel="observed fraction",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    ax.legend()


def _draw_errors(ax: Axes, measured: Calibration) -> None:
    """Absolute errors over standard deviations, with lines at one and two of these."""
    magnitudes, stds = np.abs(measured.errors), measured.stds
    chosen = np.arange(len(stds))
    if len(chosen) > MOST_POINTS:
        chosen = np.random.default_rng(0).choice(chosen, MOST_POINTS, replace=False)
    unit = f" ({measured.unit})" if measured.unit else ""
    ax.set(xlabel=f"standard deviation{unit}", ylabel=f"absolute error{unit}")
    ax.scatter(stds[chosen], magnitudes[chosen], s=4, color=BLUE, alpha=0.4, linewidths=0)
    ends = np.array([0, stds[chosen].max()])
    for multiple in (1, 2):
        ax.plot(ends, multiple * ends, color=GREY, linestyle="--", linewidth=1)
    ax.set(xlim=(0, None), ylim=(0, None))


def _draw_selective(ax: Axes, measured: Calibration) -> None:
    unit = f" ({measured.unit})" if measured.unit else ""
    ax.plot(KEPT, measured.selective_errors(), color=BLUE, label="by standard deviation")
    ax.plot(KEPT, measured.selective_errors(by_error=True), color=GREY, linestyle=":", label="by error")
    ax.set(xlabel="fraction kept", ylabel=f"mean absolute error{unit}", xlim=(0, 1), ylim=(0, None))
    ax.legend()

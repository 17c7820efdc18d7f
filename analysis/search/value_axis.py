"""The axis of an objective: logarithmic where values span decades, not stretched by a trial that blew up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.ticker import LogLocator

    from asecalc_ml.objectives import SearchedObjective

FENCE = 5.0  # distances between the best value and the median, beyond the median
DECADES_FROM = 20.0  # ratio of largest to smallest value from which an axis is logarithmic
MARGIN = 0.06


Values = Sequence[float] | np.ndarray


class ValueAxis(NamedTuple):
    """Limits of an axis, and its scale.

    Values beyond the limits are drawn at the end of the axis.
    """

    low: float
    high: float
    is_logarithmic: bool

    def places(self, values: Values) -> np.ndarray:
        """Places on the axis, 0 to 1 within the limits."""
        low, high = _scaled([self.low, self.high], self.is_logarithmic)
        return (_scaled(values, self.is_logarithmic) - low) / (high - low)

    def shown(self, values: Values) -> np.ndarray:
        """Values with those beyond the limits moved to the end of the axis."""
        return np.clip(values, self.low, self.high)

    def is_beyond(self, values: Values) -> np.ndarray:
        """Return True for each value that lies beyond the limits of the axis."""
        return (np.asarray(values) < self.low) | (np.asarray(values) > self.high)

    def apply(self, axis: XAxis | YAxis) -> None:
        """Set scale and limits of a figure's axis."""
        from matplotlib.ticker import NullLocator

        ax, name = axis.axes, axis.axis_name
        if self.is_logarithmic:
            ax.set(**{f"{name}scale": "log"})
            axis.set_major_locator(log_locator(self.low, self.high))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())
        edges = _unscaled(self._edges(), self.is_logarithmic)
        ax.set(**{f"{name}lim": edges})

    def _edges(self) -> np.ndarray:
        low, high = _scaled([self.low, self.high], self.is_logarithmic)
        margin = MARGIN * (high - low)
        return np.array([low - margin, high + margin])


def value_axis(values: Values, objective: SearchedObjective) -> ValueAxis:
    """Axis that shows the best value, and worse ones up to a bound.

    The bound is the median and five times its distance to the best value, of logarithms where all values are
    positive.
    """
    is_positive = min(values) > 0
    worse = 1.0 if objective.direction == "minimize" else -1.0
    losses = worse * _scaled(values, is_positive)
    best, median = losses.min(), np.median(losses)
    bound = median + FENCE * (median - best) if median > best else losses.max()
    kept = np.asarray(values)[losses <= bound]
    low, high = float(kept.min()), float(kept.max())
    is_logarithmic = is_positive and high / low > DECADES_FROM
    if low == high:
        width = abs(low) or 1.0
        low, high = low - 0.1 * width, high + 0.1 * width
    return ValueAxis(low, high, is_logarithmic)


def log_locator(low: float, high: float) -> LogLocator:
    """Ticks at powers of ten, and at 2 and 5 times these where there are few."""
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 200 else (1.0,))


def _scaled(values: Values, is_logarithmic: bool) -> np.ndarray:
    return np.log10(values) if is_logarithmic else np.asarray(values, dtype=float)


def _unscaled(values: np.ndarray, is_logarithmic: bool) -> np.ndarray:
    return 10.0**values if is_logarithmic else values

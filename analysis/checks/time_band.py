"""A long time series made short enough to draw, without hiding its extremes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from asecalc_ml.analysis.base import Record

if TYPE_CHECKING:
    import numpy as np

MAX_INTERVALS, POINTS_AN_INTERVAL = 300, 20
MIN_INTERVALS = 50  # as far as there are points


class TimeBand(Record):
    """Mean, lowest and highest value in each of at most 300 intervals of equally many points."""

    time_ps: list[float] = Field(description="mean time of each interval")
    mean: list[float]
    low: list[float]
    high: list[float]

    @classmethod
    def from_series(cls, time_ps: np.ndarray, values: np.ndarray) -> TimeBand:
        """Condense a series, shape (n_points,) each."""
        import numpy as np

        wanted = max(len(values) // POINTS_AN_INTERVAL, MIN_INTERVALS)
        n_intervals = min(len(values), wanted, MAX_INTERVALS)
        times, parts = np.array_split(time_ps, n_intervals), np.array_split(values, n_intervals)
        return cls(
            time_ps=[float(one.mean()) for one in times],
            mean=[float(one.mean()) for one in parts],
            low=[float(one.min()) for one in parts],
            high=[float(one.max()) for one in parts],
        )

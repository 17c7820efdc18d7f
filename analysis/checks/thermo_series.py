"""What checks of thermo.csv share: names and targets of the segments, and series condensed for a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from asecalc_ml.analysis.base import Record
from asecalc_ml.runs.production import straightened

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import AnyRun

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
        """Condense a series without hiding its extremes, shape (n_points,) each."""
        wanted = max(len(values) // POINTS_AN_INTERVAL, MIN_INTERVALS)
        n_intervals = min(len(values), wanted, MAX_INTERVALS)
        times, intervals = np.array_split(time_ps, n_intervals), np.array_split(values, n_intervals)
        return cls(
            time_ps=[float(interval.mean()) for interval in times],
            mean=[float(interval.mean()) for interval in intervals],
            low=[float(interval.min()) for interval in intervals],
            high=[float(interval.max()) for interval in intervals],
        )


def segment_names(starts_fs: Sequence[float]) -> list[str]:
    """Names of segments by number and beginning; an empty one where there is no other."""
    if len(starts_fs) == 1:
        return [""]
    return [f"segment {number}, from {start / 1000:g} ps" for number, start in enumerate(starts_fs, start=1)]


def target_lines(run: AnyRun, time_fs: np.ndarray, target: np.ndarray) -> list[list[tuple[float, float]]]:
    """Turning points (ps, value) of a target at the rows of thermo.csv, a list for each segment with one."""
    lines = []
    for all_rows in run.production.rows(time_fs):
        rows = all_rows[np.isfinite(target[all_rows])]
        points = zip((time_fs[rows] / 1000).tolist(), target[rows].tolist(), strict=True)
        lines += [list(straightened(list(points)))] if len(rows) else []
    return lines

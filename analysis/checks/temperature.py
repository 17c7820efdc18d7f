"""Whether a run had the temperature that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Panel, Result, Table, Verdict, thermo_columns
from asecalc_ml.analysis.checks.thermo_series import TimeBand, target_lines
from asecalc_ml.analysis.figures import draw_aim, draw_band
from asecalc_ml.analysis.number_text import minus
from asecalc_ml.statistics.time_series import block_average

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

    from asecalc_ml.analysis.base import AnyRun

SHORTEST_PART = 0.05  # of the rows of a segment: a shorter part says nothing about a mean
MOST_NAMED = 5  # temperatures of a target in words


class TemperatureResult(Result):
    """Mean temperature of a run beside its target."""

    analysis: Literal["temperature"] = "temperature"
    mean_K: float
    error_K: float | None = Field(description="standard error of the mean; null where the run is too short")
    std_K: float = Field(
        description="standard deviation of the instantaneous temperature, from a target that changes"
    )
    target_K: float | None = Field(description="at the first point that has a target; null without one")
    target_end_K: float | None = Field(None, description="at the last point, where the target changes")
    targets: list[list[tuple[float, float]]] = Field(
        [], description="time (ps) and temperature (K) of the target's turning points, a list a segment"
    )
    deviation: float | None = Field(
        description="relative deviation of the mean from the target; where it changes, of the worst part"
    )
    deviation_error: float | None = Field(None, description="standard error of it; null for a short run")
    tolerance: float = Field(description="largest relative deviation from the target that passes")
    duration_ps: float
    n_points: int
    band: TimeBand = Field(description="instantaneous temperature, K")

    @property
    def target(self) -> str:
        """The target in words."""
        if self.target_end_K is None:
            return f"the target of {self.target_K:g} K"
        return f"the {'ramp' if self._course.count(' to ') == 1 else 'course'} from {self._course} K"

    @property
    def _course(self) -> str:
        """Temperatures of a target that changes."""
        kelvin = [value for line in self.targets for _, value in line]
        kelvin = [value for k, value in enumerate(kelvin) if k == 0 or value != kelvin[k - 1]]
        if not kelvin or len(kelvin) > MOST_NAMED:
            kelvin = [value for value in (self.target_K, self.target_end_K) if value is not None]
        return " to ".join(f"{value:g}" for value in kelvin)

    @property
    def measured(self) -> str:
        """Mean with error and unit, or "too short"."""
        if self.error_K is None:
            return f"{self.mean_K:.1f} K (error: too short)"
        return f"{self.mean_K:.1f} ± {self.error_K:.1f} K"

    def verdicts(self) -> list[Verdict]:
        """Whether the mean lies near the target."""
        if self.deviation is None:
            return []
        allowed = f"{100 * self.tolerance:g} %"
        off = f"{minus(f'{100 * self.deviation:+.1f}')} % from {self.target}"
        worst = "" if self.target_end_K is None else " in its worst part"
        text = f"mean {self.measured}, {off}{worst}, limit {allowed}"
        if abs(self.deviation) <= self.tolerance:
            status = "passed"
        elif _is_beyond(self.deviation, self.deviation_error, self.tolerance):
            status = "failed"
        else:
            reason = "run longer to tell"
            if self.deviation_error is not None:
                reason = "twice the error reaches across the limit, so run longer"
            status, text = "undecided", f"{text}; {reason}"
        return [Verdict(check="the temperature was that asked for", status=status, text=text)]

    def panels(self) -> list[Panel]:
        """Temperature over time."""
        has_target = self.target_K is not None
        target = f" around {self.target} (dashed)" if has_target else ""
        allowed = f"; the mean should lie within {100 * self.tolerance:g} % of it" if has_target else ""
        caption = (
            f"Instantaneous temperature{target}: mean (line) and extremes (band) of each of "
            f"{len(self.band.mean)} intervals. Mean {self.measured}{allowed}. In a molecule of a few atoms "
            "it swings by tens of percent; what counts is that the mean stays level."
        )
        return [Panel(key="temperature", title="Temperature", caption=caption)]

    def tables(self) -> list[Table]:
        """One row of numbers."""
        error = "too short" if self.error_K is None else self.error_K
        aim = self.target_K if self.target_end_K is None else self._course
        columns = ["mean (K)", "error (K)", "std (K)", "target (K)", "duration (ps)", "points"]
        row = [self.mean_K, error, self.std_K, aim, self.duration_ps, self.n_points]
        return [Table(key="statistics", title="Temperature", columns=columns, rows=[row])]

    def _draw(self, ax: Axes, panel: str) -> None:
        draw_band(ax, self.band, "temperature (K)")
        if self.targets:
            aim = f"{self.target_K:g}" if self.target_end_K is None else self._course
            draw_aim(ax, self.targets, f"target {aim} K")


class Temperature(Analysis):
    """Mean temperature with its error, compared with the temperature asked for as the run states it."""

    result: ClassVar = TemperatureResult
    reads: ClassVar = "THERMO"

    tolerance: float = Field(
        0.15, gt=0, le=1, description="largest relative deviation of the mean from the target"
    )

    def run(self, run: AnyRun) -> TemperatureResult:
        """Average the temperature of a run's thermo.csv."""
        columns = thermo_columns(run, "time_fs", "temperature_K")
        time_fs, temperature = columns["time_fs"], columns["temperature_K"]
        # temperature asked for at each row, nan where there is none
        target = run.production.target_temperature(time_fs)
        known = target[np.isfinite(target)]
        changes = len(known) > 0 and np.ptp(known) > 0
        # scatter around a target that changes, so that the course itself does not count as fluctuation
        aim = np.where(np.isfinite(target), target, known.mean()) if changes else 0.0
        average = block_average(temperature - aim)
        deviation, error = _worst(list(_deviations(run, time_fs, temperature, target)), self.tolerance)
        return TemperatureResult(
            mean_K=float(temperature.mean()),
            error_K=average.error,
            std_K=average.std,
            target_K=float(known[0]) if len(known) else None,
            target_end_K=float(known[-1]) if changes else None,
            targets=target_lines(run, time_fs, target),
            deviation=deviation,
            deviation_error=error,
            tolerance=self.tolerance,
            duration_ps=float(time_fs[-1] - time_fs[0]) / 1000,
            n_points=average.n_frames,
            band=TimeBand.from_series(time_fs / 1000, temperature),
        )


def _deviations(
    run: AnyRun, time_fs: np.ndarray, temperature: np.ndarray, target: np.ndarray
) -> Iterator[tuple[float, float | None]]:
    """Relative deviations from the target, and their errors, of parts of the run.

    The mean over a ramp does not show whether the temperature followed it. Each segment is therefore divided
    where the target begins to rise, to fall or to stay, and each ramp into halves.
    """
    from scipy.signal import detrend  # slow to import, and not needed for options

    for all_rows in run.production.rows(time_fs):
        rows = all_rows[np.isfinite(target[all_rows])]
        # divide the segment where the sign of the target's slope changes
        slopes = np.sign(np.round(np.diff(target[rows]), 9))
        for piece in np.split(rows, np.flatnonzero(np.diff(slopes)) + 1):
            is_level = len(piece) and np.ptp(target[piece]) < 1e-9 * target[piece].max()
            for part in [piece] if is_level else np.array_split(piece, 2):
                aim = target[part].mean() if len(part) > SHORTEST_PART * len(rows) else 0.0
                if aim > 0:
                    difference = temperature[part] - target[part]
                    # a thermostat lags behind a ramp; what it lags by is no fluctuation
                    error = block_average(difference if is_level else detrend(difference)).error
                    yield float(difference.mean() / aim), None if error is None else error / float(aim)


def _worst(parts: list[tuple[float, float | None]], tolerance: float) -> tuple[float | None, float | None]:
    """The largest deviation, of those that are beyond the tolerance for certain where there are any."""
    certain = [part for part in parts if _is_beyond(*part, tolerance)]
    return max(certain or parts, key=lambda part: abs(part[0]), default=(None, None))


def _is_beyond(deviation: float, error: float | None, tolerance: float) -> bool:
    return error is not None and abs(deviation) - 2 * error > tolerance

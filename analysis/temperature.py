"""Whether a run had the temperature that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Panel, Result, Table, Verdict, thermo_columns
from asecalc_ml.analysis.numbers import minus
from asecalc_ml.analysis.time_band import TimeBand

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from matplotlib.axes import Axes

    from asecalc_ml.rundir import RunReader


class TemperatureResult(Result):
    """Mean temperature of a run beside its target."""

    analysis: Literal["temperature"] = "temperature"
    mean_K: float
    error_K: float | None = Field(description="standard error of the mean; null where the run is too short")
    std_K: float = Field(
        description="standard deviation of the instantaneous temperature, from a ramp's line"
    )
    target_K: float | None = Field(description="at the start; null where the protocol has no target")
    target_end_K: float | None = Field(None, description="at the last point, where the target is a ramp")
    deviation: float | None = Field(
        description="relative deviation of the mean from the target; of a ramp that of the worse half"
    )
    tolerance: float = Field(description="largest relative deviation from the target that passes")
    duration_ps: float
    n_points: int
    band: TimeBand = Field(description="instantaneous temperature, K")

    @property
    def target(self) -> str:
        """The target in words."""
        if self.target_end_K is None:
            return f"the target of {self.target_K:g} K"
        return f"the ramp from {self.target_K:g} to {self.target_end_K:g} K"

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
        status = "passed" if abs(self.deviation) <= self.tolerance else "failed"
        allowed = f"{100 * self.tolerance:g} %"
        off = f"{minus(f'{100 * self.deviation:+.1f}')} % from {self.target}"
        worse = "" if self.target_end_K is None else " in its worse half"
        text = f"mean {self.measured}, {off}{worse}, limit {allowed}"
        return [Verdict(check="the temperature was that asked for", status=status, text=text)]

    def panels(self) -> list[Panel]:
        """Temperature over time."""
        target = f" around {self.target} (dashed)" if self.target_K else ""
        allowed = f"; the mean should lie within {100 * self.tolerance:g} % of it" if self.target_K else ""
        caption = (
            f"Instantaneous temperature{target}: mean (line) and extremes (band) of each of "
            f"{len(self.band.mean)} intervals. Mean {self.measured}{allowed}. In a molecule of a few atoms "
            "it swings by tens of percent; what counts is that the mean stays level."
        )
        return [Panel(key="temperature", title="Temperature", caption=caption)]

    def tables(self) -> list[Table]:
        """One row of numbers."""
        error = "too short" if self.error_K is None else self.error_K
        aim = self.target_K if self.target_end_K is None else f"{self.target_K:g} to {self.target_end_K:g}"
        columns = ["mean (K)", "error (K)", "std (K)", "target (K)", "duration (ps)", "points"]
        row = [self.mean_K, error, self.std_K, aim, self.duration_ps, self.n_points]
        return [Table(key="statistics", title="Temperature", columns=columns, rows=[row])]

    def _draw(self, ax: Axes, panel: str) -> None:
        from asecalc_ml.analysis.figures import draw_aim, draw_band

        draw_band(ax, self.band, "temperature (K)")
        if self.target_K and self.target_end_K is None:
            draw_aim(ax, self.band, [self.target_K] * 2, f"target {self.target_K:g} K")
        elif self.target_K:
            ends = [self.target_K, self.target_end_K]
            draw_aim(ax, self.band, ends, f"target {ends[0]:g} to {ends[1]:g} K")


class Temperature(Analysis):
    """Mean temperature with its error, beside the protocol's target."""

    result: ClassVar = TemperatureResult
    reads: ClassVar = "THERMO"

    tolerance: float = Field(
        0.15, gt=0, le=1, description="largest relative deviation of the mean from the target"
    )

    def run(self, run: RunReader) -> TemperatureResult:
        """Average the temperature of a run's thermo.csv."""
        from asecalc_ml.statistics import block_average

        columns = thermo_columns(run, "time_fs", "temperature_K")
        time_ps, found = columns["time_fs"] / 1000, columns["temperature_K"]
        target = target_line(run.options, columns["time_fs"])
        ramp = target is not None and target[0] != target[-1]
        above = found - target if ramp else found  # of a ramp, what is beside the line scatters
        average = block_average(above)
        return TemperatureResult(
            mean_K=float(found.mean()),
            error_K=average.error,
            std_K=average.std,
            target_K=None if target is None else float(target[0]),
            target_end_K=float(target[-1]) if ramp else None,
            deviation=None if target is None else _deviation(found, target, 2 if ramp else 1),
            tolerance=self.tolerance,
            duration_ps=float(time_ps[-1] - time_ps[0]),
            n_points=average.n_frames,
            band=TimeBand.from_series(time_ps, found),
        )


def target_line(options: Mapping, time_fs: np.ndarray) -> np.ndarray | None:
    """Target at each time in K: a line from ``temperature_K`` to ``temperature_end_K``, if there is one.

    There is none at the constant energy that the structure came with, nor one line for several ensembles.
    The end belongs to the end of the planned production, which a run that stopped early did not reach.
    """
    import numpy as np

    start, end = options.get("temperature_K"), options.get("temperature_end_K")
    is_given = options.get("velocities") == "structure" and not options.get("equilibration_ps")
    if not start or options.get("protocol") == "sequence" or (options.get("protocol") == "nve" and is_given):
        return None
    planned_fs = options.get("steps", 0) * options.get("timestep_fs", 0) or time_fs[-1]
    slope = 0.0 if end is None or not planned_fs else (end - start) / planned_fs
    return start + slope * np.asarray(time_fs)


def _deviation(found: np.ndarray, target: np.ndarray, n_parts: int) -> float:
    """The largest relative deviation among parts: the mean alone does not tell a ramp from a level."""
    import numpy as np

    parts = zip(np.array_split(found, n_parts), np.array_split(target, n_parts), strict=True)
    relative = [float(one.mean() / aim.mean()) - 1 for one, aim in parts if len(one)]
    return max(relative, key=abs)

"""Whether a run had the temperature that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Panel, Result, Table, Verdict, thermo_columns
from asecalc_ml.analysis.numbers import minus
from asecalc_ml.analysis.time_band import TimeBand

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.rundir import RunReader


class TemperatureResult(Result):
    """Mean temperature of a run beside its target."""

    analysis: Literal["temperature"] = "temperature"
    mean_K: float
    error_K: float | None = Field(description="standard error of the mean; null where the run is too short")
    std_K: float = Field(description="standard deviation of the instantaneous temperature")
    target_K: float | None = Field(description="null where the protocol has no target")
    tolerance: float = Field(description="largest relative deviation from the target that passes")
    duration_ps: float
    n_points: int
    band: TimeBand = Field(description="instantaneous temperature, K")

    @property
    def deviation(self) -> float | None:
        """Relative deviation of the mean from the target."""
        return self.mean_K / self.target_K - 1 if self.target_K else None

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
        off = f"{minus(f'{100 * self.deviation:+.1f}')} % from the target of {self.target_K:g} K"
        text = f"mean {self.measured}, {off}, limit {allowed}"
        return [Verdict(check="the temperature was that asked for", status=status, text=text)]

    def panels(self) -> list[Panel]:
        """Temperature over time."""
        target = f" around the target of {self.target_K:g} K (dashed)" if self.target_K else ""
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
        columns = ["mean (K)", "error (K)", "std (K)", "target (K)", "duration (ps)", "points"]
        row = [self.mean_K, error, self.std_K, self.target_K, self.duration_ps, self.n_points]
        return [Table(key="statistics", title="Temperature", columns=columns, rows=[row])]

    def _draw(self, ax: Axes, panel: str) -> None:
        from asecalc_ml.analysis.figures import draw_band, draw_level

        draw_band(ax, self.band, "temperature (K)")
        if self.target_K:
            draw_level(ax, self.target_K, f"target {self.target_K:g} K")


class Temperature(Analysis):
    """Mean temperature with its error, beside the protocol's target."""

    result: ClassVar = TemperatureResult

    tolerance: float = Field(0.15, gt=0, description="largest relative deviation of the mean from the target")

    def run(self, run: RunReader) -> TemperatureResult:
        """Average the temperature of a run's thermo.csv."""
        from asecalc_ml.statistics import block_average

        columns = thermo_columns(run, "time_fs", "temperature_K")
        time_ps, average = columns["time_fs"] / 1000, block_average(columns["temperature_K"])
        return TemperatureResult(
            mean_K=average.mean,
            error_K=average.error,
            std_K=average.std,
            target_K=run.options.get("temperature_K"),
            tolerance=self.tolerance,
            duration_ps=float(time_ps[-1] - time_ps[0]),
            n_points=average.n_frames,
            band=TimeBand.from_series(time_ps, columns["temperature_K"]),
        )

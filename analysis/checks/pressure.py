"""Pressure, volume and density of a run at constant pressure."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from asecalc_ml._lazy import renamed
from asecalc_ml.analysis.base import (
    Analysis,
    Panel,
    Record,
    Result,
    Table,
    Verdict,
    thermo_columns,
    unknown_part_error,
)
from asecalc_ml.analysis.checks.thermo_series import TimeBand, segment_names, target_lines
from asecalc_ml.analysis.figures import draw_aim, draw_band
from asecalc_ml.analysis.number_text import number_text, with_error
from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics.time_series import block_average

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matplotlib.axes import Axes

    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs import RunPlan

AMU_A3 = 1.66053906660  # one amu/Å³ in g/cm³


class AveragedQuantity(Record):
    """Mean of pressure, volume or density over the rows of thermo.csv, with its error."""

    name: str
    unit: str
    mean: float
    error: float | None = Field(description="standard error of the mean; null where the run is too short")
    std: float
    band: TimeBand

    @property
    def measured(self) -> str:
        """Mean with error and unit, or "too short"."""
        return _measured(self.mean, self.error, self.unit)


def _measured(mean: float, error: float | None, unit: str) -> str:
    if error is None:
        return f"{number_text(mean)} {unit} (error: too short)"
    return f"{with_error(mean, error)} {unit}"


class SegmentPressure(Record):
    """Mean pressure of a segment of the production with one target."""

    segment: str = Field(description="empty where there is one")
    target_GPa: float = Field(description="mean of the pressure asked for")
    mean_GPa: float
    error_GPa: float | None = Field(description="standard error of the mean; null where it is too short")

    def verdict(self, tolerance_GPa: float) -> Verdict:
        """Whether the mean pressure is the target, within the tolerance and its own error."""
        measured = _measured(self.mean_GPa, self.error_GPa, "GPa")
        deviation, error = abs(self.mean_GPa - self.target_GPa), self.error_GPa
        text = f"mean {measured}, target {self.target_GPa:g} GPa, tolerance {tolerance_GPa:g} GPa"
        if error is None:
            status, text = "undecided", f"{text}; run longer to tell"
        elif deviation + 2 * error <= tolerance_GPa:
            status = "passed"
        elif deviation - 2 * error > tolerance_GPa:
            status = "failed"
        else:
            status, text = "undecided", f"{text}; twice the error reaches across the tolerance, so run longer"
        where = f" in {self.segment}" if self.segment else ""
        return Verdict(check=f"the pressure was that asked for{where}", status=status, text=text)


class PressureResult(Result):
    """Means of pressure, volume and density, as far as the run wrote them."""

    analysis: Literal["pressure"] = "pressure"
    target_GPa: float | None = Field(description="mean of the target; null where the run has none")
    targets: list[list[tuple[float, float]]] = Field(
        [], description="time (ps) and pressure (GPa) of the target's turning points, a list a segment"
    )
    levels: list[SegmentPressure] = Field(
        [], description="one for each segment of the production that has a target"
    )
    tolerance_GPa: float
    duration_ps: float
    n_points: int
    quantities: list[AveragedQuantity]

    def __getitem__(self, name: str) -> AveragedQuantity:
        """The "pressure", "volume" or "density"."""
        known = {quantity.name: quantity for quantity in self.quantities}
        if name not in known:
            raise unknown_part_error(self.analysis, "quantity", name, known)
        return known[name]

    def verdicts(self) -> list[Verdict]:
        """Whether the mean pressure of each segment is the target, within the tolerance and its own error."""
        return [level.verdict(self.tolerance_GPa) for level in self.levels]

    def panels(self) -> list[Panel]:
        """One for each quantity."""
        return [
            Panel(key=quantity.name, title=quantity.name.capitalize(), caption=self._caption(quantity))
            for quantity in self.quantities
        ]

    def _caption(self, quantity: AveragedQuantity) -> str:
        aim = ""
        if quantity.name == "pressure" and self.target_GPa is not None:
            aim = f" The target is {self.target_GPa:g} GPa on average (dashed)."
            if len(self.levels) == 1:
                aim = f" The target is {self.target_GPa:g} GPa (dashed)."
        why = " In a small cell it swings by far more than its mean." if quantity.name == "pressure" else ""
        return (
            f"Mean (line) and extremes (band) of each of {len(quantity.band.mean)} intervals. Mean "
            f"{quantity.measured}, "
            f"standard deviation {number_text(quantity.std)} {quantity.unit}.{aim}{why}"
        )

    def tables(self) -> list[Table]:
        """One row for each quantity."""
        errors = ["too short" if q.error is None else q.error for q in self.quantities]
        rows = [
            [q.name, q.unit, q.mean, error, q.std] for q, error in zip(self.quantities, errors, strict=True)
        ]
        columns = ["quantity", "unit", "mean", "error", "std"]
        return [Table(key="statistics", title="Pressure and volume", columns=columns, rows=rows)]

    def _draw(self, ax: Axes, panel: str) -> None:
        quantity = self[panel]
        draw_band(ax, quantity.band, f"{quantity.name} ({quantity.unit})")
        if panel == "pressure" and self.targets:
            several = len({value for line in self.targets for _, value in line}) > 1
            draw_aim(ax, self.targets, "target" if several else f"target {self.target_GPa:g} GPa")


class Pressure(Analysis):
    """Mean pressure, volume and density with errors, compared with the pressure asked for."""

    result: ClassVar = PressureResult
    reads: ClassVar = "THERMO"

    tolerance_GPa: float = Field(
        0.05, gt=0, le=1000, description="largest deviation of the mean from the target"
    )

    def check_plan(self, plan: RunPlan) -> None:
        """A pressure or a volume that changes."""
        super().check_plan(plan)
        _check_columns(plan.columns)

    def run(self, run: AnyRun) -> PressureResult:
        """Average columns of thermo.csv; AnalysisError where it has neither pressure nor volume."""
        _check_columns(run.read_thermo())
        time_fs = thermo_columns(run, "time_fs")["time_fs"]
        columns = _columns(run)
        pressure = columns.get(("pressure", "GPa"), np.full(len(time_fs), np.nan))
        target = np.where(np.isfinite(pressure), run.production.target_pressure(time_fs), np.nan)
        known = target[np.isfinite(target)]
        return PressureResult(
            target_GPa=float(known.mean()) if len(known) else None,
            targets=target_lines(run, time_fs, target),
            levels=list(_levels(run, time_fs, pressure, target)),
            tolerance_GPa=self.tolerance_GPa,
            duration_ps=float(time_fs[-1] - time_fs[0]) / 1000,
            n_points=len(time_fs),
            quantities=[_quantity(*names, time_fs / 1000, values) for names, values in columns.items()],
        )


def _levels(
    run: AnyRun, time_fs: np.ndarray, pressure: np.ndarray, target: np.ndarray
) -> Iterator[SegmentPressure]:
    """Mean pressure of each segment that has a target."""
    names = segment_names([segment.start_fs for segment in run.production.segments])
    for name, all_rows in zip(names, run.production.rows(time_fs), strict=True):
        if len(rows := all_rows[np.isfinite(target[all_rows])]):
            # average of the deviation, so that a target that changes does not count as fluctuation
            deviation, aim = block_average(pressure[rows] - target[rows]), float(target[rows].mean())
            mean_GPa = deviation.mean + aim
            yield SegmentPressure(segment=name, target_GPa=aim, mean_GPa=mean_GPa, error_GPa=deviation.error)


def _check_columns(names: Iterable[str]) -> None:
    if not {"pressure_GPa", "volume_A3"} & set(names):
        raise AnalysisError(
            "thermo.csv has neither pressure_GPa nor volume_A3, since the run keeps its cell",
            name="thermo.csv",
            remedy="remove this analysis, or run npt",
        )


def _columns(run: AnyRun) -> dict[tuple[str, str], np.ndarray]:
    """Pressure, volume and density at the rows of thermo.csv, by name and unit."""
    columns = {}
    if "pressure_GPa" in run.read_thermo():
        columns["pressure", "GPa"] = run.read_thermo()["pressure_GPa"]
    if "volume_A3" in run.read_thermo():
        volume = run.read_thermo()["volume_A3"]
        columns["volume", "Å³"] = volume
        columns["density", "g/cm³"] = AMU_A3 * run.atoms.get_masses().sum() / volume
    return columns


def _quantity(name: str, unit: str, time_ps: np.ndarray, values: np.ndarray) -> AveragedQuantity:
    known = np.isfinite(values)  # a sequence may have segments without pressure
    time_ps, values = time_ps[known], values[known]
    average = block_average(values)
    return AveragedQuantity(
        name=name,
        unit=unit,
        mean=average.mean,
        error=average.error,
        std=average.std,
        band=TimeBand.from_series(time_ps, values),
    )


__getattr__ = renamed(__name__, {"Quantity": "AveragedQuantity", "Level": "SegmentPressure"})

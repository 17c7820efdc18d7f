"""How well a run conserved what it should conserve: its energy, or the thermostat's conserved quantity."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from asecalc_ml._lazy import renamed
from asecalc_ml.analysis.base import (
    Analysis,
    Cell,
    Panel,
    Record,
    Result,
    Status,
    Table,
    Verdict,
    thermo_columns,
)
from asecalc_ml.analysis.checks.thermo_series import TimeBand, segment_names
from asecalc_ml.analysis.figures import draw_band, draw_trend
from asecalc_ml.analysis.number_text import number_text, with_error
from asecalc_ml.errors import AnalysisError
from asecalc_ml.runs.production import TOTAL
from asecalc_ml.statistics.time_series import linear_drift

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs import RunPlan, Segment

UNIT = "meV/atom/ps"
TOTAL_ENERGY: Final = "total energy"
CONSERVED_QUANTITY: Final = "conserved quantity"


class SegmentDrift(Record):
    """Drift and fluctuation per atom of what the equations of motion conserve, in one segment of a run."""

    segment: str = Field("", description="segment of the production; empty where there is one")
    quantity: Literal["total energy", "conserved quantity"] = Field(
        TOTAL_ENERGY, description="the latter counts what thermostat and barostat exchange too"
    )
    slope_meV_atom_ps: float = Field(description="slope of the least-squares line")
    error_meV_atom_ps: float | None = Field(description="its standard error; null where the run is too short")
    fluctuation_meV_atom: float = Field(description="root mean square deviation from the line")
    limit_meV_atom_ps: float = Field(description="largest slope that passes")
    duration_ps: float
    n_points: int
    band: TimeBand = Field(description="per atom, the first value subtracted, meV")

    @property
    def status(self) -> Status:
        """Whether the slope is within the limit; "undecided" where two errors do not settle it."""
        if self.error_meV_atom_ps is None:
            return "undecided"
        size, margin = abs(self.slope_meV_atom_ps), 2 * self.error_meV_atom_ps
        if size + margin <= self.limit_meV_atom_ps:
            return "passed"
        return "failed" if size - margin > self.limit_meV_atom_ps else "undecided"

    @property
    def measured(self) -> str:
        """Slope with error and unit, or "too short"."""
        if self.error_meV_atom_ps is None:
            return f"{number_text(self.slope_meV_atom_ps)} {UNIT} (error: too short)"
        return f"{with_error(self.slope_meV_atom_ps, self.error_meV_atom_ps)} {UNIT}"

    @property
    def verdict(self) -> Verdict:
        """Whether the drift lies within the limit."""
        limit = f"{self.limit_meV_atom_ps:g} {UNIT}"
        reason = {"undecided": "; twice the error reaches across the limit, so run longer"}
        if self.error_meV_atom_ps is None:
            reason = {"undecided": "; run longer to tell"}
        text = f"{self.measured} over {self.duration_ps:.4g} ps, limit {limit}{reason.get(self.status, '')}"
        return Verdict(check=_check(self.quantity, self.segment), status=self.status, text=text)

    @property
    def row(self) -> list[Cell]:
        """Its numbers for a table."""
        error = "too short" if self.error_meV_atom_ps is None else self.error_meV_atom_ps
        numbers = [self.slope_meV_atom_ps, error, self.fluctuation_meV_atom, self.duration_ps, self.n_points]
        return [*([self.segment, self.quantity] if self.segment else []), *numbers]

    def panel(self, key: str) -> Panel:
        """The conserved quantity over time."""
        caption = (
            f"{self.quantity.capitalize()} per atom since the start: mean (line) and extremes (band) of each "
            f"of {len(self.band.mean)} intervals, and the straight line through all {self.n_points:,} points "
            f"(dashed), slope {self.measured}. The fluctuation, {self.fluctuation_meV_atom:.2g} meV/atom "
            "root mean square, is the integrator's regular error; what counts is that it does not climb."
        )
        title = ", ".join(filter(None, (self.quantity.capitalize(), self.segment)))
        return Panel(key=key, title=title, caption=caption)

    def draw(self, ax: Axes) -> None:
        """Draw the quantity with its trend."""
        draw_band(ax, self.band, f"{self.quantity} − start (meV/atom)")
        draw_trend(ax, self.band, self.slope_meV_atom_ps)


class EnergyDriftResult(SegmentDrift, Result):
    """The drift of a run; of several segments that of the segment that drifts most, and every one."""

    analysis: Literal["energy-drift"] = "energy-drift"
    segments: list[SegmentDrift] = Field([], description="those that conserve an energy, of several segments")
    unjudged: dict[str, str] = Field({}, description="segments of which no drift is known, and why")

    @property
    def drifts(self) -> list[SegmentDrift]:
        """One for each segment that conserves an energy."""
        return self.segments or [self]

    def verdicts(self) -> list[Verdict]:
        """Whether the drift of each segment lies within the limit."""
        unjudged = [
            Verdict(check=_check("energy", segment), status="undecided", text=why)
            for segment, why in self.unjudged.items()
        ]
        return [*(drift.verdict for drift in self.drifts), *unjudged]

    def panels(self) -> list[Panel]:
        """The conserved quantity over time, of each segment."""
        return [drift.panel(key) for key, drift in self._by_key().items()]

    def tables(self) -> list[Table]:
        """One row of numbers for each segment."""
        columns = [f"slope ({UNIT})", f"error ({UNIT})", "fluctuation (meV/atom)", "duration (ps)", "points"]
        columns = [*(["segment", "quantity"] if self.segments else []), *columns]
        title = "Drift of conserved quantities" if self.segments else f"Drift of the {self.quantity}"
        rows = [drift.row for drift in self.drifts]
        return [Table(key="statistics", title=title, columns=columns, rows=rows)]

    def _draw(self, ax: Axes, panel: str) -> None:
        self._by_key()[panel].draw(ax)

    def _by_key(self) -> dict[str, SegmentDrift]:
        if not self.segments:
            return {"energy": self}
        return {f"energy-{number}": drift for number, drift in enumerate(self.segments, start=1)}


def _check(quantity: str, segment: str) -> str:
    return f"the {quantity} was conserved" + (f" in {segment}" if segment else "")


def _nothing_conserved_error() -> AnalysisError:
    return AnalysisError(
        "this run conserves no energy that could drift: a Langevin thermostat, or one whose target changes, "
        "exchanges energy that is not recorded.",
        remedy="Run nve, or a thermostat with a conserved quantity (bussi, nose-hoover-chain) at one "
        "temperature",
    )


def _too_few_rows_error() -> AnalysisError:
    return AnalysisError(
        "a drift needs at least two rows in thermo.csv",
        name="thermo.csv",
        remedy="run longer, or write more often",
    )


class EnergyDrift(Analysis):
    """Slope of what a run conserves over time, with its error, and the fluctuation around it.

    The run states which column of thermo.csv each segment of its production conserves: the total energy, or
    what a thermostat conserves together with the atoms.
    """

    result: ClassVar = EnergyDriftResult
    reads: ClassVar = "THERMO"

    limit_meV_atom_ps: float = Field(
        0.1, gt=0, le=1e6, description="largest slope that passes, meV per atom per ps"
    )

    def check_plan(self, plan: RunPlan) -> None:
        """An energy that is conserved, and two rows at least."""
        super().check_plan(plan)
        if not plan.conserves_energy:
            raise _nothing_conserved_error()
        if plan.n_rows < 2:
            raise _too_few_rows_error()

    def run(self, run: AnyRun) -> EnergyDriftResult:
        """Fit a line to what each segment conserves.

        Raises
        ------
        AnalysisError
            If nothing is conserved, or no segment has two points.
        """
        segments, time_fs = run.production.segments, thermo_columns(run, "time_fs")["time_fs"]
        names = segment_names([segment.start_fs for segment in segments])
        if not any(segment.conserved for segment in segments):
            raise _nothing_conserved_error()
        drifts, unjudged = [], {}
        for name, segment, rows in zip(names, segments, run.production.rows(time_fs), strict=True):
            if segment.conserved is None:
                unjudged[name] = "it conserves no energy that could drift"
            elif len(rows) < 2:
                unjudged[name] = str(_too_few_rows_error())
            else:
                energy = thermo_columns(run, segment.conserved)[segment.conserved][rows]
                drifts.append(self._fit(time_fs[rows] / 1000, energy, len(run.atoms), segment, name))
        if not drifts:
            raise _too_few_rows_error()
        return _result(drifts, unjudged)

    def _fit(
        self, time_ps: np.ndarray, energy_eV: np.ndarray, n_atoms: int, segment: Segment, name: str
    ) -> SegmentDrift:
        if not np.isfinite(energy_eV).all():
            raise AnalysisError(
                f"{segment.conserved} in thermo.csv is nan in some rows, and the run states it as conserved",
                name=segment.conserved,
            )
        # change since the start, meV per atom
        energy = 1000 * (energy_eV - energy_eV[0]) / n_atoms
        # slope of the least-squares line, with its error from block averages
        drift = linear_drift(time_ps, energy)
        # deviations from the line; their root mean square is the integrator's regular error
        residuals = energy - energy.mean() - drift.slope * (time_ps - time_ps.mean())
        return SegmentDrift(
            segment=name,
            quantity=TOTAL_ENERGY if segment.conserved == TOTAL else CONSERVED_QUANTITY,
            slope_meV_atom_ps=drift.slope,
            error_meV_atom_ps=drift.error,
            fluctuation_meV_atom=float(residuals.std()),
            limit_meV_atom_ps=self.limit_meV_atom_ps,
            duration_ps=float(time_ps[-1] - time_ps[0]),
            n_points=len(time_ps),
            band=TimeBand.from_series(time_ps, energy),
        )


def _result(drifts: list[SegmentDrift], unjudged: dict[str, str]) -> EnergyDriftResult:
    worst = max(drifts, key=lambda drift: abs(drift.slope_meV_atom_ps))
    several = drifts if len(drifts) + len(unjudged) > 1 else []
    return EnergyDriftResult(**dict(worst), segments=several, unjudged=unjudged)


__getattr__ = renamed(__name__, {"Drift": "SegmentDrift"})

"""How well a run conserved what it should conserve: its energy, or the thermostat's conserved quantity."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Panel, Result, Table, Verdict, thermo_columns
from asecalc_ml.analysis.numbers import number_text, with_error
from asecalc_ml.analysis.time_band import TimeBand
from asecalc_ml.errors import AnalysisError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from asecalc_ml.rundir import RunPlan, RunReader

UNIT = "meV/atom/ps"


QUANTITIES = {"total_eV": "total energy", "conserved_eV": "conserved quantity"}


class EnergyDriftResult(Result):
    """Drift and fluctuation per atom of what the equations of motion conserve."""

    analysis: Literal["energy-drift"] = "energy-drift"
    quantity: Literal["total energy", "conserved quantity"] = Field(
        "total energy", description="the latter counts what thermostat and barostat exchange too"
    )
    slope_meV_atom_ps: float = Field(description="slope of the least-squares line")
    error_meV_atom_ps: float | None = Field(description="its standard error; null where the run is too short")
    fluctuation_meV_atom: float = Field(description="root mean square deviation from the line")
    limit_meV_atom_ps: float = Field(description="largest slope that passes")
    duration_ps: float
    n_points: int
    band: TimeBand = Field(description="per atom, the first value subtracted, meV")

    @property
    def status(self) -> str:
        """Whether the slope is within the limit; "unclear" where two errors do not settle it."""
        if self.error_meV_atom_ps is None:
            return "unclear"
        size, margin = abs(self.slope_meV_atom_ps), 2 * self.error_meV_atom_ps
        if size + margin <= self.limit_meV_atom_ps:
            return "passed"
        return "failed" if size - margin > self.limit_meV_atom_ps else "unclear"

    @property
    def measured(self) -> str:
        """Slope with error and unit, or "too short"."""
        if self.error_meV_atom_ps is None:
            return f"{number_text(self.slope_meV_atom_ps)} {UNIT} (error: too short)"
        return f"{with_error(self.slope_meV_atom_ps, self.error_meV_atom_ps)} {UNIT}"

    def verdicts(self) -> list[Verdict]:
        """Whether the drift lies within the limit."""
        limit = f"{self.limit_meV_atom_ps:g} {UNIT}"
        reason = {"unclear": "; twice the error reaches across the limit, so run longer"}
        if self.error_meV_atom_ps is None:
            reason = {"unclear": "; run longer to tell"}
        text = f"{self.measured} over {self.duration_ps:.4g} ps, limit {limit}{reason.get(self.status, '')}"
        return [Verdict(check=f"the {self.quantity} was conserved", status=self.status, text=text)]

    def panels(self) -> list[Panel]:
        """The conserved quantity over time."""
        caption = (
            f"{self.quantity.capitalize()} per atom since the start: mean (line) and extremes (band) of each "
            f"of {len(self.band.mean)} intervals, and the straight line through all {self.n_points:,} points "
            f"(dashed), slope {self.measured}. The fluctuation, {self.fluctuation_meV_atom:.2g} meV/atom "
            "root mean square, is the integrator's regular error; what counts is that it does not climb."
        )
        return [Panel(key="energy", title=self.quantity.capitalize(), caption=caption)]

    def tables(self) -> list[Table]:
        """One row of numbers."""
        error = "too short" if self.error_meV_atom_ps is None else self.error_meV_atom_ps
        columns = [f"slope ({UNIT})", f"error ({UNIT})", "fluctuation (meV/atom)", "duration (ps)", "points"]
        row = [self.slope_meV_atom_ps, error, self.fluctuation_meV_atom, self.duration_ps, self.n_points]
        return [Table(key="statistics", title=f"Drift of the {self.quantity}", columns=columns, rows=[row])]

    def _draw(self, ax: Axes, panel: str) -> None:
        from asecalc_ml.analysis.figures import draw_band, draw_trend

        draw_band(ax, self.band, f"{self.quantity} − start (meV/atom)")
        draw_trend(ax, self.band, self.slope_meV_atom_ps)


NOTHING_CONSERVED = (
    "this run conserves no energy that could drift: a Langevin thermostat, or one whose target changes, "
    "gives and takes without account. Run nve, or a thermostat with a conserved quantity "
    "(bussi, nose-hoover-chain) at one temperature"
)


class EnergyDrift(Analysis):
    """Slope of the total energy over time, with its error, and the fluctuation around it.

    Where a thermostat or barostat has a conserved quantity, which thermo.csv then holds as ``conserved_eV``,
    its slope.
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
            raise AnalysisError(NOTHING_CONSERVED)
        _check_length(plan.n_rows)

    def run(self, run: RunReader) -> EnergyDriftResult:
        """Fit a line to what is conserved; AnalysisError where nothing is, or with fewer than two points."""
        name = conserved_column(run)
        columns = thermo_columns(run, "time_fs", name)
        time_ps, energy = columns["time_fs"] / 1000, columns[name]
        _check_length(len(time_ps))
        return self._fit(time_ps, 1000 * (energy - energy[0]) / len(run.atoms), QUANTITIES[name])

    def _fit(self, time_ps: np.ndarray, energy: np.ndarray, quantity: str) -> EnergyDriftResult:
        from asecalc_ml.statistics import linear_drift

        drift = linear_drift(time_ps, energy)
        residuals = energy - energy.mean() - drift.slope * (time_ps - time_ps.mean())
        return EnergyDriftResult(
            quantity=quantity,
            slope_meV_atom_ps=drift.slope,
            error_meV_atom_ps=drift.error,
            fluctuation_meV_atom=float(residuals.std()),
            limit_meV_atom_ps=self.limit_meV_atom_ps,
            duration_ps=float(time_ps[-1] - time_ps[0]),
            n_points=len(time_ps),
            band=TimeBand.from_series(time_ps, energy),
        )


def conserved_column(run: RunReader) -> str:
    """Column of thermo.csv that holds what a run conserves.

    Raises
    ------
    AnalysisError
        If it conserves nothing, as with a Langevin thermostat or a temperature that is changed.
    """
    import numpy as np

    conserved = run.thermo.get("conserved_eV")
    if conserved is not None and np.isfinite(conserved).all():
        return "conserved_eV"
    if conserved is None and run.options.get("protocol", "nve") == "nve":
        return "total_eV"
    raise AnalysisError(NOTHING_CONSERVED)


def _check_length(n_rows: int) -> None:
    if n_rows < 2:
        raise AnalysisError("a drift needs at least two rows in thermo.csv: run longer, or write more often")

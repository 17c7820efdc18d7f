"""How far the members of a committee disagreed along a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from asecalc_ml.analysis.base import Analysis, Panel, Result, Table, Verdict, thermo_columns
from asecalc_ml.analysis.checks.thermo_series import TimeBand
from asecalc_ml.analysis.figures import draw_band, draw_limits
from asecalc_ml.analysis.number_text import number_text, percent
from asecalc_ml.errors import AnalysisError
from asecalc_ml.runs import COMMITTEE_DEVIATION

if TYPE_CHECKING:
    from ase import Atoms
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.base import AnyRun

UNIT = "eV/Å"
ALLOWED = 0.01  # of the rows may exceed a limit


class CommitteeDeviationResult(Result):
    """Largest force deviation of an atom among the members, along a run."""

    analysis: Literal["committee-deviation"] = "committee-deviation"
    mean_eV_A: float = Field(description="mean over the rows of thermo.csv")
    median_eV_A: float
    quantile_99_eV_A: float = Field(description="deviation that one row in a hundred exceeds")
    largest_eV_A: float
    largest_at_ps: float = Field(description="time of the largest")
    low_eV_A: float = Field(description="deviation up to which members agree")
    high_eV_A: float = Field(description="deviation beyond which they do not")
    above_low: float = Field(description="fraction of the rows above the first")
    above_high: float = Field(description="fraction of the rows above the second")
    duration_ps: float
    n_points: int
    n_flagged: int = Field(description="frames that were kept for labelling, whatever the reason")
    band: TimeBand = Field(description=UNIT)

    @property
    def status(self) -> str:
        """Verdict: "passed" and "failed" by the two limits, "undecided" between them."""
        if self.above_low <= ALLOWED:
            return "passed"
        return "failed" if self.above_high > ALLOWED else "undecided"

    def verdicts(self) -> list[Verdict]:
        """Whether the members agreed."""
        text = (
            f"the largest force deviation of an atom is {number_text(self.mean_eV_A)} {UNIT} on average and "
            f"{number_text(self.largest_eV_A)} {UNIT} at most (at {self.largest_at_ps:.4g} ps), above "
            f"{self.low_eV_A:g} {UNIT} in {percent(self.above_low)} and above {self.high_eV_A:g} {UNIT} in "
            f"{percent(self.above_high)} of {self.n_points:,} rows; at most {percent(ALLOWED)} may be. "
            "Members that agree may all be wrong"
        )
        return [Verdict(check="the members of the committee agreed", status=self.status, text=text)]

    def panels(self) -> list[Panel]:
        """The deviation over time."""
        caption = (
            "Largest deviation of the force on an atom among the members: mean (line) and extremes (band) "
            f"of {len(self.band.mean)} intervals. Below {self.low_eV_A:g} {UNIT} members agree; above "
            f"{self.high_eV_A:g} {UNIT} at least one does not know the structure (dashed). A deviation that "
            "climbs shows a run that leaves what the members have learned."
        )
        return [Panel(key="deviation", title="Disagreement of the committee", caption=caption)]

    def tables(self) -> list[Table]:
        """One row of numbers."""
        columns = [f"{name} ({UNIT})" for name in ("mean", "median", "99 % below", "largest")]
        columns += [f"above {limit:g} {UNIT} (%)" for limit in (self.low_eV_A, self.high_eV_A)]
        row = [self.mean_eV_A, self.median_eV_A, self.quantile_99_eV_A, self.largest_eV_A]
        row += [100 * self.above_low, 100 * self.above_high, self.duration_ps, self.n_points, self.n_flagged]
        return [
            Table(
                key="statistics",
                title="Disagreement of the committee",
                columns=[*columns, "duration (ps)", "points", "flagged frames"],
                rows=[row],
                caption="Largest deviation of the force on an atom, √(σ²(F_x) + σ²(F_y) + σ²(F_z)) with the "
                "standard deviations σ over the members.",
            )
        ]

    def _draw(self, ax: Axes, panel: str) -> None:
        draw_band(ax, self.band, f"largest force deviation ({UNIT})")
        draw_limits(ax, [self.low_eV_A, self.high_eV_A])


class CommitteeDeviation(Analysis):
    """Largest force deviation of an atom among the members of a committee, over time.

    The two limits are the trust levels of DP-GEN (Y. Zhang et al., Comput. Phys. Commun. 253, 107206 (2020)),
    which divides by the number of members, and not by this number less one.
    """

    result: ClassVar = CommitteeDeviationResult
    reads: ClassVar = "THERMO"

    low_eV_A: float = Field(0.1, gt=0, le=100, description="deviation up to which members agree")
    high_eV_A: float = Field(0.3, gt=0, le=100, description="deviation beyond which they do not")

    @model_validator(mode="after")
    def _in_order(self) -> CommitteeDeviation:
        if self.low_eV_A >= self.high_eV_A:
            raise ValueError(f"low_eV_A ({self.low_eV_A:g}) should be below high_eV_A ({self.high_eV_A:g})")
        return self

    def check_start(self, atoms: Atoms) -> None:
        """A committee."""
        from asecalc_ml.calculators.protocol import offered

        if not offered(atoms.calc).members:
            raise AnalysisError(
                "only a committee has members that disagree",
                remedy="remove this analysis, or use `calculator: {committee: {members: [NAME, NAME]}}`",
            )

    def run(self, run: AnyRun) -> CommitteeDeviationResult:
        """Summarise a column of thermo.csv; AnalysisError where there is none."""
        columns = thermo_columns(run, "time_fs", COMMITTEE_DEVIATION)
        known = np.isfinite(columns[COMMITTEE_DEVIATION])
        if not known.any():
            raise AnalysisError(
                f"no row of thermo.csv has a value of {COMMITTEE_DEVIATION}", name=COMMITTEE_DEVIATION
            )
        return self._summary(
            columns["time_fs"][known] / 1000, columns[COMMITTEE_DEVIATION][known], run.count_flagged()
        )

    def _summary(
        self, time_ps: np.ndarray, deviation: np.ndarray, n_flagged: int
    ) -> CommitteeDeviationResult:
        return CommitteeDeviationResult(
            mean_eV_A=float(deviation.mean()),
            median_eV_A=float(np.median(deviation)),
            quantile_99_eV_A=float(np.quantile(deviation, 0.99)),
            largest_eV_A=float(deviation.max()),
            largest_at_ps=float(time_ps[deviation.argmax()]),
            low_eV_A=self.low_eV_A,
            high_eV_A=self.high_eV_A,
            above_low=float((deviation > self.low_eV_A).mean()),
            above_high=float((deviation > self.high_eV_A).mean()),
            duration_ps=float(time_ps[-1] - time_ps[0]),
            n_points=len(deviation),
            n_flagged=n_flagged,
            band=TimeBand.from_series(time_ps, deviation),
        )

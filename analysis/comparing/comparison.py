"""Several runs, a reference and the training data in one figure, with distances between the distributions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from asecalc_ml.analysis.base import Cell, Panel, Record, Result, Table, unknown_part_error
from asecalc_ml.analysis.checks.energy_exchange import (
    REMEDY,
    SMALL_ERRORS,
    TOO_SMALL,
    EnergyExchange,
    error_cell,
)
from asecalc_ml.analysis.comparing.compared_functions import FunctionComparison
from asecalc_ml.analysis.distributions.distribution_result import Average
from asecalc_ml.analysis.figures import draw_comparison, draw_functions
from asecalc_ml.analysis.number_text import number_text
from asecalc_ml.outcome import Outcome, StoredOutcome
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.statistics.time_series import TOO_SHORT
from asecalc_ml.structure.topology.patterns import canonical

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAINING = "training data"


class ComparedRun(Record):
    """A run that takes part."""

    name: str
    n_frames: int
    duration_ps: float
    model: str = Field(description="its calculator")
    exchange: EnergyExchange | None = Field(
        None, description="exchange of energy between the modes; null where it is not known"
    )

    @property
    def draws(self) -> Cell:
        """Independent values of each mode's energy, to two digits; None where that is not known."""
        return float(f"{self.exchange.n_draws:.2g}") if self.exchange else None


class ComparedCurve(Record):
    """The distribution of one run, or of the training data, which have no average over time."""

    name: str
    histogram: Histogram
    average: Average | None = None
    small_errors: bool = Field(False, description="whether the error of its average is too small")


class Distance(Record):
    """First Wasserstein distance between two distributions: how far values must move on average."""

    first: str
    second: str
    distance: float
    low: float | None = Field(description="95 % interval; null where a run is too short")
    high: float | None
    noise: float | None = Field(
        description="what two runs of one distribution would reach in one of twenty cases; null if too short"
    )
    kolmogorov: float = Field(description="largest difference of the cumulative distributions")
    small_errors: list[str] = Field(
        [], description="runs whose vibrations kept their energies, so that noise and interval are too small"
    )
    agreement: StoredOutcome = Field(
        description="passed: the distance is within the noise; failed: it is beyond; undecided: the noise is "
        "not known, or larger than it seems"
    )

    @model_validator(mode="before")
    @classmethod
    def _judged(cls, data: Any) -> Any:
        """Judge the agreement where it is not given, as in files of versions up to 0.1.0."""
        if not isinstance(data, Mapping) or "agreement" in data:
            return data
        try:
            judged = agreement(data["distance"], data["noise"], data.get("small_errors"))
        except (KeyError, TypeError):  # which the fields themselves refuse, by name
            return data
        return {**data, "agreement": judged}

    @property
    def differs(self) -> str:
        """Former word for :attr:`agreement`: "not seen", "yes", "undecided" or "too short"."""
        warnings.warn("`differs` is now `agreement`", DeprecationWarning, stacklevel=2)
        if self.noise is None:
            return "too short"
        return {"passed": "not seen", "failed": "yes"}.get(self.agreement, "undecided")


def agreement(distance: float, noise: float | None, small_errors: Sequence[str] | None) -> Outcome:
    """Judge whether two distributions agree.

    Parameters
    ----------
    distance : float
    noise : float or None
        What two runs of one distribution would reach in one of twenty cases; None where a run is too short.
    small_errors : sequence of str or None
        Runs for which the noise is larger than it seems.
    """
    if noise is None:
        return "undecided"
    if distance <= noise:
        return "passed"
    return "undecided" if small_errors else "failed"


class PatternComparison(Record):
    """One pattern in all runs."""

    key: str = Field(description="analysis and pattern")
    pattern: str
    quantity: str
    unit: str
    period: float | None
    curves: list[ComparedCurve] = Field(description="the reference first")
    training: ComparedCurve | None
    distances: list[Distance]


class Comparison(Result):
    """Distributions of several runs side by side."""

    analysis: Literal["comparison"] = "comparison"
    runs: list[ComparedRun] = Field(description="the reference first")
    patterns: list[PatternComparison]
    functions: list[FunctionComparison] = Field([], description="radial distributions and spectra")

    def __getitem__(self, pattern: str) -> PatternComparison:
        """Comparison of a pattern, read in either direction."""
        known = {comparison.pattern: comparison for comparison in self.patterns}
        if canonical(pattern) not in known:
            raise unknown_part_error(self.analysis, "pattern", pattern, known)
        return known[canonical(pattern)]

    def panels(self) -> list[Panel]:
        """A figure for each pattern, with everything in it, then for each function."""
        patterns = [
            Panel(key=one.key, title=f"{one.pattern} {one.quantity}", caption=self._caption(one))
            for one in self.patterns
        ]
        functions = [
            Panel(key=one.key, title=one.title, caption=self._function_caption(one)) for one in self.functions
        ]
        return [*patterns, *functions]

    @property
    def _doubts(self) -> str:
        """Runs whose errors are too small, and those of which that is not known, with a space before it."""
        doubted = {run.name: run.exchange for run in self.runs if run.exchange and not run.exchange.is_enough}
        unknown = [run.name for run in self.runs if run.exchange is None]
        text = ""
        if doubted:
            names = "; ".join(f"{name}: {exchange.numbers}" for name, exchange in doubted.items())
            text = f" Undecided: {SMALL_ERRORS[0].lower()}{SMALL_ERRORS[1:]} ({names}). {REMEDY}."
        if unknown:
            text += (
                f" Whether vibrations exchanged energy is not known of {', '.join(unknown)}: if they did "
                "not, errors are too small."
            )
        return text

    def _function_caption(self, comparison: FunctionComparison) -> str:
        dashed = f"; {self.runs[0].name} is the reference (dashed)" if self._has_reference(comparison) else ""
        missing = "".join(f" Not of {name}: {reason}." for name, reason in comparison.missing.items())
        shown = f"Of each run, with a band of twice the standard error where it is known{dashed}."
        return f"{shown} {comparison.note}{missing}{self._doubts}"

    def _has_reference(self, comparison: FunctionComparison) -> bool:
        return comparison.curves[0].name == self.runs[0].name

    def _caption(self, comparison: PatternComparison) -> str:
        reference = self.runs[0].name
        texts = [
            _distance_text(distance, comparison.unit)
            for distance in comparison.distances
            if distance.second == reference
        ]
        seen = [
            _distance_text(distance, comparison.unit)
            for distance in comparison.distances
            if distance.second == TRAINING
        ]
        away = f" Distance from {reference}: {'; '.join(texts)}." if texts else ""
        trained = f" Distance from the {TRAINING} (grey): {'; '.join(seen)}." if seen else ""
        return f"Density of each run; {reference} is the reference (dashed).{away}{trained}"

    def tables(self) -> list[Table]:
        """Distances, then averages."""
        distances = [
            [
                pattern.pattern,
                distance.first,
                distance.second,
                distance.distance,
                *_bounds(distance),
                distance.agreement,
                pattern.unit,
                distance.kolmogorov,
            ]
            for pattern in self.patterns
            for distance in pattern.distances
        ]
        averages = [
            [comparison.pattern, curve.name, *_average_row(curve), comparison.unit]
            for comparison in self.patterns
            for curve in [*comparison.curves, *([comparison.training] if comparison.training else [])]
        ]
        return [
            Table(
                key="distances",
                title="Distances between distributions",
                columns=[
                    "pattern",
                    "run",
                    "from",
                    "distance",
                    "low",
                    "high",
                    "noise",
                    "agreement",
                    "unit",
                    "K",
                ],
                rows=distances,
                caption="First Wasserstein distances, how far values must move on average, with 95 % "
                "intervals from "
                "blocks of frames. Noise: two runs of one distribution would be farther apart than this "
                "in one of "
                "twenty cases; values of the training data are taken as independent. Agreement: whether the "
                "distance is within the noise; undecided where a run is too short. K: largest difference "
                f"of the cumulative distributions (Kolmogorov-Smirnov).{self._doubts}",
            ),
            Table(
                key="averages",
                title="Averages",
                columns=["pattern", "run", "mean", "error", "std", "unit"],
                rows=averages,
            ),
        ]

    def data(self) -> list[Table]:
        """All distributions, bin by bin."""
        return [*map(_points, self.patterns), *map(_function_points, self.functions)]

    def _draw(self, ax: Axes, panel: str) -> None:
        functions = {one.key: one for one in self.functions}
        if panel in functions:
            draw_functions(ax, functions[panel], self._has_reference(functions[panel]))
        else:
            draw_comparison(ax, next(one for one in self.patterns if one.key == panel))


def _distance_text(distance: Distance, unit: str) -> str:
    text = f"{distance.first} {number_text(distance.distance)} {unit}"
    if distance.noise is None or distance.low is None or distance.high is None:
        return f"{text} (error: too short)"
    remarks = {
        "passed": f", no more than noise of {number_text(distance.noise)}",
        "undecided": f", undecided: errors of {' and '.join(distance.small_errors)} are {TOO_SMALL}",
    }
    remark = remarks.get(distance.agreement, "")
    return f"{text} ({number_text(distance.low)} to {number_text(distance.high)}{remark})"


def _bounds(distance: Distance) -> list[Cell]:
    """Interval and noise."""
    return [distance.low, distance.high, TOO_SHORT if distance.noise is None else distance.noise]


def _average_row(curve: ComparedCurve) -> list:
    if curve.average is None:
        return [curve.histogram.mean, None, curve.histogram.std]
    error = error_cell(curve.average.error, curve.average.note, curve.small_errors)
    return [curve.average.mean, error, curve.average.std]


def _points(comparison: PatternComparison) -> Table:
    curves = [*comparison.curves, *([comparison.training] if comparison.training else [])]
    rows = [
        [curve.name, float(center), float(density)]
        for curve in curves
        for center, density in zip(curve.histogram.centers, curve.histogram.density, strict=True)
    ]
    columns = ["run", f"{comparison.quantity} ({comparison.unit})", f"density (1/{comparison.unit})"]
    return Table(
        key=comparison.key, title=f"{comparison.pattern} {comparison.quantity}", columns=columns, rows=rows
    )


def _function_points(comparison: FunctionComparison) -> Table:
    rows = [
        [curve.name, *row]
        for curve in comparison.curves
        for row in zip(curve.x, curve.y, curve.errors, strict=True)
    ]
    return Table(
        key=comparison.key,
        title=comparison.title,
        columns=["run", comparison.x_label, comparison.y_label, "error"],
        rows=rows,
    )

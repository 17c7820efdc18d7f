"""Radial distributions and vibrational densities of states of several runs, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import starmap
from typing import TYPE_CHECKING, cast

from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Record, Result
from asecalc_ml.analysis.functions.radial_distribution import RadialDistribution, RadialResult
from asecalc_ml.analysis.functions.vibrational_density import UNIT, VibrationalDensity, VibrationalResult
from asecalc_ml.analysis.pipeline import measure
from asecalc_ml.errors import AnalysisError

if TYPE_CHECKING:
    from asecalc_ml.runs import RunReader

RADIAL, SPECTRUM = "radial-distribution", "vibrational-density"
RESOLUTIONS_PER_CM = (10.0, 20.0, 40.0, 80.0)
QUIET = 0.01  # of the highest value: where a spectrum has ended


class FunctionCurve(Record):
    """A function of one run."""

    name: str
    x: list[float]
    y: list[float]
    errors: list[float | None] = Field(description="standard errors; null where the run is too short")


class FunctionComparison(Record):
    """One function of all runs that have it."""

    key: str
    title: str
    x_label: str
    y_label: str
    x_end: float = Field(description="where the figure ends")
    curves: list[FunctionCurve] = Field(description="the reference first, where it has this function")
    note: str = Field("", description="what to know of all curves")
    missing: dict[str, str] = Field({}, description="runs without it, and why")


def compared_functions(runs: Mapping[str, RunReader]) -> list[FunctionComparison]:
    """Functions that two runs have at least.

    Radial distributions are those of runs that are periodic in three directions, by pair of elements. Spectra
    need velocities, and have the resolution that the shortest run allows.
    """
    radial = {name: RadialDistribution() for name, run in runs.items() if run.pbc.all()}
    distributions, without_radial = _measured(runs, RADIAL, radial)
    spectra, without_spectrum = _measured(runs, SPECTRUM, _spectra_alike(runs))
    compared = [
        *_radial(cast("dict[str, RadialResult]", distributions), without_radial),
        *_spectra(cast("dict[str, VibrationalResult]", spectra), without_spectrum),
    ]
    return [comparison for comparison in compared if len(comparison.curves) > 1]


def _measured(
    runs: Mapping[str, RunReader], name: str, analyses: Mapping[str, Analysis]
) -> tuple[dict[str, Result], dict[str, str]]:
    """Results by run, and why there is none."""
    measured, missing = {}, {}
    for run, analysis in analyses.items():
        results, problems = measure(runs[run], {name: analysis})
        if results:
            measured[run] = results[0]
        else:
            missing[run] = str(problems[name])
    return measured, missing


def _spectra_alike(runs: Mapping[str, RunReader]) -> dict[str, VibrationalDensity]:
    """Of all runs at one resolution, the finest that the shortest of them allows."""
    widths = [_finest(run) for run in runs.values()]
    common = VibrationalDensity(resolution_per_cm=max(filter(None, widths), default=RESOLUTIONS_PER_CM[0]))
    return dict.fromkeys(runs, common)


def _finest(run: RunReader) -> float | None:
    """The finest resolution that a run is long enough for; None where there is none."""
    for width in RESOLUTIONS_PER_CM:
        with suppress(AnalysisError):
            VibrationalDensity(resolution_per_cm=width).prepare(run)
            return width
    return None


def _radial(results: Mapping[str, RadialResult], missing: dict[str, str]) -> Iterator[FunctionComparison]:
    for pattern in dict.fromkeys(one.pattern for result in results.values() for one in result.curves):
        curves = [
            FunctionCurve(name=name, x=result.centers.tolist(), y=one.values, errors=one.errors)
            for name, result in results.items()
            for one in result.curves
            if one.pattern == pattern
        ]
        yield FunctionComparison(
            key=f"{RADIAL} {pattern}",
            title=f"Radial distribution {pattern}",
            x_label="distance (Å)",
            y_label="g(r)",
            x_end=max(curve.x[-1] for curve in curves),
            curves=curves,
            note="Relative to an ideal gas of each run's own density.",
            missing=missing,
        )


def _spectra(
    results: Mapping[str, VibrationalResult], missing: dict[str, str]
) -> Iterator[FunctionComparison]:
    if not results:
        return
    curves = [
        FunctionCurve(name=name, x=one.frequencies_per_cm, y=one.density, errors=one.errors)
        for name, one in results.items()
    ]
    yield FunctionComparison(
        key=SPECTRUM,
        title="Vibrational density of states",
        x_label=f"frequency ({UNIT})",
        y_label="density of states (cm)",
        x_end=1.08 * max(map(_end, curves)),
        curves=curves,
        note=f"Lines are {max(one.resolution_per_cm for one in results.values()):.3g} {UNIT} wide at least."
        f"{''.join(starmap(_folding, results.items()))}",
        missing=missing,
    )


def _folding(name: str, result: VibrationalResult) -> str:
    """What a spectrum's checks say where they did not pass, with a space before it."""
    return "".join(
        f" Of {name} {verdict.text}." for verdict in result.verdicts() if verdict.status != "passed"
    )


def _end(curve: FunctionCurve) -> float:
    """Where a curve has come down to nothing."""
    least = QUIET * max(curve.y)
    return max(x for x, y in zip(curve.x, curve.y, strict=True) if y > least)

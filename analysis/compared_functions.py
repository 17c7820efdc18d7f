"""Radial distributions and vibrational densities of states of several runs, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from asecalc_ml.analysis.base import Record, Result
from asecalc_ml.analysis.radial import RadialDistribution, RadialResult
from asecalc_ml.analysis.vibrational import UNIT, VibrationalDensity, VibrationalResult

if TYPE_CHECKING:
    from asecalc_ml.rundir import RunReader

RADIAL, SPECTRUM = "radial-distribution", "vibrational-density"
QUIET = 1e-3  # of the highest value: where a spectrum has ended


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
    missing: dict[str, str] = Field({}, description="runs without it, and why")


def compared_functions(runs: Mapping[str, RunReader]) -> list[FunctionComparison]:
    """Functions that two runs have at least.

    Radial distributions are those of runs that are periodic in three directions, by pair of elements; spectra
    need velocities, and runs that are long enough.
    """
    from asecalc_ml.analysis.pipeline import measure

    found: dict[str, dict[str, Result]] = {RADIAL: {}, SPECTRUM: {}}
    missing: dict[str, dict[str, str]] = {RADIAL: {}, SPECTRUM: {}}
    for name, run in runs.items():
        wanted = {SPECTRUM: VibrationalDensity()}
        if run.pbc.all():
            wanted[RADIAL] = RadialDistribution()
        results, problems = measure(run, wanted)
        for result in results:
            found[result.analysis][name] = result
        for analysis, error in problems.items():
            missing[analysis][name] = str(error)
    compared = [*_radial(found[RADIAL], missing[RADIAL]), *_spectra(found[SPECTRUM], missing[SPECTRUM])]
    return [one for one in compared if len(one.curves) > 1]


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
        missing=missing,
    )


def _end(curve: FunctionCurve) -> float:
    """Where a curve has come down to nothing."""
    least = QUIET * max(curve.y)
    return max(x for x, y in zip(curve.x, curve.y, strict=True) if y > least)

"""One calculator's curve of a scan, and what is read off it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import Field

from asecalc_ml._lazy import renamed
from asecalc_ml.analysis.base import Record

Numbers = list[float | None]  # None where a point could not be computed
WHOLE = -1  # in the column of members of a scan's table: the calculator itself


class Extremum(Record):
    """A minimum or a maximum of a curve."""

    at: float = Field(description="value of the coordinate, Å or degrees")
    energy_eV: float = Field(description="relative to the scan's zero")


class Curve(Record):
    """Energy and projected force of one calculator along a scan."""

    label: str
    is_reference: bool
    energies_eV: Numbers = Field(description="relative to the energy at the scan's zero")
    forces: Numbers = Field(description="-dE/dq in eV/Å or eV/rad")
    energy_stds_eV: Numbers = Field(description="deviation of a committee's relative energies; else empty")
    force_stds: Numbers = Field(description="deviation of a committee's projected forces; else empty")
    minimum: Extremum | None = Field(description="lowest minimum inside the range")
    barrier: Extremum | None = Field(description="highest maximum inside the range")
    seen: list[tuple[float, float]] = Field(description="ranges of the coordinate in its training data")
    dataset: str = Field("", description="name of the training data")
    inside: list[bool] = Field(description="whether each point is in these ranges; empty where unknown")
    lowest: list[bool] = Field(
        [], description="whether it is the lowest state of its method at each point; empty for only one state"
    )

    @property
    def n_failed(self) -> int:
        """Points that could not be computed."""
        return sum(value is None for value in self.energies_eV)


def extrema(
    values: np.ndarray, energies: np.ndarray, slopes: np.ndarray | None
) -> dict[str, Extremum | None]:
    """Lowest minimum and highest maximum inside the range of a curve.

    Parameters
    ----------
    values : ndarray, shape (n_points,)
        Ascending or descending.
    energies : ndarray, shape (n_points,), eV
    slopes : ndarray, shape (n_points,), optional
        dE/dq where it is known: a cubic Hermite spline then, and a natural choice of cubic spline without.
    """
    from scipy.interpolate import CubicHermiteSpline, CubicSpline  # slow to import, and options lead here

    # points in ascending order, without those that could not be computed
    order = np.argsort(values)
    known = order[np.isfinite(energies[order])]
    if slopes is not None:
        known = known[np.isfinite(slopes[known])]
    if len(known) < 3:
        return {"minimum": None, "barrier": None}
    x, y = values[known], energies[known]
    curve = CubicSpline(x, y) if slopes is None else CubicHermiteSpline(x, y, slopes[known])
    # stationary points dE/dq = 0 inside the range; minima have d²E/dq² > 0, maxima < 0
    stationary = curve.derivative().roots(extrapolate=False)
    stationary = stationary[np.isfinite(stationary)]
    curvatures = curve.derivative(2)(stationary)
    lows, highs = stationary[curvatures > 0], stationary[curvatures < 0]
    return {
        "minimum": _extremum(curve, lows, "lowest"),
        "barrier": _extremum(curve, highs, "highest"),
    }


def _extremum(
    curve: Callable[[np.ndarray], np.ndarray], places: np.ndarray, which: Literal["lowest", "highest"]
) -> Extremum | None:
    if len(places) == 0:
        return None
    energies = curve(places)
    best = int(energies.argmin() if which == "lowest" else energies.argmax())
    return Extremum(at=float(places[best]), energy_eV=float(energies[best]))


class CurveDeviation(Record):
    """How far a calculator is from the reference, at points inside or outside of its training data."""

    label: str
    region: str = Field(description="all points, inside or outside of the training data")
    n_points: int
    energy_mae_meV: float
    energy_max_meV: float
    force_mae: float | None = Field(description="meV/Å or meV/rad; null where the reference has no force")
    force_max: float | None


def deviations(curve: Curve, reference: Curve) -> list[CurveDeviation]:
    """Errors at all points, and inside and outside of the training data where that is known."""
    errors = []
    inside = np.array(curve.inside, dtype=bool)
    regions = {"all": np.ones(len(curve.energies_eV), dtype=bool)}
    if len(inside):
        regions |= {"inside": inside, "outside": ~inside}
    energy = 1000 * np.abs(_array(curve.energies_eV) - _array(reference.energies_eV))
    force = 1000 * np.abs(_array(curve.forces) - _array(reference.forces))
    for region, mask in regions.items():
        # points of the region where both calculators have a value
        e, f = (differences[mask & np.isfinite(differences)] for differences in (energy, force))
        if len(e):
            of_force = (float(f.mean()), float(f.max())) if len(f) else (None, None)
            errors.append(
                CurveDeviation(
                    label=curve.label,
                    region=region,
                    n_points=len(e),
                    energy_mae_meV=float(e.mean()),
                    energy_max_meV=float(e.max()),
                    force_mae=of_force[0],
                    force_max=of_force[1],
                )
            )
    return errors


def _array(values: Numbers) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


__getattr__ = renamed(__name__, {"Deviation": "CurveDeviation"})

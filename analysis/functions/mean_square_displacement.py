r"""Mean-square displacements and diffusion coefficients by element.

======================================== ==========================================================
MSD(t) = ⟨|P r(s + t) − P r(s)|²⟩        :func:`mean_square_displacement`: over atoms and all s, by FFT
P                                        :func:`span`: onto the d directions in which atoms diffuse
D = 1/2d · dMSD/dt                       :func:`slope`: least squares within the range of the fit
error of D                               scatter of D among five consecutive parts of the run
======================================== ==========================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from asecalc_ml.analysis.base import Analysis, Measurement, no_frame_error
from asecalc_ml.analysis.distributions.unwrapping import UnwrappedPositions
from asecalc_ml.analysis.functions.mean_square_displacement_result import (
    CellVector,
    DisplacementResult,
    ElementDisplacement,
)
from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics.time_series import MIN_BLOCKS, TOO_SHORT, ThinnedSeries
from asecalc_ml.structure.lattice import complete

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs import RunPlan
    from asecalc_ml.runs.frames import Frames

MAX_NUMBERS = 30_000_000  # 240 MB of positions
MIN_LAGS = 5  # in the range of a fit
LONGEST = 0.1  # lag, of the run: five parts of the run are then two lags long
SHORTEST = 0.2  # of the longest
DIFFUSIVE = (0.8, 1.2)  # exponents


class MeanSquareDisplacement(Analysis):
    """Mean-square displacement by element, of unwrapped positions, and Einstein's diffusion coefficient."""

    result: ClassVar = DisplacementResult
    needs_times: ClassVar = True

    relative_to_center_of_mass: bool = Field(
        True, description="take out the movement of the common centre of mass, which a thermostat may cause"
    )
    fit_from_ps: float | None = Field(
        None, gt=0, le=1e7, description="shortest time of the fit; by default a fifth of the longest"
    )
    fit_to_ps: float | None = Field(
        None,
        gt=0,
        le=1e7,
        description="longest time of the fit; by default a tenth of the run, and no more than that",
    )

    directions: list[CellVector] | None = Field(
        None,
        min_length=1,
        description="cell vectors along which atoms diffuse, such as [a, b]; by default the periodic ones, "
        "all three of a structure without any",
    )

    @field_validator("directions")
    @classmethod
    def _check_directions(cls, given: list[str] | None) -> list[str] | None:
        if given is not None and len(set(given)) < len(given):
            raise ValueError("a direction is named twice")
        return given and sorted(given)

    @model_validator(mode="after")
    def _check_fit(self) -> MeanSquareDisplacement:
        start, end = self.fit_from_ps, self.fit_to_ps
        if start is not None and end is not None and start >= end:
            raise ValueError(f"fit_from_ps ({start:g}) must be below fit_to_ps ({end:g})")
        return self

    def check_plan(self, plan: RunPlan) -> None:
        """Enough frames for the lags of the fit."""
        super().check_plan(plan)
        fitted_lags(self, plan.n_frames or 0, plan.frame_interval_fs / 1000)

    def prepare(self, run: AnyRun) -> Measurement:
        """Begin at the start of the run."""
        return DisplacementMeasurement(run, self)


class DisplacementMeasurement:
    """Collects unwrapped positions of all atoms."""

    def __init__(self, run: AnyRun, options: MeanSquareDisplacement):
        self._options, self._interval_ps = options, run.frame_interval_fs / 1000
        self._symbols, self._masses = np.array(run.atoms.get_chemical_symbols()), run.atoms.get_masses()
        self._unwrapped, self._series, self._n_frames = UnwrappedPositions(run), ThinnedSeries(MAX_NUMBERS), 0
        self._directions = options.directions or default_directions(run.pbc)
        self._span = span(run.cell, run.pbc, self._directions)

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        positions = self._unwrapped(frames)
        if self._options.relative_to_center_of_mass:
            positions = positions - np.average(positions, axis=1, weights=self._masses)[:, None]
        self._series.add(positions if self._span is None else positions @ self._span)
        self._n_frames += len(frames)

    def conclude(self) -> DisplacementResult:
        """Return the displacements."""
        rows, step_ps = self._series.rows, self._series.stride * self._interval_ps
        if len(rows) == 0:
            raise no_frame_error()
        first, last = fitted_lags(self._options, len(rows), step_ps)
        elements = sorted(set(self._symbols))
        return DisplacementResult(
            n_frames=self._n_frames,
            stride=self._series.stride,
            is_relative=self._options.relative_to_center_of_mass,
            directions=self._directions,
            lags_ps=(np.arange(last + 1) * step_ps).tolist(),
            fit_from_ps=first * step_ps,
            fit_to_ps=last * step_ps,
            elements=[
                self._of_element(element, rows[:, self._symbols == element], first, last, step_ps)
                for element in elements
            ],
        )

    def _of_element(
        self, element: str, rows: np.ndarray, first: int, last: int, step_ps: float
    ) -> ElementDisplacement:
        """Displacement of the atoms of an element, and its slope between two lags."""
        # MSD(t) from the whole run, and the power of t that it grows with within the range of the fit
        lags = np.arange(first, last + 1) * step_ps
        msd = mean_square_displacement(rows, last)
        exponent = growth(lags, msd[first:])
        coefficient, error, note = self._coefficient(exponent, lags, msd, rows)
        return ElementDisplacement(
            element=element,
            n_atoms=rows.shape[1],
            msd_A2=msd.tolist(),
            exponent=exponent,
            diffusion_A2_ps=coefficient,
            error_A2_ps=error,
            note=note,
        )

    def _coefficient(
        self, exponent: float | None, lags: np.ndarray, msd: np.ndarray, rows: np.ndarray
    ) -> tuple[float | None, float | None, str]:
        """Diffusion coefficient, its error, and why there is none of them."""
        if exponent is None or not DIFFUSIVE[0] <= exponent <= DIFFUSIVE[1]:
            how = "does not move" if exponent is None else f"grows as t to the power of {exponent:.2f}"
            return None, None, f"no diffusion ({how})"
        first, last, twice = len(msd) - len(lags), len(msd) - 1, 2 * len(self._directions)
        # D = 1/2d · dMSD/dt
        coefficient = slope(lags, msd[first:]) / twice
        # the same of five consecutive parts of the run, whose scatter gives the error of their mean
        parts = [
            slope(lags, mean_square_displacement(part, last)[first:]) / twice
            for part in np.array_split(rows, MIN_BLOCKS)
        ]
        error = float(np.std(parts, ddof=1) / np.sqrt(MIN_BLOCKS))
        return (coefficient, error, "") if coefficient > 2 * error else (coefficient, None, TOO_SHORT)


def default_directions(pbc: np.ndarray) -> list[CellVector]:
    """Periodic cell vectors; all three where there are none, since a cluster moves in space."""
    pbc = np.asarray(pbc, dtype=bool)
    names: tuple[CellVector, ...] = ("a", "b", "c")
    return [name for name, is_periodic in zip(names, pbc, strict=True) if is_periodic or not pbc.any()]


def span(cell: np.ndarray, pbc: np.ndarray, directions: list[CellVector]) -> np.ndarray | None:
    """Orthonormal columns that span cell vectors, shape (3, n_directions); None for all of space.

    Along open directions the perpendicular vectors of :func:`asecalc_ml.structure.lattice.complete` count.
    """
    if len(directions) == 3:
        return None
    chosen = ["abc".index(name) for name in directions]
    return np.linalg.qr(complete(cell, np.asarray(pbc, dtype=bool))[chosen].T)[0]


def mean_square_displacement(positions: np.ndarray, max_lag: int) -> np.ndarray:
    r"""Mean-square displacement over atoms and all starting times.

    .. math:: \mathrm{MSD}(m) = \frac{1}{n - m} \sum_{s=0}^{n-m-1} |r_{s+m} - r_s|^2
        = \frac{1}{n - m} \Big( \sum_s (|r_{s+m}|^2 + |r_s|^2) - 2 \sum_s r_{s+m} \cdot r_s \Big)

    The last sum is a correlation, taken by FFT.

    Parameters
    ----------
    positions : array, shape (n_frames, n_atoms, n_directions), Å
        Unwrapped.
    max_lag : int
        In frames, below ``n_frames``.

    Returns
    -------
    array, shape (max_lag + 1,), Å²

    Notes
    -----
    Source: V. Calandrini, E. Pellegrini, P. Calligari, K. Hinsen & G. R. Kneller, Collection SFN 12, 201
    (2011).
    """
    n_frames = len(positions)
    # sums over s of each atom; relative to the mean position, so that squares keep their digits
    totals = [
        _summed(positions[:, k] - positions[:, k].mean(axis=0), max_lag) for k in range(positions.shape[1])
    ]
    # mean over atoms and over the n − m starting times; rounding must not make it negative
    counts = n_frames - np.arange(max_lag + 1)
    return np.maximum(np.mean(totals, axis=0) / counts, 0.0)


def _summed(path: np.ndarray, max_lag: int) -> np.ndarray:
    """Sums of squared displacements of one atom, shape (max_lag + 1,)."""
    n_frames = len(path)
    # Σ_s r(s+m)·r(s) by FFT, padded with zeros so that the end does not meet the beginning
    size = 1 << (2 * n_frames - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(path, size, axis=0)) ** 2
    correlation = np.fft.irfft(spectrum, size, axis=0)[: max_lag + 1].sum(axis=1)
    # Σ_s |r(s+m)|² + |r(s)|², the sums of all squares without the first m, and without the last m
    squares = np.concatenate([[0.0], np.cumsum(np.sum(path**2, axis=1))])
    lags = np.arange(max_lag + 1)
    return squares[n_frames - lags] + squares[-1] - squares[lags] - 2 * correlation


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of the least-squares line."""
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))


def growth(lags: np.ndarray, msd: np.ndarray) -> float | None:
    """Power of time that a displacement grows with; None where nothing moves."""
    return slope(np.log(lags), np.log(msd)) if (msd > 0).all() else None


def fitted_lags(options: MeanSquareDisplacement, n_rows: int, step_ps: float) -> tuple[int, int]:
    """Lags that a line is fitted between, in steps; AnalysisError where the frames are too few."""
    last = int(LONGEST * n_rows)
    if options.fit_to_ps is not None:
        last = min(last, round(options.fit_to_ps / step_ps))
    first = max(1, round((options.fit_from_ps or SHORTEST * last * step_ps) / step_ps))
    if last - first < MIN_LAGS - 1:
        raise AnalysisError(
            f"too few frames for a mean-square displacement: {n_rows} of {step_ps:g} ps leave the lags from "
            f"{first * step_ps:g} to {last * step_ps:g} ps, a tenth of the run at most.",
            value=n_rows,
            remedy="Run longer, or widen the range of the fit (fit_from_ps, fit_to_ps)",
        )
    return first, last

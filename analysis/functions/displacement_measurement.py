r"""The work behind mean-square displacements.

======================================== ==========================================================
MSD(t) = ⟨|P r(s + t) − P r(s)|²⟩        :func:`mean_square_displacement`: over atoms and all s, by FFT
P                                        :func:`span`: onto the d directions in which atoms diffuse
D = 1/2d · dMSD/dt                       :func:`slope`: least squares within the range of the fit
error of D                               scatter of D among five consecutive parts of the run
======================================== ==========================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.base import NO_FRAME
from asecalc_ml.analysis.distributions.internal_coordinates import FollowedPositions
from asecalc_ml.analysis.functions.displacement import (
    CellVector,
    DisplacementResult,
    ElementDisplacement,
    MeanSquareDisplacement,
)
from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics.time_series import MIN_BLOCKS, TOO_SHORT, ThinnedSeries
from asecalc_ml.structure.lattice import complete

if TYPE_CHECKING:
    from asecalc_ml.runs import RunReader
    from asecalc_ml.runs.frames import Frames

MAX_NUMBERS = 30_000_000  # 240 MB of positions
MIN_LAGS = 5  # in the range of a fit
LONGEST = 0.1  # lag, of the run: five parts of the run are then two lags long
SHORTEST = 0.2  # of the longest
DIFFUSIVE = (0.8, 1.2)  # exponents


class DisplacementMeasurement:
    """Follows all atoms."""

    def __init__(self, run: RunReader, options: MeanSquareDisplacement):
        self._options, self._interval_ps = options, run.frame_interval_fs / 1000
        self._symbols, self._masses = np.array(run.atoms.get_chemical_symbols()), run.atoms.get_masses()
        self._followed, self._series, self._n_frames = FollowedPositions(run), ThinnedSeries(MAX_NUMBERS), 0
        self._directions = options.directions or default_directions(run.pbc)
        self._span = span(run.cell, run.pbc, self._directions)

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        positions = self._followed(frames)
        if self._options.relative_to_center_of_mass:
            positions = positions - np.average(positions, axis=1, weights=self._masses)[:, None]
        self._series.add(positions if self._span is None else positions @ self._span)
        self._n_frames += len(frames)

    def conclude(self) -> DisplacementResult:
        """Return the displacements."""
        rows, step_ps = self._series.rows, self._series.stride * self._interval_ps
        if len(rows) == 0:
            raise AnalysisError(NO_FRAME)
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
            elements=[self._of(one, rows[:, self._symbols == one], first, last, step_ps) for one in elements],
        )

    def _of(
        self, element: str, rows: np.ndarray, first: int, last: int, step_ps: float
    ) -> ElementDisplacement:
        lags = np.arange(first, last + 1) * step_ps
        msd = mean_square_displacement(rows, last)
        twice = 2 * len(self._directions)
        parts = [
            slope(lags, mean_square_displacement(part, last)[first:]) / twice
            for part in np.array_split(rows, MIN_BLOCKS)
        ]
        exponent = growth(lags, msd[first:])
        diffuses = exponent is not None and DIFFUSIVE[0] <= exponent <= DIFFUSIVE[1]
        if not diffuses:
            how = "does not move" if exponent is None else f"grows as t to the power of {exponent:.2f}"
            return ElementDisplacement(
                element=element,
                n_atoms=rows.shape[1],
                msd_A2=msd.tolist(),
                exponent=exponent,
                diffusion_A2_ps=None,
                error_A2_ps=None,
                note=f"no diffusion ({how})",
            )
        coefficient = slope(lags, msd[first:]) / twice
        error = float(np.std(parts, ddof=1) / np.sqrt(MIN_BLOCKS))
        return ElementDisplacement(
            element=element,
            n_atoms=rows.shape[1],
            msd_A2=msd.tolist(),
            exponent=exponent,
            diffusion_A2_ps=coefficient,
            error_A2_ps=error if coefficient > 2 * error else None,
            note="" if coefficient > 2 * error else TOO_SHORT,
        )


def default_directions(pbc: np.ndarray) -> list[CellVector]:
    """Periodic cell vectors; all three where there are none, since a cluster moves in space."""
    pbc = np.asarray(pbc, dtype=bool)
    return [name for name, is_periodic in zip("abc", pbc, strict=True) if is_periodic or not pbc.any()]


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
    totals = [
        _summed(positions[:, k] - positions[:, k].mean(axis=0), max_lag) for k in range(positions.shape[1])
    ]
    counts = n_frames - np.arange(max_lag + 1)
    return np.maximum(np.mean(totals, axis=0) / counts, 0.0)


def _summed(path: np.ndarray, max_lag: int) -> np.ndarray:
    """Sums of squared displacements of one atom, shape (max_lag + 1,)."""
    n_frames = len(path)
    size = 1 << (2 * n_frames - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(path, size, axis=0)) ** 2
    correlation = np.fft.irfft(spectrum, size, axis=0)[: max_lag + 1].sum(axis=1)
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
            f"{first * step_ps:g} to {last * step_ps:g} ps, a tenth of the run at most. Run longer, or widen "
            "the range of the fit"
        )
    return first, last

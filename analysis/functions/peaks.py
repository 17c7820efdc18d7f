"""Peaks of radial distributions and of spectra."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def first_peak(values: Sequence[float]) -> tuple[int | None, int | None]:
    """Bin of the first peak of at least half the highest one's height, and of the minimum behind it.

    Parameters
    ----------
    values : sequence of float
        A radial distribution.

    Returns
    -------
    peak, minimum : int or None
        ``None`` where there is none; a minimum needs a rise behind it.
    """
    from scipy.signal import find_peaks  # slow to import, and not needed for options

    # a zero in front and behind, so that the first and the last bin may be peaks
    curve = np.concatenate([[0.0], np.asarray(values, dtype=float)])
    height = curve.max()
    peaks, _ = find_peaks(np.append(curve, 0.0), prominence=0.1 * height, height=0.5 * height)
    if len(peaks) == 0 or height == 0:
        return None, None
    # the first minimum behind it that the curve rises from
    valleys, _ = find_peaks(-curve[peaks[0] :], prominence=0.02 * height, plateau_size=1)
    minimum = int(peaks[0] + valleys[0]) - 1 if len(valleys) else None
    return int(peaks[0]) - 1, minimum


def spectrum_peaks(
    frequencies: Sequence[float] | np.ndarray, density: Sequence[float] | np.ndarray, prominence: float
) -> list[float]:
    """Frequencies of the peaks of a spectrum.

    Each is the vertex of a parabola through the logarithms of its three highest points, which for a Hann
    window is within a fortieth of the step.

    Parameters
    ----------
    frequencies : array, shape (n,), equally spaced
    density : array, shape (n,)
    prominence : float
        Least rise of a peak above its surroundings, as a fraction of the highest value.
    """
    from scipy.signal import find_peaks  # slow to import, and not needed for options

    values = np.asarray(density, dtype=float)
    peaks, _ = find_peaks(values, prominence=prominence * values.max(initial=0.0))
    # vertex of the parabola through (−1, left), (0, middle), (1, right): ½ (left − right) / curvature
    heights = np.log(np.maximum(values, 1e-12 * values.max(initial=0.0)))
    left, middle, right = heights[peaks - 1], heights[peaks], heights[peaks + 1]
    curvature = left - 2 * middle + right
    offset = np.divide(0.5 * (left - right), curvature, out=np.zeros_like(middle), where=curvature < 0)
    # from bins to frequencies
    step = frequencies[1] - frequencies[0] if len(frequencies) > 1 else 0.0
    return [float(frequencies[k] + step * shift) for k, shift in zip(peaks, offset, strict=True)]

r"""What a time series of correlated frames can say: correlation time, averages with an error, drift.

Neighboring frames of a trajectory resemble each other, so ``std / sqrt(n_frames)`` is too small an error.
Here an error is given only where the run is longer than the slowest time that it shows, and ``None`` ("too
short") elsewhere.
"""

import math
from typing import NamedTuple

import numpy as np

from asecalc_ml.statistics.histogram import circular_moments

MIN_BLOCKS = 5
MAX_BLOCKS = 20
BLOCK_IN_CORRELATION_TIMES = 5
WINDOW_IN_CORRELATION_TIMES = 5
MIN_COARSE_POINTS = 200
MIN_RESULTANT_LENGTH = 0.1  # of a mean direction
TOO_SHORT = "too short"


class BlockAverage(NamedTuple):
    """Mean of a time series with the error that the series itself supports, all in the series' unit.

    ``error`` is ``None`` where the series is too short; ``note`` then says so. ``correlation_time`` and
    ``block_length`` are in frames.
    """

    mean: float
    std: float
    error: float | None
    note: str
    n_frames: int
    correlation_time: float
    n_blocks: int
    block_length: int


class Drift(NamedTuple):
    """Slope of a straight line and its standard error, ``None`` where the series is too short to tell."""

    slope: float
    error: float | None


def autocorrelation(series: np.ndarray) -> np.ndarray:
    r"""Normalised autocorrelation function of a series, by FFT.

    .. math:: \rho(t) = c(t) / c(0), \quad c(t) = \tfrac1n \sum_{s=1}^{n-t} (x_s - \bar x)(x_{s+t} - \bar x)

    Parameters
    ----------
    series : array, shape (n_frames,), any unit

    Returns
    -------
    array, shape (n_frames,), dimensionless; 1 at lag 0. All zeros after lag 0 for a constant series.
    """
    if _is_constant(series):
        return np.eye(1, len(series))[0]
    deviations = np.asarray(series, dtype=float) - np.mean(series)
    n_frames = len(deviations)
    # n c(t) by the Wiener–Khinchin theorem; zeros behind the series keep its end from meeting its beginning
    size = 1 << (2 * n_frames - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(deviations, size)) ** 2
    covariance = np.fft.irfft(spectrum, size)[:n_frames]
    # ρ(t) = c(t) / c(0)
    return covariance / covariance[0]


def autocorrelation_time(series: np.ndarray) -> float:
    r"""Integrated autocorrelation time in frames: how many frames are worth one independent one.

    .. math:: \tau = 1 + 2 \sum_{t=1}^{M} \rho(t), \quad M \text{ the smallest with } M \ge 5 \, \tau(M)

    White noise has τ = 1; a first-order autoregressive series with coefficient φ has
    τ = (1 + φ) / (1 − φ). The window M keeps the noise of large lags out of the sum.

    Parameters
    ----------
    series : array, shape (n_frames,), any unit

    Returns
    -------
    float, frames. For a series with no window (shorter than ten τ), the value at the last lag tried.

    Notes
    -----
    Sources: A. D. Sokal, *Monte Carlo Methods in Statistical Mechanics* (1996), automatic windowing, with
    τ here twice Sokal's τ_int. Subtracting the mean of a short series makes every ρ(t) too low; the factor
    1 + (2 M + 1) / n that corrects τ for it is from U. Wolff, Comput. Phys. Commun. 156, 143 (2004).
    """
    if len(series) < 2:
        return 1.0
    # τ(M) for every window M, since ρ(0) = 1
    times = 2 * np.cumsum(autocorrelation(series)) - 1
    # the smallest M ≥ 5 τ(M) in the first half of the series; its middle where there is none
    half = max(len(times) // 2, 1)
    enough = np.arange(half) >= WINDOW_IN_CORRELATION_TIMES * times[:half]
    window = int(np.argmax(enough)) if enough.any() else half - 1
    # corrected for the mean that was subtracted
    return float(times[window] * (1 + (2 * window + 1) / len(times)))


def slowest_time(series: np.ndarray) -> float:
    """Longest correlation time seen in a series or in its averages over 2, 4, 8… frames, in frames.

    A bond vibrates fast and its amplitude changes slowly as modes exchange energy. The vibration alone
    makes τ small, even below one frame; averaging it away shows the slow part. A level counts where its
    own τ is above two, so that the noise of the estimate is not taken for a slow process.
    """
    times = [max(autocorrelation_time(series), 1.0)]
    # averages over 2, 4, 8… frames, as long as 200 of them are left
    coarse, length = np.asarray(series, dtype=float), 1
    while len(coarse) >= 2 * MIN_COARSE_POINTS:
        coarse, length = coarse[: len(coarse) // 2 * 2].reshape(-1, 2).mean(axis=1), 2 * length
        if (time := autocorrelation_time(coarse)) > 2:
            times.append(length * time)
    return max(times)


def block_average(series: np.ndarray, most_blocks: int = MAX_BLOCKS) -> BlockAverage:
    r"""Mean, standard deviation and the standard error of the mean from averages over blocks of frames.

    .. math:: \sigma_{\bar x} = \sqrt{\frac{1}{n_b (n_b - 1)} \sum_{b=1}^{n_b} (\bar x_b - \bar x)^2}

    The blocks are five correlation times long where at least five such blocks fit, and longer in a long
    series, so that there are never more than twenty. Where five of them do not fit, five shorter blocks
    do as long as each is longer than the correlation time; else there is no error and the note says
    "too short". With five blocks the error itself is uncertain by a third, with twenty by a sixth.

    Parameters
    ----------
    series : array, shape (n_frames,), any unit
    most_blocks : int
        At least five; fewer than twenty where something that the series does not show is slower.

    Notes
    -----
    Source: H. Flyvbjerg & H. G. Petersen, J. Chem. Phys. 91, 461 (1989).
    """
    values = np.asarray(series, dtype=float)
    # blocks that are longer than the slowest correlation time
    time = slowest_time(values)
    n_blocks = _number_of_blocks(len(values), time, most_blocks)
    mean, std = float(values.mean()), float(values.std())
    if n_blocks == 0:
        return BlockAverage(mean, std, None, TOO_SHORT, len(values), time, 0, 0)
    # standard error of the mean from the scatter of the blocks' means
    means = block_means(values, n_blocks)
    error = float(means.std(ddof=1) / np.sqrt(n_blocks))
    return BlockAverage(mean, std, error, "", len(values), time, n_blocks, len(values) // n_blocks)


def circular_average(cosines: np.ndarray, sines: np.ndarray, most_blocks: int = MAX_BLOCKS) -> BlockAverage:
    r"""Mean direction of a series of angles, its spread and its error, in degrees.

    .. math:: \bar\varphi = \arg \langle e^{i\varphi} \rangle, \quad
        \sigma = \sqrt{-2 \ln R}, \quad R = |\langle e^{i\varphi} \rangle|

    179 and -179 degrees have the mean 180, not 0. The error of the mean is that of
    sin(φ - φ̄), divided by R. It is only given where blocks are also longer than the correlation time of
    cos(φ - φ̄), and where R is at least 0.1 and three times its own error: angles that are spread over the
    whole circle have no mean.

    Parameters
    ----------
    cosines, sines : array, shape (n_frames,)
        Of the angles, or their averages over several bonds in each frame.
    most_blocks : int
        As of :func:`block_average`.

    Notes
    -----
    Source: N. I. Fisher, *Statistical Analysis of Circular Data* (1993), sections 2.3 and 4.4.
    """
    # ⟨e^{iφ}⟩, whose argument is the mean and whose length R gives the spread
    vector = complex(np.mean(cosines), np.mean(sines))
    mean, std = circular_moments(vector, 360.0)
    # sin(φ − φ̄) and cos(φ − φ̄): unit vectors turned so that their mean lies on the real axis
    turned = (np.asarray(cosines) + 1j * np.asarray(sines)) * np.exp(-1j * np.angle(vector))
    across, along = (block_average(part, most_blocks) for part in (turned.imag, turned.real))
    slower = max(across, along, key=lambda average: average.correlation_time)
    error, note = _circular_error(across.error, along.error, abs(vector))
    n_blocks, block_length = (0, 0) if note == TOO_SHORT else (slower.n_blocks, slower.block_length)
    times = (slower.correlation_time, n_blocks, block_length)
    return BlockAverage(mean, std, error, note, len(cosines), *times)


def _circular_error(across: float | None, along: float | None, length: float) -> tuple[float | None, str]:
    if across is None or along is None:
        return None, TOO_SHORT
    if length < max(MIN_RESULTANT_LENGTH, 3 * along):
        return None, "spread over all angles"
    return float(np.degrees(across / length)), ""


def block_means(values: np.ndarray, n_blocks: int) -> np.ndarray:
    """Averages over equal blocks, shape (n_blocks,); frames left over at the beginning are not used."""
    length = len(values) // n_blocks
    return values[len(values) - n_blocks * length :].reshape(n_blocks, length).mean(axis=1)


def linear_drift(time: np.ndarray, values: np.ndarray) -> Drift:
    r"""Slope of the least-squares line through a correlated series, with an honest error.

    The slope is that of all points. Its error comes from the scatter of block averages around the line,
    since the points themselves are not independent:

    .. math:: \sigma_a^2 = \frac{\sum_b (\bar y_b - a \bar t_b - c)^2}{(n_b - 2) \sum_b (\bar t_b - \bar t)^2}

    Parameters
    ----------
    time : array, shape (n_frames,)
    values : array, shape (n_frames,)

    Returns
    -------
    Drift
        Slope and error in the unit of values over the unit of time; the error is ``None`` where fewer than
        five blocks longer than the correlation time of the residuals fit. With fewer than two points in
        time the slope is NaN.
    """
    time, values = np.asarray(time, dtype=float), np.asarray(values, dtype=float)
    if len(time) < 2 or time[0] == time[-1]:
        return Drift(float("nan"), None)
    # least-squares line through all points, and residuals from it
    centred = time - time.mean()
    slope = float(centred @ (values - values.mean()) / (centred @ centred))
    # residuals of the line; where they are rounding, the series is exactly straight
    residuals = values - values.mean() - slope * centred
    if _is_rounding(residuals, values):
        residuals = np.zeros_like(values)
    n_blocks = _number_of_blocks(len(values), slowest_time(residuals))
    if n_blocks == 0:
        return Drift(slope, None)
    # error of the slope of a line through block averages, from their scatter around it
    times, scatter = block_means(centred, n_blocks), block_means(residuals, n_blocks)
    times, scatter = times - times.mean(), scatter - scatter.mean()
    return Drift(slope, float(np.sqrt((scatter @ scatter) / (n_blocks - 2) / (times @ times))))


class CondensedSeries:
    """Keeps a series in bounded memory: averages of 2, 4, 8… frames once it is too long to keep each frame.

    Means stay what they are, and so do block averages; what is faster than the averages is lost. How frames
    are handed over makes no difference.

    Parameters
    ----------
    max_values : int
        Numbers to keep, at least those of eight frames.

    Attributes
    ----------
    stride : int
        Frames behind each average.
    """

    def __init__(self, max_values: int):
        self._max_values, self.stride, self._length = max_values, 1, 0
        self._kept: list[np.ndarray] = []
        self._waiting: np.ndarray | None = None

    def add(self, rows: np.ndarray) -> None:
        """Take the next frames, shape (n_frames, ...)."""
        rows = np.asarray(rows) if self._waiting is None else np.concatenate([self._waiting, rows])
        whole = len(rows) // self.stride * self.stride
        self._waiting = rows[whole:] if whole < len(rows) else None
        self._keep(rows[:whole].reshape(-1, self.stride, *rows.shape[1:]))
        while self._length > self._limit(rows):
            self._halve()

    @property
    def rows(self) -> np.ndarray:
        """The series, shape (n_kept, ...); frames that do not fill an average are left out."""
        return np.concatenate(self._kept) if self._kept else np.empty((0,))

    def _limit(self, rows: np.ndarray) -> int:
        return max(8, self._max_values // max(1, math.prod(rows.shape[1:])))

    def _keep(self, groups: np.ndarray) -> None:
        self._kept.append(groups[:, 0] if self.stride == 1 else groups.mean(axis=1))
        self._length += len(groups)

    def _halve(self) -> None:
        rows = self.rows
        if len(rows) % 2:  # the last average goes back to those that wait, with its weight
            last = np.repeat(rows[-1:], self.stride, axis=0)
            self._waiting = last if self._waiting is None else np.concatenate([last, self._waiting])
            rows = rows[:-1]
        self._kept = [rows.reshape(-1, 2, *rows.shape[1:]).mean(axis=1)]
        self._length, self.stride = len(rows) // 2, 2 * self.stride


class ThinnedSeries:
    """Keeps a series in bounded memory: every 2nd, 4th, 8th… frame once it is too long to keep each.

    For positions, which an average would blur.

    Parameters
    ----------
    max_values : int
        Numbers to keep, at least those of 64 frames.

    Attributes
    ----------
    stride : int
        Frames from one that is kept to the next.
    """

    def __init__(self, max_values: int):
        self._max_values, self.stride, self._seen = max_values, 1, 0
        self._kept: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        """Take the next frames, shape (n_frames, ...)."""
        self._kept.append(rows[-self._seen % self.stride :: self.stride])
        self._seen += len(rows)
        limit = max(64, self._max_values // max(1, math.prod(rows.shape[1:])))
        while sum(map(len, self._kept)) > limit:
            self._kept = [self.rows[::2].copy()]
            self.stride *= 2

    @property
    def rows(self) -> np.ndarray:
        """The series, shape (n_kept, ...)."""
        return np.concatenate(self._kept) if self._kept else np.empty((0,))


def _number_of_blocks(n_frames: int, time: float, most: int = MAX_BLOCKS) -> int:
    """Blocks to average over, or 0 where five blocks longer than the correlation time do not fit."""
    if n_frames // MIN_BLOCKS <= time:
        return 0
    return int(np.clip(n_frames // (BLOCK_IN_CORRELATION_TIMES * time), MIN_BLOCKS, most))


def _is_constant(series: np.ndarray) -> bool:
    """Whether nothing but rounding distinguishes the values."""
    return _is_rounding(series, series)


def _is_rounding(differences: np.ndarray, values: np.ndarray) -> bool:
    """Whether differences are no more than the rounding of the values that they were made from."""
    return bool(np.ptp(differences) <= 8 * np.finfo(float).eps * np.abs(values).max())

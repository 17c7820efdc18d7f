r"""Distances between two distributions, with what correlated frames leave open.

================================================= =====================================================
W = ∫ |P(x) − Q(x)| dx, P and Q cumulative        :func:`wasserstein_distance`, in the unit of x
W = min over c of ∫ |P(φ) − Q(φ) − c| dφ          the same around a circle; c is the median of P − Q
K = max |P(x) − Q(x)|                             :func:`kolmogorov_distance`, without unit
================================================= =====================================================

The trajectory of each run is cut into blocks longer than its correlation time, as for the error of a mean,
and blocks are drawn again with repetition. How far the distance of such draws lies from the one found gives
its interval; how far P* − P and Q* − Q alone would seem apart is the noise, which two runs of the same
distribution have between them. Few blocks show their own scatter only so well: both are wider by Student's t
over the normal z, with the degrees of freedom of both runs' blocks together.

Sources: S. S. Vallender, Theory Probab. Appl. 18, 784 (1974) for the line; J. Rabin, J. Delon & Y. Gousseau,
J. Math. Imaging Vis. 41, 147 (2011) for the circle; B. Efron & R. J. Tibshirani, *An Introduction to the
Bootstrap* (1993), chapter 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asecalc_ml.statistics.histogram import Histogram

N_DRAWS = 1000
COVERAGE = 0.95


class Blocks(NamedTuple):
    """A distribution as counts in bins, shape (n_blocks, n_bins); one block where errors cannot be known.

    With ``is_sample`` the values of the one block are independent of each other, and drawn one by one. Blocks
    that are correlated scatter too little; ``wider`` is the factor.
    """

    counts: np.ndarray
    is_sample: bool = False
    wider: float = 1.0

    @property
    def cumulative(self) -> np.ndarray:
        """Fraction below the end of each bin, of all blocks together, shape (n_bins,)."""
        return _cumulative(self.counts.sum(axis=0))

    @property
    def n_free(self) -> int:
        """Degrees of freedom of the scatter of blocks; 0 where values are independent, and it is known."""
        return 0 if self.is_sample else len(self.counts) - 1

    def draws(self, rng: np.random.Generator, n_drawn: int | None = None) -> np.ndarray:
        """Cumulative distributions of blocks drawn with repetition, shape (N_DRAWS, n_bins).

        As many as there are, or ``n_drawn``. They scatter around the mean of these n blocks, with a variance
        that is too small as n - 1 to n; it is widened.
        """
        n_blocks = len(self.counts)
        # independent values: counts of N values drawn from the histogram itself
        if self.is_sample:
            n_values = self.counts.sum()
            return _cumulative(rng.multinomial(n_values, self.counts[0] / n_values, size=N_DRAWS))
        if n_blocks == 1:
            return np.repeat(self.cumulative[None], N_DRAWS, axis=0)
        # how often each block is drawn, and the cumulative distributions P* of the draws
        weights = rng.multinomial(n_drawn or n_blocks, np.full(n_blocks, 1 / n_blocks), size=N_DRAWS)
        drawn, mean = _cumulative(weights @ self.counts), self.cumulative
        # P + √(n/(n−1)) (P* − P): the variance of draws is too small as (n − 1)/n
        return mean + self.wider * np.sqrt(n_blocks / (n_blocks - 1)) * (drawn - mean)


class MeasuredDistance(NamedTuple):
    """A distance with its 95 % interval, and the distance that noise alone reaches in one of twenty cases."""

    distance: float
    low: float
    high: float
    noise: float


def wasserstein_distance(
    first: np.ndarray, second: np.ndarray, width: float, period: float | None = None
) -> np.ndarray:
    """First Wasserstein distance of cumulative distributions, shape (..., n_bins), on the same bins.

    The bins hold all of both. Around a circle with this period, 360 for degrees, the bins beyond them, where
    the two do not differ, count as well: they may hold the median.
    """
    difference = first - second  # P − Q at the end of each bin
    if period is not None:
        # bins of the rest of the circle, where P = Q
        beyond = np.zeros((*difference.shape[:-1], round(period / width) - difference.shape[-1]))
        difference = np.concatenate([difference, beyond], axis=-1)
        # the constant c that minimises ∫ |P − Q − c| dφ is the median
        difference = difference - np.median(difference, axis=-1, keepdims=True)
    return width * np.abs(difference).sum(axis=-1)


def histogram_distance(first: Sequence[Histogram], second: Sequence[Histogram]) -> float:
    """First Wasserstein distance between all samples of some histograms and all of others, of one width."""
    counts = on_same_bins([*first, *second])
    p, q = (Blocks(part).cumulative for part in (counts[: len(first)], counts[len(first) :]))
    return float(wasserstein_distance(p, q, first[0].width, first[0].period))


def on_same_bins(histograms: Sequence[Histogram]) -> np.ndarray:
    """Counts of histograms of one width, shape (n_histograms, n_bins)."""
    low, high = common_range(histograms)
    counts = np.zeros((len(histograms), high - low), dtype=int)
    for row, histogram in zip(counts, histograms, strict=True):
        row[histogram.start - low :][: len(histogram.counts)] = histogram.counts
    return counts


def common_range(histograms: Sequence[Histogram]) -> tuple[int, int]:
    """First bin, and the one after the last, that hold all of several histograms of one width."""
    low = min(histogram.start for histogram in histograms)
    return low, max(histogram.start + len(histogram.counts) for histogram in histograms)


def kolmogorov_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of two cumulative distributions."""
    return float(np.abs(first - second).max())


def measured_distance(
    first: Blocks, second: Blocks, width: float, period: float | None = None
) -> MeasuredDistance:
    """Distance of two distributions with its interval and its noise; the same numbers every time."""
    rng = np.random.default_rng(0)
    p, q = first.cumulative, second.cumulative
    distance = float(wasserstein_distance(p, q, width, period))
    # distances W* of bootstrap draws P*, Q*, and what P* − P and Q* − Q alone would seem apart
    p_drawn, q_drawn = first.draws(rng), second.draws(rng)
    drawn = wasserstein_distance(p_drawn, q_drawn, width, period)
    noise = wasserstein_distance(p_drawn - p, q_drawn - q, width, period)
    # few blocks show their own scatter only so well: Student's t over the normal z
    n_free = first.n_free + second.n_free
    wider = widening(1 + n_free) if n_free else 1.0
    # basic bootstrap interval [2W − Q97.5(W*), 2W − Q2.5(W*)]: what noise adds to W* is taken off again
    lowest, highest = np.quantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    low = max(float(distance - wider * (highest - distance)), 0.0)
    high = max(float(distance - wider * (lowest - distance)), 0.0)
    return MeasuredDistance(distance, low, high, float(wider * np.quantile(noise, COVERAGE)))


def widening(n_parts: int) -> float:
    """How much wider a bound is that rests on the scatter of few parts: quantiles of Student's t over z.

    Parameters
    ----------
    n_parts : int
        Independent parts whose scatter around their mean is known: one more than its degrees of freedom.

    Examples
    --------
    >>> round(widening(8), 3), round(widening(1000), 3)
    (1.206, 1.001)
    """
    from scipy.stats import norm, t  # slow to import, and options lead here

    tail = (1 + COVERAGE) / 2
    return float(t.ppf(tail, n_parts - 1) / norm.ppf(tail))


def _cumulative(counts: np.ndarray) -> np.ndarray:
    sums = np.cumsum(counts, axis=-1)
    return sums / sums[..., -1:]

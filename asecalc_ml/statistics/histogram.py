"""Histograms on a fixed grid, so that those of the same width add up and compare bin by bin."""

from __future__ import annotations

import cmath
import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from asecalc_ml.errors import AnalysisError

if TYPE_CHECKING:
    import numpy as np


MAX_BINS_AT_ONCE = 1_000_000
MAX_BIN = 10_000_000  # of a histogram, from zero: 100,000 Å with bins of 0.01 Å
MAX_COUNTED = 2**53  # up to which double precision knows every bin
MAX_ISOLATED = 0.01  # of the samples may lie farther from all others than what counts as covered


class Histogram(BaseModel):
    """Counts in the bins [k width, (k + 1) width) for k = start, start + 1, ...

    Lists and numbers only, so that a model card can hold it. Mean and standard deviation are those of the
    samples, not of the bins; around a circle the mean direction and √(−2 ln R), with R the length of the mean
    of all unit vectors. An unoccupied bin between two occupied ones holds a zero; the first and the last are
    occupied.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: float = Field(gt=0, allow_inf_nan=False, description="width of a bin, in the samples' unit")
    start: int = Field(description="the first bin begins at start * width")
    counts: list[int] = Field(min_length=1, description="samples in each bin")
    mean: float = Field(allow_inf_nan=False, description="mean of the samples")
    std: float = Field(ge=0, allow_inf_nan=False, description="standard deviation, with 1/n in it")
    period: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of samples around a circle, such as 360 degrees"
    )

    @model_validator(mode="after")
    def _occupied(self) -> Histogram:
        if min(self.counts) < 0 or self.counts[0] == 0 or self.counts[-1] == 0:
            raise ValueError("counts must not be negative, nor zero in the first and the last bin")
        return self

    @classmethod
    def from_samples(cls, samples: np.ndarray, width: float, period: float | None = None) -> Histogram:
        """Count samples.

        Parameters
        ----------
        samples : array of any shape
        width : float
            In the unit of the samples.
        period : float, optional
            Of samples around a circle, all on one turn.

        Raises
        ------
        ValueError
            If there are no samples, or one is not finite.
        """
        import numpy as np

        values = np.asarray(samples, dtype=np.float64).ravel()
        if values.size == 0 or not np.isfinite(values).all():
            raise ValueError("a histogram needs at least one sample, and all of them finite")
        bins = np.floor(values / width).astype(int)
        # bin k covers [k width, (k + 1) width)
        start = int(bins.min())
        counts = np.bincount(bins - start).tolist()
        mean, std = float(values.mean()), float(values.std())
        if period is not None:
            mean, std = circular_moments(np.exp(2j * np.pi * values / period).mean(), period)
        return cls(width=width, start=start, counts=counts, mean=mean, std=std, period=period)

    @property
    def total(self) -> int:
        """Number of samples."""
        return sum(self.counts)

    @property
    def edges(self) -> np.ndarray:
        """Limits of the bins, shape (n_bins + 1,)."""
        import numpy as np

        return (self.start + np.arange(len(self.counts) + 1)) * self.width

    @property
    def centers(self) -> np.ndarray:
        """Middles of the bins, shape (n_bins,)."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def density(self) -> np.ndarray:
        """Counts as a density with integral 1, in the inverse unit of the samples, shape (n_bins,)."""
        import numpy as np

        return np.array(self.counts) / (self.total * self.width)

    @property
    def reach(self) -> int:
        """Bins from an occupied one within which a value still counts as covered, see :meth:`covers`.

        Twice the distance from a sample to its nearest other sample that at most 1 % of the samples exceed,
        and at least 1, since a sample is known to its bin only.
        """
        import numpy as np

        bins, counts = self._occupied_bins(), np.array(self.counts)
        if len(bins) < 2:
            return 1
        # bins between each occupied bin and the next one before and after it
        gaps = np.diff(self._around(bins))
        first = 0 if self.period is None else len(bins)
        before, after = gaps[first : first + len(bins)], gaps[first + 1 : first + 1 + len(bins)]
        # distance to the nearest other sample of those that are alone in their bin, farthest first; else 0
        alone = np.sort(np.minimum(before, after)[counts[counts > 0] == 1])[::-1]
        # the distance that at most 1 % of the samples exceed, doubled
        n_isolated = math.ceil(MAX_ISOLATED * self.total)
        return max(1, 2 * int(alone[n_isolated])) if n_isolated < len(alone) else 1

    def covers(self, values: np.ndarray) -> np.ndarray:
        """Whether the samples' own distribution explains each value, boolean, of the values' shape.

        A bin may be empty because the samples are few. A value is covered where it lies no more than
        :attr:`reach` bins from an occupied bin: a distance comparable to those between neighboring samples.
        A gap between two groups of samples that is wide compared with these distances is not covered.

        Notes
        -----
        The rank of a distance to the nearest sample among those of the samples themselves is the
        nonconformity of conformal prediction (V. Vovk, A. Gammerman & G. Shafer, *Algorithmic Learning in a
        Random World*, 2005, section 2.2): without the factor of two, about 1 % of new samples of the same
        distribution would be left out, whatever its shape.
        """
        import numpy as np

        bins = np.floor(np.asarray(values, dtype=np.float64) / self.width)
        return self._to_nearest(bins) <= self.reach

    def ranges(self) -> list[tuple[float, float]]:
        """Ranges in which every value is covered; of a periodic histogram within one turn around zero.

        Examples
        --------
        >>> Histogram(width=1.0, start=2, counts=[3, 4, 0, 0, 0, 2], mean=3.0, std=1.0).ranges()
        [(1.0, 5.0), (6.0, 9.0)]
        """
        import numpy as np

        first, end = self.start - self.reach, self.start + len(self.counts) + self.reach
        if self.period is not None:
            half = round(self.period / self.width) // 2
            first, end = -half, half
        edges = np.arange(first, end + 1) * self.width
        # a range begins and ends where coverage changes from one bin to the next
        covered = np.array([False, *(self._to_nearest(np.arange(first, end)) <= self.reach), False])
        changes = np.flatnonzero(covered[1:] != covered[:-1])
        return [(float(edges[a]), float(edges[b])) for a, b in changes.reshape(-1, 2)]

    def _occupied_bins(self) -> np.ndarray:
        import numpy as np

        return self.start + np.flatnonzero(self.counts)

    def _around(self, bins: np.ndarray) -> np.ndarray:
        """Sorted bins with those of the turns before and after, or with none infinitely far away."""
        import numpy as np

        if self.period is None:
            return np.concatenate([[-np.inf], bins, [np.inf]])
        turn = round(self.period / self.width)
        return np.concatenate([bins - turn, bins, bins + turn])

    def _to_nearest(self, bins: np.ndarray) -> np.ndarray:
        """Distance of each bin to the nearest occupied one, in bins; not a number of what is not finite."""
        import numpy as np

        occupied = self._around(self._occupied_bins())
        after = np.clip(np.searchsorted(occupied, bins), 1, len(occupied) - 1)
        return np.minimum(np.abs(bins - occupied[after - 1]), np.abs(occupied[after] - bins))

    def __add__(self, other: Histogram) -> Histogram:
        """Histogram of both sets of samples."""
        if not isinstance(other, Histogram):
            return NotImplemented
        if (other.width, other.period) != (self.width, self.period):
            raise ValueError(f"histograms of widths {self.width} and {other.width} do not add up")
        start = min(self.start, other.start)
        counts = [0] * (max(self.start + len(self.counts), other.start + len(other.counts)) - start)
        for part in (self, other):
            for index, count in enumerate(part.counts, part.start - start):
                counts[index] += count
        mean, std = _pooled(self, other)
        return self.model_copy(update={"start": start, "counts": counts, "mean": mean, "std": std})


class SlicedCounts:
    """Counts of samples in bins, for each of at most 64 equally long parts of a trajectory.

    The parts grow with the trajectory, so that memory does not. Bins are numbered as in a :class:`Histogram`.

    Parameters
    ----------
    width : float
        Of a bin, in the unit of the samples.
    period : float, optional
        Of samples around a circle.

    Attributes
    ----------
    stride : int
        Frames in each part; the last one may hold fewer.
    """

    MAX_PARTS = 64

    def __init__(self, width: float, period: float | None = None):
        self.width, self.period, self.stride, self._room = width, period, 1, 0
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []  # occupied bins, and their counts

    def add(self, values: np.ndarray) -> None:
        """Count the samples of the next frames, shape (n_frames, n_samples)."""
        while len(values):
            if self._room == 0:
                self._begin_part()
            taken, values = values[: self._room], values[self._room :]
            self._parts[-1] = _merged([self._parts[-1], _counted(taken, self.width)])
            self._room -= len(taken)

    def _begin_part(self) -> None:
        import numpy as np

        if len(self._parts) == self.MAX_PARTS:
            self._parts = [_merged(self._parts[k : k + 2]) for k in range(0, self.MAX_PARTS, 2)]
            self.stride *= 2
        self._parts.append((np.empty(0, int), np.empty(0, int)))
        self._room = self.stride

    def histogram(self, mean: float, std: float) -> Histogram:
        """All parts together, with the mean and standard deviation of their samples.

        Raises
        ------
        AnalysisError
            If a value lies so far away that the histogram would take all memory.
        """
        import numpy as np

        bins, counts = _merged(self._parts)
        _check_within(MAX_BIN, bins, self.width)
        dense = np.zeros(bins[-1] - bins[0] + 1, dtype=int)
        dense[bins - bins[0]] = counts
        limits = {"width": self.width, "period": self.period, "start": int(bins[0])}
        return Histogram(**limits, counts=dense.tolist(), mean=mean, std=std)

    def parts(self, first: int, n_bins: int) -> np.ndarray:
        """Counts of each part in the bins from ``first`` on, shape (n_parts, n_bins)."""
        import numpy as np

        dense = np.zeros((len(self._parts), n_bins), dtype=int)
        for row, (bins, counts) in zip(dense, self._parts, strict=True):
            row[bins - first] = counts
        return dense


def _counted(values: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Occupied bins and their counts; quick where values lie close together."""
    import numpy as np

    places = np.floor(np.asarray(values, dtype=float) / width).ravel()
    _check_within(MAX_COUNTED, places, width)
    bins = places.astype(int)
    # far apart: sort; close together: count into an array that begins at the lowest bin
    lowest = int(bins.min(initial=0))
    if int(bins.max(initial=0)) - lowest > MAX_BINS_AT_ONCE:
        return np.unique(bins, return_counts=True)
    counts = np.bincount(bins - lowest)
    occupied = np.flatnonzero(counts)
    return occupied + lowest, counts[occupied]


def _check_within(limit: int, bins: np.ndarray, width: float) -> None:
    import numpy as np

    farthest = float(np.abs(bins).max(initial=0))
    if farthest > limit:
        raise AnalysisError(
            f"values as large as {farthest * width:.3g} have no histogram with bins of {width:g}: an atom "
            "has left, or the trajectory is damaged.",
            name="values",
            value=farthest * width,
            remedy="Look at its last frames, or analyse those before",
        )


def _merged(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    bins, place = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    counts = np.zeros(len(bins), dtype=int)
    np.add.at(counts, place, np.concatenate([part[1] for part in parts]))
    return bins, counts


def _pooled(first: Histogram, second: Histogram) -> tuple[float, float]:
    """Mean and standard deviation of two sets together, from those of each."""
    weight = second.total / (first.total + second.total)
    if first.period is not None:
        vectors = [_mean_vector(part, first.period) for part in (first, second)]
        return circular_moments((1 - weight) * vectors[0] + weight * vectors[1], first.period)
    # w1 s1^2 + w2 s2^2 + w1 w2 (m2 - m1)^2
    step = second.mean - first.mean
    variance = (1 - weight) * first.std**2 + weight * second.std**2 + weight * (1 - weight) * step**2
    return first.mean + weight * step, math.sqrt(variance)


def circular_moments(vector: complex, period: float) -> tuple[float, float]:
    """Mean direction, in the half turns around 0, and spread √(−2 ln R) of a mean of unit vectors.

    Notes
    -----
    Source: N. I. Fisher, *Statistical Analysis of Circular Data* (1993), section 2.3.
    """
    length = min(max(abs(vector), 1e-300), 1.0)
    radius = period / (2 * math.pi)
    return radius * cmath.phase(vector), radius * math.sqrt(-2 * math.log(length))


def _mean_vector(histogram: Histogram, period: float) -> complex:
    """The mean of all unit vectors, from mean direction and spread."""
    radius = period / (2 * math.pi)
    return cmath.rect(math.exp(-((histogram.std / radius) ** 2) / 2), histogram.mean / radius)

"""Histograms on a fixed grid, so that those of the same width add up and compare bin by bin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import numpy as np


class Histogram(BaseModel):
    """Counts in the bins [k width, (k + 1) width) for k = start, start + 1, ...

    Lists and numbers only, so that a model card can hold it. Mean and standard deviation are those of the
    samples, not of the bins. An unoccupied bin between two occupied ones holds a zero; the first and the last
    are occupied.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: float = Field(gt=0, allow_inf_nan=False, description="width of a bin, in the samples' unit")
    start: int = Field(description="the first bin begins at start * width")
    counts: list[int] = Field(min_length=1, description="samples in each bin")
    mean: float = Field(allow_inf_nan=False, description="mean of the samples")
    std: float = Field(ge=0, allow_inf_nan=False, description="standard deviation, with 1/n in it")

    @model_validator(mode="after")
    def _occupied(self) -> Histogram:
        if min(self.counts) < 0 or self.counts[0] == 0 or self.counts[-1] == 0:
            raise ValueError("counts must not be negative, nor zero in the first and the last bin")
        return self

    @classmethod
    def from_samples(cls, samples: np.ndarray, width: float) -> Histogram:
        """Count samples.

        Parameters
        ----------
        samples : array of any shape
        width : float
            In the unit of the samples.

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
        start = int(bins.min())
        counts = np.bincount(bins - start).tolist()
        mean, std = float(values.mean()), float(values.std())
        return cls(width=width, start=start, counts=counts, mean=mean, std=std)

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

    def covers(self, values: np.ndarray) -> np.ndarray:
        """Whether the bin of each value is occupied, boolean, of the values' shape."""
        import numpy as np

        values = np.asarray(values, dtype=np.float64)
        occupied = np.array([*self.counts, 0]) > 0  # the last stands for every bin outside
        bins = np.floor(values / self.width) - self.start
        outside = ~((bins >= 0) & (bins < len(self.counts)))
        return occupied[np.where(outside, -1, bins).astype(int)]

    def __add__(self, other: Histogram) -> Histogram:
        """Histogram of both sets of samples."""
        if not isinstance(other, Histogram):
            return NotImplemented
        if other.width != self.width:
            raise ValueError(f"histograms of widths {self.width} and {other.width} do not add up")
        start = min(self.start, other.start)
        counts = [0] * (max(self.start + len(self.counts), other.start + len(other.counts)) - start)
        for part in (self, other):
            for index, count in enumerate(part.counts, part.start - start):
                counts[index] += count
        mean, std = _pooled(self, other)
        return Histogram(width=self.width, start=start, counts=counts, mean=mean, std=std)


def _pooled(one: Histogram, two: Histogram) -> tuple[float, float]:
    """Mean and standard deviation of two sets together, from those of each."""
    weight = two.total / (one.total + two.total)
    step = two.mean - one.mean
    variance = (1 - weight) * one.std**2 + weight * two.std**2 + weight * (1 - weight) * step**2
    return one.mean + weight * step, math.sqrt(variance)

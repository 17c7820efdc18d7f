"""Analyses of the distribution of a coordinate: their options, and the measurement behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from asecalc_ml._lazy import renamed
from asecalc_ml.analysis.base import Analysis, Measurement, no_frame_error
from asecalc_ml.analysis.checks.energy_exchange import EnergyExchange, ExchangeMeasurement
from asecalc_ml.analysis.distributions.distribution_result import (
    Average,
    DistributionResult,
    FrameValues,
    Member,
    PatternDistribution,
)
from asecalc_ml.analysis.distributions.internal_coordinates import ChainValues, choose
from asecalc_ml.analysis.distributions.training_domain import TrainingComparison, TrainingDomain
from asecalc_ml.statistics.histogram import SlicedCounts
from asecalc_ml.statistics.time_series import (
    MAX_BLOCKS,
    BlockAverage,
    CondensedSeries,
    block_average,
    circular_average,
)
from asecalc_ml.structure.topology.chains import Chains, direction, join

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs.frames import Frames

MAX_NUMBERS = 16_000_000  # 128 MB for the values of each pattern
MAX_LISTED = 100  # members with statistics of their own
MAX_MEMBERS = 100_000  # of more, only those listed are kept frame by frame


class DistributionOptions(Analysis):
    """Base of analyses that give the distribution of bond lengths, angles or dihedrals."""

    n_atoms: ClassVar[int]
    result: ClassVar[type[DistributionResult]]
    needs_times: ClassVar = True

    patterns: list[str] | None
    by: Literal["element", "environment", "atoms"] = Field(
        "element",
        description="what makes a distribution: all of a pattern; those with the same atoms bonded around "
        "them; each by itself",
    )

    @property
    def width(self) -> float:
        """Width of a histogram's bin, in the unit of the result."""
        raise NotImplementedError

    def check_start(self, atoms: Atoms) -> None:
        """Bonds, angles or dihedrals that there are."""
        choose(atoms, self.n_atoms, self.patterns, self.by)

    def prepare(self, run: AnyRun) -> Measurement:
        """Find the members of each pattern; AnalysisError where one has none."""
        return DistributionMeasurement(run, self)


class DistributionMeasurement:
    """Collects the values of bonds, angles or dihedrals, and concludes with their distributions.

    Memory is bounded: histograms hold occupied bins, and values that become too many are kept as averages
    over frames, see :class:`asecalc_ml.statistics.time_series.CondensedSeries`.
    """

    def __init__(self, run: AnyRun, options: DistributionOptions):
        groups = choose(run.atoms, options.n_atoms, options.patterns, options.by)
        self._result, self._interval_fs = options.result, run.frame_interval_fs
        self._values = ChainValues(run, join(list(groups.values())))
        self._exchange = ExchangeMeasurement(run)
        self._ends = np.cumsum([len(chains) for chains in groups.values()])[:-1]  # columns of the patterns
        domain = TrainingDomain(*run.read_model_cards())
        self._parts = {
            pattern: PatternMeasurement(chains, options, _comparison(domain, options, pattern))
            for pattern, chains in groups.items()
        }

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        self._exchange.frames(frames)
        for values in self._values.parts(frames):
            of_patterns = np.split(values, self._ends, axis=1)
            for part, of_pattern in zip(self._parts.values(), of_patterns, strict=True):
                part.add(of_pattern)

    def conclude(self) -> DistributionResult:
        """Return the distributions of all frames taken."""
        if any(part.n_frames == 0 for part in self._parts.values()):
            raise no_frame_error()
        exchange = self._exchange.conclude()
        patterns = [
            part.conclude(pattern, self._interval_fs, exchange) for pattern, part in self._parts.items()
        ]
        arrays = {name: part.values for name, part in self._parts.items() if part.values is not None}
        counts = {name: part.counts for name, part in self._parts.items()}
        return self._result.of(patterns, FrameValues(arrays, counts), exchange)


def _comparison(
    domain: TrainingDomain, options: DistributionOptions, pattern: str
) -> TrainingComparison | None:
    """Comparison of a pattern's values with the training data; None where these are not known."""
    histogram = domain.of(options.n_atoms, pattern)
    if histogram is None:
        return None
    return TrainingComparison(domain, histogram, domain.n_fewest(options.n_atoms, pattern))


class PatternMeasurement:
    """Collects the values of one pattern."""

    def __init__(self, chains: Chains, options: DistributionOptions, training: TrainingComparison | None):
        period = options.result.period
        self._chains, self._training = chains, training
        self._kind = LinearMoments if period is None else CircularMoments
        self._moments: LinearMoments | None = None
        # moments averaged over the members of each frame, and those of each member
        self._of_all, self._of_members = CondensedSeries(MAX_NUMBERS), CondensedSeries(MAX_NUMBERS)
        self._keeps_all = len(chains) <= MAX_MEMBERS
        self.counts, self.n_frames = SlicedCounts(options.width, period), 0

    def add(self, values: np.ndarray) -> None:
        """Take the values of the next frames, shape (n_frames, n_members)."""
        if len(values) == 0:
            return
        values = np.ascontiguousarray(values)
        self._moments = self._moments or self._kind(float(values[0].mean()))
        moments = self._moments.of(values)
        self._of_members.add(moments if self._keeps_all else moments[:, :, :MAX_LISTED].copy())
        self._of_all.add(moments.mean(axis=2))
        self.counts.add(values)
        self.n_frames += len(values)
        if self._training is not None:
            self._training.add(values)

    @property
    def _taken(self) -> LinearMoments:
        """The moments, once a frame has been taken."""
        assert self._moments is not None
        return self._moments

    @property
    def values(self) -> np.ndarray | None:
        """Values in each frame, shape (n_frames, n_members); None where there were too many to keep."""
        is_whole = self._keeps_all and self._of_members.stride == 1
        return self._moments.values(self._of_members.rows) if self._moments and is_whole else None

    def conclude(
        self, pattern: str, interval_fs: float, exchange: EnergyExchange | None
    ) -> PatternDistribution:
        """Distribution, average and members."""
        average = self._average(self._of_all, self._of_all.rows, interval_fs, exchange)
        atoms, series, rows = self._chains.atoms.tolist(), self._of_members, self._of_members.rows
        members = [
            Member(atoms=atoms[k], average=self._average(series, rows[:, :, k], interval_fs, exchange))
            for k in range(min(len(atoms), MAX_LISTED))
        ]
        return PatternDistribution(
            pattern=pattern,
            n_frames=self.n_frames,
            n_members=len(atoms),
            average=average,
            n_blocks=self._taken.n_blocks(self._of_all.rows, _most_blocks(exchange)),
            histogram=self.counts.histogram(average.mean, average.std),
            members=members,
            training=self._training and self._training.conclude(),
        )

    def _average(
        self,
        series: CondensedSeries,
        rows: np.ndarray,
        interval_fs: float,
        exchange: EnergyExchange | None,
    ) -> Average:
        """Average of a series of moments, its error widened where vibrations keep their energies."""
        average = self._taken.average(rows, _most_blocks(exchange))
        widening = exchange.widening(average.n_blocks) if exchange else 1.0
        return Average(
            mean=average.mean,
            std=average.std,
            error=None if average.error is None else widening * average.error,
            note=average.note,
            correlation_time_fs=average.correlation_time * series.stride * interval_fs,
        )


def _most_blocks(exchange: EnergyExchange | None) -> int:
    return exchange.most_blocks if exchange else MAX_BLOCKS


class LinearMoments:
    """Averages of lengths and angles, from each value x and (x - x₀)².

    Parameters
    ----------
    origin : float
        x₀, near the values, so that the standard deviation keeps its digits.
    """

    def __init__(self, origin: float):
        self._origin = origin

    def of(self, values: np.ndarray) -> np.ndarray:
        """Moments, shape (n_frames, 2, n_members), of values (n_frames, n_members)."""
        return np.stack([values, (values - self._origin) ** 2], axis=1)

    def values(self, moments: np.ndarray) -> np.ndarray:
        """Values of moments, the reverse of :meth:`of`."""
        return np.ascontiguousarray(moments[:, 0])

    def average(self, moments: np.ndarray, most_blocks: int) -> BlockAverage:
        """Average of a series of moments, shape (n_frames, 2), with the standard deviation of all values."""
        average = block_average(moments[:, 0], most_blocks)
        # σ² = ⟨(x − x₀)²⟩ − (⟨x⟩ − x₀)²
        variance = float(moments[:, 1].mean()) - (average.mean - self._origin) ** 2
        return average._replace(std=max(variance, 0.0) ** 0.5)

    def n_blocks(self, moments: np.ndarray, most_blocks: int) -> int:
        """Blocks longer than the correlation times of mean and width; 0 where too few fit.

        The width of a vibration may change slowly while its mean does not.
        """
        values, mean = moments[:, 0], moments[:, 0].mean()
        # (x − ⟨x⟩)² = (x − x₀)² − (⟨x⟩ − x₀)(2x − ⟨x⟩ − x₀)
        squares = moments[:, 1] - (mean - self._origin) * (2 * values - mean - self._origin)
        return min(block_average(series, most_blocks).n_blocks for series in (values, squares))


class CircularMoments(LinearMoments):
    """Averages of dihedrals in degrees, from cosine and sine."""

    def of(self, values: np.ndarray) -> np.ndarray:
        """Cosine and sine, shape (n_frames, 2, n_members)."""
        return np.stack([np.cos(np.radians(values)), np.sin(np.radians(values))], axis=1)

    def values(self, moments: np.ndarray) -> np.ndarray:
        """Angles in degrees."""
        return direction(moments[:, 0], moments[:, 1])

    def average(self, moments: np.ndarray, most_blocks: int) -> BlockAverage:
        """Mean direction and its spread."""
        return circular_average(moments[:, 0], moments[:, 1], most_blocks)

    def n_blocks(self, moments: np.ndarray, most_blocks: int) -> int:
        """Blocks longer than the correlation times across and along the mean direction."""
        return self.average(moments, most_blocks).n_blocks


__getattr__ = renamed(
    __name__, {"Values": "FrameValues", "Linear": "LinearMoments", "Circular": "CircularMoments"}
)

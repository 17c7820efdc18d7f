"""Results of distributions: averages, histograms, and how they compare with the training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, PrivateAttr

from asecalc_ml.analysis.base import Panel, Record, Table, Verdict
from asecalc_ml.analysis.checks.energy_exchange import TOO_SMALL, EnergyExchange, TimeAverages
from asecalc_ml.analysis.distributions.internal_coordinates import of_pattern
from asecalc_ml.analysis.distributions.training_domain import TrainingDistribution
from asecalc_ml.analysis.figures import draw_distribution
from asecalc_ml.analysis.number_text import percent, with_error
from asecalc_ml.errors import AnalysisError
from asecalc_ml.outcome import gravest
from asecalc_ml.statistics.histogram import Histogram, SlicedCounts

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes


class Average(Record):
    """Mean of a correlated series, in the unit of the result.

    See :func:`asecalc_ml.statistics.time_series.block_average`.
    """

    mean: float
    std: float = Field(description="standard deviation of all values")
    error: float | None = Field(description="standard error of the mean; null where the run is too short")
    note: str = Field(description="'too short' where there is no error")
    correlation_time_fs: float = Field(description="integrated autocorrelation time")


class Member(Record):
    """A single bond, angle or dihedral."""

    atoms: list[int] = Field(description="indices from 0, as in ASE")
    average: Average


class PatternDistribution(Record):
    """All bonds, angles or dihedrals of one pattern together, and each by itself."""

    pattern: str
    n_frames: int
    n_members: int
    average: Average
    n_blocks: int = Field(description="blocks of frames that the distribution's errors rest on")
    histogram: Histogram
    members: list[Member] = Field(description="the first hundred where there are more")
    training: TrainingDistribution | None = Field(None, description="null where no card tells")


class FrameValues:
    """Values per frame and counts of parts of the run, by pattern, which are not written.

    ``arrays`` lacks patterns whose values were too many to keep.
    """

    def __init__(self, arrays: dict[str, np.ndarray], counts: dict[str, SlicedCounts]):
        self.arrays, self.counts = arrays, counts
        for array in arrays.values():
            array.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        """Whether all values are the same, bit for bit."""
        if not isinstance(other, FrameValues) or self.arrays.keys() != other.arrays.keys():
            return False
        return all((array == other.arrays[key]).all() for key, array in self.arrays.items())

    __hash__ = None  # type: ignore[assignment]  # arrays have none


class DistributionResult(TimeAverages):
    """Distributions of one kind of coordinate."""

    quantity: ClassVar[str]
    group: ClassVar[str]
    unit: ClassVar[str]
    digits: ClassVar[int]
    period: ClassVar[float | None] = None

    patterns: list[PatternDistribution]
    _values: FrameValues | None = PrivateAttr(None)

    @classmethod
    def of(
        cls, patterns: list[PatternDistribution], values: FrameValues, exchange: EnergyExchange | None = None
    ) -> Self:
        """Make a result that holds its values per frame."""
        result = cls(patterns=patterns, exchange=exchange)  # type: ignore[call-arg]  # each kind has its name
        result._values = values
        return result

    def __getitem__(self, pattern: str) -> PatternDistribution:
        """Distribution of a pattern, read in either direction."""
        return of_pattern(self.patterns, pattern, self.analysis)

    def values(self, pattern: str) -> np.ndarray:
        """Value of each bond, angle or dihedral in each frame, shape (n_frames, n_members), read-only.

        Raises
        ------
        AnalysisError
            If the result was read from its JSON file, which does not hold them, or they were too many.
        """
        key = self[pattern].pattern
        if self._values is None:
            raise self._not_stored_error("values per frame")
        if key not in self._values.arrays:
            raise AnalysisError(
                f"{key} has more values than are kept", name=key, remedy="choose a pattern of fewer members"
            )
        return self._values.arrays[key]

    def counts(self, pattern: str) -> SlicedCounts:
        """Counts of consecutive parts of the run, for comparisons; AnalysisError as in :meth:`values`."""
        key = self[pattern].pattern
        if self._values is None:
            raise self._not_stored_error("parts of the run")
        return self._values.counts[key]

    def _not_stored_error(self, what: str) -> AnalysisError:
        return AnalysisError(
            f"{what} are not stored", name=what, remedy=f"run the {self.analysis} analysis again"
        )

    def verdicts(self) -> list[Verdict]:
        """Whether every distribution lies inside the training data; nothing where no card tells."""
        compared = {one.pattern: one.training for one in self.patterns if one.training is not None}
        if not compared:
            return []
        check = f"{self.quantity}s stayed inside the training data"
        status = gravest(training.status for training in compared.values())
        return [Verdict(check=check, status=status, text=self._outside_text(compared))]

    def _outside_text(self, compared: dict[str, TrainingDistribution]) -> str:
        unknown = [distribution.pattern for distribution in self.patterns if distribution.training is None]
        more = f"; the card knows nothing about {', '.join(unknown)}" if unknown else ""
        first = next(iter(compared.values()))
        source = f"{first.dataset}, {first.temperature}"
        beyond = {name: training for name, training in compared.items() if training.values_outside > 0}
        if not beyond:
            return f"{', '.join(compared)}: no value outside what training saw ({source}){more}"
        parts = [
            f"{pattern} in {percent(training.frames_outside)} of frames, "
            f"{percent(training.values_outside)} of values (at most "
            f"{percent(training.allowed_outside)} by chance, with {training.n_values:,} "
            "training values)"
            for pattern, training in beyond.items()
        ]
        return f"outside what training saw ({source}): {'; '.join(parts)}{more}"

    def panels(self) -> list[Panel]:
        """One figure for each pattern."""
        return [
            Panel(
                key=distribution.pattern,
                title=f"{distribution.pattern} {self.quantity}",
                caption=self._caption(distribution),
            )
            for distribution in self.patterns
        ]

    def _caption(self, distribution: PatternDistribution) -> str:
        n_members, average = distribution.n_members, distribution.average
        members = f"{n_members} {self.group}{'s' * (n_members > 1)}"
        text = (
            f"Run (line): {members} in {distribution.n_frames:,} frames, mean {self.measured(average)}, "
            f"standard deviation {average.std:.{self.digits}f} {self.unit}.{self.doubt}"
        )
        training = distribution.training
        if training is None:
            return f"{text} No training data to compare with."
        return (
            f"{text} Training data (grey): {training.dataset}, {training.temperature}, mean "
            f"{training.histogram.mean:.{self.digits}f} {self.unit}. The run should lie within the grey, and "
            f"be narrower where it is colder; {percent(training.frames_outside)} of its frames have a value "
            "outside."
        )

    def measured(self, average: Average) -> str:
        """Mean with its error and unit, or "too short"."""
        if average.error is None:
            return f"{average.mean:.{self.digits}f} {self.unit} (error: {average.note})"
        remark = f" (error {TOO_SMALL})" if self.has_small_errors else ""
        return f"{with_error(average.mean, average.error)} {self.unit}{remark}"

    def tables(self) -> list[Table]:
        """Statistics of patterns and members, and the histograms."""
        unit = self.unit
        columns = [self.group, "atoms", f"mean ({unit})", f"error ({unit})", f"std ({unit})"]
        rows = [row for distribution in self.patterns for row in self._rows(distribution)]
        statistics = Table(
            key="statistics",
            title=f"{self.quantity.capitalize()}s",
            columns=[*columns, "correlation time (fs)", "frames"],
            rows=rows,
            caption="Each pattern, then each of its first hundred members; atoms are counted from 0. The "
            "error is the standard error of the mean from block averages, given where the run is at least "
            f"five times longer than the correlation time that it shows.{self.doubt}",
        )
        return [statistics]

    def scalars(self) -> dict[str, float | None]:
        """Mean, its error and standard deviation of each pattern; an error that is too small is left out."""
        unit = {"Å": "A", "°": "deg"}[self.unit]
        scalars = {
            f"{distribution.pattern}.{name}_{unit}": getattr(distribution.average, name)
            for distribution in self.patterns
            for name in ("mean", "error", "std")
        }
        return self.trusted(scalars)

    def data(self) -> list[Table]:
        """Each pattern's distribution and that of the training data, bin by bin."""
        return [self._points(distribution) for distribution in self.patterns]

    def _points(self, distribution: PatternDistribution) -> Table:
        pattern, sources = distribution.pattern, {"run": distribution.histogram}
        if distribution.training is not None:
            sources["training data"] = distribution.training.histogram
        rows = [
            [source, float(center), float(density)]
            for source, histogram in sources.items()
            for center, density in zip(histogram.centers, histogram.density, strict=True)
        ]
        columns = ["source", f"{self.quantity} ({self.unit})", f"density (1/{self.unit})"]
        return Table(key=pattern, title=f"{pattern} {self.quantity}", columns=columns, rows=rows)

    def _rows(self, distribution: PatternDistribution) -> list[list]:
        pattern, members = distribution.pattern, distribution.members
        together = [(pattern, f"all {distribution.n_members}", distribution.average)]
        single = [(pattern, "–".join(map(str, member.atoms)), member.average) for member in members]
        listed = together + single if len(single) > 1 else single
        return [[*names, *self._numbers(average), distribution.n_frames] for *names, average in listed]

    def _numbers(self, average: Average) -> list:
        error = self.error_cell(average.error, average.note)
        return [average.mean, error, average.std, average.correlation_time_fs]

    def _draw(self, ax: Axes, panel: str) -> None:
        draw_distribution(ax, self[panel], f"{self.quantity} ({self.unit})", self.unit)

"""What analyses that give the distribution of a coordinate have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PrivateAttr

from asecalc_ml.analysis.base import Analysis, Measurement, Panel, Record, Table, Verdict
from asecalc_ml.analysis.checks.energy_exchange import TOO_SMALL, EnergyExchange, TimeAverages
from asecalc_ml.analysis.distributions.training_domain import TrainingDistribution
from asecalc_ml.analysis.number_text import percent, with_error
from asecalc_ml.errors import AnalysisError
from asecalc_ml.outcome import gravest
from asecalc_ml.statistics.histogram import Histogram, SlicedCounts

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from matplotlib.axes import Axes

    from asecalc_ml.runs import RunReader


class Average(Record):
    """Mean of a correlated series.

    See :func:`asecalc_ml.statistics.time_series.block_average`. Unit of the result.
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


class Values:
    """Values per frame and counts of parts of the run, by pattern, which are not written.

    ``arrays`` lacks patterns whose values were too many to keep.
    """

    def __init__(self, arrays: dict[str, np.ndarray], counts: dict[str, SlicedCounts]):
        self.arrays, self.counts = arrays, counts
        for array in arrays.values():
            array.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        """Whether all values are the same, bit for bit."""
        if not isinstance(other, Values) or self.arrays.keys() != other.arrays.keys():
            return False
        return all((array == other.arrays[key]).all() for key, array in self.arrays.items())

    __hash__ = None


class DistributionResult(TimeAverages):
    """Distributions of one kind of coordinate."""

    quantity: ClassVar[str]
    group: ClassVar[str]
    unit: ClassVar[str]
    digits: ClassVar[int]
    period: ClassVar[float | None] = None

    patterns: list[PatternDistribution]
    _values: Values | None = PrivateAttr(None)

    @classmethod
    def of(cls, patterns: list[PatternDistribution], values: Values, exchange: EnergyExchange | None = None):
        """Make a result that knows its values per frame."""
        result = cls(patterns=patterns, exchange=exchange)
        result._values = values
        return result

    def __getitem__(self, pattern: str) -> PatternDistribution:
        """Distribution of a pattern, read in either direction."""
        from asecalc_ml.structure.topology.patterns import canonical

        known = {one.pattern: one for one in self.patterns}
        if canonical(pattern) not in known:
            raise AnalysisError(f"{self.analysis} measured {', '.join(known)}, not {pattern!r}")
        return known[canonical(pattern)]

    def values(self, pattern: str) -> np.ndarray:
        """Value of each bond, angle or dihedral in each frame, shape (n_frames, n_members), read-only.

        Raises
        ------
        AnalysisError
            If the result was read from its JSON file, which does not hold them, or they were too many.
        """
        key = self[pattern].pattern
        if self._values is None:
            raise AnalysisError(f"values per frame are not stored: run the {self.analysis} analysis again")
        if key not in self._values.arrays:
            raise AnalysisError(f"{key} has more values than are kept: choose a pattern of fewer members")
        return self._values.arrays[key]

    def counts(self, pattern: str) -> SlicedCounts:
        """Counts of consecutive parts of the run, for comparisons; AnalysisError as in :meth:`values`."""
        key = self[pattern].pattern
        if self._values is None:
            raise AnalysisError(f"parts of the run are not stored: run the {self.analysis} analysis again")
        return self._values.counts[key]

    def verdicts(self) -> list[Verdict]:
        """Whether every distribution lies inside the training data; nothing where no card tells."""
        compared = [one for one in self.patterns if one.training is not None]
        if not compared:
            return []
        check = f"{self.quantity}s stayed inside the training data"
        status = gravest(one.training.status for one in compared)
        return [Verdict(check=check, status=status, text=self._outside_text(compared))]

    def _outside_text(self, compared: list[PatternDistribution]) -> str:
        unknown = [one.pattern for one in self.patterns if one.training is None]
        more = f"; the card knows nothing about {', '.join(unknown)}" if unknown else ""
        source = f"{compared[0].training.dataset}, {compared[0].training.temperature}"
        beyond = [one for one in compared if one.training.values_outside > 0]
        if not beyond:
            patterns = ", ".join(one.pattern for one in compared)
            return f"{patterns}: no value outside what training saw ({source}){more}"
        parts = [
            f"{one.pattern} in {percent(one.training.frames_outside)} of frames, "
            f"{percent(one.training.values_outside)} of values (at most "
            f"{percent(one.training.allowed_outside)} by chance, with {one.training.n_values:,} "
            "training values)"
            for one in beyond
        ]
        return f"outside what training saw ({source}): {'; '.join(parts)}{more}"

    def panels(self) -> list[Panel]:
        """One figure for each pattern."""
        return [
            Panel(key=one.pattern, title=f"{one.pattern} {self.quantity}", caption=self._caption(one))
            for one in self.patterns
        ]

    def _caption(self, one: PatternDistribution) -> str:
        members = f"{one.n_members} {self.group}{'s' * (one.n_members > 1)}"
        text = (
            f"Run (line): {members} in {one.n_frames:,} frames, mean {self.measured(one.average)}, "
            f"standard deviation {one.average.std:.{self.digits}f} {self.unit}.{self.doubt}"
        )
        if one.training is None:
            return f"{text} No training data to compare with."
        seen = one.training
        return (
            f"{text} Training data (grey): {seen.dataset}, {seen.temperature}, mean "
            f"{seen.histogram.mean:.{self.digits}f} {self.unit}. The run should lie within the grey, and be "
            f"narrower where it is colder; {percent(seen.frames_outside)} of its frames have a value outside."
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
        rows = [row for one in self.patterns for row in self._rows(one)]
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
        found = {
            f"{one.pattern}.{name}_{unit}": getattr(one.average, name)
            for one in self.patterns
            for name in ("mean", "error", "std")
        }
        return self.trusted(found)

    def data(self) -> list[Table]:
        """Each pattern's distribution and that of the training data, bin by bin."""
        return [self._points(one) for one in self.patterns]

    def _points(self, one: PatternDistribution) -> Table:
        sources = {"run": one.histogram}
        if one.training is not None:
            sources["training data"] = one.training.histogram
        rows = [
            [source, float(center), float(density)]
            for source, histogram in sources.items()
            for center, density in zip(histogram.centers, histogram.density, strict=True)
        ]
        columns = ["source", f"{self.quantity} ({self.unit})", f"density (1/{self.unit})"]
        return Table(key=one.pattern, title=f"{one.pattern} {self.quantity}", columns=columns, rows=rows)

    def _rows(self, one: PatternDistribution) -> list[list]:
        everything = [(one.pattern, f"all {one.n_members}", one.average)]
        single = [(one.pattern, "–".join(map(str, each.atoms)), each.average) for each in one.members]
        listed = everything + single if len(single) > 1 else single
        return [[*names, *self._numbers(average), one.n_frames] for *names, average in listed]

    def _numbers(self, average: Average) -> list:
        error = self.error_cell(average.error, average.note)
        return [average.mean, error, average.std, average.correlation_time_fs]

    def _draw(self, ax: Axes, panel: str) -> None:
        from asecalc_ml.analysis.figures import draw_distribution

        draw_distribution(ax, self[panel], f"{self.quantity} ({self.unit})", self.unit)


class DistributionOptions(Analysis):
    """Base of analyses that give the distribution of bond lengths, angles or dihedrals."""

    n_atoms: ClassVar[int]
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
        from asecalc_ml.analysis.distributions.chains import choose

        choose(atoms, self.n_atoms, self.patterns, self.by)

    def prepare(self, run: RunReader) -> Measurement:
        """Find what each pattern means; AnalysisError where one matches nothing."""
        from asecalc_ml.analysis.distributions.distribution_measurement import DistributionMeasurement

        return DistributionMeasurement(run, self)

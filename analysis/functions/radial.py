"""Radial distribution functions of pairs of elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Measurement, Panel, Record, Table
from asecalc_ml.analysis.checks.energy_exchange import TimeAverages
from asecalc_ml.analysis.distributions.patterns import BondPattern
from asecalc_ml.analysis.number_text import with_error

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from matplotlib.axes import Axes

    from asecalc_ml.runs import RunReader


class RadialCurve(Record):
    """One pair of elements."""

    pattern: str
    values: list[float] = Field(description="g(r), or the density of distances in 1/Å, in each bin")
    errors: list[float | None] = Field(description="standard errors; null where the run is too short")
    coordination: list[float] | None = Field(
        description="mean number of the second element's atoms around one of the first, up to each "
        "bin's end; "
        "null where there is no density"
    )
    n_pairs: float = Field(description="mean number of pairs within the range in a frame")


class RadialResult(TimeAverages):
    """Radial distribution functions, or distributions of distances where nothing is periodic."""

    analysis: Literal["radial-distribution"] = "radial-distribution"
    n_frames: int = Field(description="frames that were looked at")
    stride: int = Field(description="of how many frames one was looked at")
    bin_A: float
    is_normalised: bool = Field(description="whether values are divided by the density of an ideal gas")
    curves: list[RadialCurve]

    @property
    def centers(self) -> np.ndarray:
        """Middles of the bins, shape (n_bins,), Å."""
        import numpy as np

        return (np.arange(len(self.curves[0].values)) + 0.5) * self.bin_A

    def __getitem__(self, pattern: str) -> RadialCurve:
        """Curve of a pair of elements, in either order."""
        from asecalc_ml.errors import AnalysisError
        from asecalc_ml.structure.topology.patterns import canonical

        known = {one.pattern: one for one in self.curves}
        if canonical(pattern) not in known:
            raise AnalysisError(f"{self.analysis} measured {', '.join(known)}, not {pattern!r}")
        return known[canonical(pattern)]

    def panels(self) -> list[Panel]:
        """A figure for each pair."""
        what = "Radial distribution" if self.is_normalised else "Distances"
        return [
            Panel(key=one.pattern, title=f"{what} {one.pattern}", caption=self._caption(one))
            for one in self.curves
        ]

    def _caption(self, one: RadialCurve) -> str:
        of = (
            f"{self.n_frames:,} frames, one of {self.stride}"
            if self.stride > 1
            else f"{self.n_frames:,} frames"
        )
        band = "; the band is twice the standard error" if any(one.errors) else ", too few for an error"
        if not self.is_normalised:
            return (
                f"Distances of all pairs within {len(one.values) * self.bin_A:.4g} Å, as a density with "
                "integral 1: "
                "the structure is not periodic in three directions and has no density to divide by. "
                f"{of}{band}.{self.doubt}"
            )
        what = "Relative to an ideal gas of the same density, with periodic images."
        return f"{what} {of}{band}. {self._peak(one)}{self.doubt}"

    def _peak(self, one: RadialCurve) -> str:
        row = dict(zip(PEAK_COLUMNS, self._peak_row(one), strict=True))
        if row["first peak (Å)"] is None:
            return "No peak within the range."
        error = row["error of height"]
        height = f"{row['height']:.3g}" if isinstance(error, str | None) else with_error(row["height"], error)
        text = f"First peak {height} at {row['first peak (Å)']:.2f} Å"
        if row["first minimum (Å)"] is None:
            return text + "."
        first, second = one.pattern.split("-")
        around = f"{row['neighbors up to it']:.3g} {second} around each {first}"
        return f"{text}, then a minimum at {row['first minimum (Å)']:.2f} Å: {around} up to there."

    def tables(self) -> list[Table]:
        """First peaks and coordination numbers."""
        rows = [[one.pattern, *self._peak_row(one)] for one in self.curves]
        return [
            Table(
                key="peaks",
                title="First peaks" if self.is_normalised else "First peaks of distances",
                columns=["pair", *PEAK_COLUMNS],
                rows=rows,
                caption=self.doubt.strip(),
            )
        ]

    def _peak_row(self, one: RadialCurve) -> list:
        from asecalc_ml.analysis.functions.peaks import first_peak

        peak, minimum = first_peak(one.values)
        if peak is None:
            return [None] * len(PEAK_COLUMNS)
        error = self.error_cell(one.errors[peak])
        row = [float(self.centers[peak]), one.values[peak], error]
        if minimum is None or one.coordination is None:
            return [*row, None if minimum is None else float(self.centers[minimum]), None]
        return [*row, float(self.centers[minimum]), one.coordination[minimum]]

    def data(self) -> list[Table]:
        """All curves, bin by bin."""
        value = "g(r)" if self.is_normalised else "density (1/Å)"
        rows = [
            [one.pattern, float(r), y, error, None if one.coordination is None else one.coordination[k]]
            for one in self.curves
            for k, (r, y, error) in enumerate(zip(self.centers, one.values, one.errors, strict=True))
        ]
        columns = ["pair", "distance (Å)", value, "error", "neighbors up to the bin's end"]
        return [Table(key="curves", title="Radial distributions", columns=columns, rows=rows)]

    def _draw(self, ax: Axes, panel: str) -> None:
        from asecalc_ml.analysis.figures import BLUE, draw_curve

        one = self[panel]
        draw_curve(ax, self.centers, one.values, one.errors, color=BLUE)
        self.draw_doubt(ax)
        if self.is_normalised:
            ax.axhline(1, color=".55", linewidth=0.8, zorder=0)
        ax.set(
            xlabel="distance (Å)", ylabel="g(r)" if self.is_normalised else "density (1/Å)", ylim=(0, None)
        )
        ax.set_xlim(0, len(one.values) * self.bin_A)


PEAK_COLUMNS = (
    "first peak (Å)",
    "height",
    "error of height",
    "first minimum (Å)",
    "neighbors up to it",
)


class RadialDistribution(Analysis):
    """Radial distribution functions by pair of elements, with periodic images and each frame's volume.

    What is not periodic in three directions has no density: of it the distribution of distances is given.
    """

    result: ClassVar = RadialResult
    needs_times: ClassVar = True

    pairs: list[BondPattern] | None = Field(
        None,
        min_length=1,
        description="pairs of elements, such as [O-O, H-O]; empty for all without hydrogen",
    )
    range_A: float | None = Field(
        None,
        ge=0.5,
        le=1000,
        description="largest distance; by default half the shortest lattice vector, at most 10 Å",
    )
    bin_A: float = Field(0.05, ge=1e-3, le=2, description="width of a bin, Å")
    stride: int | None = Field(
        None, gt=0, description="of how many frames one is looked at; by default so that some thousand are"
    )

    def check_start(self, atoms: Atoms) -> None:
        """Elements that there are."""
        from asecalc_ml.analysis.functions.radial_measurement import element_pairs

        element_pairs(atoms, self.pairs, has_images=bool(atoms.pbc.any()))

    def prepare(self, run: RunReader) -> Measurement:
        """Find the atoms of each pair; AnalysisError where an element is not there."""
        from asecalc_ml.analysis.functions.radial_measurement import RadialMeasurement

        return RadialMeasurement(run, self)

r"""Radial distribution functions of pairs of elements.

The density of pairs of the elements A and B at the distance r, relative to that of an ideal gas:

.. math:: g_{AB}(r) = \left\langle \frac{V}{N_A N_B} \, \frac{n_{AB}(r)}{v(r)} \right\rangle

with the number n of ordered pairs in the bin at r, images included, and the volume v of its shell; volume V
and n are those of the same frame. An ideal gas of N atoms has g = 1 - 1/N between like atoms.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Measurement, Panel, Record, Table, no_frame_error
from asecalc_ml.analysis.checks.energy_exchange import ExchangeMeasurement, TimeAverages
from asecalc_ml.analysis.distributions.internal_coordinates import BondPattern, of_pattern
from asecalc_ml.analysis.figures import BLUE, draw_curve
from asecalc_ml.analysis.functions.peaks import first_peak
from asecalc_ml.analysis.number_text import with_error
from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics.time_series import CondensedSeries, block_average
from asecalc_ml.structure.lattice import shortest_period
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import canonical_pattern

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs.frames import Frames

DEFAULT_RANGE_A = 10.0
FRAMES_BY_DEFAULT = 1000
MAX_NUMBERS = 4_000_000  # 32 MB
PEAK_COLUMNS = (
    "first peak (Å)",
    "height",
    "error of height",
    "first minimum (Å)",
    "neighbors up to it",
)


# ------------------------------------------------------------------------------------------------ result


class RadialCurve(Record):
    """One pair of elements."""

    pattern: str
    values: list[float] = Field(description="g(r), or the density of distances in 1/Å, in each bin")
    errors: list[float | None] = Field(description="standard errors; null where the run is too short")
    coordination: list[float] | None = Field(
        description="mean number of the second element's atoms around one of the first, up to each "
        "bin's end; null where there is no density"
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
        return (np.arange(len(self.curves[0].values)) + 0.5) * self.bin_A

    def __getitem__(self, pattern: str) -> RadialCurve:
        """Curve of a pair of elements, in either order."""
        return of_pattern(self.curves, pattern, self.analysis)

    def panels(self) -> list[Panel]:
        """A figure for each pair."""
        what = "Radial distribution" if self.is_normalised else "Distances"
        return [
            Panel(key=curve.pattern, title=f"{what} {curve.pattern}", caption=self._caption(curve))
            for curve in self.curves
        ]

    def _caption(self, curve: RadialCurve) -> str:
        of = f"{self.n_frames:,} frames" + (f", one of {self.stride}" if self.stride > 1 else "")
        band = "; the band is twice the standard error" if any(curve.errors) else ", too few for an error"
        if not self.is_normalised:
            return (
                f"Distances of all pairs within {len(curve.values) * self.bin_A:.4g} Å, as a density with "
                "integral 1: the structure is not periodic in three directions and has no density to divide "
                f"by. {of}{band}.{self.doubt}"
            )
        what = "Relative to an ideal gas of the same density, with periodic images."
        return f"{what} {of}{band}. {self._peak(curve)}{self.doubt}"

    def _peak(self, curve: RadialCurve) -> str:
        row = dict(zip(PEAK_COLUMNS, self._peak_row(curve), strict=True))
        if row["first peak (Å)"] is None:
            return "No peak within the range."
        error = row["error of height"]
        height = f"{row['height']:.3g}" if isinstance(error, str | None) else with_error(row["height"], error)
        text = f"First peak {height} at {row['first peak (Å)']:.2f} Å"
        if row["first minimum (Å)"] is None:
            return text + "."
        first, second = curve.pattern.split("-")
        around = f"{row['neighbors up to it']:.3g} {second} around each {first}"
        return f"{text}, then a minimum at {row['first minimum (Å)']:.2f} Å: {around} up to there."

    def tables(self) -> list[Table]:
        """First peaks and coordination numbers."""
        rows = [[curve.pattern, *self._peak_row(curve)] for curve in self.curves]
        return [
            Table(
                key="peaks",
                title="First peaks" if self.is_normalised else "First peaks of distances",
                columns=["pair", *PEAK_COLUMNS],
                rows=rows,
                caption=self.doubt.strip(),
            )
        ]

    def _peak_row(self, curve: RadialCurve) -> list:
        """Cells of ``PEAK_COLUMNS``, None for those that the curve does not show."""
        peak, minimum = first_peak(curve.values)
        if peak is None:
            return [None] * len(PEAK_COLUMNS)
        error = self.error_cell(curve.errors[peak])
        row = [float(self.centers[peak]), curve.values[peak], error]
        if minimum is None or curve.coordination is None:
            return [*row, None if minimum is None else float(self.centers[minimum]), None]
        return [*row, float(self.centers[minimum]), curve.coordination[minimum]]

    def data(self) -> list[Table]:
        """All curves, bin by bin."""
        value = "g(r)" if self.is_normalised else "density (1/Å)"
        rows = [
            [curve.pattern, float(r), y, error, None if curve.coordination is None else curve.coordination[k]]
            for curve in self.curves
            for k, (r, y, error) in enumerate(zip(self.centers, curve.values, curve.errors, strict=True))
        ]
        columns = ["pair", "distance (Å)", value, "error", "neighbors up to the bin's end"]
        return [Table(key="curves", title="Radial distributions", columns=columns, rows=rows)]

    def _draw(self, ax: Axes, panel: str) -> None:
        curve = self[panel]
        draw_curve(ax, self.centers, curve.values, curve.errors, color=BLUE)
        self.draw_doubt(ax)
        if self.is_normalised:
            ax.axhline(1, color=".55", linewidth=0.8, zorder=0)
        ax.set(
            xlabel="distance (Å)", ylabel="g(r)" if self.is_normalised else "density (1/Å)", ylim=(0, None)
        )
        ax.set_xlim(0, len(curve.values) * self.bin_A)


# ----------------------------------------------------------------------------------------------- options


class RadialDistribution(Analysis):
    """Radial distribution functions by pair of elements, with periodic images and each frame's volume.

    Systems that are not periodic in all three directions have no bulk density. For them the distribution of
    distances is given.
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
        element_pairs(atoms, self.pairs, has_images=bool(atoms.pbc.any()))

    def prepare(self, run: AnyRun) -> Measurement:
        """Find the atoms of each pair; AnalysisError where an element is not there."""
        return RadialMeasurement(run, self)


# ------------------------------------------------------------------------------------------- measurement


class RadialMeasurement:
    """Counts pairs by element and distance."""

    def __init__(self, run: AnyRun, options: RadialDistribution):
        self._pbc, self._width = np.asarray(run.pbc, dtype=bool), options.bin_A
        self._is_normalised = bool(self._pbc.all())
        self._symbols = np.array(run.atoms.get_chemical_symbols())
        self._pairs = element_pairs(run.atoms, options.pairs, bool(self._pbc.any()))
        self._n_bins = max(1, round((options.range_A or _default_range(run)) / self._width))
        self._stride = options.stride or max(1, run.n_frames // FRAMES_BY_DEFAULT)
        kinds = sorted(set(self._symbols))
        self._codes, self._kinds = np.array([kinds.index(symbol) for symbol in self._symbols]), kinds
        self._series, self._n_frames = CondensedSeries(MAX_NUMBERS), 0
        self._exchange = ExchangeMeasurement(run)

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        self._exchange.frames(frames)
        first = -frames.start % self._stride
        for k in range(first, len(frames), self._stride):
            cell = frames.cells[k]
            counts = self._counts(frames.positions[k], cell)
            # n V of this frame, since the volume may fluctuate together with n, and n alone
            volume = abs(np.linalg.det(cell)) if self._is_normalised else 1.0
            self._series.add(np.stack([counts * volume, counts])[None])
            self._n_frames += 1

    def conclude(self) -> RadialResult:
        """Return the curves."""
        if self._n_frames == 0:
            raise no_frame_error()
        rows = self._series.rows
        return RadialResult(
            n_frames=self._n_frames,
            stride=self._stride,
            bin_A=self._width,
            is_normalised=self._is_normalised,
            curves=[self._curve(pair, rows[:, :, k]) for k, pair in enumerate(self._pairs)],
            exchange=self._exchange.conclude(),
        )

    def _counts(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Ordered pairs by pair of elements and bin, shape (n_pairs, n_bins)."""
        from asecalc_ml.graph.neighbors import find_pairs  # imports torch

        cutoff, n_kinds = self._n_bins * self._width, len(self._kinds)
        pairs = find_pairs(positions, cell, self._pbc, cutoff)
        i, j = pairs.edge_index
        distances = np.linalg.norm(pair_vectors(positions, *pairs, cell), axis=1)
        bins = np.floor(distances / self._width).astype(int)
        inside = bins < self._n_bins
        # one number for the elements of both atoms and the bin, counted for all pairs at once
        codes = (self._codes[i] * n_kinds + self._codes[j]) * self._n_bins + bins
        histogram = np.bincount(codes[inside], minlength=n_kinds**2 * self._n_bins)
        counts = histogram.reshape(n_kinds, n_kinds, self._n_bins)
        return np.array(
            [counts[self._kinds.index(a), self._kinds.index(b)] for a, b in self._pairs], dtype=float
        )

    def _curve(self, pair: tuple[str, str], rows: np.ndarray) -> RadialCurve:
        """From a pair's counts times volume, and counts, shape (n_kept, 2, n_bins)."""
        n_first, n_second = (int(np.sum(self._symbols == element)) for element in pair)
        weighted, counts = rows[:, 0], rows[:, 1]
        if self._is_normalised:
            # g(r) = n V / (N_A N_B v), with the volume of the shell v = 4π/3 (r₂³ − r₁³)
            edges = self._width * np.arange(self._n_bins + 1)
            values = weighted / (n_first * n_second * np.diff(4 / 3 * np.pi * edges**3))
        else:
            # density of distances with integral 1: counts over their mean total and the width of a bin
            values = counts / (max(counts.sum(axis=1).mean(), 1e-300) * self._width)
        averages = [block_average(series) for series in values.T]
        return RadialCurve(
            pattern=canonical_pattern(pair),
            values=[average.mean for average in averages],
            errors=[average.error if average.mean > 0 else None for average in averages],
            # neighbors of an atom of A up to r: ordered pairs over N_A, added up from zero
            coordination=(counts.mean(axis=0).cumsum() / n_first).tolist() if self._is_normalised else None,
            n_pairs=float(counts.sum(axis=1).mean()) / (2 if pair[0] == pair[1] else 1),
        )


def element_pairs(atoms: Atoms, patterns: list[str] | None, has_images: bool) -> list[tuple[str, str]]:
    """Pairs of elements of a structure.

    Parameters
    ----------
    atoms : Atoms
    patterns : list of str, optional
        By default all without hydrogen, or all where there is nothing else.
    has_images : bool
        Whether a lone atom is paired with images of itself.

    Raises
    ------
    AnalysisError
        If an element is not there, a pattern names more than elements, or a lone atom makes no pair.
    """
    symbols = sorted(set(atoms.get_chemical_symbols()))
    if patterns is None:
        return _default_pairs(atoms.get_chemical_symbols(), has_images)
    pairs = [tuple(pattern.split("-")) for pattern in patterns]
    for pattern, pair in zip(patterns, pairs, strict=True):
        if missing := [element for element in pair if element not in symbols]:
            raise AnalysisError(
                f"no pair in {atoms.get_chemical_formula()} matches {pattern!r}, since it has no atom "
                f"{missing[0]!r}",
                name=pattern,
                value=missing[0],
                allowed=symbols,
                remedy=f"its elements are {', '.join(symbols)}",
            )
    return [(pair[0], pair[1]) for pair in pairs]


def _default_pairs(symbols: list[str], has_images: bool) -> list[tuple[str, str]]:
    heavy = sorted(set(symbols) - {"H"}) or ["H"]
    pairs = [
        (a, b)
        for a, b in combinations_with_replacement(heavy, 2)
        if a != b or has_images or symbols.count(a) > 1
    ]
    if not pairs:
        raise AnalysisError(
            "no pair of atoms other than hydrogen",
            name="pair",
            remedy="name `pairs`, such as H-O, or remove this analysis",
        )
    return pairs


def _default_range(run: AnyRun) -> float:
    """Half the shortest lattice vector: the largest sphere without two images of one atom.

    Without a density 1.5 times the largest extent of the structure at the start.
    """
    if not np.all(run.pbc):
        extent = float(np.linalg.norm(np.ptp(run.atoms.positions, axis=0)))
        return min(DEFAULT_RANGE_A, max(1.5 * extent, 1.0))
    return min(DEFAULT_RANGE_A, shortest_period(run.cell, run.pbc) / 2)

r"""The work behind radial distribution functions.

The density of pairs of the elements A and B at the distance r, relative to that of an ideal gas:

.. math:: g_{AB}(r) = \left\langle \frac{V}{N_A N_B} \, \frac{n_{AB}(r)}{v(r)} \right\rangle

with the number n of ordered pairs in the bin at r, images included, and the volume v of its shell; volume V
and n are those of the same frame. An ideal gas of N atoms has g = 1 - 1/N between like atoms.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.base import NO_FRAME
from asecalc_ml.analysis.checks.energy_exchange_measurement import ExchangeMeasurement
from asecalc_ml.analysis.functions.radial import RadialCurve, RadialDistribution, RadialResult
from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics.time_series import CondensedSeries, block_average
from asecalc_ml.structure.lattice import shortest_period
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import canonical_pattern

if TYPE_CHECKING:
    from asecalc_ml.runs import RunReader
    from asecalc_ml.runs.frames import Frames

DEFAULT_RANGE_A = 10.0
FRAMES_BY_DEFAULT = 1000
MAX_NUMBERS = 4_000_000  # 32 MB


class RadialMeasurement:
    """Counts pairs by element and distance."""

    def __init__(self, run: RunReader, options: RadialDistribution):
        self._pbc, self._width = np.asarray(run.pbc, dtype=bool), options.bin_A
        self._is_normalised = bool(self._pbc.all())
        self._symbols = np.array(run.atoms.get_chemical_symbols())
        self._pairs = element_pairs(run.atoms, options.pairs, bool(self._pbc.any()))
        self._n_bins = max(1, round((options.range_A or _default_range(run)) / self._width))
        self._stride = options.stride or max(1, run.n_frames // FRAMES_BY_DEFAULT)
        kinds = sorted(set(self._symbols))
        self._codes, self._kinds = np.array([kinds.index(one) for one in self._symbols]), kinds
        self._series, self._n_frames = CondensedSeries(MAX_NUMBERS), 0
        self._exchange = ExchangeMeasurement(run)

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        self._exchange.frames(frames)
        first = -frames.start % self._stride
        for k in range(first, len(frames), self._stride):
            cell = frames.cells[k]
            counts = self._counts(frames.positions[k], cell)
            volume = abs(np.linalg.det(cell)) if self._is_normalised else 1.0
            self._series.add(np.stack([counts * volume, counts])[None])
            self._n_frames += 1

    def conclude(self) -> RadialResult:
        """Return the curves."""
        if self._n_frames == 0:
            raise AnalysisError(NO_FRAME)
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
        from asecalc_ml.graph.neighbors import find_pairs

        cutoff, n_kinds = self._n_bins * self._width, len(self._kinds)
        pairs = find_pairs(positions, cell, self._pbc, cutoff)
        i, j = pairs.edge_index
        distances = np.linalg.norm(pair_vectors(positions, *pairs, cell), axis=1)
        bins = np.floor(distances / self._width).astype(int)
        inside = bins < self._n_bins
        codes = (self._codes[i] * n_kinds + self._codes[j]) * self._n_bins + bins
        found = np.bincount(codes[inside], minlength=n_kinds**2 * self._n_bins)
        table = found.reshape(n_kinds, n_kinds, self._n_bins)
        return np.array(
            [table[self._kinds.index(a), self._kinds.index(b)] for a, b in self._pairs], dtype=float
        )

    def _curve(self, pair: tuple[str, str], rows: np.ndarray) -> RadialCurve:
        """From a pair's counts times volume, and counts, shape (n_kept, 2, n_bins)."""
        n_first, n_second = (int(np.sum(self._symbols == element)) for element in pair)
        weighted, counts = rows[:, 0], rows[:, 1]
        if self._is_normalised:
            edges = self._width * np.arange(self._n_bins + 1)
            values = weighted / (n_first * n_second * np.diff(4 / 3 * np.pi * edges**3))
        else:
            values = counts / (max(counts.sum(axis=1).mean(), 1e-300) * self._width)
        averages = [block_average(series) for series in values.T]
        return RadialCurve(
            pattern=canonical_pattern(pair),
            values=[one.mean for one in averages],
            errors=[one.error if one.mean > 0 else None for one in averages],
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
        if missing := [one for one in pair if one not in symbols]:
            raise AnalysisError(
                f"no pair in {atoms.get_chemical_formula()} matches {pattern!r}: {missing[0]!r} is none "
                "of its "
                f"elements, {', '.join(symbols)}"
            )
    return pairs


def _default_pairs(symbols: list[str], has_images: bool) -> list[tuple[str, str]]:
    heavy = sorted(set(symbols) - {"H"}) or ["H"]
    pairs = [
        (a, b)
        for a, b in combinations_with_replacement(heavy, 2)
        if a != b or has_images or symbols.count(a) > 1
    ]
    if not pairs:
        raise AnalysisError(
            "no pair of atoms other than hydrogen: name pairs, such as H-O, or remove this analysis"
        )
    return pairs


def _default_range(run: RunReader) -> float:
    """Half the shortest lattice vector: the largest sphere without two images of one atom.

    Without a density 1.5 times the largest extent of the structure at the start.
    """
    if not np.all(run.pbc):
        extent = float(np.linalg.norm(np.ptp(run.atoms.positions, axis=0)))
        return min(DEFAULT_RANGE_A, max(1.5 * extent, 1.0))
    return min(DEFAULT_RANGE_A, shortest_period(run.cell, run.pbc) / 2)

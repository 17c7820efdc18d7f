"""The work behind bond-length and angle distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.base import NO_FRAME
from asecalc_ml.analysis.distribution import Average, DistributionResult, Member, PatternDistribution
from asecalc_ml.analysis.training_domain import TrainingDomain
from asecalc_ml.errors import AnalysisError
from asecalc_ml.histogram import Histogram
from asecalc_ml.statistics import block_average
from asecalc_ml.topology import canonical_pattern, pattern_mask


class DistributionMeasurement:
    """Collects one value per group (bond, angle) and frame, and concludes with their distributions.

    Memory is one float per group and frame.

    Parameters
    ----------
    result : subclass of DistributionResult
    groups : dict of arrays of int, shape (n_members, 2 or 3)
        Atoms of each group, by canonical pattern.
    coordinate : callable
        Maps positions (n_frames, n_atoms, 3) to values (n_frames, n_groups), in the order of the patterns.
    width : float
        Of a histogram's bin.
    domain : TrainingDomain
    reference : callable
        Training histogram of a pattern, or None.
    frame_interval_fs : float
    """

    def __init__(
        self,
        result: type[DistributionResult],
        groups: Mapping[str, np.ndarray],
        coordinate: Callable[[np.ndarray], np.ndarray],
        width: float,
        domain: TrainingDomain,
        reference: Callable[[str], Histogram | None],
        frame_interval_fs: float,
    ):
        self._result, self._groups, self._coordinate = result, groups, coordinate
        self._width, self._domain, self._reference = width, domain, reference
        self._interval_fs = frame_interval_fs
        self._chunks: list[np.ndarray] = []

    def frames(self, positions: np.ndarray) -> None:
        """Take the next frames, positions of shape (n_frames, n_atoms, 3) in Å."""
        self._chunks.append(self._coordinate(np.asarray(positions, dtype=float)))

    def conclude(self) -> DistributionResult:
        """Return the distributions of all frames taken."""
        values = np.concatenate(self._chunks) if self._chunks else np.empty((0, 0))
        if len(values) == 0:
            raise AnalysisError(NO_FRAME)
        ends = np.cumsum([len(members) for members in self._groups.values()])[:-1]
        by_pattern = dict(zip(self._groups, np.split(values, ends, axis=1), strict=True))
        return self._result.of([self._distribution(*one) for one in by_pattern.items()], by_pattern)

    def _distribution(self, pattern: str, values: np.ndarray) -> PatternDistribution:
        members = zip(self._groups[pattern].tolist(), values.T, strict=True)
        return PatternDistribution(
            pattern=pattern,
            n_frames=len(values),
            average=self._average(values.mean(axis=1), std=float(values.std())),
            histogram=Histogram.from_samples(values, self._width),
            members=[Member(atoms=atoms, average=self._average(series)) for atoms, series in members],
            training=self._domain.compare(self._reference(pattern), values),
        )

    def _average(self, series: np.ndarray, std: float | None = None) -> Average:
        """Average of a series. The deviation of several members together is not that of their mean."""
        average = block_average(series)
        return Average(
            mean=average.mean,
            std=average.std if std is None else std,
            error=average.error,
            note=average.note,
            correlation_time_fs=average.correlation_time * self._interval_fs,
            n_blocks=average.n_blocks,
        )


def present_patterns(atoms: Atoms, groups: np.ndarray) -> list[str]:
    """Canonical patterns of groups of atoms, shape (n_groups, n), sorted."""
    symbols = np.array(atoms.get_chemical_symbols(), dtype=object)
    return sorted({canonical_pattern(tuple(row)) for row in symbols[np.asarray(groups, dtype=int)]})


def default_patterns(atoms: Atoms, groups: np.ndarray) -> list[str]:
    """Patterns without hydrogen; all of them where each has a hydrogen, as in water."""
    present = present_patterns(atoms, groups)
    return [pattern for pattern in present if "H" not in pattern.split("-")] or present


def select(atoms: Atoms, groups: np.ndarray, patterns: list[str] | None, kind: str) -> dict[str, np.ndarray]:
    """Row numbers of the groups of each pattern.

    Parameters
    ----------
    atoms : Atoms
    groups : array of int, shape (n_groups, n)
    patterns : list of str or None
        ``None`` for :func:`default_patterns`.
    kind : str
        "bond" or "angle", for messages.

    Returns
    -------
    dict of arrays of int, by canonical pattern

    Raises
    ------
    AnalysisError
        If a pattern matches nothing; the message names the patterns that exist.
    """
    formula = atoms.get_chemical_formula()
    if len(groups) == 0:
        raise AnalysisError(f"no {kind} in {formula}: remove this analysis, or start from a bonded structure")
    wanted = default_patterns(atoms, groups) if patterns is None else patterns
    rows = {canonical_pattern(one): np.flatnonzero(pattern_mask(atoms, groups, one)) for one in wanted}
    for pattern, found in rows.items():
        if len(found) == 0:
            there = ", ".join(present_patterns(atoms, groups))
            raise AnalysisError(f"no {kind} in {formula} matches {pattern!r}; there are {there}")
    return rows

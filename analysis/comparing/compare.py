"""Compares the distributions of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from asecalc_ml.analysis.comparing.compared_functions import compared_functions
from asecalc_ml.analysis.comparing.comparison import (
    TRAINING,
    ComparedCurve,
    ComparedRun,
    Comparison,
    Distance,
    PatternComparison,
)
from asecalc_ml.analysis.comparing.wasserstein import (
    Blocks,
    common_range,
    kolmogorov_distance,
    measured_distance,
)
from asecalc_ml.analysis.distributions.angles import Angles
from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.distributions.dihedrals import Dihedrals
from asecalc_ml.analysis.distributions.distribution import DistributionOptions
from asecalc_ml.analysis.distributions.distribution_result import DistributionResult
from asecalc_ml.analysis.distributions.internal_coordinates import choose
from asecalc_ml.analysis.pipeline import measure
from asecalc_ml.analysis.report.report import calculator_name
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AnalysisError
from asecalc_ml.runs import open_run
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.structure.topology.patterns import canonical, parse_selection

if TYPE_CHECKING:
    from asecalc_ml.runs import RunReader

KINDS: dict[int, type[DistributionOptions]] = {2: BondLengths, 3: Angles, 4: Dihedrals}


def compare(
    runs: Mapping[str, Any] | Sequence[Any],
    patterns: Sequence[str] | None = None,
    reference: str | None = None,
) -> Comparison:
    """Put the distributions of several runs, a reference and the training data side by side.

    Radial distributions and vibrational densities of states stand beside them where the runs have them.

    Parameters
    ----------
    runs : sequence or mapping of run directories or runs
        Paths, or what :class:`~asecalc_ml.runs.RunReader` and
        :class:`~asecalc_ml.analysis.memory_run.MemoryRun` make. A mapping gives their names.
    patterns : sequence of str, optional
        Bonds, angles and dihedrals, see :mod:`asecalc_ml.structure.topology.patterns`. By default those of
        the reference's bonds and angles without hydrogen.
    reference : str, optional
        Name of the run that the others are held against; the first by default. The training data are those of
        the first run, the reference before all others, whose model has a card.

    Returns
    -------
    Comparison
        To look at, ``plot`` and ``write``; :func:`asecalc_ml.analysis.comparing.page.write_page` makes a
        page.

    Raises
    ------
    AnalysisError
        If a run holds no frame, or a pattern is not there in one of them.
    """
    named = _reference_first(_named(runs), reference)
    groups = by_kind(patterns) if patterns else common_patterns(next(iter(named.values())))
    results = {name: _measure(name, run, groups) for name, run in named.items()}
    described = [_described(name, run, results[name]) for name, run in named.items()]
    compared = [
        _compared(pattern, {name: of_run[n_atoms] for name, of_run in results.items()})
        for n_atoms, of_kind in groups.items()
        for pattern in of_kind
    ]
    return Comparison(runs=described, patterns=compared, functions=compared_functions(named))


# --------------------------------------------------------------------------------------------- what of


def _named(runs: Mapping[str, Any] | Sequence[Any]) -> dict[str, RunReader]:
    if not runs:
        raise AnalysisError("no runs to compare", name="runs", remedy="name one run directory at least")
    if not isinstance(runs, Mapping):
        paths = [getattr(run, "directory", run) for run in runs]
        names = _short_names(paths)
        runs = dict(zip(names, runs, strict=True))
    return {str(name): open_run(run) for name, run in runs.items()}


def _short_names(paths: Sequence[Any]) -> list[str]:
    """Last parts of paths, as many as tell them apart; numbers for runs that have none."""
    known = [
        Path(path).resolve() if isinstance(path, str | Path) else Path(f"run {k}")
        for k, path in enumerate(paths)
    ]
    for length in range(1, 1 + max((len(path.parts) for path in known), default=0)):
        names = ["/".join(path.parts[-length:]) for path in known]
        if len(set(names)) == len(names):
            return names
    twice = next(str(path) for path in known if known.count(path) > 1)
    raise AnalysisError(
        f"{twice} was given twice", name=twice, value=twice, remedy="compare it with another run"
    )


def _reference_first(runs: dict[str, RunReader], reference: str | None) -> dict[str, RunReader]:
    first = reference if reference is not None else next(iter(runs))
    if first not in runs:
        raise AnalysisError(
            f"reference is {first!r}, which is not among the runs",
            name="reference",
            value=first,
            allowed=list(runs),
            remedy=f"take one of {', '.join(runs)}",
        )
    return {first: runs[first], **runs}


def by_kind(patterns: Sequence[str]) -> dict[int, list[str]]:
    """Canonical patterns by their number of atoms."""
    groups: dict[int, list[str]] = {}
    for pattern in dict.fromkeys(map(canonical, patterns)):
        groups.setdefault(len(parse_selection(pattern).terms), []).append(pattern)
    return dict(sorted(groups.items()))


def common_patterns(run: RunReader) -> dict[int, list[str]]:
    """Bonds and angles of a run that are measured by default, as far as there are any."""
    patterns = {}
    for n_atoms in (2, 3):
        try:
            patterns[n_atoms] = list(choose(run.atoms, n_atoms))
        except AnalysisError:  # a run without bonds, or without angles
            continue
    if not patterns:
        raise AnalysisError(
            f"no bonds in {run.atoms.get_chemical_formula()}", remedy="name pairs of atoms, such as 0-1"
        )
    return patterns


# ------------------------------------------------------------------------------------------ measuring


def _measure(name: str, run: RunReader, groups: dict[int, list[str]]) -> dict[int, DistributionResult]:
    """Results by number of atoms, in one pass over the trajectory."""
    analyses = {
        str(n_atoms): parse_options({"patterns": patterns}, KINDS[n_atoms], source="patterns")
        for n_atoms, patterns in groups.items()
    }
    results, problems = measure(run, analyses)
    if problems:
        raise cast("AnalysisError", next(iter(problems.values()))).at(name)  # what measure catches
    distributions = cast("list[DistributionResult]", results)  # of analyses of distributions
    return dict(zip(groups, distributions, strict=True))


def _described(name: str, run: RunReader, results: Mapping[int, DistributionResult]) -> ComparedRun:
    n_frames = next(iter(results.values())).patterns[0].n_frames
    card = run.read_model_card() or {}
    model = card.get("name") or calculator_name(run.read_options().get("calculator"))
    return ComparedRun(
        name=name,
        n_frames=n_frames,
        duration_ps=max(n_frames - 1, 0) * run.frame_interval_fs / 1000,
        model=model,
        exchange=next(iter(results.values())).exchange,
    )


def _compared(pattern: str, results: Mapping[str, DistributionResult]) -> PatternComparison:
    kind = next(iter(results.values()))
    curves = [
        ComparedCurve(
            name=name,
            histogram=one[pattern].histogram,
            average=one[pattern].average,
            small_errors=one.has_small_errors,
        )
        for name, one in results.items()
    ]
    seen_by = (one[pattern].training for one in results.values())
    width = kind[pattern].histogram.width
    training = next((seen for seen in seen_by if seen and _ratio(seen.histogram.width, width)), None)
    seen = training and ComparedCurve(
        name=f"{TRAINING}, {training.temperature}", histogram=training.histogram
    )
    return PatternComparison(
        key=f"{kind.analysis} {pattern}",
        pattern=pattern,
        quantity=kind.quantity,
        unit=kind.unit,
        period=kind.period,
        curves=curves,
        training=seen,
        distances=_distances(pattern, results, training.histogram if training else None),
    )


def _distances(
    pattern: str, results: Mapping[str, DistributionResult], training: Histogram | None
) -> list[Distance]:
    """Of each run from the reference, then of each from the training data."""
    reference = next(iter(results))
    pairs = [(name, reference) for name in results if name != reference]
    distances = [_distance(pattern, first, second, results) for first, second in pairs]
    if training is not None:
        distances += [_from_training(pattern, name, results[name], training) for name in results]
    return distances


def _distance(pattern: str, first: str, second: str, results: Mapping[str, DistributionResult]) -> Distance:
    both = [results[name] for name in (first, second)]
    histograms = [one[pattern].histogram for one in both]
    low, high = common_range(histograms)
    blocks = [_blocks(one, pattern, low, high) for one in both]
    known = all(one[pattern].n_blocks for one in both)
    small = [name for name in (first, second) if results[name].has_small_errors]
    return _measured(first, second, blocks, both[0], histograms[0].width, known, small)


def _from_training(pattern: str, name: str, result: DistributionResult, training: Histogram) -> Distance:
    """On the training data's bins, each of which is so many of the run's; its values are independent."""
    ratio = _ratio(training.width, result[pattern].histogram.width)
    histogram = result[pattern].histogram
    low = min(histogram.start // ratio, training.start)
    high = max(-(-(histogram.start + len(histogram.counts)) // ratio), training.start + len(training.counts))
    counts = np.zeros((1, high - low), dtype=int)
    counts[0, training.start - low :][: len(training.counts)] = training.counts
    fine = _blocks(result, pattern, low * ratio, high * ratio)
    coarse = fine.counts.reshape(len(fine.counts), -1, ratio).sum(axis=2)
    blocks = [fine._replace(counts=coarse), Blocks(counts, is_sample=True)]
    small = [name] if result.has_small_errors else []
    return _measured(name, TRAINING, blocks, result, training.width, bool(result[pattern].n_blocks), small)


def _measured(
    first: str,
    second: str,
    blocks: list[Blocks],
    kind: DistributionResult,
    width: float,
    known: bool,
    small_errors: list[str],
) -> Distance:
    measured = measured_distance(blocks[0], blocks[1], width, kind.period)
    return Distance(  # type: ignore[call-arg]  # its agreement is judged there
        first=first,
        second=second,
        distance=measured.distance,
        low=measured.low if known else None,
        high=measured.high if known else None,
        noise=measured.noise if known else None,
        kolmogorov=kolmogorov_distance(*(block.cumulative for block in blocks)),
        small_errors=small_errors,
    )


def _blocks(result: DistributionResult, pattern: str, low: int, high: int) -> Blocks:
    """Counts in blocks longer than the correlation times; one block where the run is too short."""
    parts = result.counts(pattern).parts(low, high - low)
    n_blocks = max(1, min(result[pattern].n_blocks, len(parts)))
    wider = result.exchange.widening(n_blocks) if result.exchange else 1.0
    return Blocks(np.array([block.sum(axis=0) for block in np.array_split(parts, n_blocks)]), wider=wider)


def _ratio(coarse: float, fine: float) -> int:
    """How many bins make one of the training data's; 0 where they do not fit."""
    ratio = round(coarse / fine)
    return ratio if abs(ratio * fine - coarse) < 1e-9 else 0

"""Judges a transfer test: from the run directories to the outcome for every molecule."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
from ase import Atoms
from pydantic import Field

from asecalc_ml import plugins
from asecalc_ml._lazy import renamed
from asecalc_ml.analysis.base import Analysis, Result
from asecalc_ml.analysis.checks.connectivity import Connectivity, ConnectivityResult
from asecalc_ml.analysis.checks.energy_drift import EnergyDrift, EnergyDriftResult
from asecalc_ml.analysis.comparing.compare import KINDS, by_kind, common_patterns
from asecalc_ml.analysis.comparing.wasserstein import common_range, histogram_distance
from asecalc_ml.analysis.distributions.distribution import DistributionResult
from asecalc_ml.analysis.pipeline import measure
from asecalc_ml.analysis.transfer.distance import judged
from asecalc_ml.analysis.transfer.records import (
    MoleculeResult,
    TransferDistribution,
    TransferRun,
    worst_drift,
)
from asecalc_ml.analysis.transfer.result import TransferResult
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AnalysisError, RunError
from asecalc_ml.runs import PROTOCOL, RunReader
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.structure.topology.chains import has_chain

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import AnyRun


class TransferAnalysis(Analysis):
    """Judge the runs of a transfer test.

    A molecule passes if no bond changed in at least four of five runs of the model, no run of these drifts,
    and no distribution lies farther from the reference's than chance explains,
    see :mod:`asecalc_ml.analysis.transfer.distance`.
    """

    result: ClassVar = TransferResult
    reads: ClassVar = "TRANSFER"

    limit_meV_atom_ps: float = Field(
        0.1, gt=0, le=1e6, description="largest energy drift that passes, meV per atom per ps"
    )
    duration_ps: float = Field(10.0, gt=0, le=100_000, description="how long a run has to keep its bonds")

    def run(self, run: AnyRun) -> TransferResult:
        """Read all runs; AnalysisError where there are none."""
        about = run.read_transfer()
        if about is None or not isinstance(run, RunReader):
            raise AnalysisError("the run is no transfer test", remedy="run protocol transfer")
        patterns = _patterns(run)
        result = TransferResult(
            model=about["model"]["name"],
            reference=about["reference"]["name"],
            molecules=[molecule_of(run, entry, patterns, self) for entry in about["molecules"]],
        )
        _warn_of_patterns_nowhere(patterns or (), result)
        return result


def _patterns(run: RunReader) -> list[str] | None:
    """Those of protocol.yaml, which may have changed since the runs, checked as they were before them."""
    options = run.read_options()
    protocol = plugins.get("protocols", options["protocol"])
    return parse_options(options, protocol, source=str(run.directory / PROTOCOL)).distributions


def _warn_of_patterns_nowhere(patterns: Sequence[str], result: TransferResult) -> None:
    """Tell what was asked for, after the runs, and is in no molecule."""
    if not all(any(run.state == "complete" for run in one.reference_runs) for one in result.molecules):
        return
    measured = {one.pattern for one in result.distributions}
    for pattern in patterns:
        if pattern not in measured:
            names = ", ".join(one.name for one in result.molecules)
            warnings.warn(f"distributions: nothing in {names} matches {pattern!r}", stacklevel=2)


# ----------------------------------------------------------------------------------------------- one molecule


class PartRun(RunReader):
    """A run of the test, whose bonds are those of its molecule and not of the moment at which it starts.

    Parameters
    ----------
    directory : Path
    atoms : Atoms
        The molecule.
    """

    def __init__(self, directory: Path, atoms: Atoms):
        super().__init__(directory)
        self._molecule = atoms

    def _start(self) -> Atoms:
        return self._molecule


class MeasuredRun(NamedTuple):
    """A run, and the distributions of one that is complete, by pattern."""

    run: TransferRun
    kinds: Mapping[str, DistributionResult]

    def histogram(self, pattern: str) -> Histogram:
        """That of a pattern."""
        return self.kinds[pattern][pattern].histogram


def molecule_of(
    run: RunReader, entry: Mapping[str, Any], patterns: Sequence[str] | None, options: TransferAnalysis
) -> MoleculeResult:
    """What the runs of a molecule tell.

    Parameters
    ----------
    run : RunReader
        Of the whole test.
    entry : mapping
        What transfer.json holds about the molecule.
    patterns : sequence of str or None
        What is judged where the molecule has it; None for its bonds and angles without hydrogen.
    options : TransferAnalysis
    """
    first = next((part for name in entry["reference"] if (part := _opened(run.directory / name))), None)
    atoms = first.atoms if first else None
    groups = _groups(first, patterns) if first else {}
    runs = {
        role: [_measured(run.directory, name, atoms, groups, options) for name in entry[role]]
        for role in ("reference", "model")
    }
    reference = {
        k: measured for k, measured in enumerate(runs["reference"]) if measured.run.state == "complete"
    }
    judged_here = [pattern for of_kind in groups.values() for pattern in of_kind] if reference else []
    return MoleculeResult(
        name=entry["name"],
        formula=entry["formula"],
        is_trained=entry["is_trained"],
        duration_ps=options.duration_ps,
        limit_meV_atom_ps=options.limit_meV_atom_ps,
        reference_runs=[
            _beside(k, measured, reference, judged_here) for k, measured in enumerate(runs["reference"])
        ],
        model_runs=[_beside(k, measured, reference, judged_here) for k, measured in enumerate(runs["model"])],
        distributions=[
            _distribution(entry["name"], pattern, list(reference.values()), runs["model"])
            for pattern in judged_here
        ],
    )


def _opened(directory: Path) -> RunReader | None:
    """A run that has begun."""
    try:
        return RunReader(directory)
    except RunError:
        return None


def _groups(run: RunReader, patterns: Sequence[str] | None) -> dict[int, list[str]]:
    """Patterns of the test that a molecule has, by their number of atoms."""
    if patterns is None:
        try:
            return common_patterns(run)
        except AnalysisError:  # nothing is bonded
            return {}
    groups = {n: [p for p in of_kind if has_chain(run.atoms, p)] for n, of_kind in by_kind(patterns).items()}
    return {n_atoms: of_kind for n_atoms, of_kind in groups.items() if of_kind}


# ------------------------------------------------------------------------------------------------ one run


def _measured(
    whole: Path, name: str, atoms: Atoms | None, groups: Mapping[int, list[str]], options: TransferAnalysis
) -> MeasuredRun:
    begun = _opened(whole / name)
    if begun is None or atoms is None:
        return MeasuredRun(TransferRun(name=name, state="not started"), {})
    run = PartRun(begun.directory, atoms)
    state, reason = _state(run)
    results = _results(run, groups if state == "complete" else {}, options)
    connectivity = cast("ConnectivityResult | None", results.get("connectivity"))
    drift = cast("EnergyDriftResult | None", results.get("energy-drift") if state == "complete" else None)
    times = run.read_thermo()["time_fs"]
    measured = TransferRun(
        name=name,
        state=state,
        reason=reason,
        duration_ps=float(times[-1]) / 1000 if len(times) else 0.0,
        changes=[str(change) for change in connectivity.changes] if connectivity else [],
        drift_meV_atom_ps=drift and drift.slope_meV_atom_ps,
        drift_status=drift and drift.status,
    )
    kinds = (one for one in results.values() if isinstance(one, DistributionResult))
    return MeasuredRun(measured, {one.pattern: kind for kind in kinds for one in kind.patterns})


def _state(run: RunReader) -> tuple[str, str]:
    """How far a run came, and why no further."""
    if run.finished:
        return "complete", ""
    reason = run.ended_early
    return ("unfinished", "") if reason is None else ("ended early", reason)


def _results(run: RunReader, groups: Mapping[int, list[str]], options: TransferAnalysis) -> dict[str, Result]:
    """Results by name of the analysis, as far as there is something to measure."""
    drift = EnergyDrift(limit_meV_atom_ps=options.limit_meV_atom_ps)
    of_kinds = {str(n_atoms): KINDS[n_atoms](patterns=patterns) for n_atoms, patterns in groups.items()}
    results, problems = measure(run, {"connectivity": Connectivity(), "energy-drift": drift, **of_kinds})
    if lost := [problem for name, problem in problems.items() if name in of_kinds]:
        problem = cast("AnalysisError", lost[0])  # what measure catches
        raise problem.at(f"{run.directory} is finished, but its distributions cannot be measured")
    return {result.analysis: result for result in results}


# ------------------------------------------------------------------------------------------ distributions


def _beside(
    k: int, measured: MeasuredRun, reference: Mapping[int, MeasuredRun], patterns: list[str]
) -> TransferRun:
    """A run with its distances from the reference's runs of other starts."""
    others = [other for number, other in reference.items() if number != k]
    if not measured.kinds or not others:
        return measured.run
    distances = {
        pattern: histogram_distance(
            [measured.histogram(pattern)], [other.histogram(pattern) for other in others]
        )
        for pattern in patterns
    }
    return measured.run.model_copy(update={"distances": distances})


def _distribution(
    molecule: str, pattern: str, reference: list[MeasuredRun], model: list[MeasuredRun]
) -> TransferDistribution:
    kind = reference[0].kinds[pattern]
    of_reference = [measured.histogram(pattern) for measured in reference]
    of_model = [measured.histogram(pattern) for measured in model if measured.run.is_whole]
    distance, bound = judged(of_reference, of_model) if of_model else (None, None)
    start, band = _band(of_reference)
    return TransferDistribution(
        key=f"{molecule} {pattern}",
        pattern=pattern,
        quantity=kind.quantity,
        unit=kind.unit,
        period=kind.period,
        reference=_together(of_reference),
        model=_together(of_model) if of_model else None,
        band_start=start,
        band=band,
        distance=distance,
        bound=bound,
        n_reference=len(of_reference),
        n_model=len(of_model),
        reference_drifts=worst_drift(measured.run for measured in reference) == "failed",
    )


def _together(histograms: Sequence[Histogram]) -> Histogram:
    return sum(histograms[1:], start=histograms[0])


def _band(histograms: Sequence[Histogram]) -> tuple[int, list[tuple[float, float]]]:
    """Lowest and highest density of any run in each bin, and the number of the first bin."""
    low, high = common_range(histograms)
    densities = np.zeros((len(histograms), high - low))
    for row, histogram in zip(densities, histograms, strict=True):
        row[histogram.start - low :][: len(histogram.counts)] = histogram.density
    return low, list(zip(densities.min(axis=0).tolist(), densities.max(axis=0).tolist(), strict=True))


#: Deprecated alias: name of versions up to 0.1.0, which is also that of the protocol.
Transfer = TransferAnalysis


__getattr__ = renamed(__name__, {"Measured": "MeasuredRun"})

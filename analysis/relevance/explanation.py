"""From structures to a result: batches of structures through each method."""

from __future__ import annotations

from dataclasses import dataclass

from ase import Atoms

from asecalc_ml.analysis.relevance.frames import describe, split
from asecalc_ml.analysis.relevance.methods.registry import METHODS
from asecalc_ml.analysis.relevance.offers import chosen
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.output.comparison import correlations
from asecalc_ml.analysis.relevance.output.results import (
    FrameRelevance,
    MethodRelevance,
    RelevanceResult,
    Structure,
)
from asecalc_ml.analysis.relevance.source import Source
from asecalc_ml.analysis.relevance.subject import ExplainedBatch
from asecalc_ml.analysis.relevance.targets import Target, parse_target
from asecalc_ml.errors import AnalysisError
from asecalc_ml.terminal.progress import progress


@dataclass(frozen=True)
class Explanation:
    """A model and options, ready for structures.

    Parameters
    ----------
    source : Source
    options : RelevanceOptions
    """

    source: Source
    options: RelevanceOptions

    def run(self, frames: list[Atoms], quiet: bool) -> RelevanceResult:
        """Explain all structures, and compare methods with occlusion."""
        quantity = self.source.model.quantities[0]
        target = parse_target(self.options.target or quantity.name, quantity)
        _check_atoms(target, frames)
        methods = chosen(self.options.method, self.source.subject(frames[:1]), target)
        structures, maps = self._all(frames, target, methods, quiet)
        relevances = [self._method(name, maps[name], target) for name in methods]
        return RelevanceResult(
            model=self.source.name,
            model_hash=self.source.hash,
            architecture=self.source.architecture,
            target=str(target),
            target_unit=target.unit,
            structures=structures,
            methods=relevances,
            correlations=correlations(self, frames, target, relevances),
        )

    def maps(
        self, subject: ExplainedBatch, target: Target, method: str, structures: list
    ) -> list[FrameRelevance]:
        """One method's maps of the structures of a batch."""
        output = METHODS[method].explain(subject, target, self.options)
        return split(output, subject, structures, self.options.top_walks)

    def _all(
        self, frames: list[Atoms], target: Target, methods: list[str], quiet: bool
    ) -> tuple[list[Structure], dict[str, list[FrameRelevance]]]:
        structures, maps = [], {name: [] for name in methods}
        with progress(
            "relevance", len(methods) * len(frames), quiet or len(frames) == 1, unit="maps"
        ) as advance:
            for batch, subject in self.source.batches(frames):
                bound = target.bind(subject)
                described = describe(batch, bound.value(subject.run()), subject, self.options.pairs)
                structures += described
                for name in methods:
                    maps[name] += self.maps(subject, bound, name, described)
                    advance(len(batch))
        return structures, maps

    def _method(self, name: str, maps: list[FrameRelevance], target: Target) -> MethodRelevance:
        method = METHODS[name]
        unit = method.unit_of(target.unit)
        return MethodRelevance(method=name, title=method.title, unit=unit, frames=maps)


def _check_atoms(target: Target, frames: list[Atoms]) -> None:
    smallest = min(map(len, frames))
    if max(target.atoms, default=0) >= smallest:
        raise AnalysisError(
            f"target is {str(target)!r}, and a structure has {smallest} atoms;",
            name="target",
            value=str(target),
            allowed=f"0 to {smallest - 1}",
            remedy=f"name atoms numbered 0 to {smallest - 1}",
        )

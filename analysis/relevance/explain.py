"""From a model and structures to a result: batches of structures through each method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.analysis.relevance.methods.registry import METHODS
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.output.results import MethodRelevance, RelevanceResult
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AnalysisError

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.relevance.output.results import FrameRelevance, Structure
    from asecalc_ml.analysis.relevance.subject import Subject
    from asecalc_ml.analysis.relevance.targets import Target
    from asecalc_ml.model.model import Model


def explain(
    model: str | Path | Model,
    structures: Atoms | Iterable[Atoms],
    options: RelevanceOptions | None = None,
    quiet: bool = False,
    **changes,
) -> RelevanceResult:
    """Say which atoms and pairs a model's prediction rests on.

    Parameters
    ----------
    model : str, Path or Model
        Registered name, ``name@hash``, a model file, or a model in memory, which is copied. It runs in
        float64. Analytic terms that a card adds are no part of what is explained.
    structures : Atoms or iterable of Atoms
        One structure, a trajectory or a data set.
    options : RelevanceOptions, optional
    quiet : bool
        Show no progress, which is shown where there are several structures.
    **changes
        Options by name, such as ``method="saliency"`` and ``target="force:0-1"``.

    Returns
    -------
    RelevanceResult, frozen. Explaining again gives the same.

    Raises
    ------
    ConfigError
        If an option is wrong.
    ModelError
        If the model is unknown or damaged.
    StructureError
        If a structure cannot be evaluated, or is not what the model was trained on.
    AnalysisError
        If there is no structure, the architecture cannot offer a method, or a structure has no such target.

    Examples
    --------
    >>> from asecalc_ml.structure.loading import load_structure
    >>> found = explain("torchmdnet-ethanol", load_structure("ethanol"), method="saliency")
    >>> found.atoms("saliency").shape
    (1, 9)
    """
    from asecalc_ml.analysis.relevance.source import Source

    base = {} if options is None else options.model_dump()
    source = Source.of(model)
    explanation = Explanation(source, parse_options({**base, **changes}, RelevanceOptions))
    return explanation.run(source.checked(structures), quiet)


@dataclass(frozen=True)
class Explanation:
    """A model and options, ready for structures.

    Parameters
    ----------
    source : asecalc_ml.analysis.relevance.source.Source
    options : RelevanceOptions
    """

    source: object
    options: RelevanceOptions

    def run(self, frames: list[Atoms], quiet: bool) -> RelevanceResult:
        """Explain all structures, and compare methods with occlusion."""
        from asecalc_ml.analysis.relevance.offers import chosen
        from asecalc_ml.analysis.relevance.output.comparison import correlations
        from asecalc_ml.analysis.relevance.targets import parse_target

        target = parse_target(self.options.target)
        _check_atoms(target, frames)
        methods = chosen(self.options.method, self.source.subject(frames[:1]), target)
        structures, maps = self._all(frames, target, methods, quiet)
        found = [self._method(name, maps[name], target) for name in methods]
        return RelevanceResult(
            model=self.source.name,
            model_hash=self.source.hash,
            architecture=self.source.architecture,
            target=self.options.target,
            target_unit=target.unit,
            structures=structures,
            methods=found,
            correlations=correlations(self, frames, target, found),
        )

    def maps(self, subject: Subject, target: Target, method: str, structures: list) -> list[FrameRelevance]:
        """One method's maps of the structures of a batch."""
        from asecalc_ml.analysis.relevance.frames import split

        found = METHODS[method].explain(subject, target, self.options)
        return split(found, subject, structures, self.options.top_walks)

    def _all(
        self, frames: list[Atoms], target: Target, methods: list[str], quiet: bool
    ) -> tuple[list[Structure], dict[str, list[FrameRelevance]]]:
        from asecalc_ml.analysis.relevance.frames import describe
        from asecalc_ml.analysis.relevance.source import batches
        from asecalc_ml.terminal.progress import progress

        structures, maps = [], {name: [] for name in methods}
        with progress(
            "relevance", len(methods) * len(frames), quiet or len(frames) == 1, unit="maps"
        ) as advance:
            for batch in batches(frames):
                subject = self.source.subject(batch)
                bound = target.bind(subject)
                described = describe(batch, bound.value(subject.run()), subject, self.options.pairs)
                structures += described
                for name in methods:
                    maps[name] += self.maps(subject, bound, name, described)
                    advance(len(batch))
        return structures, maps

    def _method(self, name: str, maps: list[FrameRelevance], target: Target) -> MethodRelevance:
        method = METHODS[name]
        unit = method.unit.format(unit=target.unit)
        return MethodRelevance(method=name, title=method.title, unit=unit, frames=maps)


def _check_atoms(target: Target, frames: list[Atoms]) -> None:
    smallest = min(map(len, frames))
    if max(target.atoms, default=0) >= smallest:
        raise AnalysisError(
            f"target {target}: a structure has {smallest} atoms, numbered 0 to {smallest - 1}; "
            "name one of these"
        )

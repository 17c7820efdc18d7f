"""Explains a model's prediction. Light to import: what does the work lies in ``explanation.py``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.config.options import parse_options

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.relevance.output.results import RelevanceResult
    from asecalc_ml.model.model import Model


def explain(
    model: str | Path | Model,
    structures: Atoms | Iterable[Atoms],
    options: RelevanceOptions | None = None,
    quiet: bool = False,
    **changes: Any,
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
        If the model is unknown or damaged, or does not predict the target.
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
    from asecalc_ml.analysis.relevance.explanation import Explanation
    from asecalc_ml.analysis.relevance.source import Source

    base = {} if options is None else options.model_dump()
    chosen = parse_options({**base, **changes}, RelevanceOptions)
    source = Source.of(model).of_quantity(chosen.quantity)
    explanation = Explanation(source, chosen)
    return explanation.run(source.checked(structures), quiet)

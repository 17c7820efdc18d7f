"""How methods agree with occlusion: rank correlation of the sizes of relevance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

from asecalc_ml.analysis.relevance.methods import occlusion
from asecalc_ml.analysis.relevance.output.results import MethodRelevance, RankCorrelation

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.relevance.explanation import Explanation
    from asecalc_ml.analysis.relevance.targets import Target

REFERENCE = "occlusion"
FEWEST_ATOMS = 3  # of which ranks say something


def correlations(
    explanation: Explanation, frames: Sequence[Atoms], target: Target, relevances: Sequence[MethodRelevance]
) -> list[RankCorrelation]:
    """Spearman's ρ between |R| of each method and of occlusion, over the atoms of evenly spread frames."""
    others = [method for method in relevances if method.method != REFERENCE]
    n_compared = min(explanation.options.compared_frames, len(frames))
    if not others or n_compared == 0:
        return []
    numbers = np.unique(np.linspace(0, len(frames) - 1, n_compared).round().astype(int)).tolist()
    known = next((method for method in relevances if method.method == REFERENCE), None)
    if known is not None:
        reference = [known.frames[k].atoms for k in numbers]
    else:
        reference = [_occluded(explanation, frames[k], target) for k in numbers]
    return [_correlation(method, numbers, reference) for method in others]


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation of sizes; None where there are too few or all ranks are tied."""
    if len(first) < FEWEST_ATOMS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a constant input, which is answered with None
        rho = spearmanr(np.abs(first), np.abs(second)).statistic
    return None if np.isnan(rho) else float(rho)


def _occluded(explanation: Explanation, atoms: Atoms, target: Target) -> list[float]:
    subject = explanation.source.subject([atoms])
    return occlusion.explain(
        subject, target.bind(subject), explanation.options.model_copy(update={"pairs": "none"})
    ).atoms.tolist()


def _correlation(
    method: MethodRelevance, numbers: Sequence[int], reference: Sequence[Sequence[float]]
) -> RankCorrelation:
    pairs = zip([method.frames[k].atoms for k in numbers], reference, strict=True)
    rhos = [rho for rho in (spearman(*pair) for pair in pairs) if rho is not None]
    return RankCorrelation(
        method=method.method,
        mean=float(np.mean(rhos)) if rhos else None,
        lowest=min(rhos) if rhos else None,
        n_frames=len(rhos),
    )

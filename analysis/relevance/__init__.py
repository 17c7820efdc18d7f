"""Per-atom relevance: which atoms and pairs a model's prediction rests on.

``explain`` works for every architecture through the parts that it names; docs/relevance.md has the equations.
"""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily
from asecalc_ml.analysis.relevance.explain import explain
from asecalc_ml.analysis.relevance.methods.registry import METHODS
from asecalc_ml.analysis.relevance.options import RelevanceOptions

if TYPE_CHECKING:
    from asecalc_ml.analysis.relevance.output.results import RelevanceResult

__all__ = ["METHODS", "RelevanceOptions", "RelevanceResult", "explain"]

__getattr__ = lazily(__name__, {"RelevanceResult": "asecalc_ml.analysis.relevance.output.results"})

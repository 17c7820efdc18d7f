"""Per-atom relevance: which atoms and pairs a model's prediction rests on.

``explain`` works for every architecture through the parts that it names; docs/relevance.md has the equations.
"""

from asecalc_ml.analysis.relevance.explain import explain
from asecalc_ml.analysis.relevance.methods.registry import METHODS
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.output.results import RelevanceResult

__all__ = ["METHODS", "RelevanceOptions", "RelevanceResult", "explain"]

r"""Gradient × input on embeddings: how the target would change if an atom's element were fading.

.. math:: R_i = h_i \cdot \frac{\partial T}{\partial h_i}

h_i are the rows that the potential's tables of embeddings give atom i; where there are several, all count.
Shrikumar, Greenside, Shcherbina and Kundaje, arXiv:1605.01713.
"""

from __future__ import annotations

from asecalc_ml.analysis.relevance.methods.hidden import run_with_embeddings
from asecalc_ml.analysis.relevance.methods.method_output import Found
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import Subject, gradients
from asecalc_ml.analysis.relevance.targets import Target


def explain(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    """Products of embeddings and derivatives, summed over features."""
    run, embedded = run_with_embeddings(subject, lambda h: h)
    slopes = gradients(target.value(run), embedded)
    products = [(h * slope).flatten(1).sum(dim=1) for h, slope in zip(embedded, slopes, strict=True)]
    return Found(sum(products)[:-1].detach())

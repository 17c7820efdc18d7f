r"""Gradient × input on edge vectors: the share of a pair that stretching it would reveal.

.. math:: R_{ij} = r_{ij} \cdot \frac{\partial T}{\partial r_{ij}}, \qquad
          R_i = \tfrac12 \sum_j (R_{ij} + R_{ji})

For the energy the sum over all edges is the trace of the virial, dE/dλ of a uniform expansion x → λx.
"""

from __future__ import annotations

from asecalc_ml.analysis.relevance.methods.method_output import Found
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import Subject
from asecalc_ml.analysis.relevance.targets import Target


def explain(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    """Products of edge vectors and derivatives; atoms have half of each of their edges."""
    run = subject.run()
    products = (run.vectors * run.gradient(target.value(run))).sum(dim=1).detach()
    edges = subject.own_edges(products)
    return Found(subject.halves(edges), edges)

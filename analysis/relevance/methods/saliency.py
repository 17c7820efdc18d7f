r"""Saliency: how fast the target changes with an atom's position.

.. math:: R_i = \Big\| \frac{\partial T}{\partial x_i} \Big\|, \qquad
          R_{ij} = \Big\| \frac{\partial T}{\partial r_{ij}}
          - \frac{\partial T}{\partial r_{ji}} \Big\|

For the energy R_i is the size of the force on the atom. It is never negative, and in the target's unit per Å.
Simonyan, Vedaldi and Zisserman, arXiv:1312.6034.
"""

from __future__ import annotations

import torch

from asecalc_ml.analysis.relevance.methods.method_output import Found
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import Subject
from asecalc_ml.analysis.relevance.targets import Target
from asecalc_ml.model.derivative import forces


def explain(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    """Norms of derivatives with respect to positions, and to the vector of each pair."""
    run = subject.run()
    gradient = run.gradient(target.value(run))
    slopes = forces(gradient, subject.inputs.edge_index, subject.n_atoms + 1)[:-1]
    both_ways = 0.5 * torch.linalg.vector_norm(gradient - gradient[subject.reverse], dim=1)
    return Found(torch.linalg.vector_norm(slopes, dim=1), subject.own_edges(both_ways))

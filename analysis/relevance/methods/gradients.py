r"""Methods that differentiate the target: saliency, gradient × input, integrated gradients.

**Saliency** is how fast the target changes with an atom's position:

.. math:: R_i = \Big\| \frac{\partial T}{\partial x_i} \Big\|, \qquad
          R_{ij} = \Big\| \frac{\partial T}{\partial r_{ij}}
          - \frac{\partial T}{\partial r_{ji}} \Big\|

For the energy R_i is the size of the force on the atom. It is never negative, and in the target's unit per Å.
Simonyan, Vedaldi and Zisserman, arXiv:1312.6034.

**Gradient × edge vector** is the share of a pair that stretching it would reveal:

.. math:: R_{ij} = r_{ij} \cdot \frac{\partial T}{\partial r_{ij}}, \qquad
          R_i = \tfrac12 \sum_j (R_{ij} + R_{ji})

For the energy the sum over all edges is the trace of the virial, dE/dλ of a uniform expansion x → λx.

**Gradient × embedding** is how the target would change if an atom's element were fading:

.. math:: R_i = h_i \cdot \frac{\partial T}{\partial h_i}

h_i are the rows that the potential's tables of embeddings give atom i; where there are several, all count.
Shrikumar, Greenside, Shcherbina and Kundaje, arXiv:1605.01713.

**Integrated gradients** take gradient × embedding along the way from no element to the element:

.. math:: R_i = h_i \cdot \int_0^1 \frac{\partial T}{\partial h_i}(\alpha h) \, d\alpha,
          \qquad \sum_i R_i + T(0) = T

T(0), the target with all embeddings zero, is absorbed. Networks that normalise layers change fast where
embeddings are small, so that α = t³ is integrated over t by Gauss's rule; what the quadrature misses is
reported too. Sundararajan, Taly and Yan, arXiv:1703.01365, equation (1).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from asecalc_ml.analysis.relevance.methods.hidden import run_with_embeddings
from asecalc_ml.analysis.relevance.methods.method_output import MethodOutput
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import ExplainedBatch, gradients
from asecalc_ml.analysis.relevance.targets import Target
from asecalc_ml.model.derivative import forces


def saliency(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Norms of derivatives with respect to positions, and to the vector of each pair."""
    run = subject.run()
    # ∂T/∂r_ij, shape (n_edges, 3), from which -∂T/∂x_i follows as forces do; the last atom is padding
    gradient = run.gradient(target.value(run))
    slopes = forces(gradient, subject.inputs.edge_index, subject.n_atoms + 1)[:-1]
    # both directions of a pair have the same norm, and are added later
    both_ways = 0.5 * torch.linalg.vector_norm(gradient - gradient[subject.reverse], dim=1)
    return MethodOutput(torch.linalg.vector_norm(slopes, dim=1), subject.own_edges(both_ways))


def gradient_edges(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Products of edge vectors and derivatives; atoms have half of each of their edges."""
    run = subject.run()
    products = (run.vectors * run.gradient(target.value(run))).sum(dim=1).detach()
    edges = subject.own_edges(products)
    return MethodOutput(subject.halves(edges), edges)


def gradient_embeddings(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Products of embeddings and derivatives, summed over features."""
    return MethodOutput(_embedding_products(subject, target, alpha=1.0))


def integrated_gradients(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Gauss-Legendre sum over ``options.integration_points`` passes."""
    # nodes and weights on [-1, 1], moved to t on [0, 1], with dα = 3 t² dt
    nodes, weights = np.polynomial.legendre.leggauss(options.integration_points)
    t = 0.5 * (nodes + 1)
    factors = 0.5 * weights * 3 * t**2
    terms = [
        factor * _embedding_products(subject, target, alpha)
        for factor, alpha in zip(factors, t**3, strict=True)
    ]
    atoms = torch.stack(terms).sum(dim=0)
    # T(1) - T(0) - Σ R_i is the error of the quadrature
    start, end = (_value(subject, target, alpha) for alpha in (0.0, 1.0))
    missed = end - start - subject.per_system(atoms)
    return MethodOutput(atoms, absorbed={"zero embeddings": start, "quadrature": missed})


def _embedding_products(subject: ExplainedBatch, target: Target, alpha: float) -> Tensor:
    """Embeddings h times the derivative at α h, summed over features and tables, shape (n_atoms,)."""
    run, embedded = run_with_embeddings(subject, lambda h: alpha * h)
    slopes = gradients(target.value(run), embedded)
    products = [
        (alpha_h * slope / alpha).flatten(1).sum(dim=1)
        for alpha_h, slope in zip(embedded, slopes, strict=True)
    ]
    return sum(products)[:-1].detach()


def _value(subject: ExplainedBatch, target: Target, alpha: float) -> Tensor:
    """The target with embeddings α h, shape (n_systems,)."""
    return target.value(run_with_embeddings(subject, lambda h: alpha * h)[0]).detach()

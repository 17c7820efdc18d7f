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

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from asecalc_ml.analysis.relevance.methods.hidden import run_with_embeddings
from asecalc_ml.analysis.relevance.methods.method_output import MethodOutput
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.source import BATCH_ATOMS
from asecalc_ml.analysis.relevance.subject import ExplainedBatch, gradients
from asecalc_ml.analysis.relevance.targets import Target
from asecalc_ml.graph.batching import batches_by_atoms
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
    _, (products,) = _with_scaled_embeddings(subject, target, [1.0])
    return MethodOutput(products)


def integrated_gradients(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Gauss-Legendre sum over ``options.integration_points`` copies of the structures."""
    # nodes and weights on [-1, 1], moved to t on [0, 1], with dα = 3 t² dt
    nodes, weights = np.polynomial.legendre.leggauss(options.integration_points)
    t = 0.5 * (nodes + 1)
    factors = 0.5 * weights * 3 * t**2
    values, products = _with_scaled_embeddings(subject, target, [0.0, *t**3, 1.0])
    atoms = (products.new_tensor(factors)[:, None] * products[1:-1]).sum(dim=0)
    # T(1) - T(0) - Σ R_i is the error of the quadrature
    start, end = values[0], values[-1]
    missed = end - start - subject.per_system(atoms)
    return MethodOutput(atoms, absorbed={"zero embeddings": start, "quadrature": missed})


def _with_scaled_embeddings(
    subject: ExplainedBatch, target: Target, scales: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The target T(α h), and embeddings h times its derivative at α h, for each scale α; many α at once.

    Returns
    -------
    values : Tensor, shape (n_scales, n_systems)
    products : Tensor, shape (n_scales, n_atoms)
        Summed over features and tables.
    """
    values, products = [], []
    for batch in batches_by_atoms(scales, BATCH_ATOMS, n_atoms=lambda _: subject.n_atoms):
        copies = ExplainedBatch.of(subject.model, [subject.graph] * len(batch))
        alpha = copies.graph.positions.new_tensor([*np.repeat(batch, subject.n_atoms), 1.0])  # the ghost's: 1
        tables: list[Tensor] = []

        def scaled(h: Tensor, alpha: Tensor = alpha, tables: list[Tensor] = tables) -> Tensor:
            tables.append(h)
            return alpha.reshape(-1, *[1] * (h.dim() - 1)) * h

        run, embedded = run_with_embeddings(copies, scaled)
        of_copies = target.on_copies(copies).value(run)
        # h · ∂T/∂(α h) of every atom, without the ghost
        slopes = gradients(of_copies, embedded)
        of_atoms = sum((h * slope).flatten(1).sum(dim=1) for h, slope in zip(tables, slopes, strict=True))
        values.append(of_copies.detach().reshape(len(batch), subject.n_systems))
        products.append(of_atoms[:-1].detach().reshape(len(batch), subject.n_atoms))
    return torch.cat(values), torch.cat(products)

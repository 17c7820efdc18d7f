"""The one derivative: of the energy with respect to edge vectors, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.segments import segment_sum
from asecalc_ml.model.model import Model, ModelOutput
from asecalc_ml.model.potential import PotentialInput


class EdgeDerivative(NamedTuple):
    """Energies and their edge derivative, float64.

    Parameters
    ----------
    atoms : Tensor, shape (n_atoms,), eV
    systems : Tensor, shape (n_systems,), eV
    gradient : Tensor, shape (n_edges, 3), eV/Å
        g_ij = ∂E/∂r_ij, with r_ij from centre i to neighbor j.
    charges : Tensor, shape (n_atoms,), e
        Empty where the architecture has none.
    penalty : Tensor, shape (n_systems,)
        What the architecture adds to a loss; empty where it adds nothing.
    """

    atoms: Tensor
    systems: Tensor
    gradient: Tensor
    charges: Tensor
    penalty: Tensor


def edge_derivative(model: Model, inputs: PotentialInput, create_graph: bool = False) -> EdgeDerivative:
    """Energies of a batch and ∂E/∂r_ij for every edge.

    Parameters
    ----------
    create_graph : bool
        Keep the graph of the derivative itself, as a loss on forces needs it.
    """
    with torch.enable_grad():
        vectors = inputs.edge_vectors.detach().requires_grad_(True)
        output = model(inputs._replace(edge_vectors=vectors))
        gradient = energy_gradient(output.systems.sum(), vectors, create_graph)
    derivative = with_derivative(output, gradient)
    return derivative if create_graph else EdgeDerivative(*(tensor.detach() for tensor in derivative))


def with_derivative(output: ModelOutput, gradient: Tensor) -> EdgeDerivative:
    """What a model has found, with its edge derivative beside it."""
    charges, penalty = output.potential.charges, output.potential.penalty
    extras = (_double_or_empty(values, gradient) for values in (charges, penalty))
    return EdgeDerivative(output.atoms, output.systems, gradient, *extras)


def _double_or_empty(values: Tensor | None, like: Tensor) -> Tensor:
    """In place of what an architecture does not have, no numbers: compiled code returns tensors alone."""
    return like.new_empty(0) if values is None else values.double()


def energy_gradient(energy: Tensor, vectors: Tensor, create_graph: bool = False) -> Tensor:
    """Derivative of an energy, of the vectors' shape; zero where no vector reaches it."""
    if not energy.requires_grad:  # no edges reach the energy: a model of constants
        return torch.zeros_like(vectors)
    (gradient,) = torch.autograd.grad(energy, vectors, create_graph=create_graph, materialize_grads=True)
    return gradient


def forces(gradient: Tensor, edge_index: Tensor, n_atoms: int) -> Tensor:
    """Forces F_i = Σ_j (g_ij − g_ji), shape (n_atoms, 3), eV/Å.

    r_ij = x_j − x_i: an edge pulls its centre along +g and its neighbor along −g, so that the net
    force is zero by construction.
    """
    on_centres = segment_sum(gradient, edge_index[0], n_atoms)
    return on_centres - segment_sum(gradient, edge_index[1], n_atoms)


def virials(
    gradient: Tensor, edge_vectors: Tensor, edge_index: Tensor, batch: Tensor, n_systems: int
) -> Tensor:
    """Strain derivative ∂E/∂ε = sym(Σ r_ij ⊗ g_ij) of each system, shape (n_systems, 3, 3), eV.

    A strain moves every edge by ε r_ij. Divided by the volume this is ASE's stress, sign included.
    """
    products = edge_vectors[:, :, None] * gradient[:, None, :]
    totals = segment_sum(products, batch[edge_index[0]], n_systems)
    return 0.5 * (totals + totals.transpose(1, 2))


def atomic_virials(gradient: Tensor, edge_vectors: Tensor, edge_index: Tensor, n_atoms: int) -> Tensor:
    """Share of each atom in the strain derivative, sym(½ Σ_j r_ij ⊗ F_ij), shape (n_atoms, 3, 3), eV.

    F_ij = g_ij − g_ji is the pair force, see :mod:`asecalc_ml.model.pair_forces`. Both atoms of a pair have
    half of its product. The sum over the atoms of a system is :func:`virials`.
    """
    products = edge_vectors[:, :, None] * gradient[:, None, :]
    # r_ij ⊗ F_ij = r_ij ⊗ g_ij + r_ji ⊗ g_ji: half of each edge's product for its centre and its neighbor
    halves = 0.5 * (
        segment_sum(products, edge_index[0], n_atoms) + segment_sum(products, edge_index[1], n_atoms)
    )
    return 0.5 * (halves + halves.transpose(1, 2))


def hessian(model: Model, graph: AtomGraph) -> Tensor:
    """Second derivatives of the summed energy with respect to positions, by differentiating the forces.

    Returns
    -------
    Tensor, shape (3 n_atoms, 3 n_atoms), float64, eV/Å²
        Symmetric.
    """
    with torch.enable_grad():
        positions = graph.positions.detach().requires_grad_(True)
        moved = replace(graph, positions=positions)
        inputs = with_ghost(moved, model.cutoff, triplet_cutoff=model.triplet_cutoff)
        gradient = energy_gradient(model(inputs).systems[:-1].sum(), positions, create_graph=True)
        rows = [energy_gradient(component, positions, create_graph=True) for component in gradient.flatten()]
    matrix = torch.stack([row.detach().flatten() for row in rows])
    return 0.5 * (matrix + matrix.T)

"""Pair forces: the force between each pair of atoms, from the derivative with respect to edge vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.triplets import find_reverse
from asecalc_ml.model.potential import PotentialInput


@dataclass(frozen=True)
class PairForces:
    r"""Forces between pairs of atoms, each pair in both directions, images included.

    .. math:: F_{ij} = g_{ij} - g_{ji}, \quad g_{ij} = \frac{\partial E}{\partial r_{ij}}, \quad
              r_{ij} = x_j - x_i + S_{ij} h

    F_ij acts on atom i because of j, so that :math:`F_{ij} = -F_{ji}` and :math:`F_i = \sum_j F_{ij}`: an
    attractive pair has F_ij along r_ij.

    Parameters
    ----------
    i, j : array, shape (n_pairs,), int
        Centre and neighbor, sorted by i, then j, then shift.
    shifts : array, shape (n_pairs, 3), int
        Cell vectors S added to the position of j, as ``S`` of :func:`ase.neighborlist.neighbor_list`.
    vectors : array, shape (n_pairs, 3), Å
        r_ij.
    gradients : array, shape (n_pairs, 3), eV/Å
        g_ij, the derivative of the total energy with respect to the edge from i to j alone.
    forces : array, shape (n_pairs, 3), eV/Å
        F_ij.

    Notes
    -----
    Source: Z. Fan, L. F. C. Pereira, H.-Q. Wang, J.-C. Zheng, D. Donadio, A. Harju, Phys. Rev. B 92, 094301
    (2015). Forces of atoms are unique; pair forces of many-body potentials depend on how the energy is
    written as a function of edges, and need not be parallel to r_ij.
    """

    i: np.ndarray
    j: np.ndarray
    shifts: np.ndarray
    vectors: np.ndarray
    gradients: np.ndarray
    forces: np.ndarray


def pair_forces(graph: AtomGraph, inputs: PotentialInput, gradient: Tensor) -> PairForces:
    """Pair forces of a structure, without the ghost.

    Parameters
    ----------
    graph : AtomGraph
    inputs : PotentialInput
        The same edges in the same order, those beyond the cutoff at the ghost, which may have more.
    gradient : Tensor, shape (at least n_edges, 3), eV/Å
        g_ij of the inputs' edges.
    """
    # F_ij = g_ij − g_ji: the edge from j to the same image of i is the reverse of that from i to j
    forces = gradient - gradient[find_reverse(inputs.edge_index, graph.n_atoms)]
    inside = (inputs.edge_index[0] < graph.n_atoms).nonzero()[:, 0]
    i, j = graph.edge_index[:, inside].cpu().numpy()
    return PairForces(
        i=i,
        j=j,
        shifts=graph.cell_shifts[inside].to(torch.int64).cpu().numpy(),
        vectors=inputs.edge_vectors[inside].cpu().numpy(),
        gradients=gradient[inside].cpu().numpy(),
        forces=forces[inside].cpu().numpy(),
    )


def summed(parts: Sequence[PairForces]) -> PairForces:
    """Pair forces of a sum of potentials, whose pairs may differ since their cutoffs do."""
    first, *others = parts
    if not others:
        return first
    # pairs of all parts, each once, in the canonical order
    labels = np.concatenate([np.column_stack([part.i, part.j, part.shifts]) for part in parts])
    pairs, place, number = np.unique(labels, axis=0, return_index=True, return_inverse=True)
    number = number.ravel()  # of each entry among the pairs; numpy 2.0 gives it another shape
    totals = {}
    for name in ("gradients", "forces"):
        totals[name] = np.zeros((len(pairs), 3))
        np.add.at(totals[name], number, np.concatenate([getattr(part, name) for part in parts]))
    vectors = np.concatenate([part.vectors for part in parts])[place]
    return PairForces(i=pairs[:, 0], j=pairs[:, 1], shifts=pairs[:, 2:], vectors=vectors, **totals)

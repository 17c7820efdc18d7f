"""Padding as a ghost system: one atom of its own that takes every edge nobody should see.

Shapes stay fixed while the number of pairs inside the cutoff changes, and no architecture ever
sees a mask. A redirected edge gets a constant vector inside the cutoff before any norm is taken,
so that no gradient is NaN; the ghost's output is dropped. The vector ends just inside the cutoff, where
cutoff functions have all but vanished: thousands of such edges make no feature of the ghost overflow, and
its rounding errors are no larger than those of the atoms.
"""

import torch
from torch import Tensor

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.triplets import with_triplets
from asecalc_ml.model.potential import PotentialInput

# A direction that is parallel to no axis, so that no component of it is a special case.
GHOST_DIRECTION = (0.36, 0.48, 0.80)

#: Length over the cutoff. A cosine cutoff is 2.5e-6 there.
GHOST_LENGTH = 0.999


def with_ghost(
    graph: AtomGraph, cutoff: float, capacity: int | None = None, triplet_cutoff: float | None = None
) -> PotentialInput:
    """Add the ghost system, and send it the edges beyond the cutoff and the padding.

    Parameters
    ----------
    graph : AtomGraph
    cutoff : float, Å
    capacity : int, optional
        Number of edges after padding; the graph's own number if not given.
    triplet_cutoff : float, Å, optional
        Add triplets of edges up to this length, and one more edge, the last one, for padding them.

    Returns
    -------
    PotentialInput
        With n_atoms + 1 atoms and n_systems + 1 systems, the ghost last; edge_vectors in float64.
    """
    if triplet_cutoff is not None:
        capacity = max(graph.n_edges, capacity or 0) + 1
    edge_index, edge_vectors = _redirect(graph, cutoff)
    edge_index, edge_vectors = _pad(edge_index, edge_vectors, graph.n_atoms, cutoff, capacity)
    inputs = PotentialInput(
        atomic_numbers=torch.cat([graph.atomic_numbers, graph.atomic_numbers[:1]]),
        edge_index=edge_index,
        edge_vectors=edge_vectors,
        batch=torch.cat([graph.batch, graph.batch.new_full((1,), graph.n_systems)]),
        charge=torch.cat([graph.charge, graph.charge.new_zeros(1)]),
        spin=torch.cat([graph.spin, graph.spin.new_zeros(1)]),
        atom_features=_with_zeros(graph.atom_features, graph.n_atoms + 1),
        pair_features=_of_seen_pairs(graph, edge_index),
    )
    return inputs if triplet_cutoff is None else with_triplets(inputs, triplet_cutoff)


def _with_zeros(features: Tensor | None, n_rows: int) -> Tensor | None:
    """Features with rows of zeros for what the ghost adds."""
    if features is None:
        return None
    return torch.cat([features, features.new_zeros(n_rows - len(features), features.shape[1])])


def _of_seen_pairs(graph: AtomGraph, edge_index: Tensor) -> Tensor | None:
    """Features of pairs, zero for edges of the ghost."""
    features = _with_zeros(graph.pair_features, edge_index.shape[1])
    return None if features is None else features * (edge_index[0] < graph.n_atoms)[:, None]


def _redirect(graph: AtomGraph, cutoff: float) -> tuple[Tensor, Tensor]:
    vectors = graph.edge_vectors
    inside = (vectors * vectors).sum(dim=1) < cutoff**2
    edge_index = torch.where(inside, graph.edge_index, graph.n_atoms)
    return edge_index, torch.where(inside[:, None], vectors, ghost_vector(vectors, cutoff))


def _pad(
    edge_index: Tensor, edge_vectors: Tensor, ghost: int, cutoff: float, capacity: int | None
) -> tuple[Tensor, Tensor]:
    n_missing = 0 if capacity is None else capacity - edge_index.shape[1]
    if n_missing <= 0:
        return edge_index, edge_vectors
    padding = ghost_vector(edge_vectors, cutoff).expand(n_missing, 3)
    edge_index = torch.cat([edge_index, edge_index.new_full((2, n_missing), ghost)], dim=1)
    return edge_index, torch.cat([edge_vectors, padding])


def ghost_vector(like: Tensor, cutoff: float) -> Tensor:
    """The vector of an edge that nobody sees, inside the cutoff, shape (3,)."""
    return GHOST_LENGTH * cutoff * like.new_tensor(GHOST_DIRECTION)

"""Self loops, which the equivariant transformer expects: each atom attends to itself at distance zero."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LoopedEdges(NamedTuple):
    """Edges and one self loop per atom.

    Parameters
    ----------
    index : Tensor, shape (2, n_edges_and_loops)
        Centres and neighbors.
    distances : Tensor, shape (n_edges_and_loops,), Å
        Zero for the loops.
    directions : Tensor, shape (n_edges_and_loops, 3)
        Unit vectors; zero for the loops.
    """

    index: Tensor
    distances: Tensor
    directions: Tensor


def with_self_loops(
    edge_index: Tensor, edge_vectors: Tensor, n_atoms: int, self_pairs: Tensor | None = None
) -> LoopedEdges:
    """Append the loops, or put them in place of the pairs of an atom with itself where the edges hold these.

    Loops are known by their place, so that an atom's own image is not one.

    Parameters
    ----------
    edge_index : Tensor, shape (2, n_edges), int64
    edge_vectors : Tensor, shape (n_edges, 3), Å
    n_atoms : int
    self_pairs : Tensor, shape (n_edges,), bool, or None
        See :class:`asecalc_ml.model.potential.PotentialInput`.
    """
    atoms = torch.arange(n_atoms, device=edge_index.device)
    distances = torch.linalg.vector_norm(edge_vectors, dim=1)
    directions = edge_vectors / distances[:, None]
    if self_pairs is not None:
        own = atoms.repeat_interleave(edge_index.shape[1] // n_atoms)
        return LoopedEdges(
            index=torch.where(self_pairs, own, edge_index),
            distances=distances.masked_fill(self_pairs, 0.0),
            directions=directions.masked_fill(self_pairs[:, None], 0.0),
        )
    return LoopedEdges(
        index=torch.cat([edge_index, atoms.expand(2, -1)], dim=1),
        distances=torch.cat([distances, distances.new_zeros(n_atoms)]),
        directions=torch.cat([directions, directions.new_zeros(n_atoms, 3)]),
    )

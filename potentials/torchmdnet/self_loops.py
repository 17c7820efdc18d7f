"""Self loops, which torchmd-net's layers expect: each atom attends to itself at distance zero."""

from typing import NamedTuple

import torch
from torch import Tensor


class LoopedEdges(NamedTuple):
    """Edges followed by one self loop per atom.

    Parameters
    ----------
    index : Tensor, shape (2, n_edges + n_atoms)
        Centres and neighbors, or (1, n_edges + n_atoms), centres alone.
    distances : Tensor, shape (n_edges + n_atoms,), Å
        Zero for the loops.
    directions : Tensor, shape (n_edges + n_atoms, 3)
        Unit vectors; zero for the loops.
    """

    index: Tensor
    distances: Tensor
    directions: Tensor


def with_self_loops(edge_index: Tensor, edge_vectors: Tensor, n_atoms: int) -> LoopedEdges:
    """Append the loops. They are known by their place, so that an atom's own image is not one."""
    atoms = torch.arange(n_atoms, device=edge_index.device)
    distances = torch.linalg.vector_norm(edge_vectors, dim=1)
    directions = edge_vectors / distances[:, None]
    return LoopedEdges(
        index=torch.cat([edge_index, atoms.expand(edge_index.shape[0], -1)], dim=1),
        distances=torch.cat([distances, distances.new_zeros(n_atoms)]),
        directions=torch.cat([directions, directions.new_zeros(n_atoms, 3)]),
    )

"""Self loops, which torchmd-net's layers expect: each atom attends to itself at distance zero."""

from typing import NamedTuple

import torch
from torch import Tensor

from asecalc_ml.model.potential import PotentialInput


class LoopedEdges(NamedTuple):
    """Edges and one self loop per atom.

    Parameters
    ----------
    index : Tensor, shape (2, n_edges_and_loops)
    distances : Tensor, shape (n_edges_and_loops,), Å
        Zero for the loops.
    directions : Tensor, shape (n_edges_and_loops, 3)
        Unit vectors; zero for the loops.
    """

    index: Tensor
    distances: Tensor
    directions: Tensor


def with_self_loops(inputs: PotentialInput) -> LoopedEdges:
    """Append the loops, or put them in place of the pairs of an atom with itself where the edges hold these.

    Loops are known by their place, so that an atom's own image is not one.
    """
    atoms = torch.arange(inputs.n_atoms, device=inputs.edge_index.device)
    distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
    directions = inputs.edge_vectors / distances[:, None]
    if inputs.self_pairs is not None:
        is_loop = inputs.self_pairs
        n_partners = inputs.edge_index.shape[1] // inputs.n_atoms
        return LoopedEdges(
            index=torch.where(is_loop, atoms.repeat_interleave(n_partners), inputs.edge_index),
            distances=distances.masked_fill(is_loop, 0.0),
            directions=directions.masked_fill(is_loop[:, None], 0.0),
        )
    return LoopedEdges(
        index=torch.cat([inputs.edge_index, atoms.expand(2, -1)], dim=1),
        distances=torch.cat([distances, distances.new_zeros(inputs.n_atoms)]),
        directions=torch.cat([directions, directions.new_zeros(inputs.n_atoms, 3)]),
    )

"""Triplets: pairs of edges of one atom, for architectures that see angles.

They are found from the edges alone, so that images of one atom are neighbors like any other: k = i is
excluded only where the edge would be the same. Their number depends on the positions, so that they are
found outside of any graph that is traced or recorded.
"""

import torch
from torch import Tensor

from asecalc_ml.model.potential import PotentialInput


def with_triplets(inputs: PotentialInput, cutoff: float) -> PotentialInput:
    """Add triplets and the reverse of each edge.

    Parameters
    ----------
    inputs : PotentialInput
        Its last atom is the ghost, whose edges form no triplets: there may be thousands. The others are in
        the canonical order.
    cutoff : float, Å
        Edges up to this length form triplets.
    """
    vectors, centres, ghost = inputs.edge_vectors.detach(), inputs.edge_index[0], inputs.n_atoms - 1
    near = ((vectors * vectors).sum(dim=1) < cutoff**2) & (centres < ghost)
    return inputs._replace(
        triplets=find_triplets(centres, near), reverse_edges=find_reverse(inputs.edge_index, ghost)
    )


def find_triplets(centres: Tensor, near: Tensor) -> Tensor:
    """Each pair of edges of one centre once, the lower number first, sorted.

    Parameters
    ----------
    centres : Tensor, shape (n_edges,), int64
        Ascending where ``near``.
    near : Tensor, shape (n_edges,), bool
        Which edges count.

    Returns
    -------
    Tensor, shape (2, n_triplets), int64
        Numbers of edges.
    """
    edges = near.nonzero()[:, 0]
    # number of later edges with the same centre, for each edge: with these it forms triplets
    own = centres[edges]
    places = torch.arange(len(edges), device=edges.device)
    n_later = torch.searchsorted(own, own, right=True) - places - 1
    # each edge as the first as often, and the edges that follow it as the second
    first = places.repeat_interleave(n_later)
    starts = n_later.cumsum(0) - n_later
    second = first + 1 + torch.arange(len(first), device=edges.device) - starts[first]
    return edges[torch.stack([first, second])]


def find_reverse(edge_index: Tensor, ghost: int) -> Tensor:
    """Number of the edge from j to the same image of i, for every edge; a ghost's edge is its own.

    Edges are sorted by (i, j, shift). Read backwards and sorted by (j, i), they are sorted by
    (j, i, −shift): the k-th is the reverse of the k-th edge.

    Parameters
    ----------
    edge_index : Tensor, shape (2, n_edges), int64
    ghost : int
        Number of the ghost atom.

    Returns
    -------
    Tensor, shape (n_edges,), int64
    """
    # edges read backwards, sorted by (j, i): a stable sort keeps the order of opposite shifts
    real = (edge_index[0] < ghost).nonzero()[:, 0]
    backwards = real.flip(0)
    i, j = edge_index[:, backwards]
    reverse = torch.arange(edge_index.shape[1], device=edge_index.device)
    reverse[real] = backwards[torch.argsort(j * ghost + i, stable=True)]
    return reverse


def pad_triplets(inputs: PotentialInput, n_triplets: int) -> PotentialInput:
    """Fill up to this number with pairs of the last edge, which is the ghost's, and itself."""
    triplets = inputs.triplets
    if triplets is None or triplets.shape[1] >= n_triplets:
        return inputs
    last = inputs.edge_index.shape[1] - 1
    padding = triplets.new_full((2, n_triplets - triplets.shape[1]), last)
    return inputs._replace(triplets=torch.cat([triplets, padding], dim=1))

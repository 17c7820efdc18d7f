"""torchmd-net's equivariant layers with the few lines replaced that cannot be traced.

Upstream tells self loops by i == j, which drops an atom's own periodic images; it writes through
boolean masks and reads sizes on the host. Here self loops are the last ``n_atoms`` edges, sizes come
from shapes, and a zero vector has a zero norm with a zero gradient. Parameters and their names are
upstream's.
"""

from typing import Any

import torch
from torch import Tensor

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.potentials.torchmdnet.upstream import layers

_upstream: Any = layers()  # its classes are known when it is imported only


class NeighborEmbedding(_upstream.utils.NeighborEmbedding):
    """Sum of neighbors' element embeddings, filtered by distance; eq. (3) of arXiv:2202.02541.

    Expects edges without self loops; an atom's own images count as neighbors.
    """

    def forward(self, z: Tensor, x: Tensor, edge_index: Tensor, distances: Tensor, basis: Tensor) -> Tensor:
        centres, neighbors = edge_index
        filters = self.distance_proj(basis) * self.cutoff(distances)[:, None]
        messages = filters * take(self.embedding(z), neighbors)
        return self.combine(torch.cat([x, segment_sum(messages, centres, x.shape[0])], dim=1))


class EquivariantAttention(_upstream.et.EquivariantMultiHeadAttention):
    """Equivariant attention; messages are summed over a number of atoms known from the shapes."""

    def propagate(  # noqa: PLR0913, PLR0917
        self,
        edge_index: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        vec: Tensor,
        dk: Tensor | None,
        dv: Tensor | None,
        r_ij: Tensor,
        d_ij: Tensor,
        dim_size: int | None,
    ) -> tuple[Tensor, Tensor]:
        centres, neighbors = edge_index
        # Messages of each edge from the query of the centre and key, value and vectors of the neighbor.
        q_i, k_j, v_j, vec_j = take(q, centres), take(k, neighbors), take(v, neighbors), take(vec, neighbors)
        scalars, vectors = self.message(q_i, k_j, v_j, vec_j, dk, dv, r_ij, d_ij)
        return segment_sum(scalars, centres, q.shape[0]), segment_sum(vectors, centres, q.shape[0])


class GatedEquivariantBlock(_upstream.utils.GatedEquivariantBlock):
    """Gated equivariant block whose norm has a zero gradient at a zero vector."""

    def hidden(self, x: Tensor, v: Tensor) -> Tensor:
        """Hidden layer of the update network, shape (n_atoms, n_hidden)."""
        norms = safe_norm(self.vec1_proj(v), dim=-2)
        return self.update_net.layers[:-1](torch.cat([x, norms], dim=-1))

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        out = self.update_net.layers[-1](self.hidden(x, v))
        x, gates = torch.split(out, self.out_channels, dim=-1)
        v = gates.unsqueeze(1) * self.vec2_proj(v)
        return (x if self.act is None else self.act(x)), v


def safe_norm(vectors: Tensor, dim: int) -> Tensor:
    """Euclidean norm along a dimension, with gradient zero where the vector is zero."""
    # The root of 0 has no derivative: 1 stands in its place, and is multiplied with 0.
    squares = (vectors * vectors).sum(dim=dim)
    positive = squares > 0
    return torch.where(positive, squares, 1.0).sqrt() * positive


__getattr__ = renamed(__name__, {"Attention": "EquivariantAttention"})

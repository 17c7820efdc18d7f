"""torchmd-net's TensorNet layers on packed tensors.

A 3 × 3 tensor of TensorNet is the sum of a multiple of the identity, an antisymmetric and a traceless
symmetric part, which have 1, 3 and 5 components. Upstream sends the parts along edges as 1 + 3 + 9
components and multiplies each separately. Here they are one array of nine rows, which a message takes,
multiplies and sums at once: the same function with less memory for each edge. Parameters and their names
are upstream's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.potentials.torchmdnet.self_loops import LoopedEdges
from asecalc_ml.potentials.torchmdnet.upstream import layers

_upstream: Any = layers()  # its classes are known when it is imported only

#: Components of the scalar, the antisymmetric and the symmetric part.
PARTS = (1, 3, 5)


class TensorEmbedding(_upstream.tensornet.TensorEmbedding):
    """Tensors of atoms from the elements and directions of their neighbors; arXiv:2306.06482, section 3.2."""

    def forward(self, z: Tensor, edges: LoopedEdges, basis: Tensor) -> Tensor:
        """Tensors of the atoms, shape (n_atoms, 3, 3, n_channels)."""
        embedded, (centres, neighbors) = self.emb(z), edges.index
        pairs = torch.cat([take(embedded, centres), take(embedded, neighbors)], dim=1)
        return self.tensors(pairs, edges, basis, z.shape[0])

    def tensors(self, pairs: Tensor, edges: LoopedEdges, basis: Tensor, n_atoms: int) -> Tensor:
        """Tensors of atoms from the embeddings of centre and neighbor of each edge.

        Parameters
        ----------
        pairs : Tensor, shape (n_edges, 2 n_channels)
        edges : LoopedEdges
        basis : Tensor, shape (n_edges, n_rbf)
        n_atoms : int
        """
        weights = self.cutoff(edges.distances)[:, None] * self.emb2(pairs)
        projections = (self.distance_proj1, self.distance_proj2, self.distance_proj3)
        filters = torch.stack([weights * project(basis) for project in projections], dim=1)
        # upstream's vectors point to the atom that collects the messages, ours away from it
        messages = repeated(filters) * direction_tensors(-edges.directions)[..., None]
        x = segment_sum(messages, edges.index[0], n_atoms)
        norm = self.init_norm(squared_norm(unpacked(x)))
        for linear in self.linears_scalar:
            norm = self.act(linear(norm))
        gates = norm.reshape(-1, 3, self.hidden_channels)
        return unpacked(mixed(x, self.linears_tensor) * repeated(gates))


class Interaction(_upstream.tensornet.Interaction):
    """Interaction and node update; arXiv:2306.06482, section 3.2.

    An atom sends one array (:meth:`sent`) and makes one of what its neighbors have sent (:meth:`receive`), so
    that atoms can be computed in chunks.
    """

    def forward(self, x: Tensor, edges: LoopedEdges, basis: Tensor, charges: Tensor) -> Tensor:
        """Tensors of the atoms after the interaction, shape (n_atoms, 3, 3, n_channels)."""
        sent = self.sent(x)
        return self.receive(x, sent, take(sent, edges.index[1]), edges, basis, charges)

    def sent(self, x: Tensor) -> Tensor:
        """Packed tensors that atoms send to their neighbors, shape (n_atoms, 9, n_channels)."""
        return mixed(packed(normalized(x)), self.linears_tensor[:3])

    def receive(
        self, x: Tensor, sent: Tensor, received: Tensor, edges: LoopedEdges, basis: Tensor, charges: Tensor
    ) -> Tensor:
        """Tensors of the atoms after the interaction.

        Parameters
        ----------
        x : Tensor, shape (n_atoms, 3, 3, n_channels)
            Tensors of the atoms before it.
        sent : Tensor, shape (n_atoms, 9, n_channels)
            What these atoms send.
        received : Tensor, shape (n_edges, 9, n_channels)
            What the neighbor of each edge sends.
        edges : LoopedEdges
        basis : Tensor, shape (n_edges, n_rbf)
        charges : Tensor, shape (n_atoms,), e
            Charge of each atom's system.
        """
        messages = self.filters(edges, basis) * received
        y, m = unpacked(sent), unpacked(segment_sum(messages, edges.index[0], x.shape[0]))
        charge_factor = (1 + 0.1 * charges)[:, None, None, None]
        if self.equivariance_invariance_group == "O(3)":
            c = charge_factor * (product(m, y) + product(y, m))
        else:
            c = 2 * product(y, m)
        change = unpacked(mixed(packed(c) / (squared_norm(c) + 1)[:, None, :], self.linears_tensor[3:]))
        return normalized(x) + change + charge_factor * product(change, change)

    def filters(self, edges: LoopedEdges, basis: Tensor) -> Tensor:
        """Factors of each component, shape (n_edges, 9, n_channels)."""
        for linear in self.linears_scalar:
            basis = self.act(linear(basis))
        basis = basis * self.cutoff(edges.distances)[:, None]
        return repeated(basis.reshape(basis.shape[0], 3, self.hidden_channels))


def packed(x: Tensor) -> Tensor:
    """Scalar, antisymmetric (x, y, z) and traceless symmetric (xx, yy, xy, xz, yz) part of each tensor.

    Parameters
    ----------
    x : Tensor, shape (n, 3, 3, n_channels)

    Returns
    -------
    Tensor, shape (n, 9, n_channels)
    """
    xx, xy, xz, yx, yy, yz, zx, zy, zz = x.flatten(1, 2).unbind(1)
    scalar = (xx + yy + zz) / 3
    vector = [0.5 * (zy - yz), 0.5 * (xz - zx), 0.5 * (yx - xy)]
    symmetric = [xx - scalar, yy - scalar, 0.5 * (xy + yx), 0.5 * (xz + zx), 0.5 * (yz + zy)]
    return torch.stack([scalar, *vector, *symmetric], dim=1)


def unpacked(x: Tensor) -> Tensor:
    """The tensors that :func:`packed` has packed, shape (n, 3, 3, n_channels)."""
    scalar, x_, y_, z_, xx, yy, xy, xz, yz = x.unbind(1)
    rows = [
        *(scalar + xx, xy - z_, xz + y_),
        *(xy + z_, scalar + yy, yz - x_),
        *(xz - y_, yz + x_, scalar - xx - yy),
    ]
    return torch.stack(rows, dim=1).unflatten(1, (3, 3))


def direction_tensors(directions: Tensor) -> Tensor:
    """Packed 1, direction and traceless outer product of each edge, shape (n_edges, 9)."""
    x, y, z = directions.unbind(1)
    third = (x * x + y * y + z * z) / 3  # 0 for self loops
    symmetric = [x * x - third, y * y - third, x * y, x * z, y * z]
    return torch.stack([torch.ones_like(x), x, y, z, *symmetric], dim=1)


def repeated(parts: Tensor) -> Tensor:
    """Values of the three parts as those of their nine components.

    Parameters
    ----------
    parts : Tensor, shape (n, 3, n_channels)

    Returns
    -------
    Tensor, shape (n, 9, n_channels)
    """
    by_part = zip(parts.split(1, 1), PARTS, strict=True)
    return torch.cat([part.expand(-1, n_components, -1) for part, n_components in by_part], dim=1)


def mixed(x: Tensor, linears: Any) -> Tensor:
    """Channels of each part mixed by a linear map of its own."""
    return torch.cat([linear(part) for linear, part in zip(linears, x.split(PARTS, 1), strict=True)], dim=1)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of each atom and channel, shape (n_atoms, 3, 3, n_channels)."""
    return (a[:, :, :, None] * b[:, None]).sum(dim=2)


def squared_norm(x: Tensor) -> Tensor:
    """Squared Frobenius norm of each atom and channel, shape (n_atoms, n_channels)."""
    return (x * x).sum(dim=(1, 2))


def normalized(x: Tensor) -> Tensor:
    """Tensors divided by 1 + their squared norms."""
    return x / (squared_norm(x) + 1)[:, None, None, :]

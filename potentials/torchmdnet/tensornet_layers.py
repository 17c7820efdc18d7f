"""torchmd-net's TensorNet layers on packed tensors.

A 3 × 3 tensor of TensorNet is the sum of a multiple of the identity, an antisymmetric and a traceless
symmetric part, which have 1, 3 and 5 components. Upstream sends the parts along edges as 1 + 3 + 9
components and multiplies each separately. Here they are one array of nine rows, which a message takes,
multiplies and sums at once: the same function with less memory for each edge. Parameters and their names
are upstream's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.potentials.torchmdnet.upstream import layers

_upstream: Any = layers()  # its classes are known when it is imported only

#: Components of the scalar, the antisymmetric and the symmetric part.
PARTS = (1, 3, 5)


class Edges(NamedTuple):
    """Edges of some atoms, without self loops: what an atom sends to itself is added by the layers.

    Parameters
    ----------
    centres : Tensor, shape (n_edges,), int64
    n_atoms : int
    distances : Tensor, shape (n_edges,), Å
    directions : Tensor, shape (n_edges, 3)
        Unit vectors from centre to neighbor.
    """

    centres: Tensor
    n_atoms: int
    distances: Tensor
    directions: Tensor

    @classmethod
    def of(cls, centres: Tensor, n_atoms: int, vectors: Tensor) -> Edges:
        """Edges of these vectors, shape (n_edges, 3), Å."""
        distances = torch.linalg.vector_norm(vectors, dim=1)
        return cls(centres, n_atoms, distances, vectors / distances[:, None])

    def collect(self, values: Tensor) -> Tensor:
        """Sum rows of edges, shape (n_edges, ...), for each centre."""
        return segment_sum(values, self.centres, self.n_atoms)


class RadialBasis(NamedTuple):
    """Radial functions of the edges, and those of a self loop, at distance zero.

    Parameters
    ----------
    edges : Tensor, shape (n_edges, n_rbf)
    loop : Tensor, shape (1, n_rbf)
    """

    edges: Tensor
    loop: Tensor

    @classmethod
    def of(cls, expansion: nn.Module, distances: Tensor) -> RadialBasis:
        """Those of torchmd-net's expansion."""
        return cls(expansion(distances), expansion(distances.new_zeros(1)))


class TensorEmbedding(_upstream.tensornet.TensorEmbedding):
    """Tensors of atoms from the elements and directions of their neighbors; arXiv:2306.06482, section 3.2."""

    def forward(self, z: Tensor, edge_index: Tensor, edges: Edges, basis: RadialBasis) -> Tensor:
        """Tensors of the atoms, shape (n_atoms, 3, 3, n_channels)."""
        centres, neighbors = edge_index
        of_centre, of_neighbor = self.halves(self.emb(z))
        pairs = take(of_centre, centres) + take(of_neighbor, neighbors)
        return self.tensors(pairs, of_centre + of_neighbor, edges, basis)

    def halves(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Contributions of elements to the embedding of a pair, as its centre and as its neighbor.

        Upstream's layer acts on both embeddings side by side for each edge; it is linear, so that each half
        acts on the embeddings alone.

        Parameters
        ----------
        embedded : Tensor, shape (n, n_channels)

        Returns
        -------
        tuple of two Tensors, shape (n, n_channels)
        """
        of_centre, of_neighbor = self.emb2.weight.split(self.hidden_channels, dim=1)
        return linear(embedded, of_centre, self.emb2.bias), linear(embedded, of_neighbor)

    def tensors(self, pairs: Tensor, loops: Tensor, edges: Edges, basis: RadialBasis) -> Tensor:
        """Tensors of atoms from the embeddings of pairs.

        Parameters
        ----------
        pairs : Tensor, shape (n_edges, n_channels)
        loops : Tensor, shape (n_atoms, n_channels)
            Embedding of each atom's pair with itself.
        edges : Edges
        basis : RadialBasis
        """
        projections = (self.distance_proj1, self.distance_proj2, self.distance_proj3)
        weights = self.cutoff(edges.distances)[:, None] * pairs
        # upstream's vectors point to the atom that collects the messages, ours away from it
        directions = direction_tensors(-edges.directions)
        scalar, *others = (
            edges.collect((weights * project(basis.edges))[:, None] * part[..., None])
            for project, part in zip(projections, directions, strict=True)
        )
        # a self loop has no direction, and a cutoff function of 1
        scalar = scalar + (loops * self.distance_proj1(basis.loop))[:, None]
        x = torch.cat([scalar, *others], dim=1)
        norm = self.init_norm(squared_norm(unpacked(x)))
        for layer in self.linears_scalar:
            norm = self.act(layer(norm))
        gates = norm.reshape(-1, 3, self.hidden_channels)
        return unpacked(mixed(x, self.linears_tensor) * repeated(gates))


class Interaction(_upstream.tensornet.Interaction):
    """Interaction and node update; arXiv:2306.06482, section 3.2.

    An atom sends one array (:meth:`sent`) and makes one of what its neighbors have sent (:meth:`receive`), so
    that atoms can be computed in chunks.
    """

    def forward(
        self, x: Tensor, edge_index: Tensor, edges: Edges, basis: RadialBasis, charges: Tensor
    ) -> Tensor:
        """Tensors of the atoms after the interaction, shape (n_atoms, 3, 3, n_channels)."""
        sent = self.sent(x)
        return self.receive(x, sent, take(sent, edge_index[1]), edges, basis, charges)

    def sent(self, x: Tensor) -> Tensor:
        """Packed tensors that atoms send to their neighbors, shape (n_atoms, 9, n_channels)."""
        return mixed(packed(normalized(x)), self.linears_tensor[:3])

    def receive(
        self, x: Tensor, sent: Tensor, received: Tensor, edges: Edges, basis: RadialBasis, charges: Tensor
    ) -> Tensor:
        """Tensors of the atoms after the interaction.

        Parameters
        ----------
        x : Tensor, shape (n_atoms, 3, 3, n_channels)
            Tensors of the atoms before it.
        sent : Tensor, shape (n_atoms, 9, n_channels)
            What these atoms send, to themselves too.
        received : Tensor, shape (n_edges, 9, n_channels)
            What the neighbor of each edge sends.
        edges : Edges
        basis : RadialBasis
        charges : Tensor, shape (n_atoms,), e
            Charge of each atom's system.
        """
        filters = self.filters(basis.edges) * self.cutoff(edges.distances)[:, None, None]
        messages = [
            edges.collect(factors * part)
            for factors, part in zip(filters.split(1, 1), received.split(PARTS, 1), strict=True)
        ]
        collected = torch.cat(messages, dim=1) + repeated(self.filters(basis.loop)) * sent
        y, m = unpacked(sent), unpacked(collected)
        charge_factor = (1 + 0.1 * charges)[:, None, None, None]
        if self.equivariance_invariance_group == "O(3)":
            c = charge_factor * (product(m, y) + product(y, m))
        else:
            c = 2 * product(y, m)
        change = unpacked(mixed(packed(c) / (squared_norm(c) + 1)[:, None, :], self.linears_tensor[3:]))
        return normalized(x) + change + charge_factor * product(change, change)

    def filters(self, basis: Tensor) -> Tensor:
        """Factors of the three parts before the cutoff function, shape (n, 3, n_channels)."""
        for layer in self.linears_scalar:
            basis = self.act(layer(basis))
        return basis.reshape(basis.shape[0], 3, self.hidden_channels)


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


def direction_tensors(directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """1, direction and traceless outer product of unit vectors, packed.

    Parameters
    ----------
    directions : Tensor, shape (n_edges, 3)

    Returns
    -------
    tuple of Tensor, shapes (n_edges, 1), (n_edges, 3) and (n_edges, 5)
    """
    x, y, z = directions.unbind(1)
    symmetric = torch.stack([x * x - 1 / 3, y * y - 1 / 3, x * y, x * z, y * z], dim=1)
    return torch.ones_like(x)[:, None], directions, symmetric


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


def mixed(x: Tensor, layers: Any) -> Tensor:
    """Channels of each part mixed by a linear map of its own."""
    # rows of one matrix: as a batch of small ones, the products take three times as long
    parts = [
        layer(part.reshape(-1, part.shape[2])).view(part.shape)
        for layer, part in zip(layers, x.split(PARTS, 1), strict=True)
    ]
    return torch.cat(parts, dim=1)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of each atom and channel, shape (n_atoms, 3, 3, n_channels)."""
    return (a[:, :, :, None] * b[:, None]).sum(dim=2)


def squared_norm(x: Tensor) -> Tensor:
    """Squared Frobenius norm of each atom and channel, shape (n_atoms, n_channels)."""
    return (x * x).sum(dim=(1, 2))


def normalized(x: Tensor) -> Tensor:
    """Tensors divided by 1 + their squared norms."""
    return x / (squared_norm(x) + 1)[:, None, None, :]

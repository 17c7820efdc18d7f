"""TorchMD-NET's TensorNet on our edges."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml.model.potential import Neighborhood, PotentialInput, Rows, Stage
from asecalc_ml.potentials.torchmdnet.scalar_output import ScalarPotential
from asecalc_ml.potentials.torchmdnet.tensornet_layers import (
    PARTS,
    Edges,
    Interaction,
    RadialBasis,
    TensorEmbedding,
    packed,
)
from asecalc_ml.potentials.torchmdnet.upstream import layers

if TYPE_CHECKING:
    from asecalc_ml.potentials.torchmdnet.options import TensorNet


class TensorNetPotential(ScalarPotential):
    """TensorNet of Simeon and De Fabritiis, NeurIPS 2023, arXiv:2306.06482.

    ==================================== ==============================================
    paper                                code
    ==================================== ==============================================
    tensor embedding                     ``representation_model.tensor_embedding``
    interaction and node update          ``representation_model.layers``
    scalar output from norms of I, A, S  ``representation_model.linear``, ``output_model``
    ==================================== ==============================================

    Submodules and their parameters carry torchmd-net's names, so that its checkpoints fit. The total
    charge enters each interaction, as upstream does it.

    Parameters
    ----------
    options : TensorNet
    """

    takes = frozenset({"charge"})

    def __init__(self, options: TensorNet):
        super().__init__(options)
        self.representation_model = _Representation(options)

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.representation_model.tensor_embedding]

    @property
    def interactions(self) -> nn.ModuleList:
        return self.representation_model.layers

    @property
    def stages(self) -> list[Stage]:
        return [partial(self._stage, n) for n in range(len(self.interactions) + 1)]

    def _stage(self, n: int, atoms: Neighborhood, rows: Rows, received: Tensor | None) -> Rows:
        """The embedding or the n-th interaction, and what the next interaction's neighbors need of it."""
        network, z = self.representation_model, atoms.atomic_numbers
        edges = Edges.of(atoms.centres, len(z), atoms.edge_vectors)
        basis = RadialBasis.of(network.distance_expansion, edges.distances)
        if received is None:
            embedding = network.tensor_embedding
            of_centre, of_neighbor = embedding.halves(embedding.emb.weight)  # of all elements
            pairs = of_centre[z][atoms.centres] + of_neighbor[atoms.neighbor_numbers]
            x = embedding.tensors(pairs, of_centre[z] + of_neighbor[z], edges, basis)
        else:
            sent, x = rows
            x = self.interactions[n - 1].receive(x, sent, received, edges, basis, atoms.charge)
        if n < len(self.interactions):
            return self.interactions[n].sent(x), x
        return (self.output_model(network.scalars(x)).contributions,)


class _Representation(nn.Module):
    """The layers of torchmd-net's TensorNet without its neighbor search."""

    def __init__(self, options: TensorNet):
        super().__init__()
        upstream = layers()
        width, n_basis, cutoff = options.hidden_channels, options.n_rbf, options.cutoff_A
        activation = upstream.utils.act_class_mapping[options.activation]
        basis = upstream.utils.rbf_class_mapping[options.rbf]
        self.distance_expansion = basis(0.0, cutoff, n_basis, options.trainable_rbf)
        self.tensor_embedding = TensorEmbedding(
            width, n_basis, activation, 0.0, cutoff, options.trainable_rbf, options.max_atomic_number + 1
        )
        self.layers = nn.ModuleList(
            Interaction(n_basis, width, activation, 0.0, cutoff, options.group)
            for _ in range(options.n_layers)
        )
        self.linear = nn.Linear(3 * width, width)
        self.out_norm = nn.LayerNorm(3 * width)
        self.act = activation()

    def forward(self, inputs: PotentialInput) -> Tensor:
        edges = Edges.of(inputs.edge_index[0], inputs.n_atoms, inputs.edge_vectors)
        basis = RadialBasis.of(self.distance_expansion, edges.distances)
        x = self.tensor_embedding(inputs.atomic_numbers, inputs.edge_index, edges, basis)
        charges = inputs.charge[inputs.batch]
        for layer in self.layers:
            x = layer(x, inputs.edge_index, edges, basis, charges)
        return self.scalars(x)

    def scalars(self, x: Tensor) -> Tensor:
        """Features of atoms from the norms of their tensors' parts, shape (n_atoms, n_channels)."""
        return self.act(self.linear(self.out_norm(_norms(x))))


def _norms(x: Tensor) -> Tensor:
    """Squared norms of the scalar, vector and tensor parts, shape (n_atoms, 3 width)."""
    scalar, vector, tensor = packed(x).split(PARTS, 1)
    xx, yy = tensor[:, 0], tensor[:, 1]
    # |A|² = 2 a², |S|² with zz = -xx - yy and each element beside the diagonal twice
    symmetric = 2 * (tensor * tensor).sum(dim=1) + 2 * xx * yy
    return torch.cat([3 * scalar[:, 0] ** 2, 2 * (vector * vector).sum(dim=1), symmetric], dim=-1)

"""TorchMD-NET's equivariant transformer on our edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.torchmdnet.equivariant_layers import (
    EquivariantAttention,
    GatedEquivariantBlock,
    NeighborEmbedding,
)
from asecalc_ml.potentials.torchmdnet.self_loops import with_self_loops
from asecalc_ml.potentials.torchmdnet.upstream import layers

if TYPE_CHECKING:
    from asecalc_ml.potentials.torchmdnet.options import EquivariantTransformer


class EquivariantTransformerPotential(Potential):
    """Equivariant transformer (ET) of Thölke and De Fabritiis, ICLR 2022, arXiv:2202.02541.

    ================================ ===================================================
    paper                            code
    ================================ ===================================================
    embedding and neighbors, eq. (3) ``representation_model.embedding``, ``.neighbor_embedding``
    radial basis and cutoff          ``representation_model.distance_expansion``
    attention and update             ``representation_model.attention_layers``
    gated equivariant readout        ``output_model.output_network``
    ================================ ===================================================

    Submodules and their parameters carry torchmd-net's names, so that its checkpoints fit.

    Parameters
    ----------
    options : EquivariantTransformer
    """

    def __init__(self, options: EquivariantTransformer):
        super().__init__()
        self.cutoff = options.cutoff_A
        self.continuous = options.envelope
        self.n_vectors = options.hidden_channels // 2
        self.representation_model = _Representation(options)
        self.output_model = _Output(options)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        x, vectors = self.representation_model(inputs)
        return self.output_model(x, vectors)

    @property
    def embeddings(self) -> list[nn.Module]:
        model = self.representation_model
        return [part for part in (model.embedding, model.neighbor_embedding) if part is not None]

    @property
    def interactions(self) -> nn.ModuleList:
        return self.representation_model.attention_layers

    @property
    def attentions(self) -> list[nn.Module]:
        return [layer.attn_activation for layer in self.representation_model.attention_layers]

    @property
    def readout(self) -> nn.Module:
        return self.output_model

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        linear = self.output_model.output_network[-1].update_net.layers[-1]
        return linear.weight[:1], linear.bias[:1]


class _Representation(nn.Module):
    """The layers of torchmd-net's TorchMD_ET without its neighbor search."""

    def __init__(self, options: EquivariantTransformer):
        super().__init__()
        width, n_basis, cutoff = options.hidden_channels, options.n_rbf, options.cutoff_A
        utils = layers().utils
        self.embedding = nn.Embedding(options.max_atomic_number + 1, width)
        self.distance_expansion = utils.rbf_class_mapping[options.rbf](
            0.0, cutoff, n_basis, options.trainable_rbf
        )
        self.neighbor_embedding = (
            NeighborEmbedding(width, n_basis, 0.0, cutoff, options.max_atomic_number + 1)
            if options.neighbor_embedding
            else None
        )
        self.attention_layers = nn.ModuleList(_attention(options) for _ in range(options.n_layers))
        self.out_norm = nn.LayerNorm(width)

    def forward(self, inputs: PotentialInput) -> tuple[Tensor, Tensor]:
        # Embedding of the element, and of the neighbors, which are edges without self loops.
        x = self.embedding(inputs.atomic_numbers)
        n_edges = inputs.edge_index.shape[1]
        edges = with_self_loops(inputs.edge_index, inputs.edge_vectors, inputs.n_atoms, inputs.self_pairs)
        basis = self.distance_expansion(edges.distances)
        if self.neighbor_embedding is not None:
            x = self.neighbor_embedding(
                inputs.atomic_numbers, x, inputs.edge_index, edges.distances[:n_edges], basis[:n_edges]
            )
        # Scalars and vectors, updated by each attention layer.
        vectors = x.new_zeros(x.shape[0], 3, x.shape[1])
        for attention in self.attention_layers:
            dx, dvectors = attention(x, vectors, edges.index, edges.distances, basis, edges.directions)
            x, vectors = x + dx, vectors + dvectors
        return self.out_norm(x), vectors


def _attention(options: EquivariantTransformer) -> EquivariantAttention:
    return EquivariantAttention(
        hidden_channels=options.hidden_channels,
        num_rbf=options.n_rbf,
        distance_influence=options.distance_influence,
        num_heads=options.n_heads,
        activation=layers().utils.act_class_mapping[options.activation],
        attn_activation=options.attention_activation,
        cutoff_lower=0.0,
        cutoff_upper=options.cutoff_A,
        vector_cutoff=options.envelope,
    )


class _Output(nn.Module):
    """torchmd-net's EquivariantScalar: two gated blocks, the hidden layer of the last kept as features."""

    def __init__(self, options: EquivariantTransformer):
        super().__init__()
        width, activation = options.hidden_channels, options.activation
        self.output_network = nn.ModuleList(
            [
                GatedEquivariantBlock(width, width // 2, activation=activation, scalar_activation=True),
                GatedEquivariantBlock(width // 2, 1, activation=activation),
            ]
        )
        for block in self.output_network:
            block.reset_parameters()

    def forward(self, x: Tensor, vectors: Tensor) -> AtomOutput:
        first, last = self.output_network
        x, vectors = first(x, vectors)
        features = last.hidden(x, vectors)
        contributions = last.update_net.layers[-1](features)[:, :1]
        return AtomOutput(features=features, contributions=contributions, vectors=vectors)

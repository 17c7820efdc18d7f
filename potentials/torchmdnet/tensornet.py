"""TorchMD-NET's TensorNet on our edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.torchmdnet.scalar_output import ScalarPotential
from asecalc_ml.potentials.torchmdnet.self_loops import with_self_loops
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


class _Representation(nn.Module):
    """The layers of torchmd-net's TensorNet without its neighbor search."""

    def __init__(self, options: TensorNet):
        super().__init__()
        upstream = layers()
        width, n_basis, cutoff = options.hidden_channels, options.n_rbf, options.cutoff_A
        activation = upstream.utils.act_class_mapping[options.activation]
        basis = upstream.utils.rbf_class_mapping[options.rbf]
        self.distance_expansion = basis(0.0, cutoff, n_basis, options.trainable_rbf)
        self.tensor_embedding = upstream.tensornet.TensorEmbedding(
            width, n_basis, activation, 0.0, cutoff, options.trainable_rbf, options.max_atomic_number + 1
        )
        self.layers = nn.ModuleList(
            upstream.tensornet.Interaction(n_basis, width, activation, 0.0, cutoff, options.group)
            for _ in range(options.n_layers)
        )
        self.linear = nn.Linear(3 * width, width)
        self.out_norm = nn.LayerNorm(3 * width)
        self.act = activation()

    def forward(self, inputs: PotentialInput) -> Tensor:
        edges = with_self_loops(inputs)
        graph = {name: edges.index for name in _GRAPH_KEYS}
        basis = self.distance_expansion(edges.distances)
        # Upstream's vectors point to the atom that collects the messages, ours away from it.
        x = self.tensor_embedding(inputs.atomic_numbers, graph, edges.distances, -edges.directions, basis)
        charges = inputs.charge[inputs.batch]
        for layer in self.layers:
            x = layer(x, graph, edges.distances, basis, charges)
        return self.act(self.linear(self.out_norm(_norms(x))))


# Only the first is read without Warp; upstream's layers expect all to be there.
_GRAPH_KEYS = ("edge_index", "row_data", "row_indices", "row_indptr", "col_data", "col_indices", "col_indptr")


def _norms(x: Tensor) -> Tensor:
    """Squared norms of the scalar, vector and tensor parts, shape (n_atoms, 3 width)."""
    upstream = layers().tensornet
    scalar, vector, tensor = upstream.decompose_tensor(x)
    return torch.cat([3 * scalar**2, upstream.tensor_norm(vector), upstream.tensor_norm(tensor)], dim=-1)

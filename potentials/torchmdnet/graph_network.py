"""TorchMD-NET's graph network on our edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.torchmdnet.equivariant_layers import NeighborEmbedding
from asecalc_ml.potentials.torchmdnet.scalar_output import ScalarPotential
from asecalc_ml.potentials.torchmdnet.upstream import layers

if TYPE_CHECKING:
    from asecalc_ml.potentials.torchmdnet.options import GraphNetwork


class GraphNetworkPotential(ScalarPotential):
    """Graph network: continuous-filter convolutions, invariant, as in SchNet.

    ============================================ ============================================
    x_i' = Σ_j x_j ∘ h(exp(−γ(d_ij − μ)))        code
    ============================================ ============================================
    basis exp(−γ(d_ij − μ))                      ``representation_model.distance_expansion``
    filter network h                             ``interactions[k].mlp``
    convolution                                  ``interactions[k].conv``
    ============================================ ============================================

    Source: the docstring of torchmd-net's TorchMD_GN; Majewski et al., Nat. Commun. 14, 5739 (2023).
    Submodules and their parameters carry torchmd-net's names, so that its checkpoints fit.

    Parameters
    ----------
    options : GraphNetwork
    """

    def __init__(self, options: GraphNetwork):
        super().__init__(options)
        self.representation_model = _Representation(options)

    @property
    def embeddings(self) -> list[nn.Module]:
        model = self.representation_model
        return [part for part in (model.embedding, model.neighbor_embedding) if part is not None]

    @property
    def interactions(self) -> nn.ModuleList:
        return self.representation_model.interactions


class _Representation(nn.Module):
    """The layers of torchmd-net's TorchMD_GN without its neighbor search."""

    def __init__(self, options: GraphNetwork):
        super().__init__()
        upstream = layers()
        width, n_basis, cutoff = options.hidden_channels, options.n_rbf, options.cutoff_A
        activation = upstream.utils.act_class_mapping[options.activation]
        basis = upstream.utils.rbf_class_mapping[options.rbf]
        n_elements = options.max_atomic_number + 1
        self.embedding = nn.Embedding(n_elements, width)
        self.distance_expansion = basis(0.0, cutoff, n_basis, options.trainable_rbf)
        self.neighbor_embedding = (
            NeighborEmbedding(width, n_basis, 0.0, cutoff, n_elements) if options.neighbor_embedding else None
        )
        self.interactions = nn.ModuleList(
            upstream.gn.InteractionBlock(width, n_basis, width, activation, 0.0, cutoff)
            for _ in range(options.n_layers)
        )

    def forward(self, inputs: PotentialInput) -> Tensor:
        numbers, edge_index = inputs.atomic_numbers, inputs.edge_index
        x = self.embedding(numbers)
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        basis = self.distance_expansion(distances)
        if self.neighbor_embedding is not None:
            x = self.neighbor_embedding(numbers, x, edge_index, distances, basis)
        for interaction in self.interactions:
            x = x + interaction(x, edge_index, distances, basis, n_atoms=inputs.n_atoms)
        return x

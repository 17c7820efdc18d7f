"""SchNetPack's PaiNN on our edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.schnetpack.activations import ACTIVATIONS, use_activation
from asecalc_ml.potentials.schnetpack.edge_features import cutoff_function, radial_basis
from asecalc_ml.potentials.schnetpack.readout import SchNetPackPotential, embedding
from asecalc_ml.potentials.schnetpack.upstream import layers

if TYPE_CHECKING:
    from asecalc_ml.potentials.schnetpack.options import PaiNN


class PaiNNPotential(SchNetPackPotential):
    """PaiNN of Schütt, Unke and Gastegger, ICML 2021, arXiv:2102.03150.

    Scalars s and vectors v of each atom, here as upstream's code has them: q and μ.

    =================================================== ===============================================
    paper                                               code
    =================================================== ===============================================
    embedding, s_i⁰ = a_{Z_i}, v_i⁰ = 0                 ``representation.embedding``
    filters, W(r_ij) = (basis · weights + b) f_cut      ``representation.filter_net``
    φ(s_j)                                              ``interactions[l].interatomic_context_net``
    Δs_i = Σ_j φ_s(s_j) ∘ W_s                           :class:`PaiNNInteraction`
    Δv_i = Σ_j v_j ∘ φ_vv(s_j) ∘ W_vv                   :class:`PaiNNInteraction`
    ... + Σ_j φ_vs(s_j) ∘ W_vs r_ij / ‖r_ij‖            :class:`PaiNNInteraction`
    U v_i and V v_i                                     ``mixing[l].mu_channel_mix`` (W and V)
    a(s_i, ‖V v_i‖)                                     ``mixing[l].intraatomic_context_net``
    Δs_i = a_ss + a_sv ⟨U v_i, V v_i⟩, Δv_i = a_vv U v_i ``mixing[l]``
    contributions                                       ``output_modules[0].outnet``
    =================================================== ===============================================

    Upstream's norm is √(‖V v‖² + 10⁻⁸), which has a derivative at zero.

    Parameters
    ----------
    options : PaiNN
    """

    def __init__(self, options: PaiNN):
        super().__init__(options)
        self.n_vectors = options.n_atom_basis
        self.representation = _Representation(options)

    @property
    def interactions(self) -> list[nn.Module]:
        """Message and mixing block of each layer, in turn."""
        model = self.representation
        return [block for pair in zip(model.interactions, model.mixing, strict=True) for block in pair]


class PaiNNInteraction(layers().painn.PaiNNInteraction):
    """Upstream's message block with sums over edges that can be compiled.

    See :mod:`asecalc_ml.graph.segments`.
    """

    def forward(
        self, q: Tensor, mu: Tensor, filters: Tensor, directions: Tensor, edge_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        centres, neighbors = edge_index
        # φ(s_j) ∘ W(r_ij), in three parts: for scalars, along the edge, and along the neighbor's vector.
        messages = filters * take(self.interatomic_context_net(q), neighbors)
        dq, along_edges, along_vectors = torch.split(messages, self.n_atom_basis, dim=-1)
        # Δv_ij = φ_vs W_vs r_ij / ‖r_ij‖ + φ_vv W_vv ∘ v_j
        dmu = along_edges * directions[..., None] + along_vectors * take(mu, neighbors)
        return q + segment_sum(dq, centres, q.shape[0]), mu + segment_sum(dmu, centres, q.shape[0])


class _Representation(nn.Module):
    """The layers of schnetpack's PaiNN."""

    def __init__(self, options: PaiNN):
        super().__init__()
        width, n_layers = options.n_atom_basis, options.n_interactions
        upstream, activation = layers(), ACTIVATIONS[options.activation]()
        self.embedding = embedding(options)
        self.radial_basis = radial_basis(options)
        self.cutoff_fn = cutoff_function(options)
        self.filter_net = upstream.nn.Dense(options.n_rbf, 3 * width * n_layers)
        self.interactions = nn.ModuleList(PaiNNInteraction(width, activation) for _ in range(n_layers))
        self.mixing = nn.ModuleList(upstream.painn.PaiNNMixing(width, activation) for _ in range(n_layers))
        use_activation(self, options.activation)

    def forward(self, inputs: PotentialInput) -> tuple[Tensor, Tensor]:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1, keepdim=True)
        directions = inputs.edge_vectors / distances
        # Filters W(r_ij) of all layers at once.
        filters = self.filter_net(self.radial_basis(distances)) * self.cutoff_fn(distances)[..., None]
        q = self.embedding(inputs.atomic_numbers)[:, None]  # one row, beside the three of a vector
        mu = q.new_zeros(q.shape[0], 3, q.shape[2])
        # Message and mixing block of each layer.
        parts = filters.chunk(len(self.interactions), dim=-1)
        for interaction, mixing, filters_here in zip(self.interactions, self.mixing, parts, strict=True):
            q, mu = interaction(q, mu, filters_here, directions, inputs.edge_index)
            q, mu = mixing(q, mu)
        return q[:, 0], mu


__getattr__ = renamed(__name__, {"Interaction": "PaiNNInteraction"})

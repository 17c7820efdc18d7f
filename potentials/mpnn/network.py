"""Message passing neural networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.mpnn.layers import AttentionPass, MessageEdges, MessageUpdate
from asecalc_ml.potentials.mpnn.readouts import GatedReadout, SetReadout
from asecalc_ml.potentials.shared.layers import SharedPass
from asecalc_ml.potentials.shared.radial_basis import GaussianBasis

if TYPE_CHECKING:
    from asecalc_ml.potentials.mpnn.options import MPNN, MPNNTransformer


class MPNNPotential(Potential):
    """Message passing neural network of Gilmer et al., ICML 2017, arXiv:1704.01212.

    ================================================== ==============================================
    paper                                              code
    ================================================== ==============================================
    states h_v^0                                       ``embedding``
    edge vector e_vw: the raw distance                 the distance, and its Gaussians (``basis``)
    messages, eq. (1), M = A(e_vw) h_w                 ``message_update.messages``
    update, eq. (2), U = GRU                           ``message_update.update``
    T passes with the same weights                     ``passes``
    readout, eq. (4)                                   :class:`~.readouts.GatedReadout`
    readout set2set, eq. (3) with Vinyals et al.       :class:`~.readouts.SetReadout`
    ================================================== ==============================================

    What differs from the paper: edges are all pairs within the cutoff, without types of bonds; atoms
    start from a learned vector per element; networks have SiLU as activation, since forces are
    derivatives; messages are weighted with a cutoff function, unless ``envelope`` is false.

    Parameters
    ----------
    options : MPNN
    """

    def __init__(self, options: MPNN):
        super().__init__()
        self.cutoff = options.cutoff_A
        self.continuous = options.envelope
        width, spacing = options.hidden_channels, options.basis_spacing_A
        self.embedding = nn.Embedding(options.max_atomic_number + 1, width)
        self.basis = GaussianBasis(0.0, self.cutoff, spacing, width_A=spacing)
        self.message_update = MessageUpdate(width, self.n_edge_features, options.edge_channels)
        self.passes = nn.ModuleList(self._pass(options) for _ in range(options.n_passes))
        self.atom_features = gated = options.readout == "gated"
        self.readout_network = GatedReadout(width) if gated else SetReadout(width, options.set2set_steps)

    @property
    def n_edge_features(self) -> int:
        """The distance and its Gaussians."""
        return 1 + self.basis.n_functions

    def _pass(self, options: MPNN) -> SharedPass:
        return SharedPass()

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        # h⁰, then T passes of messages and updates with shared weights.
        start = x = self.embedding(inputs.atomic_numbers)
        edges = self._edges(inputs)
        for message_pass in self.passes:
            x = message_pass(x, self.message_update, edges)
        return self.readout_network(x, start, inputs)

    def _edges(self, inputs: PotentialInput) -> MessageEdges:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        features = torch.cat([distances[:, None], self.basis(distances)], dim=1)
        return MessageEdges(
            edge_index=inputs.edge_index,
            features=features,
            matrices=self.message_update.messages.matrices(features),
            weights=smooth_cutoff(distances, self.cutoff) if self.continuous else None,
        )

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.embedding]

    @property
    def interactions(self) -> nn.ModuleList:
        return self.passes

    @property
    def readout(self) -> nn.Module:
        return self.readout_network

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        output = self.readout_network.output
        return output.weight, output.bias


class MPNNTransformerPotential(MPNNPotential):
    """MPNN with attention layers, as in Park et al., arXiv:2212.11317.

    ================================================== ==============================================
    paper                                              code
    ================================================== ==============================================
    MPNN, arXiv:1704.01212                             :class:`MPNNPotential`
    attention with gated residual, arXiv:2009.03509    ``passes[t].attention_layer``
    its coefficients α                                 ``attentions[t]``
    ================================================== ==============================================

    Park et al. name the attention and do not print its equations. Here it is the graph transformer
    operator of Shi et al., without the normalisation and activation that follow there, after each
    pass and with weights of its own for each.

    Parameters
    ----------
    options : MPNNTransformer
    """

    def _pass(self, options: MPNNTransformer) -> SharedPass:  # type: ignore[override]  # as registered
        return AttentionPass(options.hidden_channels, options.n_heads, self.n_edge_features)

    @property
    def attentions(self) -> list[nn.Module]:
        return [attention_pass.get_submodule("attention_layer.attention") for attention_pass in self.passes]

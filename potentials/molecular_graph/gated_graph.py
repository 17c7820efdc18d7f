"""The gated graph network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.potential import AtomOutput, Modules, Potential, PotentialInput
from asecalc_ml.potentials.molecular_graph.inputs import CUTOFF_A, FeaturedPairs
from asecalc_ml.potentials.mpnn.layers import GatedRecurrentUnit
from asecalc_ml.potentials.mpnn.readouts import GatedReadout, SetReadout
from asecalc_ml.potentials.shared.layers import SharedPass
from asecalc_ml.structure.molecular_graph.features import N_ATOM_FEATURES, N_PAIR_FEATURES

if TYPE_CHECKING:
    from asecalc_ml.potentials.molecular_graph.options import GatedGraph


class GatedGraphPotential(Potential):
    """Gated graph network of Li et al., arXiv:1511.05493, with edge networks of Gilmer et al.

    ======================================================= ==============================================
    paper                                                   code
    ======================================================= ==============================================
    first states, arXiv:1511.05493, eq. (1)                 ``embedding`` of the features of atoms
    messages, eq. (2); arXiv:1704.01212, eq. (1),           :class:`GatedGraphLayer`
    M = A(e_vw) h_w
    update, arXiv:1511.05493, eqs. (3) to (6), a GRU        ``layer.update``
    T passes with the same weights                          ``passes``
    readout, arXiv:1511.05493, eq. (7);                     ``GatedReadout`` of MPNN
    arXiv:1704.01212, eq. (4)
    readout set2set, arXiv:1704.01212, eq. (3)              ``SetReadout`` of MPNN
    ======================================================= ==============================================

    The matrices A follow from all features of a pair, the distance included, where arXiv:1511.05493 has one
    for each type of edge. First states are a linear map of the features of atoms in place of the features
    themselves, filled up with zeros.

    Parameters
    ----------
    options : GatedGraph
    """

    molecular_graph, continuous, cutoff = True, False, CUTOFF_A
    takes = frozenset({"charge"})  # by way of the bonds and formal charges

    def __init__(self, options: GatedGraph):
        super().__init__()
        self.max_graph_distance = options.max_graph_distance
        self.atom_features = options.readout == "gated"
        width = options.hidden_channels
        self.embedding = nn.Linear(N_ATOM_FEATURES, width)
        self.edge_network = nn.Sequential(nn.Linear(N_PAIR_FEATURES, options.edge_channels), nn.ReLU())
        self.layer = GatedGraphLayer(width, options.edge_channels)
        self.average_neighbors = options.average_neighbors
        self.passes = nn.ModuleList(SharedPass() for _ in range(options.n_passes))
        gated = options.readout == "gated"
        self.readout_network = GatedReadout(width) if gated else SetReadout(width, options.set2set_steps)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        assert inputs.atom_features is not None  # self.molecular_graph asks for them
        pairs = FeaturedPairs.of(inputs, self.max_graph_distance)
        coefficients = self.edge_network(pairs.features) / self.average_neighbors
        if pairs.weights is not None:
            coefficients = pairs.weights[:, None] * coefficients
        start = x = self.embedding(inputs.atom_features)
        for step in self.passes:
            x = step(x, self.layer, coefficients, pairs.edge_index)
        return self.readout_network(x, start, inputs)

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.embedding]

    @property
    def interactions(self) -> Modules:
        return self.passes

    @property
    def readout(self) -> nn.Module:
        return self.readout_network

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        output = self.readout_network.output
        return output.weight, output.bias


class GatedGraphLayer(nn.Module):
    r"""One pass: :math:`m_i = \sum_j A(e_{ij}) h_j` and :math:`h_i' = \mathrm{GRU}(h_i, m_i)`.

    The matrix :math:`A(e) = \sum_k z_k(e) W_k` is linear in the hidden layer z of the edge network, so that
    each atom is multiplied with all matrices W_k, of which there are fewer than pairs of atoms.

    Parameters
    ----------
    width : int
        Of the states h.
    n_coefficients : int
        Width of z.
    """

    def __init__(self, width: int, n_coefficients: int):
        super().__init__()
        self.matrices = nn.Linear(width, n_coefficients * width, bias=False)
        self.update = GatedRecurrentUnit(width)

    def forward(self, x: Tensor, coefficients: Tensor, edge_index: Tensor) -> Tensor:
        centres, neighbors = edge_index
        # W_k h_j of each atom j, shape (n_atoms, k, width); then Σ_k z_k W_k h_j of each edge, and its sum
        sent = self.matrices(x).view(x.shape[0], coefficients.shape[1], x.shape[1])
        messages = torch.matmul(coefficients[:, None, :], take(sent, neighbors))[:, 0]
        return self.update(segment_sum(messages, centres, x.shape[0]), x)

"""The gated graph network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from asecalc_ml.model.potential import AtomOutput, Modules, Potential, PotentialInput
from asecalc_ml.potentials.molecular_graph.inputs import CUTOFF_A, MoleculePairs
from asecalc_ml.potentials.mpnn.layers import MessageEdges, MessageUpdate
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
    messages, eq. (2); arXiv:1704.01212, eq. (1),           ``message_update.messages``
    M = A(e_vw) h_w
    update, arXiv:1511.05493, eqs. (3) to (6), a GRU        ``message_update.update``
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
        self.message_update = MessageUpdate(width, N_PAIR_FEATURES, options.edge_channels)
        self.passes = nn.ModuleList(SharedPass() for _ in range(options.n_passes))
        gated = options.readout == "gated"
        self.readout_network = GatedReadout(width) if gated else SetReadout(width, options.set2set_steps)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        assert inputs.atom_features is not None  # self.molecular_graph asks for them
        pairs = MoleculePairs.of(inputs, self.max_graph_distance)
        matrices = self.message_update.messages.matrices(pairs.features)
        edges = MessageEdges(pairs.edge_index, pairs.features, matrices, pairs.weights)
        start = x = self.embedding(inputs.atom_features)
        for step in self.passes:
            x = step(x, self.message_update, edges)
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

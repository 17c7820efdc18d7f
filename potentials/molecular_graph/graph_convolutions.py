"""Graph convolutions: weave modules on features of atoms and pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.potential import AtomOutput, Modules, Potential, PotentialInput
from asecalc_ml.potentials.molecular_graph.inputs import CUTOFF_A, FeaturedPairs
from asecalc_ml.potentials.molecular_graph.readouts import AtomReadout, MoleculeReadout
from asecalc_ml.structure.molecular_graph.features import N_ATOM_FEATURES, N_PAIR_FEATURES

if TYPE_CHECKING:
    from asecalc_ml.potentials.molecular_graph.options import GraphConvolutions


class GraphConvolutionsPotential(Potential):
    """Molecular graph convolutions of Kearnes et al., arXiv:1603.00856, as Faber et al. use them.

    =============================================== =============================================
    paper                                           code
    =============================================== =============================================
    atom layer A⁰, pair layer P⁰                    ``inputs.atom_features``, ``FeaturedPairs``
    weave module (A→A, A→P, P→A, P→P)               :class:`WeaveModule`
    maximum atom pair distance                      ``max_graph_distance``
    final atom layer, contributions                 :class:`~.readouts.AtomReadout`
    reduction to a molecule                         :class:`~.readouts.MoleculeReadout`
    =============================================== =============================================

    As in Faber et al., arXiv:1702.05532, pairs have an order (``symmetric_pairs: true`` is the first paper's
    A→P), and P→A also carries what pairs send divided by powers of the distance.

    What differs from both: features of atoms pass through a linear map before the first module, so that an
    explanation finds the atoms' part there; there is no batch normalisation, with which a value would depend
    on the molecules it is computed with; ``readout: atoms`` has contributions of atoms.

    Parameters
    ----------
    options : GraphConvolutions
    """

    molecular_graph, continuous, cutoff = True, False, CUTOFF_A
    takes = frozenset({"charge"})  # by way of the bonds and formal charges

    def __init__(self, options: GraphConvolutions):
        super().__init__()
        self.max_graph_distance = options.max_graph_distance
        self.atom_features = options.readout == "atoms"
        width, last = options.atom_channels, options.n_layers - 1
        self.embedding = nn.Linear(N_ATOM_FEATURES, width)
        self.modules_of_weave = nn.ModuleList(
            WeaveModule(options, options.pair_channels if k else N_PAIR_FEATURES, makes_pairs=k < last)
            for k in range(options.n_layers)
        )
        readout = AtomReadout if options.readout == "atoms" else MoleculeReadout
        self.readout_network = readout(options)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        assert inputs.atom_features is not None  # self.molecular_graph asks for them
        edges = FeaturedPairs.of(inputs, self.max_graph_distance)
        x, pairs = self.embedding(inputs.atom_features), edges.features
        for weave in self.modules_of_weave:
            x, pairs = weave(x, pairs, edges.edge_index, edges.distances, edges.weights)
        return self.readout_network(x, inputs)

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.embedding]

    @property
    def interactions(self) -> Modules:
        return self.modules_of_weave

    @property
    def readout(self) -> nn.Module:
        return self.readout_network

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        output = self.readout_network.output
        return output.weight, output.bias


class WeaveModule(nn.Module):
    r"""A weave module: new layers of atoms and pairs from both, arXiv:1603.00856, figure 2.

    With f a linear map and ReLU, of weights of its own in each place,

    .. math::
        A'_i &= f\Big( f(A_i), \, \sum_j \big[ m_{ij}, m_{ij} / d_{ij}^p, \dots \big] \Big),
            \qquad m_{ij} = f(P_{ij}) / n \\
        P'_{ij} &= f\big( f(A_i, A_j), \, f(P_{ij}) \big)

    the operations A→A and P→A of the first line and A→P and P→P of the second, n the option
    ``average_neighbors``. With ``symmetric_pairs`` A→P is f(A_i, A_j) + f(A_j, A_i).

    Parameters
    ----------
    options : GraphConvolutions
    n_pair_features : int
        Of the pair layer that goes in.
    makes_pairs : bool
        False for the last module, whose pair layer nothing reads.
    """

    def __init__(self, options: GraphConvolutions, n_pair_features: int, makes_pairs: bool):
        super().__init__()
        atoms, pairs = options.atom_channels, options.pair_channels
        self.powers, self.symmetric = tuple(options.distance_powers), options.symmetric_pairs
        self.atom_to_atom = nn.Linear(atoms, atoms)
        self.pair_to_atom = nn.Linear(n_pair_features, pairs)
        self.new_atoms = nn.Linear(atoms + pairs * (1 + len(self.powers)), atoms)
        if makes_pairs:
            self.atom_to_pair = nn.Linear(2 * atoms, pairs)
            self.pair_to_pair = nn.Linear(n_pair_features, pairs)
            self.new_pairs = nn.Linear(2 * pairs, pairs)
        self.makes_pairs, self.average_neighbors = makes_pairs, options.average_neighbors
        self.activation = nn.ReLU()

    def forward(
        self, x: Tensor, pairs: Tensor, edge_index: Tensor, distances: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        own = self.activation(self.atom_to_atom(x))
        messages = self.activation(self.pair_to_atom(pairs)) / self.average_neighbors
        if weights is not None:
            messages = weights[:, None] * messages
        # Σ_j of m_ij and of m_ij / d_ij^p
        scaled = torch.cat([messages, *(messages / distances[:, None] ** p for p in self.powers)], dim=1)
        collected = segment_sum(scaled, edge_index[0], x.shape[0])
        atoms = self.activation(self.new_atoms(torch.cat([own, collected], dim=1)))
        return atoms, self._new_pairs(x, pairs, edge_index) if self.makes_pairs else pairs

    def _new_pairs(self, x: Tensor, pairs: Tensor, edge_index: Tensor) -> Tensor:
        of_atoms = self._of_atoms(x, *edge_index)
        if self.symmetric:
            of_atoms = of_atoms + self._of_atoms(x, *edge_index.flip(0))
        of_pairs = self.activation(self.pair_to_pair(pairs))
        return self.activation(self.new_pairs(torch.cat([of_atoms, of_pairs], dim=1)))

    def _of_atoms(self, x: Tensor, centres: Tensor, neighbors: Tensor) -> Tensor:
        """f(A_i, A_j), whose linear map is a sum of two maps of atoms, which are fewer than pairs."""
        of_centre, of_neighbor = self.atom_to_pair.weight.chunk(2, dim=1)
        centre = take(linear(x, of_centre, self.atom_to_pair.bias), centres)
        return self.activation(centre + take(linear(x, of_neighbor), neighbors))

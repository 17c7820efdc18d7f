"""DimeNet++ on our edges and triplets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml.graph.segments import take
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.dimenet.bases import BesselBasis, SphericalBasis
from asecalc_ml.potentials.dimenet.layers import DirectionalInteraction, Directions, Embedding, OutputBlock

if TYPE_CHECKING:
    from asecalc_ml.potentials.dimenet.options import DimeNetPlusPlus


class DimeNetPlusPlusPotential(Potential):
    """DimeNet++ of Gasteiger, Giri, Margraf and Günnemann, arXiv:2011.14115.

    =========================================== ===================================
    arXiv:2003.03123 and arXiv:2011.14115       code
    =========================================== ===================================
    radial basis and envelope, eqs. (7), (8)    ``radial_basis``
    spherical basis, eq. (6)                    ``spherical_basis``
    embedding block, eq. (9)                    ``embedding``
    interaction block of DimeNet++              ``layers``
    output blocks, their last layer t           ``outputs``, ``last``
    =========================================== ===================================

    Every message is weighted with the envelope where it is summed, so that the energy has two continuous
    derivatives where an atom crosses the cutoff.

    Parameters
    ----------
    options : DimeNetPlusPlus
    """

    def __init__(self, options: DimeNetPlusPlus):
        super().__init__()
        self.cutoff = self.triplet_cutoff = options.cutoff_A
        self.radial_basis = BesselBasis(options)
        self.spherical_basis = SphericalBasis(options)
        self.embedding = Embedding(options)
        self.layers = nn.ModuleList(DirectionalInteraction(options) for _ in range(options.n_layers))
        self.outputs = nn.ModuleList(OutputBlock(options) for _ in range(options.n_layers + 1))
        self.last = nn.Linear((options.n_layers + 1) * options.output_channels, 1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        # Radial basis of each edge; both bases of each pair of edges that share an atom.
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        radial = self.radial_basis(distances / self.cutoff)
        directions = self._directions(inputs, distances)
        # Messages m_ji after the embedding and after each interaction block.
        messages = [self.embedding(inputs, radial)]
        for layer in self.layers:
            messages.append(layer(messages[-1], radial, directions))
        # Each has an output block; their hidden features, side by side, make an atom's energy.
        centres, n_atoms = inputs.edge_index[0], inputs.n_atoms
        blocks = zip(self.outputs, messages, strict=True)
        features = torch.cat([block(message, radial, centres, n_atoms) for block, message in blocks], dim=1)
        return AtomOutput(features=features, contributions=self.last(features))

    def _directions(self, inputs: PotentialInput, distances: Tensor) -> Directions:
        """Of two edges j→k and j→i of one atom j, k→j enters j→i and i→j enters j→k."""
        # cos α, with α = π − ∠kji: zero where the messages go straight on.
        units = inputs.edge_vectors / distances[:, None]
        assert inputs.triplets is not None
        assert inputs.reverse_edges is not None
        first, second = inputs.triplets
        cosines = -(take(units, first) * take(units, second)).sum(dim=1)
        # A triplet of an edge with itself is padding; its sums would grow from layer to layer.
        angular = self.spherical_basis.angular(cosines) * (first != second)[:, None, None]
        # Each pair of edges gives two directions: k→j enters j→i, and i→j enters j→k.
        sources = torch.cat([second, first])
        radial = take(self.spherical_basis.radial(distances / self.cutoff), sources)
        return Directions(
            sources=sources,
            targets=inputs.reverse_edges[torch.cat([first, second])],
            basis=(radial * angular.repeat(2, 1, 1)).flatten(1),
        )

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.embedding]

    @property
    def interactions(self) -> nn.ModuleList:
        return self.layers

    @property
    def readout(self) -> nn.Module:
        return self.last

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        return self.last.weight, self.last.weight.new_zeros(1)

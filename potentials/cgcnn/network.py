"""The crystal graph convolutional neural network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch_geometric.nn.conv import CGConv

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_mean, segment_sum, take
from asecalc_ml.model.potential import AtomOutput, Modules, Potential, PotentialInput
from asecalc_ml.potentials.cgcnn.matrix import neighbor_matrix
from asecalc_ml.potentials.shared.geometric import OwnEdges
from asecalc_ml.potentials.shared.radial_basis import GaussianBasis

if TYPE_CHECKING:
    from asecalc_ml.potentials.cgcnn.options import CGCNN

#: Empty places of a matrix have this distance beyond the cutoff, as in the paper's code, Å.
BEYOND_A = 1.0


class CGCNNPotential(Potential):
    r"""Crystal graph convolutional neural network of Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018).

    =============================================== =============================================
    paper                                           code
    =============================================== =============================================
    atom feature vectors v_i                        ``embedding``
    bond feature vectors u_ij                       ``basis``
    convolution, eq. (5)                            ``convolutions``
    pooling v_c = Pool(v_0, ..., v_N), eq. (2)      the mean in :class:`CGCNNReadout`
    hidden layer L1 and output L2                   ``readout_network.hidden``, ``.output``
    =============================================== =============================================

    What differs from the paper and its code:

    - Atoms start from a learned vector per element, in place of a table of groups, periods and radii.
    - All atoms within the cutoff are neighbors. The nearest 12, as there, change abruptly. With
      ``adjacency: unmasked-matrix`` and ``max_neighbors: 12`` neighbors are those of the paper's code.
    - No batch normalisation: it would make an energy depend on the structures it is computed with.
      Equation (5) stands as it is printed.
    - The hidden layer works on atoms, whose contributions are summed; ``readout: crystal`` averages
      first, as published.
    - Gates are weighted with a cutoff function, unless ``envelope`` is false.
    - The sum over neighbors may be divided by their average number, so that features of many neighbors keep
      their size, which batch normalisation does there.

    Parameters
    ----------
    options : CGCNN
    """

    def __init__(self, options: CGCNN):
        super().__init__()
        self.cutoff, self.envelope = options.cutoff_A, options.envelope
        self.adjacency, self.max_neighbors = options.adjacency, options.max_neighbors
        self.max_atoms = options.max_atoms
        self.continuous = options.envelope and options.adjacency == "list"
        self.atom_features = options.readout != "crystal"
        width, spacing = options.hidden_channels, options.basis_spacing_A
        self.embedding = nn.Embedding(options.max_atomic_number + 1, width)
        # The paper's code has no factor 1/2 in the exponent.
        self.basis = GaussianBasis(0.0, self.cutoff, spacing, width_A=spacing / math.sqrt(2))
        self.convolutions = nn.ModuleList(
            CrystalConvolution(width, self.basis.n_functions, options.average_neighbors)
            for _ in range(options.n_layers)
        )
        self.readout_network = CGCNNReadout(options)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        if self.max_neighbors is not None:
            return self._of_matrix(inputs, distances, self.max_neighbors)
        x = self._convolve(inputs.atomic_numbers, inputs.edge_index, distances, self._weights(distances))
        return self.readout_network(x, inputs)

    def _of_matrix(self, inputs: PotentialInput, distances: Tensor, n_places: int) -> AtomOutput:
        """From edges in a padded matrix."""
        matrix = neighbor_matrix(inputs, distances, n_places, self.max_atoms, self.cutoff + BEYOND_A)
        masked, weights = self.adjacency == "matrix", self._weights(matrix.distances)
        if masked:
            weights = weights * matrix.filled
        x = self._convolve(matrix.atomic_numbers, matrix.edge_index, matrix.distances, weights, n_places)
        atoms = take(x, matrix.rows)
        # Padding atoms count in the mean over a structure unless they are masked, and are no atoms otherwise.
        pooled = None if masked else segment_mean(x, matrix.batch, inputs.n_systems)
        return self.readout_network(atoms, inputs, pooled)

    def _convolve(
        self,
        atomic_numbers: Tensor,
        edge_index: Tensor,
        distances: Tensor,
        weights: Tensor,
        n_places: int | None = None,
    ) -> Tensor:
        """Atom features v_i after the convolutions of equation (5), with bond features u_ij."""
        bonds = self.basis(distances)
        x = self.embedding(atomic_numbers)
        for convolution in self.convolutions:
            x = convolution(x, edge_index, bonds, weights, n_places)
        return x

    def _weights(self, distances: Tensor) -> Tensor:
        return smooth_cutoff(distances, self.cutoff) if self.envelope else torch.ones_like(distances)

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.embedding]

    @property
    def interactions(self) -> Modules:
        # With padding atoms, rows of a convolution are no atoms.
        return self.convolutions if self.max_atoms is None else ()

    @property
    def readout(self) -> nn.Module:
        return self.readout_network

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        output = self.readout_network.output
        return output.weight, output.bias


class CrystalConvolution(OwnEdges, CGConv):
    r"""Equation (5): :math:`v_i + \sum_j w_{ij} \, \sigma(z_{ij} W_f + b_f) \odot g(z_{ij} W_s + b_s) / n`.

    z is the concatenation of v_i, v_j and u_ij, g the softplus, w the cutoff function, or 1, and n the option
    ``average_neighbors``. Parameters and their names are those of torch-geometric's ``CGConv``.
    """

    def __init__(self, width: int, n_bond_features: int, average_neighbors: float = 1.0):
        super().__init__(width, dim=n_bond_features)
        self.gate, self.core = nn.Sigmoid(), nn.Softplus()
        self.average_neighbors = average_neighbors

    def forward(
        self, x: Tensor, edge_index: Tensor, bonds: Tensor, weights: Tensor, n_places: int | None = None
    ) -> Tensor:
        """Features of atoms with their messages; ``n_places``: each atom has that many edges in order."""
        centres, neighbors = edge_index
        # z W = v_i W_i + v_j W_j + u_ij W_u: the first two are products of atoms, of which there are fewer.
        weight = torch.cat([self.lin_f.weight, self.lin_s.weight])
        bias = torch.cat([self.lin_f.bias, self.lin_s.bias])
        of_centre, of_neighbor, of_bond = weight.tensor_split((x.shape[1], 2 * x.shape[1]), dim=1)
        z = take(linear(x, of_centre, bias), centres) + take(linear(x, of_neighbor), neighbors)
        gates, cores = (z + linear(bonds, of_bond)).chunk(2, dim=1)
        messages = weights[:, None] * (self.gate(gates) * self.core(cores))
        if n_places is None:
            total = segment_sum(messages, centres, x.shape[0])
        else:
            total = messages.view(x.shape[0], n_places, -1).sum(dim=1)
        return x + total / self.average_neighbors


class CGCNNReadout(nn.Module):
    """Softplus, a hidden layer and the output, on each atom or on the mean over a structure's atoms."""

    def __init__(self, options: CGCNN):
        super().__init__()
        self.of_crystal = options.readout == "crystal"
        self.hidden = nn.Sequential(
            nn.Softplus(), nn.Linear(options.hidden_channels, options.readout_channels), nn.Softplus()
        )
        self.output = nn.Linear(options.readout_channels, 1)

    def forward(self, x: Tensor, inputs: PotentialInput, pooled: Tensor | None = None) -> AtomOutput:
        """From atom features, and their mean over each structure if padding atoms count in it."""
        if not self.of_crystal:
            features = self.hidden(x)
            return AtomOutput(features=features, contributions=self.output(features))
        # Pooling, equation (2): the mean over the atoms of each structure.
        mean = segment_mean(x, inputs.batch, inputs.n_systems) if pooled is None else pooled
        hidden = self.hidden(mean)
        # The last hidden layer is the structure's, and so the same for all of its atoms.
        return AtomOutput(features=take(hidden, inputs.batch), system=self.output(hidden))


__getattr__ = renamed(__name__, {"Readout": "CGCNNReadout"})

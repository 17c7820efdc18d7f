"""The deep tensor neural network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.shared.layers import SharedPass
from asecalc_ml.potentials.shared.radial_basis import GaussianBasis

if TYPE_CHECKING:
    from asecalc_ml.potentials.dtnn.options import DTNN

FIRST_GAUSSIAN_A = -1.0


class DTNNPotential(Potential):
    r"""Deep tensor neural network of Schütt et al., Nat. Commun. 8, 13890 (2017).

    ============================================================== ===================================
    paper, Methods                                                 code
    ============================================================== ===================================
    1. c_i = c_{Z_i}                                               ``embedding``
    2. d̂_ij = [exp(−(D_ij − (μ_min + kΔμ))² / 2σ²)]_k              ``basis``
    3. c_i ← c_i + Σ_{j≠i} v_ij, T times                           ``passes``, ``tensor_layer``
    3. v_ij = tanh[W^fc((W^cf c_j + b^f1) ∘ (W^df d̂_ij + b^f2))]   :class:`TensorLayer`
    4. o_i = tanh(W^out1 c_i + b^out1)                             ``readout_network.hidden``
    4. Ê_i = W^out2 o_i + b^out2                                   ``readout_network.output``
    ============================================================== ===================================

    The energies' mean and deviation of step 4 are the scale and shift of
    :class:`asecalc_ml.model.model.Model`. All passes share their weights. The paper sums over all atoms of a
    molecule; here v_ij is weighted with a cutoff function, unless ``envelope`` is false, which is the paper's
    form where the cutoff reaches across the molecule.

    Parameters
    ----------
    options : DTNN
    """

    def __init__(self, options: DTNN):
        super().__init__()
        self.cutoff = options.cutoff_A
        self.continuous = options.envelope
        width, spacing = options.hidden_channels, options.basis_spacing_A
        self.embedding = nn.Embedding(options.max_atomic_number + 1, width)
        self.basis = GaussianBasis(FIRST_GAUSSIAN_A, self.cutoff, spacing, width_A=spacing)
        self.tensor_layer = TensorLayer(width, self.basis.n_functions, options.n_factors)
        self.passes = nn.ModuleList(SharedPass() for _ in range(options.n_passes))
        self.readout_network = DTNNReadout(width, options.readout_channels)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        weights = smooth_cutoff(distances, self.cutoff) if self.continuous else torch.ones_like(distances)
        # W^df d̂_ij + b^f2, the same in every pass.
        factors = self.tensor_layer.distance_factors(self.basis(distances))
        # c_i ← c_i + Σ_j v_ij, T times.
        x = self.embedding(inputs.atomic_numbers)
        for interaction_pass in self.passes:
            x = interaction_pass(x, self.tensor_layer, inputs.edge_index, factors, weights)
        return self.readout_network(x)

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


class TensorLayer(nn.Module):
    """The interaction v_ij: a tensor that joins an atom with a distance, factorised to a low rank.

    Parameters
    ----------
    width : int
        Of the atom features c.
    n_distances : int
        Gaussians of a distance.
    n_factors : int
    """

    def __init__(self, width: int, n_distances: int, n_factors: int):
        super().__init__()
        self.atom_factors = nn.Linear(width, n_factors)  # W^cf, b^f1
        self.distance_factors = nn.Linear(n_distances, n_factors)  # W^df, b^f2
        self.joined = nn.Linear(n_factors, width, bias=False)  # W^fc
        self.activation = nn.Tanh()

    def forward(self, x: Tensor, edge_index: Tensor, distance_factors: Tensor, weights: Tensor) -> Tensor:
        centres, neighbors = edge_index
        # (W^cf c_j + b^f1) ∘ (W^df d̂_ij + b^f2), then v_ij, weighted with the cutoff function.
        factors = take(self.atom_factors(x), neighbors) * distance_factors
        interactions = weights[:, None] * self.activation(self.joined(factors))
        return x + segment_sum(interactions, centres, x.shape[0])


class DTNNReadout(nn.Module):
    """Two layers from the features of an atom to its energy."""

    def __init__(self, width: int, n_hidden: int):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(width, n_hidden), nn.Tanh())
        self.output = nn.Linear(n_hidden, 1)

    def forward(self, x: Tensor) -> AtomOutput:
        features = self.hidden(x)
        return AtomOutput(features=features, contributions=self.output(features))


__getattr__ = renamed(__name__, {"Readout": "DTNNReadout"})

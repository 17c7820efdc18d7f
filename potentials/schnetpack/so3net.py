"""SchNetPack's SO3net on our edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.schnetpack.edge_features import cutoff_function, radial_basis
from asecalc_ml.potentials.schnetpack.readout import SchNetPackPotential, embedding
from asecalc_ml.potentials.schnetpack.spherical_harmonics import (
    SphericalHarmonics,
    clebsch_gordan,
    degrees,
    expand_degrees,
)
from asecalc_ml.potentials.schnetpack.upstream import layers
from asecalc_ml.potentials.shared.layers import ExactConstants

if TYPE_CHECKING:
    from asecalc_ml.potentials.schnetpack.options import SO3net


class SO3netPotential(SchNetPackPotential):
    r"""SO3net of SchNetPack 2.0, J. Chem. Phys. 158, 144801 (2023), arXiv:2212.05517.

    Features :math:`x_{i,s}` of each atom, with s = (l, m) up to l = lmax, are multiplied by
    Clebsch-Gordan coefficients C.

    ===================================================================== ==================================
    equation                                                              code
    ===================================================================== ==================================
    embedding, x_{i,0} = a_{Z_i}                                          ``representation.embedding``
    spherical harmonics of r_ij / ‖r_ij‖                                  ``representation.sphharm``
    radial filters, W_l(r_ij)                                             ``so3convs[k].filternet``
    convolution, y_s = Σ_j Σ_{s₁s₂} x_{j,s₂} W_{l₁}(r_ij) Y_{s₁} C_{s₁s₂}^s ``so3convs[k]``
    product, Σ_{s₁s₂} y_{s₁} (y U)_{s₂} C_{s₁s₂}^s                         ``so3product``, ``mixings1[k]``
    maps of the features, the same for all s                              ``mixings2[k]``, ``mixings3[k]``
    gates, y_s σ(f_l(y_0))                                                ``gatings[k]``
    contributions, from x_{i,0}                                           ``output_modules[0].outnet``
    ===================================================================== ==================================

    Only products with l₁ + l₂ + l₃ even are taken, as upstream does it, so that energies are the same for
    mirror images.

    Parameters
    ----------
    options : SO3net
    """

    def __init__(self, options: SO3net):
        super().__init__(options)
        self.n_vectors = options.n_atom_basis
        self.representation = _Representation(options)

    @property
    def interactions(self) -> list[nn.Module]:
        """Convolution of each layer, and the map that ends it, in turn."""
        model = self.representation
        return [block for pair in zip(model.so3convs, model.mixings3, strict=True) for block in pair]


class Convolution(layers().so3.SO3Convolution):
    """Upstream's convolution with sums that can be compiled; see :mod:`asecalc_ml.graph.segments`.

    The sum over s₁ is taken first: it is the same for all features.
    """

    def __init__(self, lmax: int, n_atom_basis: int, n_radial: int):
        super().__init__(lmax, n_atom_basis, n_radial)
        self.coefficients = ExactConstants(_coefficients_by_degree(lmax))

    def forward(
        self, x: Tensor, basis: Tensor, weights: Tensor, harmonics: Tensor, edge_index: Tensor
    ) -> Tensor:
        # Filters W_l(r_ij), one for each degree and feature.
        (n_edges, n_harmonics), n_degrees, width = harmonics.shape, self.lmax + 1, self.n_atom_basis
        filters = (self.filternet(basis) * weights).view(n_edges, n_degrees, 1, width)
        # Σ_{s₁} Y_{s₁} C_{s₁s₂}^s for each degree l₁, a matrix from s₂ to s.
        angular = (harmonics @ self.coefficients.values).view(n_edges, n_degrees * n_harmonics, n_harmonics)
        # Times the neighbor's features x_{j,s₂}.
        parts = torch.bmm(angular, take(x, edge_index[1])).view(n_edges, n_degrees, n_harmonics, width)
        return segment_sum((filters * parts).sum(dim=1), edge_index[0], x.shape[0])


class TensorProduct(nn.Module):
    """Product of features of the same atom, (n_atoms, (lmax + 1)², n_features)."""

    def __init__(self, lmax: int):
        super().__init__()
        coefficients = clebsch_gordan(lmax)
        self.coefficients = ExactConstants(coefficients.reshape(-1, coefficients.shape[2]).T.copy())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        pairs = first[:, :, None] * second[:, None, :]
        return self.coefficients.values @ pairs.flatten(1, 2)


class Gating(layers().so3.SO3ParametricGatedNonlinearity):
    """Upstream's gate, without a table of indices that stays on the CPU."""

    def __init__(self, n_in: int, lmax: int):
        super().__init__(n_in, lmax)
        self.activation = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gates = self.activation(self.scaling(x[:, 0])).view(x.shape[0], self.lmax + 1, self.n_in)
        return x * expand_degrees(gates)


class _Representation(nn.Module):
    """The layers of schnetpack's SO3net."""

    def __init__(self, options: SO3net):
        super().__init__()
        width, lmax, n_layers = options.n_atom_basis, options.lmax, range(options.n_interactions)
        self.embedding = embedding(options)
        self.radial_basis = radial_basis(options)
        self.cutoff_fn = cutoff_function(options)
        self.sphharm = SphericalHarmonics(lmax)
        self.so3convs = nn.ModuleList(Convolution(lmax, width, options.n_rbf) for _ in n_layers)
        self.mixings1 = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in n_layers)
        self.mixings2 = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in n_layers)
        self.mixings3 = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in n_layers)
        self.gatings = nn.ModuleList(Gating(width, lmax) for _ in n_layers)
        self.so3product = TensorProduct(lmax)

    def forward(self, inputs: PotentialInput) -> tuple[Tensor, Tensor]:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        harmonics = self.sphharm(inputs.edge_vectors / distances[:, None])
        basis, weights = self.radial_basis(distances), self.cutoff_fn(distances)[:, None]
        # Features start with l = 0 alone.
        scalars = self.embedding(inputs.atomic_numbers)[:, None]
        others = scalars.new_zeros(scalars.shape[0], harmonics.shape[1] - 1, scalars.shape[2])
        x = torch.cat([scalars, others], dim=1)
        parts = (self.so3convs, self.mixings1, self.mixings2, self.gatings, self.mixings3)
        for convolution, mixing1, mixing2, gating, mixing3 in zip(*parts, strict=True):
            # Convolution, product of y with y U, gates, and the maps between them.
            dx = convolution(x, basis, weights, harmonics, inputs.edge_index)
            dx = dx + self.so3product(dx, mixing1(dx))
            x = x + mixing3(gating(mixing2(dx)))
        return x[:, 0], x[:, 1:4].roll(1, dims=1)  # l = 1 is y, z, x


def _coefficients_by_degree(lmax: int) -> np.ndarray:
    """Clebsch-Gordan coefficients C_{ab}^c as a map from a to (l(a), c, b)."""
    coefficients = clebsch_gordan(lmax).transpose(0, 2, 1)
    chosen = np.array([degree for degree, _ in degrees(lmax)])[:, None] == np.arange(lmax + 1)
    return (chosen[:, :, None, None] * coefficients[:, None]).reshape(len(chosen), -1)

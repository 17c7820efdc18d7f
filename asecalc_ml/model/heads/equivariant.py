r"""Heads of vectors and tensors, from vectors of atoms that turn with the structure.

A head sees edge vectors and no positions, so a translation changes nothing. A dipole of charges that are
moved along edges, :math:`\sum_{ij} p_{ij} r_{ij}`, is that of the charges
:math:`q_i = \sum_j (p_{ji} - p_{ij})`: every neutral distribution of charges over connected atoms is of this
form, and no origin enters.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor, nn

from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.heads.head import QuantityHead
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.targets.target import Quantity

N_RADIAL = 16
N_CHANNELS = 16
MOST_FILTERS = 64

#: Added to a squared norm, in the squared unit of the quantity, so that it has a slope at zero.
TINY = 1e-12


class AtomVectors(nn.Module):
    r"""Vectors of atoms: sums over edges, beside the architecture's own vectors where it has any.

    .. math:: v_i = \sum_j f_c(r_{ij}) \, \left( W_h h_j \circ W(r_{ij}) \right) \hat r_{ij}

    with features h of the neighbors, a linear map W of Gaussians of the distance and the cutoff function.

    Parameters
    ----------
    n_features, n_vectors : int
        Features and vectors of each atom that the potential returns.
    cutoff : float, Å
    """

    def __init__(self, n_features: int, n_vectors: int, cutoff: float):
        super().__init__()
        self.cutoff, self.n_vectors = cutoff, n_vectors
        n_filters = min(n_features, MOST_FILTERS)
        self.senders = nn.Linear(n_features, n_filters)
        self.filters = nn.Linear(N_RADIAL, n_filters)
        self.n_channels = n_filters + n_vectors

    def forward(self, output: AtomOutput, inputs: PotentialInput) -> Tensor:
        """Vectors of each atom, shape (n_atoms, 3, n_channels)."""
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1, keepdim=True)
        centres, neighbors = inputs.edge_index
        # Gaussians at even spacing up to the cutoff, one spacing wide
        steps = torch.arange(N_RADIAL, dtype=distances.dtype, device=distances.device)
        basis = (-0.5 * (distances / self.cutoff * (N_RADIAL - 1) - steps) ** 2).exp()
        # f_c(r_ij) (W_h h_j ∘ W(r_ij)), and its sum along the directions of the edges
        weights = smooth_cutoff(distances, self.cutoff) * self.filters(basis)
        weights = weights * take(self.senders(output.features), neighbors)
        along_edges = weights[:, None, :] * (inputs.edge_vectors / distances)[:, :, None]
        vectors = segment_sum(along_edges, centres, inputs.n_atoms)
        return vectors if output.vectors is None else torch.cat([output.vectors, vectors], dim=2)


class EquivariantHead(QuantityHead):
    """Base of heads of quantities that turn with the structure.

    Parameters
    ----------
    quantity : Quantity
    potential : Potential
        Whose output the head sees.
    n_factors : int
        Vectors that are multiplied in a term.
    n_gates : int
        Sets of factors that depend on the features alone.
    """

    def __init__(self, quantity: Quantity, potential: Potential, n_factors: int, n_gates: int = 1):
        super().__init__(quantity)
        n_features = potential.last_linear[0].shape[1]
        self.vectors = AtomVectors(n_features, potential.n_vectors, potential.cutoff)
        self.maps = nn.ModuleList(
            nn.Linear(self.vectors.n_channels, N_CHANNELS, bias=False) for _ in range(n_factors)
        )
        self.gates = nn.Sequential(
            nn.Linear(n_features, n_features), nn.SiLU(), nn.Linear(n_features, n_gates * N_CHANNELS)
        )

    def forward(self, output: AtomOutput, inputs: PotentialInput) -> AtomOutput:
        factors, gates = self._factors(output, inputs)
        return AtomOutput(
            features=output.features, contributions=self.contributions(factors, gates).flatten(1)
        )

    def sizes(self, output: AtomOutput, inputs: PotentialInput, potential: Potential) -> Tensor:
        factors, gates = self._factors(output, inputs)
        absolute = [factor.abs() for factor in factors]
        return self.contributions(absolute, [gate.abs() for gate in gates]).flatten(1)

    def _factors(self, output: AtomOutput, inputs: PotentialInput) -> tuple[list[Tensor], list[Tensor]]:
        """Vectors (n_atoms, 3, n_channels) of each map, and gates (n_atoms, n_channels)."""
        vectors = self.vectors(output, inputs)
        factors = [linear(vectors) for linear in self.maps]
        return factors, list(self.gates(output.features).split(N_CHANNELS, dim=1))

    def contributions(self, factors: list[Tensor], gates: list[Tensor]) -> Tensor:
        """Contribution of each atom, shape (n_atoms, 3, ...)."""
        raise NotImplementedError

    def identity(self, like: Tensor) -> Tensor:
        """No constant turns with the structure."""
        return like.new_zeros(3)


class VectorHead(EquivariantHead):
    """A vector, Σ_k g_k v_k of each atom, summed."""

    def __init__(self, quantity: Quantity, potential: Potential):
        super().__init__(quantity, potential, n_factors=1)

    def contributions(self, factors: list[Tensor], gates: list[Tensor]) -> Tensor:
        return (factors[0] * gates[0][:, None]).sum(dim=2)


class NormHead(VectorHead):
    r"""The norm of such a vector, :math:`\sqrt{|v|^2 + t}`, for data that do not state its direction.

    The constant t (:data:`TINY`) gives it a slope at v = 0. A molecule whose symmetry forbids a dipole has
    :math:`\sqrt{t} = 10^{-6}` therefore, in the unit of the quantity; QM9's dipoles have four decimals.
    """

    def finish(self, systems: Tensor) -> Tensor:
        return (systems**2).sum(dim=1, keepdim=True).add(TINY).sqrt()


class RankTwoHead(EquivariantHead):
    """A symmetric tensor, Σ_k [s_k 1 + g_k sym(v_k ⊗ w_k)] of each atom, summed."""

    def __init__(self, quantity: Quantity, potential: Potential):
        super().__init__(quantity, potential, n_factors=2, n_gates=2)

    def contributions(self, factors: list[Tensor], gates: list[Tensor]) -> Tensor:
        v, w = factors
        product = torch.einsum("iak,ibk,ik->iab", v, w, gates[0])
        isotropic = gates[1].sum(dim=1)[:, None, None] * _unit_matrix(v)
        return isotropic + 0.5 * (product + product.transpose(1, 2))

    def identity(self, like: Tensor) -> Tensor:
        return _unit_matrix(like).reshape(-1)


class RankThreeHead(EquivariantHead):
    """A symmetric tensor, Σ_k sym(g_k u_k ⊗ v_k ⊗ w_k + f_k 1 ⊗ t_k) of each atom, summed."""

    def __init__(self, quantity: Quantity, potential: Potential):
        super().__init__(quantity, potential, n_factors=4, n_gates=2)

    def contributions(self, factors: list[Tensor], gates: list[Tensor]) -> Tensor:
        u, v, w, t = factors
        product = torch.einsum("iak,ibk,ick,ik->iabc", u, v, w, gates[0])
        vector = (t * gates[1][:, None]).sum(dim=2)
        product = product + _unit_matrix(v)[None, :, :, None] * vector[:, None, None, :]
        orders = [product.permute(0, *order) for order in permutations((1, 2, 3))]
        return torch.stack(orders).mean(dim=0)

    def identity(self, like: Tensor) -> Tensor:
        return like.new_zeros(27)


def _unit_matrix(like: Tensor) -> Tensor:
    return torch.eye(3, dtype=like.dtype, device=like.device)

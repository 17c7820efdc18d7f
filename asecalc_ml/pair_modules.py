"""Lennard-Jones and Morse: the smallest potentials, with analytic answers."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from asecalc_ml.cutoffs import smooth_cutoff
from asecalc_ml.pair_potentials import LennardJones, Morse
from asecalc_ml.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.segments import segment_sum


class PairPotential(Potential):
    r"""Half of each pair's energy for each of its atoms.

    .. math:: E_i = \tfrac12 \sum_j v(r_{ij}) \, f_c(r_{ij})

    f_c is :func:`asecalc_ml.cutoffs.smooth_cutoff`. Features are the contributions themselves.
    """

    def __init__(self, cutoff: float):
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("weight", torch.ones(1, 1, dtype=torch.float64), persistent=False)

    @abstractmethod
    def pair_energy(self, distances: Tensor) -> Tensor:
        """Energy v of a pair at each distance (Å), in eV, before the cutoff function."""

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        pairs = 0.5 * self.pair_energy(distances) * smooth_cutoff(distances, self.cutoff)
        features = segment_sum(pairs[:, None], inputs.edge_index[0], inputs.n_atoms)
        return AtomOutput(features=features, contributions=features * self.weight)

    @property
    def embeddings(self) -> list[nn.Module]:
        return []

    @property
    def interactions(self) -> list[nn.Module]:
        return []

    @property
    def readout(self) -> nn.Module:
        return self

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        return self.weight, torch.zeros_like(self.weight[0])


class LennardJonesPotential(PairPotential):
    """Lennard-Jones: v(r) = 4 ε [(σ/r)¹² − (σ/r)⁶]."""

    def __init__(self, options: LennardJones):
        super().__init__(options.cutoff_A)
        self.epsilon, self.sigma = options.epsilon_eV, options.sigma_A

    def pair_energy(self, distances: Tensor) -> Tensor:
        attraction = (self.sigma / distances) ** 6
        return 4 * self.epsilon * (attraction**2 - attraction)


class MorsePotential(PairPotential):
    """Morse: v(r) = D [(1 − exp(−a (r − r₀)))² − 1], P. M. Morse, Phys. Rev. 34, 57 (1929), shifted by D."""

    def __init__(self, options: Morse):
        super().__init__(options.cutoff_A)
        self.depth, self.steepness, self.r0 = options.depth_eV, options.steepness_per_A, options.r0_A

    def pair_energy(self, distances: Tensor) -> Tensor:
        return self.depth * ((1 - torch.exp(-self.steepness * (distances - self.r0))) ** 2 - 1)

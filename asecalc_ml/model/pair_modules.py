"""Lennard-Jones, Morse and ZBL: the smallest potentials, with analytic answers."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from ase import units
from ase.data import covalent_radii
from torch import Tensor, nn

from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_sum
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput

if TYPE_CHECKING:
    from asecalc_ml.model.pair_potentials import ZBL, LennardJones, Morse


class PairPotential(Potential):
    """Half of each pair's energy for each of its atoms. Features are the contributions themselves."""

    weight: Tensor

    def __init__(self, cutoff: float):
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("weight", torch.ones(1, 1, dtype=torch.float64), persistent=False)

    @abstractmethod
    def pair_energies(self, distances: Tensor, numbers: Tensor) -> Tensor:
        """Energy of each pair in eV, zero from the cutoff on.

        Parameters
        ----------
        distances : Tensor, shape (n_edges,), Å
        numbers : Tensor, shape (2, n_edges), int64
            Atomic numbers of both atoms.
        """

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        pairs = 0.5 * self.pair_energies(distances, inputs.atomic_numbers[inputs.edge_index])
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


class OneKindOfPair(PairPotential):
    r"""All pairs alike.

    .. math:: E_i = \tfrac12 \sum_j v(r_{ij}) \, f_c(r_{ij})

    f_c is :func:`asecalc_ml.graph.cutoffs.smooth_cutoff`.
    """

    @abstractmethod
    def pair_energy(self, distances: Tensor) -> Tensor:
        """Energy v of a pair at each distance (Å), in eV, before the cutoff function."""

    def pair_energies(self, distances: Tensor, numbers: Tensor) -> Tensor:
        return self.pair_energy(distances) * smooth_cutoff(distances, self.cutoff)


class LennardJonesPotential(OneKindOfPair):
    """Lennard-Jones: v(r) = 4 ε [(σ/r)¹² − (σ/r)⁶]."""

    def __init__(self, options: LennardJones):
        super().__init__(options.cutoff_A)
        self.epsilon, self.sigma = options.epsilon_eV, options.sigma_A

    def pair_energy(self, distances: Tensor) -> Tensor:
        attraction = (self.sigma / distances) ** 6
        return 4 * self.epsilon * (attraction**2 - attraction)


class MorsePotential(OneKindOfPair):
    """Morse: v(r) = D [(1 − exp(−a (r − r₀)))² − 1], P. M. Morse, Phys. Rev. 34, 57 (1929), shifted by D."""

    def __init__(self, options: Morse):
        super().__init__(options.cutoff_A)
        self.depth, self.steepness, self.r0 = options.depth_eV, options.steepness_per_A, options.r0_A

    def pair_energy(self, distances: Tensor) -> Tensor:
        return self.depth * ((1 - torch.exp(-self.steepness * (distances - self.r0))) ** 2 - 1)


class ZBLPotential(PairPotential):
    r"""Ziegler, Biersack and Littmark's universal repulsion (1985, eqs. 9 and 10 on page 147).

    .. math::
        v(r) = \frac{e^2}{4\pi\varepsilon_0} \frac{Z_i Z_j}{r} \, \varphi(r / a), \quad
        a = \frac{0.8854\, a_0}{Z_i^{0.23} + Z_j^{0.23}}, \quad
        \varphi(x) = \sum_k c_k e^{-d_k x}

    Each pair of elements has a cutoff of its own, ``reach`` times the sum of covalent radii, where
    :func:`asecalc_ml.graph.cutoffs.smooth_cutoff` ends it. Coefficients have the five digits in which LAMMPS
    gives them (``pair_style zbl``), so that they sum to one.
    """

    COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)  # c
    EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)  # d

    radii: Tensor

    def __init__(self, options: ZBL):
        radii = options.reach * torch.from_numpy(covalent_radii)
        super().__init__(float(2 * radii.max()))
        self.register_buffer("radii", radii, persistent=False)

    def pair_energies(self, distances: Tensor, numbers: Tensor) -> Tensor:
        charges = numbers.to(distances.dtype)
        screening_length = 0.8854 * units.Bohr / (charges**0.23).sum(dim=0)
        coulomb = units.Hartree * units.Bohr * charges.prod(dim=0) / distances
        weight = smooth_cutoff(distances, self.radii[numbers].sum(dim=0))
        return coulomb * self._screening(distances / screening_length) * weight

    def _screening(self, x: Tensor) -> Tensor:
        terms = zip(self.COEFFICIENTS, self.EXPONENTS, strict=True)
        return sum((c * torch.exp(-d * x) for c, d in terms), start=torch.zeros_like(x))

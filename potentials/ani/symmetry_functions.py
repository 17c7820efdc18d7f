"""Atomic environment vectors (AEVs): radial and angular symmetry functions, by elements of the neighbors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from ase.data import atomic_numbers as number_of
from torch import Tensor, nn

from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.potential import PotentialInput

if TYPE_CHECKING:
    from asecalc_ml.potentials.ani.options import ANI

N_ELEMENTS = 119

#: In front of radial functions; not in the paper, but in the authors' program and in TorchANI.
RADIAL_PREFACTOR = 0.25

#: Times a cosine, as published networks were trained; it keeps arccos from its singular ends.
COSINE_FACTOR = 0.95


class EnvironmentVectors(nn.Module):
    """The AEV of each atom.

    ======================================================= ==============================
    Chem. Sci. 8, 3192                                      code
    ======================================================= ==============================
    f_C(r) = ½ cos(π r / R_C) + ½, eq. (2)                  :func:`cosine_cutoff`
    G^R = Σ_j exp(−η (r_ij − R_s)²) f_C(r_ij), eq. (3)      :meth:`_radial`
    G^A = 2^{1−ζ} Σ_{j,k≠i} (1 + cos(θ_ijk − θ_s))^ζ ·      :meth:`_angular`
    exp(−η ((r_ij + r_ik)/2 − R_s)²) f_C(r_ij) f_C(r_ik),
    eq. (4); each pair of neighbors once
    ======================================================= ==============================

    Blocks are ordered as TorchANI's: radial functions for each element of j, angular ones for each pair of
    elements (H H, H C, ..., C C, ...) with radial shifts outside and angles inside.

    Parameters
    ----------
    options : ANI
    """

    radial_shifts: Tensor
    angular_shifts: Tensor
    cos_sections: Tensor
    sin_sections: Tensor
    element_index: Tensor
    pair_index: Tensor
    missing: Tensor

    def __init__(self, options: ANI):
        super().__init__()
        self.cutoff, self.angular_cutoff = options.cutoff_A, options.angular_cutoff_A
        self.radial_eta, self.angular_eta = options.radial_eta_per_A2, options.angular_eta_per_A2
        self.zeta, self.n_elements = options.zeta, len(options.elements)
        self.n_pairs = self.n_elements * (self.n_elements + 1) // 2
        n_angular = options.n_angular_shifts * options.n_sections
        self.n_features = self.n_elements * options.n_radial + self.n_pairs * n_angular
        sections = (
            math.pi * (torch.arange(options.n_sections, dtype=torch.float64) + 0.5) / options.n_sections
        )
        tensors = {
            "radial_shifts": _shifts(options.radial_start_A, options.cutoff_A, options.n_radial),
            "angular_shifts": _shifts(
                options.angular_start_A, options.angular_cutoff_A, options.n_angular_shifts
            ),
            "cos_sections": sections.cos(),
            "sin_sections": sections.sin(),
            "element_index": _element_index(options.elements),
            "pair_index": _pair_index(self.n_elements),
            "missing": _missing(options.elements),
        }
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, inputs: PotentialInput) -> Tensor:
        """AEVs, shape (n_atoms, n_features); NaN for elements that have no network."""
        elements = self.element_index[inputs.atomic_numbers]
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        vectors = torch.cat(
            [self._radial(inputs, elements, distances), self._angular(inputs, elements, distances)], dim=1
        )
        return (vectors + self.missing[inputs.atomic_numbers][:, None]).to(distances.dtype)

    def _radial(self, inputs: PotentialInput, elements: Tensor, distances: Tensor) -> Tensor:
        # Equation (3): Gaussians around the shifts R_s, weighted with f_C.
        gauss = torch.exp(-self.radial_eta * (distances[:, None] - self.radial_shifts) ** 2)
        terms = RADIAL_PREFACTOR * gauss * cosine_cutoff(distances, self.cutoff)[:, None]
        # A sum over the neighbors of each element.
        centres, neighbors = inputs.edge_index
        return self._summed(terms, centres, elements[neighbors], inputs.n_atoms, self.n_elements)

    def _angular(self, inputs: PotentialInput, elements: Tensor, distances: Tensor) -> Tensor:
        # Both distances of each pair of neighbors, and cos θ = r_ij · r_ik / (r_ij r_ik).
        assert inputs.triplets is not None
        first, second = inputs.triplets
        r, s = take(distances, first), take(distances, second)
        products = take(inputs.edge_vectors, first) * take(inputs.edge_vectors, second)
        terms = self._angular_terms(r, s, products.sum(dim=1) / (r * s))
        # A sum over the pairs of neighbors of each unordered pair of elements.
        neighbors = inputs.edge_index[1]
        pairs = self.pair_index[elements[neighbors[first]], elements[neighbors[second]]]
        return self._summed(terms, inputs.edge_index[0][first], pairs, inputs.n_atoms, self.n_pairs)

    def _angular_terms(self, r: Tensor, s: Tensor, cosines: Tensor) -> Tensor:
        """Equation (4) of each triplet, shape (n_triplets, n_angular_shifts n_sections).

        cos(θ − θ_s) = cos θ cos θ_s + sin θ sin θ_s: no arccos, and the sine is never below 0.3.
        """
        cosines = COSINE_FACTOR * cosines[:, None]
        sines = (1 - cosines**2).sqrt()
        turned = cosines * self.cos_sections + sines * self.sin_sections
        # 2^{1−ζ} (1 + cos(θ − θ_s))^ζ
        angular = 2 * ((1 + turned) / 2) ** self.zeta
        # exp(−η ((r_ij + r_ik) / 2 − R_s)²), and the cutoff functions of both distances.
        gauss = torch.exp(-self.angular_eta * ((r + s)[:, None] / 2 - self.angular_shifts) ** 2)
        weights = cosine_cutoff(r, self.angular_cutoff) * cosine_cutoff(s, self.angular_cutoff)
        # Every radial shift with every angle θ_s.
        return ((weights[:, None] * gauss)[:, :, None] * angular[:, None, :]).flatten(1)

    @staticmethod
    def _summed(terms: Tensor, centres: Tensor, kinds: Tensor, n_atoms: int, n_kinds: int) -> Tensor:
        """Sum of terms over each centre's neighbors of each kind, a block for each kind."""
        return segment_sum(terms, centres * n_kinds + kinds, n_atoms * n_kinds).reshape(n_atoms, -1)


def cosine_cutoff(distances: Tensor, cutoff: float) -> Tensor:
    """Weight that goes from 1 at zero to 0 at the cutoff, equation (2), and stays there."""
    return 0.5 * torch.cos(math.pi * (distances / cutoff).clamp(max=1.0)) + 0.5


def _shifts(start: float, end: float, n: int) -> Tensor:
    """From the start in equal steps, the end left out."""
    return start + (end - start) / n * torch.arange(n, dtype=torch.float64)


def _element_index(elements: list[str]) -> Tensor:
    """Place in the list of elements by atomic number; those that are not in it have any."""
    index = torch.zeros(N_ELEMENTS, dtype=torch.int64)
    index[[number_of[symbol] for symbol in elements]] = torch.arange(len(elements))
    return index


def _missing(elements: list[str]) -> Tensor:
    """Zero for the elements, and NaN for others: a network that is not there gives no number."""
    missing = torch.full((N_ELEMENTS,), torch.nan, dtype=torch.float64)
    missing[[number_of[symbol] for symbol in elements]] = 0.0
    return missing


def _pair_index(n_elements: int) -> Tensor:
    """Number of each unordered pair of elements, (0, 0), (0, 1), ..., (1, 1), ..."""
    rows, columns = torch.triu_indices(n_elements, n_elements)
    index = torch.empty(n_elements, n_elements, dtype=torch.int64)
    index[rows, columns] = index[columns, rows] = torch.arange(len(rows))
    return index

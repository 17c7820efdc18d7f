"""Spherical Bessel descriptors: power spectrum of the neighbors' density, for each pair of elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.polynomial.chebyshev import chebinterpolate
from numpy.typing import NDArray
from torch import Tensor, nn

from asecalc_ml.graph.segments import segment_sum
from asecalc_ml.potentials.neuralil.solid_harmonics import solid_harmonics
from asecalc_ml.potentials.neuralil.spherical_bessel import radial_functions
from asecalc_ml.potentials.shared.layers import ExactConstants

if TYPE_CHECKING:
    from asecalc_ml.potentials.neuralil.options import NeuralIL


class PowerSpectrum(nn.Module):
    r"""Power spectrum of each atom's neighbors.

    .. math::
        c^i_{Znlm} = \sum_{j \in Z} g_{nl}(r_{ij}) \, Y_{lm}(\hat r_{ij}), \qquad
        p^i_{ZZ'nl} = \sum_m c^i_{Znlm} \, c^i_{Z'nlm}
        = \frac{2l + 1}{4\pi} \sum_{j \in Z} \sum_{k \in Z'} g_{nl}(r_{ij}) \, g_{nl}(r_{ik}) \,
        P_l(\cos\theta_{jik})

    for Z up to Z' in the order of the elements and n + l up to n_max. The right-hand side is what Kocer,
    Mason and Erturk define; by the addition theorem of spherical harmonics the middle one is the same, and
    its cost is linear in the number of neighbors.

    Parameters
    ----------
    options : NeuralIL
    """

    def __init__(self, options: NeuralIL):
        super().__init__()
        self.cutoff, self.n_max = options.cutoff_A, options.n_max
        self.n_elements = len(options.elements)
        self.radial = RadialPolynomials(options.n_max, options.cutoff_A)
        n_pairs = self.n_elements * (self.n_elements + 1) // 2
        self.n_features = n_pairs * (options.n_max + 1) * (options.n_max + 2) // 2

    def forward(self, slots: Tensor, edge_index: Tensor, edge_vectors: Tensor) -> Tensor:
        """Descriptors of each atom.

        Parameters
        ----------
        slots : Tensor, shape (n_atoms,), int64
            Places of the atoms' elements in the order of the elements.
        edge_index : Tensor, shape (2, n_edges), int64
        edge_vectors : Tensor, shape (n_edges, 3), Å

        Returns
        -------
        Tensor, shape (n_atoms, n_features), Å⁻³
        """
        # c^i_{Znlm}: one row for each atom and element of its neighbors, by l.
        centres, neighbors = edge_index
        rows = centres * self.n_elements + slots[neighbors]
        expansions = [
            segment_sum(values, rows, slots.shape[0] * self.n_elements)
            for values in self._expanded(edge_vectors / self.cutoff)
        ]
        return torch.cat([self._spectrum(expansion) for expansion in expansions], dim=1)

    def _expanded(self, vectors: Tensor) -> list[Tensor]:
        """For each l: g_nl Y_lm of each edge, shape (n_edges, n_max - l + 1, 2 l + 1)."""
        radial = self.radial((vectors * vectors).sum(dim=1))
        angular = solid_harmonics(vectors, self.n_max)
        return [g[:, :, None] * y[:, None, :] for g, y in zip(radial, angular, strict=True)]

    def _spectrum(self, expansion: Tensor) -> Tensor:
        """Sums over m of products, from (n_atoms * n_elements, n_n, n_m) to (n_atoms, n_pairs * n_n)."""
        # Σ_m c_{Znlm} c_{Z'nlm} of each element Z with itself and the elements Z' after it.
        c = expansion.unflatten(0, (-1, self.n_elements))
        pairs = [(c[:, k : k + 1] * c[:, k:]).sum(dim=3) for k in range(self.n_elements)]
        return torch.cat(pairs, dim=1).flatten(start_dim=1)


class RadialPolynomials(nn.Module):
    r"""Radial functions without their power of the distance, :math:`g_{nl}(r) / x^l` with x = r / r_cut.

    These are entire functions of x². Chebyshev polynomials in 2 x² - 1 hold them to rounding, also where
    closed forms of spherical Bessel functions divide small differences by powers of x, and have
    derivatives everywhere.

    Parameters
    ----------
    n_max : int
    cutoff : float, Å
    """

    def __init__(self, n_max: int, cutoff: float):
        super().__init__()
        self.sizes = [n_max - l + 1 for l in range(n_max + 1)]  # noqa: E741
        self.coefficients = ExactConstants(_coefficients(n_max, cutoff))

    def forward(self, squares: Tensor) -> tuple[Tensor, ...]:
        """From x², shape (n_edges,), to values, for each l of shape (n_edges, n_max - l + 1)."""
        coefficients = self.coefficients.values
        values = _chebyshev(2 * squares - 1, coefficients.shape[0]) @ coefficients
        return values.split(self.sizes, dim=1)


def _coefficients(n_max: int, cutoff: float) -> NDArray:
    """Chebyshev coefficients of all radial functions, shape (n_terms, (n_max + 1)(n_max + 2) / 2).

    The highest frequency is that of l = 0, about (n_max + 2) π x: as many terms as that, and 16 to spare.
    """
    degree = 2 ** int(np.ceil(np.log2((n_max + 2) * np.pi / 2 + 16)))
    columns = []
    for l in range(n_max + 1):  # noqa: E741

        def values(t: NDArray, l: int = l) -> NDArray:  # noqa: E741
            x = np.sqrt((1 + t) / 2)
            return (radial_functions(l, n_max - l + 1, x * cutoff, cutoff) / x**l).T

        # NumPy's stub knows functions of one value alone
        columns.append(chebinterpolate(values, degree))  # type: ignore[type-var]
    return np.concatenate(columns, axis=1)


def _chebyshev(t: Tensor, n_terms: int) -> Tensor:
    """Chebyshev polynomials of order 0 to a power of two, shape (n, n_terms).

    T_(K+m) = 2 T_K T_m - T_(K-m) doubles their number in each step.
    """
    rows = torch.stack([torch.ones_like(t), t], dim=1)
    while rows.shape[1] < n_terms:
        more = 2 * rows[:, -1:] * rows[:, 1:] - rows[:, :-1].flip(1)
        rows = torch.cat([rows, more], dim=1)
    return rows

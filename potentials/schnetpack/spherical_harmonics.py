"""Real spherical harmonics and their products, exact in any floating-point type.

Upstream keeps its tables in single precision, so that its energies in float64 change, by some 10⁻¹⁰ of their
size, when a molecule is turned. Its powers of tensors have a derivative that reads values on the host. The
functions are the same, in upstream's order: l = 0, 1, ..., and within it m = −l, ..., l.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.polynomial import legendre, polynomial
from torch import Tensor, nn

from asecalc_ml._lazy import renamed
from asecalc_ml.potentials.shared.layers import ExactConstants


class SphericalHarmonics(nn.Module):
    r"""Orthonormal real spherical harmonics of unit vectors.

    .. math::
        Y_{lm} = \sqrt{\frac{2l+1}{2\pi}} \, \Pi_{l|m|}(z) \cdot
        \begin{cases} \mathrm{Im}\,(x+iy)^{|m|} & m < 0 \\ 1/\sqrt 2 & m = 0 \\ \mathrm{Re}\,(x+iy)^m & m > 0
        \end{cases}
        \qquad \Pi_{lm}(z) = \sqrt{\frac{(l-m)!}{(l+m)!}} \, \frac{d^m P_l(z)}{dz^m}

    with Legendre's polynomials P (en.wikipedia.org/wiki/Spherical_harmonics#Real_forms).

    Parameters
    ----------
    lmax : int
    """

    def __init__(self, lmax: int):
        super().__init__()
        self.lmax = lmax
        self.polynomials = ExactConstants(np.stack([_polynomial(*lm, lmax) for lm in degrees(lmax)], axis=1))

    def forward(self, directions: Tensor) -> Tensor:
        """Of unit vectors (n_edges, 3), shape (n_edges, (lmax + 1)²)."""
        x, y, z = directions.unbind(dim=1)
        one = torch.ones_like(z)
        # 1, z, ..., z^lmax, and Re and Im of (x + iy)^m.
        powers, azimuthal, real, imaginary = [one], {0: math.sqrt(0.5) * one}, one, 0 * one
        for m in range(1, self.lmax + 1):
            powers.append(powers[-1] * z)
            real, imaginary = real * x - imaginary * y, real * y + imaginary * x
            azimuthal |= {m: real, -m: imaginary}
        # Π_{l|m|}(z) as a polynomial, times the part of m.
        azimuthal_part = torch.stack([azimuthal[m] for _, m in degrees(self.lmax)], dim=1)
        return torch.stack(powers, dim=1) @ self.polynomials.values * azimuthal_part


def degrees(lmax: int) -> list[tuple[int, int]]:
    """(l, m) of each spherical harmonic, in order."""
    return [(degree, m) for degree in range(lmax + 1) for m in range(-degree, degree + 1)]


def expand_degrees(values: Tensor) -> Tensor:
    """One row for each (l, m), shape (n, (lmax + 1)², n_features), of one for each l."""
    rows = [row[:, None].expand(-1, 2 * degree + 1, -1) for degree, row in enumerate(values.unbind(dim=1))]
    return torch.cat(rows, dim=1)


def _polynomial(degree: int, m: int, lmax: int) -> np.ndarray:
    """Coefficients of 1, z, ..., z^lmax, with the normalization."""
    m = abs(m)
    coefficients = polynomial.polyder(legendre.leg2poly(np.eye(lmax + 1)[degree]), m)[: degree - m + 1]
    norm = (2 * degree + 1) / (2 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m)
    return math.sqrt(norm) * np.pad(coefficients, (0, lmax + 1 - len(coefficients)))


@functools.cache
def clebsch_gordan(lmax: int) -> np.ndarray:
    r"""Clebsch-Gordan coefficients of real spherical harmonics, where l₁ + l₂ + l₃ is even.

    From integrals over products of three harmonics, which a quadrature gives exactly:

    .. math::
        \int Y_1 Y_2 Y_3 = \sqrt{\frac{(2l_1+1)(2l_2+1)}{4\pi(2l_3+1)}} \; C^{l_3 0}_{l_1 0 l_2 0} \; C_{123}

    The others, which would tell mirror images apart, are zero, as upstream has it.

    Returns
    -------
    ndarray, shape ((lmax + 1)², (lmax + 1)², (lmax + 1)²), float64
        The last index is the product's.
    """
    # ∫ Y_1 Y_2 Y_3 of all triples.
    harmonics, weights = _quadrature(lmax)
    integrals = np.einsum("p,pa,pb,pc->abc", weights, harmonics, harmonics, harmonics)
    of_each = np.array([degree for degree, _ in degrees(lmax)])
    l1, l2, l3 = of_each[:, None, None], of_each[:, None], of_each
    # Those with m = 0 give the squares of C^{l3 0}_{l1 0 l2 0}, the sign of which is known.
    norm = np.sqrt((2 * l1 + 1) * (2 * l2 + 1) / (4 * np.pi * (2 * l3 + 1)))
    middle = of_each**2 + of_each  # of m = 0
    squares = integrals[np.ix_(middle, middle, middle)] / norm
    allowed = squares > 1e-12
    sign = (-1.0) ** ((l1 + l2 - l3) // 2)
    # Dividing by it leaves C_123; rounding errors are set to zero.
    coefficients = np.where(allowed, sign * integrals / (norm * np.sqrt(np.where(allowed, squares, 1))), 0)
    return np.where(np.abs(coefficients) > 1e-12, coefficients, 0)


def _quadrature(lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Harmonics at points on the sphere, and weights, exact for products of three."""
    # Gauss-Legendre points in z = cos θ, and even spacing in the azimuth.
    z, weights = legendre.leggauss(2 * lmax + 1)
    n_angles = 3 * lmax + 1
    z, angle = (
        part.ravel() for part in np.meshgrid(z, 2 * np.pi / n_angles * np.arange(n_angles), indexing="ij")
    )
    rho = np.sqrt(1 - z**2)
    points = torch.from_numpy(np.stack([rho * np.cos(angle), rho * np.sin(angle), z], axis=1))
    harmonics = SphericalHarmonics(lmax).to(torch.float64)(points).numpy()
    return harmonics, np.repeat(weights, n_angles) * 2 * np.pi / n_angles


__getattr__ = renamed(__name__, {"Table": "ExactConstants"})

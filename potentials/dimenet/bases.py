"""Bases of DimeNet: radial Bessel functions, and spherical Bessel functions times spherical harmonics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import spherical_jn
from torch import Tensor, nn

from asecalc_ml._lazy import renamed
from asecalc_ml.potentials.shared.radial_basis import bessel_zeros

if TYPE_CHECKING:
    from asecalc_ml.potentials.dimenet.options import DimeNetPlusPlus


class BesselBasis(nn.Module):
    """sin(n π x) u(x) / x with x = d / c and trained n π; equations (7) and (8) of arXiv:2003.03123.

    The constant factor of equation (7), √(2/c) / c, is left to the weights, as in the authors' code.

    Parameters
    ----------
    options : DimeNetPlusPlus
    """

    def __init__(self, options: DimeNetPlusPlus):
        super().__init__()
        self.exponent = options.envelope_exponent
        self.frequencies = nn.Parameter(math.pi * torch.arange(1.0, options.n_radial + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Values for scaled distances, shape (n_edges, n_radial)."""
        return (envelope(x, self.exponent) / x)[:, None] * torch.sin(x[:, None] * self.frequencies)


class SphericalBasis(nn.Module):
    """j_l(z_ln x) Y_l0(α) with x = d / c and z_ln the zeros of j_l; equation (6) of arXiv:2003.03123.

    As in the authors' code, √(2 / (c³ j²_{l+1}(z_ln))) has no c³, the envelope is u(x) / x, and α is the
    angle between the directions of two messages, π − ∠kji: zero where they go straight on.

    Parameters
    ----------
    options : DimeNetPlusPlus
    """

    def __init__(self, options: DimeNetPlusPlus):
        super().__init__()
        self.exponent = options.envelope_exponent
        # Zeros z_ln of j_l, and the constants √2 / |j_{l+1}(z_ln)| and √((2l + 1) / 4π).
        zeros = bessel_zeros(options.n_spherical, options.n_radial)
        orders = np.arange(options.n_spherical)
        radial_norms = math.sqrt(2) / np.abs(spherical_jn(orders[:, None] + 1, zeros))
        norms = radial_norms * np.sqrt((2 * orders[:, None] + 1) / (4 * math.pi))  # the latter of Y_l0
        self.zeros: Tensor
        self.norms: Tensor
        self.register_buffer("zeros", torch.from_numpy(zeros), persistent=False)
        self.register_buffer("norms", torch.from_numpy(norms), persistent=False)

    def radial(self, x: Tensor) -> Tensor:
        """All but P_l(cos α), shape (n_edges, n_spherical, n_radial)."""
        values = self.norms * spherical_bessel(x[:, None, None] * self.zeros)
        return (envelope(x, self.exponent) / x)[:, None, None] * values.to(x.dtype)

    def angular(self, cosines: Tensor) -> Tensor:
        """P_l(cos α), shape (n_triplets, n_spherical, 1)."""
        return legendre(cosines, len(self.zeros))[:, :, None]


def envelope(x: Tensor, p: int) -> Tensor:
    """Polynomial u(x) that goes from 1 to 0 at x = 1 with two continuous derivatives; equation (8)."""
    return 1 - x**p * ((p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x**2)


def spherical_bessel(arguments: Tensor) -> Tensor:
    """j_l of each row l of the arguments, by upward recursion.

    In float64: it loses digits where the argument is much smaller than the order.

    Parameters
    ----------
    arguments : Tensor, shape (n, n_orders, n_radial)

    Returns
    -------
    Tensor, shape (n, n_orders, n_radial), float64
    """
    x = arguments.double()
    sines, cosines = x.sin(), x.cos()
    before, values = cosines / x, sines / x  # j_{-1} and j_0
    orders = []
    for order in range(x.shape[1]):
        orders.append(values[:, order])
        # j_{l+1} = (2l + 1) j_l / x − j_{l−1}
        before, values = values, (2 * order + 1) / x * values - before
    return torch.stack(orders, dim=1)


def legendre(x: Tensor, n_orders: int) -> Tensor:
    """Legendre polynomials P_0, P_1, ... by recursion, shape (n, n_orders)."""
    before, values = torch.zeros_like(x), torch.ones_like(x)
    orders = []
    for order in range(n_orders):
        orders.append(values)
        # (l + 1) P_{l+1} = (2l + 1) x P_l − l P_{l−1}
        before, values = values, ((2 * order + 1) * x * values - order * before) / (order + 1)
    return torch.stack(orders, dim=1)


__getattr__ = renamed(__name__, {"RadialBasis": "BesselBasis"})

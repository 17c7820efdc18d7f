"""Distances as vectors: Gaussians at even spacing, and the zeros of spherical Bessel functions."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn
from torch import Tensor, nn


class GaussianBasis(nn.Module):
    r"""Gaussians of a distance at even spacing.

    .. math:: \exp(-(d - \mu_k)^2 / 2 \sigma^2) \qquad \mu_k = \mu_0 + k \, \Delta\mu

    It has no parameters and no buffers: centres are counted in steps, so that they are as exact as the
    type of the distances.

    Parameters
    ----------
    first_A : float
        Centre of the first Gaussian.
    last_A : float
        No centre lies further out.
    spacing_A : float
        From centre to centre.
    width_A : float
        Standard deviation σ.

    Examples
    --------
    >>> GaussianBasis(0.0, 5.0, spacing_A=0.5, width_A=0.5).n_functions
    11
    """

    def __init__(self, first_A: float, last_A: float, spacing_A: float, width_A: float):
        super().__init__()
        self.first_A, self.spacing_A = first_A, spacing_A
        self.n_functions = 1 + int((last_A - first_A) / spacing_A + 1e-6)
        self.exponent = -0.5 * (spacing_A / width_A) ** 2

    def forward(self, distances: Tensor) -> Tensor:
        """From distances, shape (n_edges,), Å, to values, shape (n_edges, n_functions)."""
        steps = torch.arange(self.n_functions, dtype=distances.dtype, device=distances.device)
        offsets = (distances[:, None] - self.first_A) / self.spacing_A - steps
        return (self.exponent * offsets**2).exp()

    def extra_repr(self) -> str:
        return f"{self.n_functions} from {self.first_A} Å every {self.spacing_A} Å"


def bessel_zeros(n_orders: int, n_zeros: int) -> np.ndarray:
    """First positive zeros of the spherical Bessel functions j_0, j_1, ..., shape (n_orders, n_zeros).

    Examples
    --------
    >>> bessel_zeros(2, 2).round(3)
    array([[3.142, 6.283],
           [4.493, 7.725]])
    """
    # Zeros of j_0 = sin(u) / u. Each higher order loses one, so more are needed at the start.
    zeros = np.pi * np.arange(1, n_zeros + n_orders)
    rows = [zeros[:n_zeros]]
    for order in range(1, n_orders):
        # j_l has exactly one zero between two neighboring zeros of j_{l-1}.
        bessel = partial(spherical_jn, order)
        zeros = np.array([brentq(bessel, *ends, xtol=1e-14) for ends in pairwise(zeros)])
        rows.append(zeros[:n_zeros])
    return np.array(rows)

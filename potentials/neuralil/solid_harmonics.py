r"""Real solid harmonics, polynomials in x, y and z: no angle and no division by a distance."""

from __future__ import annotations

from math import factorial, pi, sqrt

import torch
from torch import Tensor


def solid_harmonics(vectors: Tensor, l_max: int) -> list[Tensor]:
    r"""Real solid harmonics :math:`r^l Y_{lm}`, orthonormal on the unit sphere.

    .. math::
        r^l Y_{lm} = \sqrt{\frac{2l + 1}{2\pi} \frac{(l - |m|)!}{(l + |m|)!}} \; Q_l^{|m|}(z, r^2) \times
        \begin{cases}
            \mathrm{Im}\,(x + iy)^{|m|} & m < 0 \\
            1 / \sqrt{2} & m = 0 \\
            \mathrm{Re}\,(x + iy)^{m} & m > 0
        \end{cases}

    with :math:`Q_m^m = (2m - 1)!!`, :math:`Q_{m+1}^m = (2m + 1) z Q_m^m` and
    :math:`(l - m) Q_l^m = (2l - 1) z Q_{l-1}^m - (l + m - 1) r^2 Q_{l-2}^m`. Signs of odd m are those
    without the Condon-Shortley phase. Source: Bigi, Fraux, Browning and Ceriotti, J. Chem. Phys. 159,
    064802 (2023).

    Parameters
    ----------
    vectors : Tensor, shape (n, 3)
    l_max : int

    Returns
    -------
    list of Tensor, shapes (n, 2 l + 1)
        For l = 0 ... l_max, with m = -l ... l.
    """
    x, y, z = vectors.unbind(dim=1)
    squares = x * x + y * y + z * z
    # Re and Im of (x + iy)^m.
    real, imaginary = [torch.ones_like(x)], [torch.zeros_like(x)]
    for _ in range(l_max):
        real, imaginary = (
            [*real, x * real[-1] - y * imaginary[-1]],
            [*imaginary, x * imaginary[-1] + y * real[-1]],
        )
    # Q_l^m(z, r²) for each m.
    q = [_q(m, l_max, z, squares) for m in range(l_max + 1)]

    def harmonic(l: int, m: int) -> Tensor:  # noqa: E741
        k = abs(m)
        norm = sqrt((2 * l + 1) / (2 * pi) * factorial(l - k) / factorial(l + k))
        if m == 0:
            return norm / sqrt(2) * q[0][l]
        return norm * q[k][l - k] * (real if m > 0 else imaginary)[k]

    return [
        torch.stack([harmonic(l, m) for m in range(-l, l + 1)], dim=1)
        for l in range(l_max + 1)  # noqa: E741
    ]


def _q(m: int, l_max: int, z: Tensor, squares: Tensor) -> list[Tensor]:
    """Q_m^m, Q_(m+1)^m, ... up to l_max."""
    values = [torch.full_like(z, factorial(2 * m) / (2**m * factorial(m)))]
    for l in range(m + 1, l_max + 1):  # noqa: E741
        value = (2 * l - 1) * z * values[-1]
        if l > m + 1:
            value = value - (l + m - 1) * squares * values[-2]
        values.append(value / (l - m))
    return values

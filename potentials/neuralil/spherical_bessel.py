r"""Radial functions of the spherical Bessel descriptors, in float64.

With u_ln the n-th positive root of the spherical Bessel function j_l, counted from 0, and
x = r / r_cut,

.. math::
    f_{nl}(r) = \sqrt{\frac{2}{r_{cut}^3 (u_{ln}^2 + u_{l,n+1}^2)}} \left[
        \frac{u_{l,n+1}}{j_{l+1}(u_{ln})} j_l(u_{ln} x) - \frac{u_{ln}}{j_{l+1}(u_{l,n+1})} j_l(u_{l,n+1} x)
    \right]

is normalised and zero at the cutoff with its first two derivatives: with j_l = 0 there,
j_l' = -j_{l+1}, and Bessel's equation gives j_l'' = -2 j_l' / u, both terms are the same but for
the sign. The third derivative is not zero. g_nl are these made orthogonal, with

.. math::
    e_n = \frac{u_{l,n-1}^2 u_{l,n+1}^2}{(u_{l,n-1}^2 + u_{ln}^2)(u_{ln}^2 + u_{l,n+1}^2)}, \quad
    d_0 = 1, \quad d_n = 1 - \frac{e_n}{d_{n-1}}, \quad
    g_{nl} = \frac{1}{\sqrt{d_n}} \left( f_{nl} + \sqrt{\frac{e_n}{d_{n-1}}} \, g_{n-1,l} \right)

Source: Kocer, Mason and Erturk, AIP Adv. 10, 015021 (2020), arXiv:1907.02374.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import spherical_jn

from asecalc_ml.potentials.shared.radial_basis import bessel_zeros


def radial_functions(l: int, n_functions: int, distances: NDArray, cutoff: float) -> NDArray:  # noqa: E741
    """Values of g_0l, g_1l, ... inside the cutoff.

    Parameters
    ----------
    distances : ndarray, shape (n,), Å

    Returns
    -------
    ndarray, shape (n_functions, n), Å^(-3/2)
    """
    # j_l(u_ln x) / j_{l+1}(u_ln) for each root u_ln.
    u = bessel_zeros(l + 1, n_functions + 1)[l]
    bessel = spherical_jn(l, u[:, None] * distances / cutoff) / spherical_jn(l + 1, u)[:, None]
    # f_nl from the n-th and the next root.
    squares = u**2
    norms = np.sqrt(2 / (cutoff**3 * (squares[:-1] + squares[1:])))
    f = norms[:, None] * (u[1:, None] * bessel[:-1] - u[:-1, None] * bessel[1:])
    return _orthogonal(f, squares)


def _orthogonal(f: NDArray, squares: NDArray) -> NDArray:
    g, d_before = [f[0]], 1.0
    for n in range(1, len(f)):
        # e_n and d_n, then g_nl from f_nl and g_{n−1,l}.
        before, own, after = squares[n - 1 : n + 2]
        e = before * after / ((before + own) * (own + after))
        d = 1 - e / d_before
        g.append((f[n] + np.sqrt(e / d_before) * g[-1]) / np.sqrt(d))
        d_before = d
    return np.array(g)

"""Functions that take interactions smoothly to zero at the cutoff."""

from torch import Tensor


def smooth_cutoff(distances: Tensor, cutoff: float | Tensor) -> Tensor:
    """Weight that goes from 1 at zero to 0 at the cutoff with two continuous derivatives.

    1 - 6 x^5 + 15 x^4 - 10 x^3 with x = r / r_cut: PhysNet, Unke and Meuwly, J. Chem. Theory
    Comput. 15, 3678 (2019).

    Parameters
    ----------
    distances : Tensor, shape (n_edges,), Å
    cutoff : float, or Tensor of shape (n_edges,), Å

    Returns
    -------
    Tensor, shape (n_edges,), dimensionless
    """
    x = (distances / cutoff).clamp(max=1.0)
    # The same polynomial, and exactly zero at the cutoff, where 1 - 6 x^5 + ... would leave rounding.
    return (1 - x) ** 3 * (1 + 3 * x + 6 * x**2)

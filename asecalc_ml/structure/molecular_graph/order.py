"""An order of the atoms of a molecule that follows from its geometry alone."""

from __future__ import annotations

import numpy as np
from ase.units import Bohr

#: Decimals of the norms: atoms that a symmetry of the molecule exchanges keep their order.
DECIMALS = 8


def canonical_order(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    r"""Numbers of the atoms, by the norm of their row of the Coulomb matrix, the largest first.

    The rows of :math:`M_{ii} = Z_i^{2.4} / 2`, :math:`M_{ij} = Z_i Z_j / d_{ij}` (atomic units) are sorted as
    in K. Hansen et al., J. Chem. Theory Comput. 9, 3404 (2013). Neither a rotation nor another order of the
    atoms changes the result, but for atoms that a symmetry of the molecule exchanges.

    Parameters
    ----------
    numbers : ndarray of int, shape (n_atoms,)
    positions : ndarray, shape (n_atoms, 3), Å

    Returns
    -------
    ndarray of int, shape (n_atoms,)
    """
    charges = numbers.astype(float)
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1) / Bohr
    np.fill_diagonal(distances, 1.0)
    matrix = charges[:, None] * charges / distances
    np.fill_diagonal(matrix, 0.5 * charges**2.4)
    norms = np.linalg.norm(matrix, axis=1).round(DECIMALS)
    return np.argsort(-norms, kind="stable")

"""Dipoles from partial charges: Σ q_i (x_i − x_0) with x_0 the centre of mass.

For a neutral molecule the origin does not matter. For an ion it does, and is the centre of mass here.
"""

import numpy as np
from ase import Atoms


def from_centre_of_mass(atoms: Atoms) -> np.ndarray:
    """Positions relative to the centre of mass, shape (n_atoms, 3), Å."""
    return atoms.positions - atoms.get_center_of_mass()


def dipole_of(charges: np.ndarray, atoms: Atoms) -> np.ndarray:
    """Dipole of a molecule, shape (3,), e Å.

    Parameters
    ----------
    charges : array, shape (n_atoms,), e
    """
    return charges @ from_centre_of_mass(atoms)

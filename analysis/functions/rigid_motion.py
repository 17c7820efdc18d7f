"""Whether the whole moves and turns, beside the motion inside it."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from asecalc_ml.structure.constraints import n_removed
from asecalc_ml.structure.rigid_motions import axes_of_rotation, is_linear, rotations, translations

AT_REST = 1e-6  # of the kinetic energy


class RigidMotion:
    """Adds up kinetic energies: of all atoms, and of free translations and rotations of the whole.

    Parameters
    ----------
    atoms : Atoms
        The starting structure.
    """

    def __init__(self, atoms: Atoms):
        self._atoms, self._masses = atoms, atoms.get_masses()[:, None]
        self._directions, self._axes = translations(atoms), axes_of_rotation(atoms)
        self._energies = np.zeros(3)

    def add(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Take frames, each array of shape (n_frames, n_atoms, 3)."""
        momenta, mass = self._masses * velocities, self._masses.sum()
        whole = momenta.sum(axis=1) @ self._directions.T
        centred = positions - (self._masses * positions).sum(axis=1, keepdims=True) / mass
        angular = np.cross(centred, momenta).sum(axis=1) @ self._axes.T
        inertia = self._axes @ self._inertia(centred) @ self._axes.T
        inverse = np.linalg.pinv(inertia, rcond=1e-9, hermitian=True)
        self._energies += (
            (momenta * velocities).sum(),
            (whole**2).sum() / mass,
            np.einsum("fi,fij,fj->", angular, inverse, angular),
        )

    def _inertia(self, centred: np.ndarray) -> np.ndarray:
        products = np.einsum("fai,faj->fij", self._masses * centred, centred)
        return np.trace(products, axis1=1, axis2=2)[:, None, None] * np.eye(3) - products

    @property
    def n_degrees(self) -> int:
        """Degrees of freedom that move: 3N without constraints, and without what is at rest of the whole."""
        every, drifting, turning = self._energies
        still = len(translations(self._atoms)) * (drifting <= AT_REST * every)
        still += len(rotations(self._atoms, is_linear(self._atoms))) * (turning <= AT_REST * every)
        return 3 * len(self._atoms) - n_removed(self._atoms) - still

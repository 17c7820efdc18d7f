"""Degrees of freedom that move in a run: whether its structure as a whole drifts or turns."""

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
        # momentum P of the whole along the directions in which it can drift
        momenta, mass = self._masses * velocities, self._masses.sum()
        whole = momenta.sum(axis=1) @ self._directions.T
        # angular momentum L and tensor of inertia I about the axes around which it can turn
        centred = positions - (self._masses * positions).sum(axis=1, keepdims=True) / mass
        angular = np.cross(centred, momenta).sum(axis=1) @ self._axes.T
        inertia = self._axes @ self._inertia(centred) @ self._axes.T
        # an axis on which all atoms lie has no moment of inertia, and no energy
        inverse = np.linalg.pinv(inertia, rcond=1e-9, hermitian=True)
        # twice the kinetic energies: Σ m v², P²/M and Lᵀ I⁻¹ L
        self._energies += (
            (momenta * velocities).sum(),
            (whole**2).sum() / mass,
            np.einsum("fi,fij,fj->", angular, inverse, angular),
        )

    def _inertia(self, centred: np.ndarray) -> np.ndarray:
        """Tensors of inertia Σ m (r² 1 − r rᵀ), shape (n_frames, 3, 3)."""
        products = np.einsum("fai,faj->fij", self._masses * centred, centred)
        return np.trace(products, axis1=1, axis2=2)[:, None, None] * np.eye(3) - products

    @property
    def n_degrees(self) -> int:
        """Degrees of freedom that move: 3N without constraints, and without what is at rest of the whole."""
        kinetic, drifting, turning = self._energies
        n_at_rest = len(translations(self._atoms)) * bool(drifting <= AT_REST * kinetic)
        n_at_rest += len(rotations(self._atoms, is_linear(self._atoms))) * bool(turning <= AT_REST * kinetic)
        return 3 * len(self._atoms) - n_removed(self._atoms) - n_at_rest

"""Whether the whole moves and turns, beside the motion inside it."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from asecalc_ml.linear import is_linear

AT_REST = 1e-6  # of the kinetic energy


class RigidMotion:
    """Adds up kinetic energies: of all atoms, of the centre of mass, of the rotation around it.

    Parameters
    ----------
    atoms : Atoms
        The starting structure.
    """

    def __init__(self, atoms: Atoms):
        self._atoms, self._masses = atoms, atoms.get_masses()[:, None]
        self._energies = np.zeros(3)

    def add(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Take frames, each array of shape (n_frames, n_atoms, 3)."""
        momenta, mass = self._masses * velocities, self._masses.sum()
        whole = momenta.sum(axis=1)
        centred = positions - (self._masses * positions).sum(axis=1, keepdims=True) / mass
        angular = np.cross(centred, momenta).sum(axis=1)
        inverse = np.linalg.pinv(self._inertia(centred), rcond=1e-9, hermitian=True)
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
        """Degrees of freedom that move: 3N without those of the whole that are at rest."""
        every, drifting, turning = self._energies
        n_rotations = 2 if is_linear(self._atoms) else 3
        turns = len(self._atoms) > 1 and not self._atoms.pbc.any()  # else rotation is no motion of its own
        still = 3 * (drifting <= AT_REST * every)
        still += n_rotations * (turns and turning <= AT_REST * every)
        return 3 * len(self._atoms) - still

"""A bond length, angle or dihedral, and how atoms move along it without anything else changing.

With q the coordinate, x_m the moved atoms and u, v unit vectors,

========== ===================================== ======================================================
coordinate dx_m/dq                               moved: the last atom, or all behind
========== ===================================== ======================================================
bond       u_ij                                  the bond i-j
angle      n × (x_m − x_j), n ∥ u_ji × u_jk      the bond j-k
dihedral   u_jk × (x_m − x_k)                    the bond j-k
========== ===================================== ======================================================

and the projected force is −dE/dq = Σ_m F_m · dx_m/dq, in eV/Å or eV/rad.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

KINDS = {2: "bond", 3: "angle", 4: "dihedral"}
UNITS = {"bond": "Å", "angle": "°", "dihedral": "°"}
STRAIGHT = 1e-6  # sine of an angle below which its plane is undefined


@dataclass(frozen=True)
class Coordinate:
    """Which atoms define a coordinate, and which of them move.

    Attributes
    ----------
    atoms : tuple of int
        Two, three or four; the last one moves.
    moved : tuple of int
        Atoms that move.
    """

    atoms: tuple[int, ...]
    moved: tuple[int, ...]

    @property
    def kind(self) -> str:
        """bond, angle or dihedral."""
        return KINDS[len(self.atoms)]

    @property
    def unit(self) -> str:
        """Å, or ° of what is measured."""
        return UNITS[self.kind]

    def measure(self, atoms: Atoms) -> float:
        """Value of the coordinate in Å or degrees; dihedrals from 0 to 360, as ASE's."""
        measures = {"bond": atoms.get_distance, "angle": atoms.get_angle, "dihedral": atoms.get_dihedral}
        return float(measures[self.kind](*self.atoms))

    def displaced(self, atoms: Atoms, value: float) -> Atoms:
        """A copy with the coordinate at a value, Å or degrees, the moved atoms as one rigid body."""
        copy, moved = atoms.copy(), list(self.moved)
        change = value - self.measure(atoms)
        positions = atoms.get_positions()
        if self.kind == "bond":
            # a shift by Δq along the bond
            positions[moved] += change * self._direction(positions)
        else:
            # a rotation by Δq about the axis, which goes through the centre
            axis, centre = self._axis(positions)
            positions[moved] = centre + _rotated(positions[moved] - centre, axis, np.radians(change))
        copy.set_positions(positions, apply_constraint=False)
        return copy

    def tangent(self, positions: np.ndarray) -> np.ndarray:
        """dx/dq of all atoms, shape (n_atoms, 3): without a unit, or Å/rad."""
        moved, tangent = list(self.moved), np.zeros_like(positions)
        if self.kind == "bond":
            tangent[moved] = self._direction(positions)
        else:
            # velocity of a point of a body that turns about the axis: n × (x_m - x_centre)
            axis, centre = self._axis(positions)
            tangent[moved] = np.cross(axis, positions[moved] - centre)
        return tangent

    def projected(self, positions: np.ndarray, forces: np.ndarray) -> float:
        """Force along the coordinate, −dE/dq, eV/Å or eV/rad."""
        return float(np.sum(forces * self.tangent(positions)))

    def _direction(self, positions: np.ndarray) -> np.ndarray:
        first, last = self.atoms
        return _unit(positions[last] - positions[first])

    def _axis(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit vector about which the coordinate turns, and a point on it."""
        if self.kind == "dihedral":
            _, j, k, _ = self.atoms
            return _unit(positions[k] - positions[j]), positions[k]
        i, j, k = self.atoms
        # n = u_ji × u_jk, normal to the plane of the three atoms
        to_i, to_k = _unit(positions[i] - positions[j]), _unit(positions[k] - positions[j])
        normal = np.cross(to_i, to_k)
        if np.linalg.norm(normal) < STRAIGHT:  # any plane will do
            normal = np.cross(to_i, np.eye(3)[np.abs(to_i).argmin()])
        return _unit(normal), positions[j]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _rotated(vectors: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    return Rotation.from_rotvec(angle * axis).apply(vectors)

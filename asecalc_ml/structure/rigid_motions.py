"""Motions of a structure as a whole that nothing resists: translations, and rotations about its centre.

A direction in which a constraint or a spring ties an atom to space ends the translation along it, and
leaves rotation about itself alone. Two such directions leave no rotation. Periodic directions do the
same to rotation: a wire turns about its axis, a slab or a crystal does not turn. An atom that is held at a
point ends translation and rotation about the centre of mass; that the rest can still turn about the
point is a motion like those inside, which a thermostat reaches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from asecalc_ml.structure.constraints import NOTHING, anchor, complement, held_directions, is_centre

OFF_AXIS_A = 0.1  # atoms of a linear molecule lie this near to a line
PARALLEL = 0.5  # sine below which a linear molecule lies along an axis
MOVES_NOTHING = 1e-8  # moment of inertia, as a part of the whole, about a line on which all atoms lie


def is_linear(atoms: Atoms) -> bool:
    """True if all atoms lie within 0.1 Å of one line, so that a molecule turns around two axes and not three.

    Parameters
    ----------
    atoms : Atoms
        A structure at rest.
    """
    return len(atoms) > 1 and _distance_from_axis(atoms) < OFF_AXIS_A


def translations(atoms: Atoms) -> np.ndarray:
    """Directions along which the whole moves freely, orthonormal, shape (0 to 3, 3).

    Raises
    ------
    StructureError
        If a constraint is not known.
    """
    if any(is_centre(constraint) for constraint in atoms.constraints):
        return NOTHING
    held = [held_directions(constraint, atoms) for constraint in atoms.constraints]
    return complement(np.concatenate([NOTHING, *held]))


def axes_of_rotation(atoms: Atoms) -> np.ndarray:
    """Axes through the centre of mass about which forces and constraints are the same, shape (0, 1 or 3, 3).

    Raises
    ------
    StructureError
        If a constraint is not known.
    """
    anisotropic = [
        *(_anisotropy(constraint, atoms) for constraint in atoms.constraints),
        atoms.cell.array[atoms.pbc],
    ]
    return complement(np.concatenate([NOTHING, *(_ended(directions) for directions in anisotropic)]))


def rotations(atoms: Atoms, linear: bool) -> np.ndarray:
    """Axes through the centre of mass about which the whole turns freely, orthonormal, shape (0 to 3, 3).

    Parameters
    ----------
    linear : bool
        What :func:`is_linear` said of the structure at rest. A linear molecule
        does not turn about its own axis: what looks like it are its bending vibrations.
    """
    axes = axes_of_rotation(atoms) if len(atoms) > 1 else NOTHING
    if linear:  # project the molecule's own axis out, and keep the directions that remain
        own = _axis_of_least_inertia(atoms)
        _, sizes, basis = np.linalg.svd(axes - np.outer(axes @ own, own))
        axes = basis[: len(sizes)][sizes > PARALLEL]
    # principal axes within the allowed ones; about a line on which all atoms lie nothing turns
    tensor = inertia(atoms)
    moments, turned = np.linalg.eigh(axes @ tensor @ axes.T)
    return (turned.T @ axes)[moments > MOVES_NOTHING * np.trace(tensor)]


def inertia(atoms: Atoms) -> np.ndarray:
    """Tensor of inertia about the centre of mass, shape (3, 3), amu Å²."""
    centred = atoms.positions - atoms.get_center_of_mass()
    weighted = atoms.get_masses()[:, None] * centred
    return np.sum(weighted * centred) * np.eye(3) - weighted.T @ centred


def _anisotropy(constraint: Any, atoms: Atoms) -> np.ndarray:
    """Directions in which space is not the same for an atom, seen from the centre of mass.

    Where the centre of mass is held, a spring to a point is that of one direction.
    """
    point = anchor(constraint)
    if point is not None and any(is_centre(constraint) for constraint in atoms.constraints):
        return np.array([point - atoms.get_center_of_mass()])
    return held_directions(constraint, atoms)


def _ended(directions: np.ndarray) -> np.ndarray:
    """Axes of the rotations that end where space is not the same in these directions."""
    rank = 3 - len(complement(directions))
    return (NOTHING, complement(directions), np.eye(3), np.eye(3))[rank]


def _axis_of_least_inertia(atoms: Atoms) -> np.ndarray:
    """Unit vector along which the mass-weighted positions spread most, shape (3,)."""
    centred = atoms.positions - atoms.get_center_of_mass()
    return np.linalg.svd(np.sqrt(atoms.get_masses())[:, None] * centred, full_matrices=False)[2][0]


def _distance_from_axis(atoms: Atoms) -> float:
    """Largest distance of an atom from the axis of least inertia through the centre of mass, Å."""
    centred, axis = atoms.positions - atoms.get_center_of_mass(), _axis_of_least_inertia(atoms)
    return float(np.linalg.norm(centred - np.outer(centred @ axis, axis), axis=1).max())

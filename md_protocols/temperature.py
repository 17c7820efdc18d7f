"""Degrees of freedom, temperature, and momenta that have one."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units

from asecalc_ml.errors import RunError
from asecalc_ml.linear import is_linear

#: Constraints between atoms, under which the whole may still move and turn. Any other anchors it in space.
INTERNAL = {"FixBondLengths", "FixInternals", "FixLinearTriatomic", "FixCom", "Hookean"}


def degrees_of_freedom(atoms: Atoms, linear: bool = False, rotates: bool = False) -> int:
    """Number of momenta that carry temperature: 3N - 6, or what becomes of it.

    3N - 5 for a linear molecule, 3N - 3 under periodic boundaries in any direction, where angular momentum
    is not conserved. Constraints take theirs away; one that anchors atoms in space (``FixAtoms``) leaves
    neither translation nor rotation to subtract.

    Parameters
    ----------
    linear : bool
        What :func:`asecalc_ml.linear.is_linear` said of the structure at rest.
    rotates : bool
        Rotation carries temperature too, as under a thermostat: 3N - 3.

    Raises
    ------
    RunError
        If a constraint does not know how many it removes.
    """
    translation, rotation = _free_motions(atoms)
    n_rotations = (2 if linear else 3) if rotation and len(atoms) > 1 and not rotates else 0
    n_translations = 3 if translation and not _has_fixed_centre(atoms) else 0
    return int(max(0, 3 * len(atoms) - _removed(atoms) - n_translations - n_rotations))


def moves_freely(atoms: Atoms) -> bool:
    """Whether nothing holds the centre of mass yet."""
    return _free_motions(atoms)[0] and not _has_fixed_centre(atoms)


def internal_kinetic_energy(atoms: Atoms) -> float:
    """Kinetic energy in eV without translation and rotation; exactly 0 where only rounding is left."""
    masses, inside = atoms.get_masses(), atoms.copy()
    remove_rigid_motion(inside, is_linear(inside))
    found, every = (kinetic_energy(one.get_momenta(), masses) for one in (inside, atoms))
    return found if found > 1e-20 * every else 0.0


def _free_motions(atoms: Atoms) -> tuple[bool, bool]:
    """Whether the whole system can translate, and rotate."""
    anchored = any(type(constraint).__name__ not in INTERNAL for constraint in atoms.constraints)
    return not anchored, not anchored and not atoms.pbc.any()


def _has_fixed_centre(atoms: Atoms) -> bool:
    return any(type(constraint).__name__ == "FixCom" for constraint in atoms.constraints)


def _removed(atoms: Atoms) -> int:
    try:
        return sum(constraint.get_removed_dof(atoms) for constraint in atoms.constraints)
    except (AttributeError, NotImplementedError) as error:
        raise RunError(
            f"a constraint of the structure does not know its degrees of freedom ({error}): "
            "dynamics cannot tell its temperature. Use FixAtoms, FixBondLengths or FixInternals."
        ) from error


def kinetic_energy(momenta: np.ndarray, masses: np.ndarray) -> float:
    """Kinetic energy in eV; momenta of shape (n_atoms, 3) in ASE's unit, masses (n_atoms,) in amu."""
    return 0.5 * float(np.einsum("ij,ij,i->", momenta, momenta, 1 / masses))


def temperature(kinetic_eV: float, n_degrees: int) -> float:
    """T = 2 K / (n kB), in K; zero where nothing can move."""
    return 2 * kinetic_eV / (n_degrees * units.kB) if n_degrees else 0.0


def set_thermal_momenta(atoms: Atoms, temperature_K: float, rng: np.random.Generator, linear: bool) -> None:
    """Draw Maxwell-Boltzmann momenta without translation and rotation, scaled to exactly T."""
    scale = np.sqrt(atoms.get_masses() * units.kB * temperature_K)[:, None]
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * scale)
    remove_rigid_motion(atoms, linear)
    n_degrees = degrees_of_freedom(atoms, linear)
    set_kinetic_energy(atoms, 0.5 * n_degrees * units.kB * temperature_K)


def set_kinetic_energy(atoms: Atoms, kinetic_eV: float) -> None:
    """Scale all momenta by one factor."""
    momenta = atoms.get_momenta()
    before = kinetic_energy(momenta, atoms.get_masses())
    if before > 0:
        atoms.set_momenta(momenta * np.sqrt(kinetic_eV / before))


def remove_rigid_motion(atoms: Atoms, linear: bool) -> None:
    """Take away translation, and a molecule's rotation, as far as constraints and cell allow them at all."""
    translation, rotation = _free_motions(atoms)
    momenta, masses = atoms.get_momenta(), atoms.get_masses()
    if translation:
        momenta -= masses[:, None] * momenta.sum(axis=0) / masses.sum()
    if rotation:
        momenta -= masses[:, None] * np.cross(_rotation(atoms, momenta, linear), _centred(atoms))
    atoms.set_momenta(momenta)


def _centred(atoms: Atoms) -> np.ndarray:
    return atoms.positions - atoms.get_center_of_mass()


def _rotation(atoms: Atoms, momenta: np.ndarray, linear: bool) -> np.ndarray:
    """Angular velocity about the centre of mass, shape (3,): the one that solves I ω = L.

    A linear molecule does not rotate about its axis: what looks like it are its bending vibrations.
    """
    centred = _centred(atoms)
    angular_momentum = np.cross(centred, momenta).sum(axis=0)
    weighted = atoms.get_masses()[:, None] * centred
    inertia = np.sum(weighted * centred) * np.eye(3) - weighted.T @ centred
    moments, axes = np.linalg.eigh(inertia)
    turns = moments > 1e-8 * max(moments[-1], 1e-300)
    turns[0] &= not linear
    return axes[:, turns] @ ((axes[:, turns].T @ angular_momentum) / moments[turns])

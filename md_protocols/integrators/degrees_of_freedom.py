"""Degrees of freedom, temperature, and momenta that have one."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units

from asecalc_ml.structure.constraints import n_removed
from asecalc_ml.structure.rigid_motions import inertia, is_linear, rotations, translations


def degrees_of_freedom(atoms: Atoms, linear: bool = False, rotates: bool = False) -> int:
    """Number of momenta that carry temperature: 3N - 6, or what becomes of it.

    3N - 5 for a linear molecule, 3N - 4 for a wire that is periodic along its axis, 3N - 3 with two or three
    periodic directions. Constraints take theirs away. One that ties atoms to space, or a spring to a point
    or plane, leaves fewer translations and rotations to subtract
    (:mod:`asecalc_ml.structure.rigid_motions`).

    Parameters
    ----------
    linear : bool
        What :func:`asecalc_ml.structure.rigid_motions.is_linear` said of the structure at rest.
    rotates : bool
        Rotation carries temperature too, as under Langevin dynamics: 3N - 3.

    Raises
    ------
    StructureError
        If it is not known what a constraint removes.
    """
    # motions of the whole that are at rest: translation, and rotation unless it carries temperature
    n_rigid = len(translations(atoms)) + (0 if rotates else len(rotations(atoms, linear)))
    return max(0, 3 * len(atoms) - n_removed(atoms) - n_rigid)


def internal_kinetic_energy(atoms: Atoms) -> float:
    """Kinetic energy in eV without translation and rotation; exactly 0 where only rounding is left."""
    masses, internal = atoms.get_masses(), atoms.copy()
    remove_rigid_motion(internal, is_linear(internal))
    internal_eV, total_eV = (kinetic_energy(motion.get_momenta(), masses) for motion in (internal, atoms))
    return internal_eV if internal_eV > 1e-20 * total_eV else 0.0


def kinetic_energy(momenta: np.ndarray, masses: np.ndarray) -> float:
    """Kinetic energy in eV; momenta of shape (n_atoms, 3) in ASE's unit, masses (n_atoms,) in amu."""
    return 0.5 * float(np.einsum("ij,ij,i->", momenta, momenta, 1 / masses))


def temperature(kinetic_eV: float, n_degrees: int) -> float:
    """T = 2 K / (n kB), in K; zero where nothing can move."""
    return 2 * kinetic_eV / (n_degrees * units.kB) if n_degrees else 0.0


def set_thermal_momenta(atoms: Atoms, temperature_K: float, rng: np.random.Generator, linear: bool) -> None:
    """Draw Maxwell-Boltzmann momenta without translation and rotation, scaled to exactly T."""
    # each component of p_i is normal with the variance m_i kB T
    scale = np.sqrt(atoms.get_masses() * units.kB * temperature_K)[:, None]
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * scale)
    remove_rigid_motion(atoms, linear)
    # K = n kB T / 2 for the n degrees of freedom that are left
    n_degrees = degrees_of_freedom(atoms, linear)
    set_kinetic_energy(atoms, 0.5 * n_degrees * units.kB * temperature_K)


def set_kinetic_energy(atoms: Atoms, kinetic_eV: float) -> None:
    """Scale all momenta by one factor."""
    momenta = atoms.get_momenta()
    before = kinetic_energy(momenta, atoms.get_masses())
    if before > 0:
        atoms.set_momenta(momenta * np.sqrt(kinetic_eV / before))


def remove_rigid_motion(atoms: Atoms, linear: bool) -> None:
    """Remove translation and rotation of the whole, as far as constraints and cell leave them free."""
    directions, axes = translations(atoms), rotations(atoms, linear)
    momenta, masses = atoms.get_momenta(), atoms.get_masses()[:, None]
    # velocity of the centre of mass, V = Σ p_i / M, along the free directions: p_i -= m_i V
    momenta -= masses * (momenta.sum(axis=0) / masses.sum() @ directions.T @ directions)
    # angular momentum about the centre of mass, L = Σ r_i × p_i
    centred = atoms.positions - atoms.get_center_of_mass()
    angular_momentum = np.cross(centred, momenta).sum(axis=0)
    # angular velocity ω from I ω = L, with I the tensor of inertia, both on the free axes
    moments = axes @ inertia(atoms) @ axes.T
    angular_velocity = axes.T @ np.linalg.solve(moments, axes @ angular_momentum)
    # momenta of the rigid rotation: p_i -= m_i ω × r_i
    atoms.set_momenta(momenta - masses * np.cross(angular_velocity, centred))

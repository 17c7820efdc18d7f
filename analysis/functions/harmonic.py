"""Normal modes from second derivatives: the mass-weighted eigenvalue problem, rigid motions taken out.

================================================ ==========================================================
equation                                         here
================================================ ==========================================================
F_ij = H_ij / √(m_i m_j)                         ``weighted`` in :func:`normal_modes`
translation √m_i e_a, rotation √m_i (e_a × r_i)  :func:`rigid_motions`
F restricted to the rest, F q = ω² q             eigenvectors in a basis of the orthogonal complement
x_i = q_i / √m_i                                 ``modes``
================================================ ==========================================================

E. B. Wilson, J. C. Decius, P. C. Cross, Molecular Vibrations (1955), chapter 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units

from asecalc_ml._lazy import renamed

#: cm⁻¹ of a mode with ω² = 1 eV/(Å² amu)
PER_CM = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm


@dataclass(frozen=True)
class HarmonicModes:
    """Harmonic frequencies and their modes, by ascending frequency.

    Attributes
    ----------
    per_cm : ndarray, shape (n_modes,)
        Wavenumbers in 1/cm; imaginary ones negative.
    modes : ndarray, shape (n_modes, n_atoms, 3)
        Cartesian displacements, each of norm 1.
    kinetic : ndarray, shape (n_modes, n_atoms)
        Share of each atom in a mode's kinetic energy; each row sums to 1.
    rigid_per_cm : ndarray, shape (n_rigid,)
        Wavenumbers of the translations and rotations that were projected out; values far from zero indicate
        that the structure is not a minimum.
    """

    per_cm: np.ndarray
    modes: np.ndarray
    kinetic: np.ndarray
    rigid_per_cm: np.ndarray


def normal_modes(hessian: np.ndarray, masses: np.ndarray, rigid: np.ndarray) -> HarmonicModes:
    """Solve for the modes that are orthogonal to rigid motions.

    Parameters
    ----------
    hessian : ndarray, shape (3 n_atoms, 3 n_atoms), eV/Å²
    masses : ndarray, shape (n_atoms,), amu
    rigid : ndarray, shape (n_rigid, 3 n_atoms)
        From :func:`rigid_motions`.
    """
    # mass-weighted Hessian F_ij = H_ij / √(m_i m_j)
    roots = np.sqrt(np.repeat(masses, 3))
    weighted = hessian / np.outer(roots, roots)
    # orthonormal basis of all motions that are orthogonal to the rigid ones
    complement = np.linalg.qr(rigid.T, mode="complete")[0][:, len(rigid) :]
    # ω² and q of F in this basis, and x = q / √m
    squares, vectors = np.linalg.eigh(complement.T @ weighted @ complement)
    coordinates = (complement @ vectors).T
    modes = (coordinates / roots).reshape(len(squares), -1, 3)
    # ω² of F among the rigid motions, zero at a minimum
    rigid_squares = np.linalg.eigvalsh(rigid @ weighted @ rigid.T) if len(rigid) else np.zeros(0)
    return HarmonicModes(
        per_cm=_per_cm(squares),
        modes=modes / np.linalg.norm(modes, axis=(1, 2), keepdims=True),
        kinetic=(coordinates.reshape(modes.shape) ** 2).sum(axis=2),
        rigid_per_cm=_per_cm(rigid_squares),
    )


def _per_cm(squares: np.ndarray) -> np.ndarray:
    """Wavenumbers of ω² in eV/(Å² amu), 1/cm; of imaginary frequencies negative."""
    return np.sign(squares) * np.sqrt(np.abs(squares)) * PER_CM


def rigid_motions(positions: np.ndarray, masses: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Translations and rotations in mass-weighted coordinates, orthonormal.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3), Å
    masses : ndarray, shape (n_atoms,), amu
    axes : ndarray, shape (n_axes, 3)
        Axes of rotation, from :func:`asecalc_ml.structure.rigid_motions.rotations`.

    Returns
    -------
    ndarray, shape (3 + n_axes, 3 n_atoms)
    """
    roots = np.sqrt(masses)[:, None]
    centred = positions - masses @ positions / masses.sum()
    motions = [np.broadcast_to(roots * axis, positions.shape) for axis in np.eye(3)]
    motions += [roots * np.cross(axis, centred) for axis in axes]
    return np.linalg.qr(np.array(motions).reshape(len(motions), -1).T)[0].T


def zero_point_energy(per_cm: np.ndarray) -> float:
    """Half the sum of all real quanta, eV."""
    return float(0.5 * units.invcm * per_cm[per_cm > 0].sum())


__getattr__ = renamed(__name__, {"NormalModes": "HarmonicModes"})

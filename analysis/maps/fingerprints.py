"""Fingerprints of structures, without a model: SOAP and Coulomb matrices by dscribe, Morgan's by RDKit."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
from ase import Atoms

from asecalc_ml.errors import AnalysisError
from asecalc_ml.structure.charge_and_spin import charge_and_spin

SOAP_CUTOFF_A = 5.0
SOAP_RADIAL, SOAP_ANGULAR = 6, 4  # radial functions and degree of the expansion
MORGAN_RADIUS, MORGAN_BITS = 2, 2048


def fingerprints(name: str, frames: Sequence[Atoms], of_atoms: bool) -> np.ndarray:
    """A fingerprint of each structure, or of each atom of all structures one after the other.

    Parameters
    ----------
    name : {"soap", "coulomb-matrix", "morgan"}
    frames : sequence of Atoms
    of_atoms : bool
        For SOAP alone; the mean over atoms otherwise.

    Returns
    -------
    array, shape (n_points, n_dimensions)

    Raises
    ------
    AnalysisError
        If a package is missing, or a structure has no such fingerprint.
    """
    if name == "soap":
        return _soap(frames, of_atoms)
    return _coulomb(frames) if name == "coulomb-matrix" else _morgan(frames)


def _soap(frames: Sequence[Atoms], of_atoms: bool) -> np.ndarray:
    """Smooth overlap of atomic positions (Bartók et al. 2013): power spectra of each atom's neighbors."""
    descriptors = _dscribe()
    soap = descriptors.SOAP(
        species=_elements(frames),
        r_cut=SOAP_CUTOFF_A,
        n_max=SOAP_RADIAL,
        l_max=SOAP_ANGULAR,
        average="off" if of_atoms else "outer",
        periodic=any(atoms.pbc.any() for atoms in frames),
    )
    vectors = [soap.create(atoms) for atoms in frames]
    return np.concatenate(vectors) if of_atoms else np.stack(vectors)


def _coulomb(frames: Sequence[Atoms]) -> np.ndarray:
    """Sorted eigenvalues of the Coulomb matrix (Rupp et al. 2012)."""
    if any(atoms.pbc.any() for atoms in frames):
        raise _periodic_error("coulomb-matrix")
    largest = max(map(len, frames))
    matrix = _dscribe().CoulombMatrix(n_atoms_max=largest, permutation="eigenspectrum")
    return np.stack([matrix.create(atoms) for atoms in frames])


def _morgan(frames: Sequence[Atoms]) -> np.ndarray:
    """Morgan's circular fingerprint (Rogers and Hahn 2010) of bonds: it tells molecules, not conformers."""
    try:
        from rdkit import Chem
        from rdkit.Chem import rdDetermineBonds, rdFingerprintGenerator
    except ImportError as error:
        raise AnalysisError(
            "Morgan's fingerprints need RDKit", name="RDKit", remedy="pip install 'asecalc-ml[molecules]'"
        ) from error
    if any(atoms.pbc.any() for atoms in frames):
        raise _periodic_error("morgan")
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=MORGAN_RADIUS, fpSize=MORGAN_BITS)
    rows = []
    for atoms in frames:
        molecule = Chem.MolFromXYZBlock(_xyz(atoms))
        charge, _ = charge_and_spin(atoms)
        rdDetermineBonds.DetermineConnectivity(molecule, charge=charge)
        molecule.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(molecule)
        rows.append(generator.GetFingerprintAsNumPy(molecule))
    return np.stack(rows)


def _xyz(atoms: Atoms) -> str:
    rows = [
        f"{symbol} {x:.8f} {y:.8f} {z:.8f}"
        for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    return "\n".join([str(len(atoms)), "", *rows, ""])


def _dscribe() -> ModuleType:
    try:
        from dscribe import descriptors
    except ImportError as error:
        raise AnalysisError(
            "SOAP and Coulomb matrices need dscribe",
            name="dscribe",
            remedy="pip install 'asecalc-ml[explain]'",
        ) from error
    return descriptors


def _periodic_error(representation: str) -> AnalysisError:
    return AnalysisError(
        f"representation {representation!r} describes molecules, and a structure is periodic",
        name=representation,
        value=representation,
        remedy="take soap for periodic structures",
    )


def _elements(frames: Sequence[Atoms]) -> list[str]:
    return sorted({symbol for atoms in frames for symbol in atoms.get_chemical_symbols()})

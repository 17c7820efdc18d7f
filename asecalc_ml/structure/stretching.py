"""How fast bonds vibrate, estimated from their lengths, before anything has been computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms, FixBondLengths
from ase.data import atomic_numbers

from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import bond_graph

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FORCE_CONSTANT = 1.734 * units.Hartree * units.Bohr  # eV Å, of a bond one Å longer than its offset
OFFSETS_A = np.array([[-0.244, 0.352, 0.660], [0.352, 1.085, 1.522], [0.660, 1.522, 2.068]]) * units.Bohr
SHORTEST_A = 0.3  # longer than its offset: shorter bonds are no bonds
LAST_OF_ROW = [atomic_numbers["He"], atomic_numbers["Ne"]]
FEW_BONDS = 300


def fastest_stretch_per_cm(atoms: Atoms) -> float:
    r"""Highest frequency of a structure's bonds, as springs between its atoms.

    Force constants follow from the lengths of bonds by Badger's rule, :math:`k = A / (r - B_{ij})^3`, with
    offsets for hydrogen, the second and later rows of the periodic table. Bonds of hydrogen come out within
    some 5 %, double and triple bonds up to 16 % too high, and those of metals higher still.

    Parameters
    ----------
    atoms : Atoms
        Near a minimum. Atoms and bond lengths that its constraints hold fixed do not vibrate.

    Returns
    -------
    float
        1/cm; zero without bonds.

    Notes
    -----
    Source: R. M. Badger, J. Chem. Phys. 2, 128 (1934); H. B. Schlegel, Theor. Chim. Acta 66, 333 (1984).
    """
    springs = _springs(atoms)
    if springs.shape[0] == 0:
        return 0.0
    return float(
        np.sqrt(_largest_eigenvalue(springs @ springs.T)) * units._hbar * units.J * units.s / units.invcm
    )


def _springs(atoms: Atoms) -> csr_matrix:
    """Root of each bond's force constant times its change with the mass-weighted coordinates, sparse."""
    from scipy.sparse import csr_matrix

    graph = bond_graph(atoms)
    keep = ~_is_rigid(atoms, graph.bonds)
    i, j = graph.bonds[keep].T
    vectors = pair_vectors(atoms.positions, (i, j), graph.shifts[keep], atoms.cell.array)
    lengths = np.linalg.norm(vectors, axis=1)
    rows = np.searchsorted(LAST_OF_ROW, atoms.numbers)
    # k = A / (r - B_ij)^3, and sqrt(k) times the change of the bond with the mass-weighted coordinates
    beyond = np.maximum(lengths - OFFSETS_A[rows[i], rows[j]], SHORTEST_A)
    roots = np.sqrt(FORCE_CONSTANT / beyond**3) / lengths
    along = roots[:, None] * vectors
    inverse = _inverse_root_masses(atoms)
    data = np.concatenate([along * inverse[j, None], -along * inverse[i, None]])
    bonds = np.repeat(np.tile(np.arange(len(lengths)), 2), 3)
    coordinates = 3 * np.concatenate([j, i])[:, None] + np.arange(3)
    return csr_matrix((data.ravel(), (bonds, coordinates.ravel())), shape=(len(lengths), 3 * len(atoms)))


def _inverse_root_masses(atoms: Atoms) -> np.ndarray:
    """One over the root of each mass; zero for atoms that are fixed."""
    inverse = 1 / np.sqrt(atoms.get_masses())
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            inverse[constraint.index] = 0.0
    return inverse


def _is_rigid(atoms: Atoms, bonds: np.ndarray) -> np.ndarray:
    """Whether a constraint keeps the length of each bond."""
    rigid = {
        frozenset(pair)
        for constraint in atoms.constraints
        if isinstance(constraint, FixBondLengths)
        for pair in np.asarray(constraint.pairs).tolist()
    }
    return np.array([frozenset(bond) in rigid for bond in bonds.tolist()], dtype=bool)


def _largest_eigenvalue(matrix: csr_matrix) -> float:
    from scipy.sparse.linalg import eigsh

    if matrix.shape[0] <= FEW_BONDS:
        return float(np.linalg.eigvalsh(matrix.toarray())[-1])
    return float(eigsh(matrix, k=1, v0=np.ones(matrix.shape[0]), return_eigenvectors=False)[0])

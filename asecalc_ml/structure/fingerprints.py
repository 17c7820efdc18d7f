r"""Fingerprints of structures: a frame is recognised in another file, cell or orientation.

The geometry enters by interatomic distances alone, so that translations, rotations, reflections, the order of
atoms and wrapping into the cell make no difference. Labels do not enter. A supercell is another structure.

For every atom i, with weights :math:`w_Z` between 0.5 and 1.5 that depend on the element,

.. math:: \rho_i = w_{Z_i} \sum_{j \ne i} w_{Z_j} \, \frac{\cos \kappa r_{ij}}{\kappa} \,
          e^{-r_{ij} / 4\,\mathrm{Å}} f(r_{ij})

for :math:`\kappa` = 1, 2 and 4 Å⁻¹. In periodic structures f goes smoothly to zero at 6 Å. Elsewhere it is
1, and every pair counts. Each :math:`\kappa` gives two lengths in Å,

.. math:: \frac{1}{\sqrt N} \sum_i \rho_i, \qquad
          \left( \sum_i (\rho_i - \bar\rho_{Z_i})^4 \right)^{1/4},

with :math:`\bar\rho_Z` the mean over the atoms of an element. The six lengths are rounded to 10⁻⁴ Å and
stored as 16-bit integers, modulo 2¹⁶ of these units. Before them stand 32 bits of a hash of composition,
charge, spin and number of periodic directions. Two structures are the same if the hashes are equal and no
length differs by more than 5·10⁻⁴ Å. A tolerance decides, so that no rounding boundary matters.

Rounding positions to five decimals of an Å changes the lengths by up to 2·10⁻⁴ Å. Among the 38,532 different
frames of four molecules of rMD17 the nearest two of one molecule differ by 1.4·10⁻³ Å.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.structure.charge_and_spin import charge_and_spin
from asecalc_ml.structure.pair_vectors import pair_vectors

if TYPE_CHECKING:
    from ase import Atoms

RESOLUTION_A = 1e-4
TOLERANCE_A = 5e-4
WAVENUMBERS_PER_A = np.array([1.0, 2.0, 4.0])
DECAY_A = 4.0
CUTOFF_A = 6.0  # in periodic structures

N_HASH, N_LENGTHS = 2, 2 * len(WAVENUMBERS_PER_A)
#: 16-bit numbers of a fingerprint.
N_NUMBERS = N_HASH + N_LENGTHS
_MODULUS = 2**16
_REACH = round(TOLERANCE_A / RESOLUTION_A) + 0.5
_N_ELEMENTS = 119


def fingerprints(frames: Sequence[Atoms]) -> np.ndarray:
    """Fingerprints of structures.

    Returns
    -------
    ndarray of int16, shape (n_frames, 8)
    """
    rows = [np.concatenate([_hash(atoms), _rounded(_lengths(atoms))]) for atoms in frames]
    return np.array(rows, dtype=np.int16).reshape(-1, N_NUMBERS)


def are_among(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether each structure is among others, from the fingerprints of both.

    Parameters
    ----------
    rows, known : ndarray of int16, shape (n, 8)
        As :func:`fingerprints` returns them.

    Returns
    -------
    ndarray of bool, shape (len(rows),)
    """
    from scipy.spatial import cKDTree

    same = np.zeros(len(rows), dtype=bool)
    hashes, lengths = _split(rows)
    known_hashes, known_lengths = _split(known)
    for value in np.intersect1d(hashes, known_hashes):
        chosen = hashes == value
        # nearest known lengths in the maximum norm, on a torus of 2^16 units
        tree = cKDTree(known_lengths[known_hashes == value], boxsize=_MODULUS)
        distances, _ = tree.query(lengths[chosen], p=np.inf, distance_upper_bound=_REACH)
        same[chosen] = np.isfinite(distances)
    return same


def n_different(rows: np.ndarray) -> int:
    """Number of different structures, from their fingerprints, shape (n, 8)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    count, (hashes, lengths) = 0, _split(rows)
    for value in np.unique(hashes):
        points = lengths[hashes == value]
        pairs = cKDTree(points, boxsize=_MODULUS).query_pairs(_REACH, p=np.inf, output_type="ndarray")
        # structures within the tolerance of each other, directly or through others, count once
        same = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(points), len(points)))
        count += connected_components(same, directed=False)[0]
    return count


def _split(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One number for the hash of each row, and its lengths from 0 to 2¹⁶ - 1."""
    unsigned = rows.view(np.uint16).astype(np.int64)
    return unsigned[:, 0] * _MODULUS + unsigned[:, 1], unsigned[:, N_HASH:]


def _hash(atoms: Atoms) -> np.ndarray:
    """32 bits of composition, charge, spin and number of periodic directions."""
    counts = np.bincount(atoms.numbers, minlength=_N_ELEMENTS)
    parts = np.concatenate([counts, charge_and_spin(atoms), [atoms.pbc.sum()]]).astype("<i8")
    return np.frombuffer(hashlib.sha256(parts.tobytes()).digest()[: 2 * N_HASH], dtype="<i2")


def _rounded(lengths: np.ndarray) -> np.ndarray:
    return (np.rint(lengths / RESOLUTION_A) % _MODULUS).astype(np.uint16).view(np.int16)


def _lengths(atoms: Atoms) -> np.ndarray:
    """Sum and spread of the densities of the atoms for each wavenumber, shape (6,), Å."""
    densities = _densities(atoms)
    # mean density of the atoms of each element
    kind, counts = atoms.numbers, np.bincount(atoms.numbers)
    means = [(np.bincount(kind, row) / np.maximum(counts, 1))[kind] for row in densities]
    # sum_i rho_i / sqrt(N) and (sum_i (rho_i - mean)^4)^(1/4)
    sums = densities.sum(axis=1) / np.sqrt(len(atoms))
    spreads = ((densities - means) ** 4).sum(axis=1) ** 0.25
    return np.concatenate([sums, spreads])


def _densities(atoms: Atoms) -> np.ndarray:
    """ρ of each wavenumber and atom, shape (3, n_atoms), Å."""
    # w_Z, from the fractional part of Z times the golden ratio
    weights = 0.5 + (atoms.numbers * 0.6180339887) % 1.0
    i, j, distances = _pairs(atoms)
    # w_i w_j exp(-r / 4 A), with a cosine to zero at the cutoff of periodic structures
    envelope = weights[i] * weights[j] * np.exp(-distances / DECAY_A)
    if atoms.pbc.any():
        envelope *= 0.5 + 0.5 * np.cos(np.pi * np.minimum(distances / CUTOFF_A, 1.0))
    # cos(kappa r) / kappa, summed over the neighbors j of each i
    terms = envelope * np.cos(np.outer(WAVENUMBERS_PER_A, distances)) / WAVENUMBERS_PER_A[:, None]
    return np.array([np.bincount(i, term, minlength=len(atoms)) for term in terms])


def _pairs(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both orders of each pair, and its distance, Å."""
    if not atoms.pbc.any():
        i, j = np.nonzero(~np.eye(len(atoms), dtype=bool))
        vectors = pair_vectors(atoms.positions, (i, j))
    else:
        from asecalc_ml.graph.neighbors import find_pairs

        pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF_A)
        i, j = pairs.edge_index
        vectors = pair_vectors(atoms.positions, *pairs, atoms.cell.array)
    return i, j, np.linalg.norm(vectors, axis=1)

"""A cell of full rank around any structure, so that cell-based backends take molecules and slabs."""

import numpy as np


def enclosing_cell(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the periodic cell vectors and replace the others by wide orthogonal ones.

    Cell vectors along directions that are not periodic say nothing about neighbors; they may be
    zero (a molecule, ASE's bare slabs) or too short for the structure, and both make backends fail.

    Parameters
    ----------
    positions : array, shape (n_atoms, 3), Å
    cell : array, shape (3, 3), Å
    pbc : array, shape (3,), bool
    cutoff : float, Å

    Returns
    -------
    positions : array, shape (n_atoms, 3), Å
        Moved into the new cell along the directions that are not periodic.
    cell : array, shape (3, 3), Å
    """
    if pbc.all():
        return positions, cell
    cell = np.where(pbc[:, None], cell, 0.0)
    normals = _normals(cell[pbc])
    inside = positions @ normals.T
    low, high = inside.min(axis=0), inside.max(axis=0)
    cell[~pbc] = normals * (high - low + 3 * cutoff + 1.0)[:, None]
    return positions + (cutoff - low) @ normals, cell


def _normals(vectors: np.ndarray) -> np.ndarray:
    """Orthonormal rows that span the complement of the given row vectors."""
    _, singular_values, rows = np.linalg.svd(vectors.reshape(-1, 3), full_matrices=True)
    return rows[len(singular_values) :]

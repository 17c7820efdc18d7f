"""The lattice of a structure: its periodic cell vectors.

Cell vectors along open directions carry no information: they may be zero (a molecule, ASE's bare slabs),
parallel to others, or too short for the structure. Everything that needs three vectors takes them from
:func:`complete`.
"""

from __future__ import annotations

import numpy as np

from asecalc_ml.errors import StructureError

#: Smallest singular value of the periodic vectors, each divided by its length, below which they count as
#: dependent: no crystal's angles are within 0.006 degrees of it, and lattice sums lose digits beyond.
FLATTEST = 1e-4


def check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    """Refuse NaN, and periodic directions without a cell vector of their own.

    Raises
    ------
    StructureError
    """
    if not np.isfinite(cell).all():
        raise StructureError(
            f"the cell is not finite ({cell.tolist()})",
            name="cell",
            value=cell.tolist(),
            remedy="set it anew with atoms.set_cell(...); if it comes from dynamics at constant pressure, "
            "use a slower barostat or a shorter time step",
        )
    if pbc.any() and flatness(cell[pbc]) < FLATTEST:
        raise StructureError(
            f"pbc is {pbc.tolist()}, but the cell vectors along these directions are zero or parallel;",
            name="pbc",
            value=pbc.tolist(),
            remedy="set a cell with atoms.set_cell(...), or atoms.pbc = False for a molecule",
        )


def flatness(vectors: np.ndarray) -> float:
    """Smallest singular value of the vectors at unit length: 1 if orthogonal, 0 if dependent."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        return 0.0
    return float(np.linalg.svd(vectors / lengths, compute_uv=False)[-1])


def complete(cells: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Cells with orthonormal vectors along open directions, perpendicular to the periodic vectors.

    Parameters
    ----------
    cells : array, shape (..., 3, 3), Å
    pbc : array of bool, shape (3,)

    Returns
    -------
    ndarray, shape (..., 3, 3), Å
    """
    completed = np.array(cells, dtype=float)
    if not pbc.all():
        completed[..., ~pbc, :] = _normals(completed[..., pbc, :])
    return completed


def _normals(vectors: np.ndarray) -> np.ndarray:
    """Orthonormal rows that span the complement of the given row vectors, shape (..., 3 - n_vectors, 3)."""
    rows = np.linalg.svd(vectors, full_matrices=True)[2]
    return rows[..., vectors.shape[-2] :, :]


def reduced(cell: np.ndarray, pbc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Minkowski-reduced cell of the same lattice, completed along open directions.

    Parameters
    ----------
    cell : array, shape (3, 3), Å
    pbc : array of bool, shape (3,)

    Returns
    -------
    reduced : ndarray, shape (3, 3), Å
        Periodic vectors in the rows where ``pbc`` is True, as short as possible.
    operation : ndarray of int, shape (3, 3)
        ``reduced = operation @ complete(cell, pbc)``; a shift in the reduced cell is ``shift @ operation`` in
        the given one.

    Raises
    ------
    StructureError
        If a periodic direction has no cell vector of its own, or the cell is not finite.

    Notes
    -----
    Source: P. Q. Nguyen & D. Stehlé, ACM Trans. Algorithms 5, 46 (2009), as in ASE.
    """
    from ase.geometry import minkowski_reduce

    check_cell(cell, pbc)
    completed = complete(cell, pbc)
    # in units of the largest component: ASE compares lengths with an absolute tolerance
    operation = minkowski_reduce(completed / np.abs(completed).max(), pbc)[1]
    return operation @ completed, operation


def shortest_period(cell: np.ndarray, pbc: np.ndarray) -> float:
    """Length of the shortest lattice vector, Å: how far apart an atom and its nearest image are.

    Raises
    ------
    StructureError
        See :func:`reduced`.
    """
    return float(np.linalg.norm(reduced(cell, pbc)[0][pbc], axis=1).min())

r"""The minimum image, exact for any lattice.

Vectors that differ by lattice vectors describe the same pair of atoms; the minimum image is the shortest of
them. Rounding fractional coordinates gives it in rectangular cells only. Here the closest lattice vector is
found exactly:

1. The lattice gets a reduced basis :math:`b_1, b_2, b_3` (:func:`asecalc_ml.structure.lattice.reduced`)
   with Gram-Schmidt vectors :math:`b_i^*`. No lattice vector is shorter than the shortest :math:`b_i^*`.
   A vector below half of that length is its own minimum image.
2. For all others the coefficients are searched from the last to the first, each within one of the rounded
   coefficient along :math:`b_i^*`. The closest lattice vector lies within
   :math:`\frac{1}{2} (\sum_{j \le i} |b_j^*|^2)^{1/2}`, so one is enough while
   :math:`\sum_{j < i} |b_j^*|^2 < 8 |b_i^*|^2`. Reduced bases fulfil this with a wide margin, so the cells of
   a barostat share one reduction until the shape of the cell has changed a lot.

Source: L. Babai, Combinatorica 6, 1 (1986), rounding along the Gram-Schmidt vectors; E. Agrell, T. Eriksson,
A. Vardy & K. Zeger, IEEE Trans. Inf. Theory 48, 2201 (2002), the search around it.
"""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numpy as np

from asecalc_ml.structure.lattice import complete, reduced


def minimum_image(vectors: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Shortest image of each vector.

    Parameters
    ----------
    vectors : array, shape (..., 3), Å
    cell : array, shape (3, 3), Å
        Vectors along open directions are ignored.
    pbc : array of bool, shape (3,)

    Returns
    -------
    ndarray, shape (..., 3), Å

    Raises
    ------
    StructureError
        If a periodic direction has no cell vector of its own.
    """
    return np.asarray(vectors) + image_shifts(vectors, cell, pbc) @ np.asarray(cell, dtype=float)


def image_shifts(vectors: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Cell shifts s for which ``vectors + s @ cell`` is the shortest image; see :func:`minimum_image`.

    Returns
    -------
    ndarray of int, shape (..., 3)
        Zero along open directions.
    """
    vectors = np.asarray(vectors, dtype=float)
    return Lattices(cell, pbc).shifts(vectors.reshape(1, -1, 3)).reshape(vectors.shape)


class Lattices:
    """The lattices of consecutive frames.

    Parameters
    ----------
    cells : array, shape (n_frames, 3, 3) or (3, 3), Å
    pbc : array of bool, shape (3,)

    Attributes
    ----------
    cells : ndarray, shape (n_frames, 3, 3), Å
        Completed along open directions; only one where all frames have the same.

    Raises
    ------
    StructureError
        If a periodic direction has no cell vector of its own.
    """

    def __init__(self, cells: np.ndarray, pbc: np.ndarray):
        self._pbc = np.asarray(pbc, dtype=bool)
        cells = np.asarray(cells, dtype=float).reshape(-1, 3, 3)
        cells = cells[:1] if (cells == cells[:1]).all() else cells
        self._operations = _operations(cells, self._pbc)
        self.cells = complete(cells, self._pbc)
        self._basis = self._operations @ self.cells
        orthogonal = _orthogonalised(self._basis)
        squares = np.sum(orthogonal**2, axis=-1, keepdims=True)
        self._duals = orthogonal / squares
        self._near = squares.min(axis=(1, 2), initial=np.inf)[:, None] / 4

    def fractional(self, vectors: np.ndarray) -> np.ndarray:
        """Fractional coordinates of vectors, shape (n_frames, n_vectors, 3); in Å along open directions."""
        return vectors @ self._inverse

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.linalg.inv(self.cells)

    def shortest(self, vectors: np.ndarray) -> np.ndarray:
        """Shortest images of vectors, shape (n_frames, n_vectors, 3), Å."""
        return vectors + self.shifts(vectors) @ self.cells

    def shifts(self, vectors: np.ndarray) -> np.ndarray:
        """Cell shifts s for which ``vectors + s @ cells`` is shortest, whole, (n_frames, n_vectors, 3)."""
        shifts = np.zeros(vectors.shape, dtype=int)
        far = np.einsum("...i,...i", vectors, vectors) >= self._near
        if far.any():
            frame = np.nonzero(far)[0] if len(self.cells) > 1 else slice(None)
            basis, duals, operations = (one[frame] for one in (self._basis, self._duals, self._operations))
            found = _closest(vectors[far], basis, duals)
            shifts[far] = -(found[:, None] @ operations)[:, 0]
        return shifts


def _operations(cells: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Whole numbers that make a reduced basis of the periodic vectors, shape (n_cells, n_periodic, 3)."""
    operations = np.zeros((len(cells), pbc.sum(), 3), dtype=int)
    left = np.arange(len(cells) if pbc.any() else 0)
    while len(left):
        basis, operation = (rows[pbc] for rows in reduced(cells[left[0]], pbc))
        operation = operation[np.argsort(np.linalg.norm(basis, axis=1))]
        shared = _is_reduced(operation @ cells[left])
        operations[left[shared]] = operation
        left = left[~shared]
    return operations


def _is_reduced(basis: np.ndarray) -> np.ndarray:
    """Whether the search of :func:`_closest` is exact in each basis, shape (n_cells,)."""
    squares = np.sum(_orthogonalised(basis) ** 2, axis=-1)
    before = np.cumsum(squares, axis=1)[:, :-1]
    return (before < 8 * squares[:, 1:]).all(axis=1)


def _orthogonalised(basis: np.ndarray) -> np.ndarray:
    """Gram-Schmidt vectors of the rows, shape (n_cells, n_vectors, 3)."""
    found = np.array(basis, dtype=float)
    for i in range(found.shape[1]):
        for j in range(i):
            along = np.sum(found[:, i] * found[:, j], axis=-1) / np.sum(found[:, j] ** 2, axis=-1)
            found[:, i] -= along[:, None] * found[:, j]
    return found


def _closest(vectors: np.ndarray, basis: np.ndarray, duals: np.ndarray) -> np.ndarray:
    """Coefficients of the lattice vector closest to each vector, shape (n_vectors, n_periodic), int."""
    n_periodic = basis.shape[1]
    best, least = np.zeros((len(vectors), n_periodic), dtype=int), np.full(len(vectors), np.inf)
    for steps in product((0, -1, 1), repeat=n_periodic - 1):
        rest, found = vectors, np.empty_like(best)
        for i, step in zip(reversed(range(n_periodic)), (*steps, 0), strict=True):
            whole = np.rint(np.sum(rest * duals[:, i], axis=-1)) + step
            rest = rest - whole[:, None] * basis[:, i]
            found[:, i] = whole
        squares = np.sum(rest**2, axis=-1)
        better = squares < least
        best[better], least[better] = found[better], squares[better]
    return best

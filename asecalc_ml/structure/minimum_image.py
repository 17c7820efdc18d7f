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
    return Lattices(cell, pbc).shifts(vectors.reshape(1, -1, 3)).reshape(vectors.shape).astype(int)


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
        self._near = _squares(_orthogonalised(self._basis)).min(axis=1, initial=np.inf)[:, None] / 4

    def fractional(self, vectors: np.ndarray) -> np.ndarray:
        """Fractional coordinates, shape (n_frames, n_vectors, 3), of vectors; zero along open directions."""
        return vectors @ self._inverse

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.linalg.inv(self.cells) * self._pbc

    def shortest(self, vectors: np.ndarray) -> np.ndarray:
        """Shortest images of vectors, shape (n_frames, n_vectors, 3), Å."""
        return vectors + self.shifts(vectors) @ self.cells

    def shifts(self, vectors: np.ndarray) -> np.ndarray:
        """Cell shifts s for which ``vectors + s @ cells`` is shortest, shape (n_frames, n_vectors, 3).

        Whole numbers as float, since products of integers with cells are slow.
        """
        shifts = np.zeros(vectors.shape)
        # a vector below half of the shortest Gram-Schmidt vector is its own minimum image
        far = _squares(vectors) >= self._near
        if far.any():
            frame = np.nonzero(far)[0] if len(self.cells) > 1 else slice(None)
            near = np.broadcast_to(self._near, far.shape)[far]
            coefficients = _closest(vectors[far], self._basis[frame], near)
            # from the reduced basis to the given cell vectors
            shifts[far] = -(coefficients[:, None] @ self._operations[frame])[:, 0]
        return shifts


def _operations(cells: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Whole numbers that make a reduced basis of the periodic vectors, shape (n_cells, n_periodic, 3)."""
    operations, left = np.zeros((len(cells), pbc.sum(), 3)), np.arange(len(cells))
    operation = np.eye(3)[pbc]
    while len(left):
        # try the last operation, its vectors sorted by their lengths in the first cell that has none yet
        lengths = np.linalg.norm(operation @ cells[left[0]], axis=1)
        operation = operation[np.argsort(lengths)]
        # all cells that it reduces well enough take it
        shared = _is_reduced(operation @ cells[left])
        operations[left[shared]] = operation
        left = left[~shared]
        # a new reduction for the first of those that remain
        operation = reduced(cells[left[0]], pbc)[1][pbc] if len(left) else operation
    return operations


def _is_reduced(basis: np.ndarray) -> np.ndarray:
    """Return True for each basis, shape (n_cells,), in which the search of :func:`_closest` is exact."""
    with np.errstate(invalid="ignore"):  # of vectors that are zero
        squares = _squares(_orthogonalised(basis))
    before = np.cumsum(squares, axis=1) - squares
    return (before < 8 * squares).all(axis=1)


def _orthogonalised(basis: np.ndarray) -> np.ndarray:
    """Gram-Schmidt vectors of the rows, shape (n_cells, n_vectors, 3)."""
    orthogonal = np.array(basis, dtype=float)
    for i in range(orthogonal.shape[1]):
        for j in range(i):
            # b_i* = b_i - sum_j mu_ij b_j*
            mu = np.einsum("ni,ni->n", orthogonal[:, i], orthogonal[:, j]) / _squares(orthogonal[:, j])
            orthogonal[:, i] -= mu[:, None] * orthogonal[:, j]
    return orthogonal


def _squares(vectors: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", vectors, vectors)


def _closest(vectors: np.ndarray, basis: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Coefficients of the lattice vector closest to each vector, shape (n_vectors, n_periodic).

    A remainder whose square is below ``near``, shape (n_vectors,), is the shortest.
    """
    # b_i* / |b_i*|^2, whose product with a vector is its coefficient along b_i*
    orthogonal = _orthogonalised(basis)
    duals = orthogonal / _squares(orthogonal)[..., None]
    # Babai's rounding, and the coefficients one above and one below for all but the last vector
    steps = list(product((0, -1, 1), repeat=basis.shape[1] - 1))
    best, least = _rounded(vectors, basis, duals, steps[0])
    # search the neighbors of the rounded coefficients where the remainder is not certainly the shortest
    unsure = np.flatnonzero(least >= near)
    basis, duals = (np.broadcast_to(rows, (len(vectors), *rows.shape[1:]))[unsure] for rows in (basis, duals))
    for step in steps[1:] if len(unsure) else ():
        coefficients, squares = _rounded(vectors[unsure], basis, duals, step)
        better = squares < least[unsure]
        best[unsure[better]], least[unsure[better]] = coefficients[better], squares[better]
    return best


def _rounded(
    vectors: np.ndarray, basis: np.ndarray, duals: np.ndarray, steps: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients rounded from the last to the first and moved by the steps, and squares of remainders."""
    rest, coefficients = vectors, np.empty(vectors.shape[:1] + basis.shape[1:2])
    for i, step in zip(reversed(range(basis.shape[1])), (*steps, 0), strict=True):
        # nearest hyperplane of the lattice along b_i*, then the remainder within it
        coefficients[:, i] = np.rint(np.einsum("ni,ni->n", rest, duals[:, i])) + step
        rest = rest - coefficients[:, i, None] * basis[:, i]
    return coefficients, _squares(rest)

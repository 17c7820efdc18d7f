"""Vectors between atoms of pairs, for arrays (tensors: :mod:`asecalc_ml.graph.neighbors.edge_vectors`)."""

from __future__ import annotations

import numpy as np


def pair_vectors(
    positions: np.ndarray,
    pairs: np.ndarray | tuple[np.ndarray | int, np.ndarray | int],
    cell_shifts: np.ndarray | None = None,
    cell: np.ndarray | None = None,
) -> np.ndarray:
    r"""Vectors :math:`r_{ij} = r_j - r_i + s_{ij} h` from the first atom of pairs to an image of the second.

    The shortest image is that of :func:`asecalc_ml.structure.minimum_image.minimum_image`.

    Parameters
    ----------
    positions : array, shape (..., n_atoms, 3), Å
        Of one structure or of several frames.
    pairs : array of int, shape (2, n_pairs), or a pair of arrays or numbers
        Atoms i, then atoms j.
    cell_shifts : array, shape (..., n_pairs, 3), optional
        Whole numbers :math:`s_{ij}`; without them the vectors lie within one cell.
    cell : array, shape (..., 3, 3), Å
        Cell vectors as rows, :math:`h`; needed with ``cell_shifts``.

    Returns
    -------
    ndarray, shape (..., n_pairs, 3), Å

    Examples
    --------
    >>> chain = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    >>> pair_vectors(chain, [[0, 1], [1, 0]], [[0, 0, 0], [1, 0, 0]], 3.0 * np.eye(3)).tolist()
    [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
    """
    i, j = pairs
    vectors = positions[..., j, :] - positions[..., i, :]
    return vectors if cell_shifts is None else vectors + cell_shifts @ cell

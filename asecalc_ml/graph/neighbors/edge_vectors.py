"""Vectors along the edges of a graph, for tensors; :mod:`asecalc_ml.structure.pair_vectors` has arrays."""

from torch import Tensor


def edge_vectors(positions: Tensor, edge_index: Tensor, cell_shifts: Tensor, cells: Tensor) -> Tensor:
    r"""Vectors :math:`r_{ij} = r_j - r_i + s_{ij} h` from centre to neighbor.

    Element by element: a matrix product may round the last bit by the number of edges, and an edge would be
    within the cutoff in one list and beyond it in another.

    Parameters
    ----------
    positions : Tensor, shape (n_atoms, 3), float64, Å
    edge_index : Tensor, shape (2, n_edges), int64
    cell_shifts : Tensor, shape (n_edges, 3), float64
    cells : Tensor, shape (3, 3) or (n_edges, 3, 3), float64, Å
        Cell vectors as rows: of all edges, or of each.

    Returns
    -------
    Tensor, shape (n_edges, 3), float64, Å
    """
    i, j = edge_index
    # s h = s_a a + s_b b + s_c c
    offsets = cell_shifts[:, 0:1] * cells[..., 0, :]
    for k in (1, 2):
        offsets += cell_shifts[:, k : k + 1] * cells[..., k, :]
    # r_j - r_i + s h
    vectors = positions.index_select(0, j) - positions.index_select(0, i)
    vectors += offsets
    return vectors

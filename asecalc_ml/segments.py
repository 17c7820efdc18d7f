"""Sums over the edges of an atom or the atoms of a system."""

from torch import Tensor


def segment_sum(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """Sum rows that carry the same index.

    ``scatter_add`` and not ``index_add``: compiled for the CPU, the latter becomes atomic additions,
    whose order and so whose result differs from call to call.

    Parameters
    ----------
    values : Tensor, shape (n, ...)
    index : Tensor, shape (n,), int64
    n_segments : int

    Returns
    -------
    Tensor, shape (n_segments, ...)
    """
    shape = (n_segments, *values.shape[1:])
    expanded = index.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    return values.new_zeros(shape).scatter_add(0, expanded, values)

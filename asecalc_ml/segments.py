"""From atoms to edges and back: rows taken by index, and summed by index."""

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
    expanded = _expanded(index, values)
    return values.new_zeros((n_segments, *values.shape[1:])).scatter_add(0, expanded, values)


def take(values: Tensor, index: Tensor) -> Tensor:
    """Rows of ``values`` by index; its derivative is :func:`segment_sum`, for the same reason.

    Parameters
    ----------
    values : Tensor, shape (n_segments, ...)
    index : Tensor, shape (n,), int64

    Returns
    -------
    Tensor, shape (n, ...)
    """
    return values.gather(0, _expanded(index, values))


def _expanded(index: Tensor, values: Tensor) -> Tensor:
    """The index repeated along all further dimensions of the values."""
    return index.view(-1, *[1] * (values.dim() - 1)).expand(-1, *values.shape[1:])

"""From atoms to edges and back: rows taken by index, summed by index, and normalised by index."""

from torch import Tensor

#: Beyond it the 1 in a weighted softmax stays this far below the largest numerator, for the sake of float32.
LARGEST_SCORE = 30.0


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


def segment_mean(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """Mean of the rows that carry the same index, each of which occurs; arguments as :func:`segment_sum`."""
    ones = values.new_ones(values.shape[0], *[1] * (values.dim() - 1))
    return segment_sum(values, index, n_segments) / segment_sum(ones, index, n_segments)


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


def segment_softmax(scores: Tensor, index: Tensor, n_segments: int, weights: Tensor | None = None) -> Tensor:
    r"""Softmax over rows that carry the same index; attention that vanishes where its weight does.

    .. math::
        a_e = \frac{\exp s_e}{\sum_{e'} \exp s_{e'}}
        \qquad \text{with weights:} \quad
        a_e = \frac{w_e \exp s_e}{1 + \sum_{e'} w_{e'} \exp s_{e'}}

    Weighted numerators alone are not continuous: an only neighbor would have the attention w/w = 1 until
    it is gone. The 1 is one more row of score zero and no value, which takes what the neighbors leave
    (as the central atom does in arXiv:2305.19302). Attention, and the derivatives that the weight has,
    then go to zero with the weight, alone or together, and no denominator vanishes. Without weights the
    rows of a segment sum to 1; with weights to less, the closer to 1 the more neighbors there are.

    Parameters
    ----------
    scores : Tensor, shape (n, ...)
        Such as (n_edges, n_heads).
    index : Tensor, shape (n,), int64
    n_segments : int
    weights : Tensor, shape (n,), optional
        Between 0 and 1, such as a cutoff function. What rounding has put below 0 counts as 0.

    Returns
    -------
    Tensor, shape (n, ...)
    """
    largest = _largest(scores, index, n_segments, at_least_zero=weights is not None)
    numerators = (scores - take(largest, index)).exp()
    if weights is None:
        return numerators / take(segment_sum(numerators, index, n_segments), index)
    numerators = weights.clamp(min=0).view(-1, *[1] * (scores.dim() - 1)) * numerators
    unit = (-largest.clamp(max=LARGEST_SCORE)).exp()
    return numerators / take(unit + segment_sum(numerators, index, n_segments), index)


def _largest(scores: Tensor, index: Tensor, n_segments: int, at_least_zero: bool) -> Tensor:
    """The largest score of each segment, which keeps exponentials finite and changes no result.

    Rounded up, since a step has no slope, also where a trace has lost the ``detach``.
    """
    start = scores.new_zeros((n_segments, *scores.shape[1:]))
    largest = start.scatter_reduce(
        0, _expanded(index, scores), scores.detach(), "amax", include_self=at_least_zero
    )
    return largest.ceil()


def _expanded(index: Tensor, values: Tensor) -> Tensor:
    """The index repeated along all further dimensions of the values."""
    return index.view(-1, *[1] * (values.dim() - 1)).expand(-1, *values.shape[1:])

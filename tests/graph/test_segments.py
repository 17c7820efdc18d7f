"""Softmax over the edges of each atom: a loop, torch-geometric's own, and what happens at the cutoff."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from asecalc_ml.graph.segments import _largest, segment_mean, segment_softmax

INDEX = torch.tensor([0, 3, 3, 1, 0, 3])


def scores_of(index, *shape, seed=0, size=3.0):
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(len(index), *shape, dtype=torch.float64, generator=generator)


def weights_of(index, seed=1):
    return torch.rand(len(index), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=12), st.sampled_from([(), (2,), (3, 2)]), st.booleans())
def test_segment_softmax_is_a_loop(index, shape, weighted):
    index = torch.tensor(index, dtype=torch.int64)
    scores, weights = scores_of(index, *shape), weights_of(index)
    found = segment_softmax(scores, index, 6, weights if weighted else None)
    for row, k in enumerate(index):
        others = [other for other in range(len(index)) if index[other] == k]
        terms = {other: scores[other].exp() * (weights[other] if weighted else 1) for other in others}
        torch.testing.assert_close(found[row], terms[row] / (sum(terms.values()) + weighted))


def test_without_weights_it_is_torch_geometrics():
    from torch_geometric.utils import softmax  # slow to import, and of use here only

    scores = scores_of(INDEX, 2)
    torch.testing.assert_close(segment_softmax(scores, INDEX, 4), softmax(scores, INDEX, num_nodes=4))


def test_a_mean_is_that_of_its_rows():
    values = scores_of(INDEX, 2)
    dense = INDEX.unique(return_inverse=True)[1]
    expected = [values[dense == k].mean(dim=0) for k in range(3)]
    torch.testing.assert_close(segment_mean(values, dense, 3), torch.stack(expected))


@pytest.mark.parametrize("weighted", [False, True])
def test_it_can_be_differentiated_twice(weighted):
    weights = weights_of(INDEX).requires_grad_() if weighted else None
    scores = scores_of(INDEX, 2).requires_grad_()
    tensors = (scores, weights) if weighted else (scores,)
    assert torch.autograd.gradcheck(lambda s, w=None: segment_softmax(s, INDEX, 4, w), tensors)
    assert torch.autograd.gradgradcheck(lambda s, w=None: segment_softmax(s, INDEX, 4, w) ** 2, tensors)


def test_the_largest_score_is_a_constant_where_a_trace_loses_its_detach():
    scores = scores_of(INDEX, 2).requires_grad_()
    graph = make_fx(lambda scores: _largest(scores, INDEX, 4, at_least_zero=False))(scores)
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.detach.default):
        node.replace_all_uses_with(node.args[0])
        graph.graph.erase_node(node)
    graph.recompile()
    (slope,) = torch.autograd.grad(graph(scores).sum(), scores)
    assert not slope.any()


@pytest.mark.parametrize("n_neighbors", [1, 2])
def test_attention_leaves_with_the_last_neighbors(n_neighbors):
    """Of one neighbor, and of two that leave together, in value and slope."""
    index, scores = torch.zeros(n_neighbors, dtype=torch.int64), scores_of(range(n_neighbors), 1)
    distances = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    for power in (2, 4, 6):
        left = 10.0**-power
        weights = ((1 - distances + left) ** 3).expand(n_neighbors)
        attention = segment_softmax(scores, index, 1, weights).sum()
        (slope,) = torch.autograd.grad(attention, distances)
        assert 0 < attention < 1e3 * left**3
        assert 0 < -slope < 1e3 * left**2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_score_is_too_large(dtype):
    scores = torch.tensor([500.0, -500.0, 100.0, -500.0, -500.0], dtype=dtype, requires_grad=True)
    index = torch.tensor([0, 0, 1, 2, 2])
    for weights in (None, torch.tensor([0, 0.5, -1e-7, 0.5, 0], dtype=dtype)):
        attention = segment_softmax(scores, index, 3, weights)
        (slope,) = torch.autograd.grad((attention**2).sum(), scores, create_graph=True)
        (curvature,) = torch.autograd.grad((slope**2).sum(), scores)
        for tensor in (attention, slope, curvature):
            assert torch.isfinite(tensor).all()
        assert (attention >= 0).all()
        assert (attention <= 1).all()


def test_segments_of_thousands():
    index = torch.zeros(5000, dtype=torch.int64)
    attention = segment_softmax(torch.full((5000,), 3.0), index, 1)
    torch.testing.assert_close(attention, torch.full((5000,), 1 / 5000))

"""Values that Inductor stores: those that are broadcast, and no number changes."""

import torch

from asecalc_ml.model.compile.materialize import materialize_broadcasts
from asecalc_ml.model.compile.program import traced


def cutoff_and_features(d, x):
    envelope = torch.cos(d) + 1  # of each pair, read for each feature
    return [envelope[:, None] * x, x.sigmoid() * x, (d.exp()[:, None].expand(-1, 3) + 1).sum(dim=1)]


def test_broadcast_values_are_stored_and_numbers_are_the_same():
    d, x = torch.rand(6), torch.rand(6, 3)
    graph = traced(cutoff_and_features, [d, x])
    expected = graph(d, x)
    marked = materialize_broadcasts(graph, [d, x])
    assert all(torch.equal(value, known) for value, known in zip(marked(d, x), expected, strict=True))
    realize = torch.ops._inductor_test.realize.default
    stored = {node.args[0].target for node in marked.graph.find_nodes(op="call_function", target=realize)}
    assert stored == {torch.ops.aten.add.Tensor, torch.ops.aten.exp.default}


def test_constants_and_single_elements_are_not_stored():
    x = torch.rand(4, 3)
    graph = materialize_broadcasts(traced(lambda x: [x * x.sum() + torch.ones(3)], [x]), [x])
    assert not graph.graph.find_nodes(op="call_function", target=torch.ops._inductor_test.realize.default)

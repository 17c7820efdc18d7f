"""Intermediate values that compiled code keeps: what is broadcast afterwards is computed once.

Inductor inlines cheap operations into every loop that reads them. A value of each pair that is read for every
feature, such as the cutoff function, would be computed as often as there are features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule

from asecalc_ml.model.compile.molecules.energy_graph import Node, with_shapes
from asecalc_ml.model.compile.molecules.matrix_products import RESHAPING

aten = torch.ops.aten

VIEWS = (
    *RESHAPING, aten.expand.default, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims,
    aten.slice.Tensor, aten.select.int, aten.permute.default, aten.t.default, aten.transpose.int,
    aten.detach.default,
)  # fmt: skip

#: Kept in any case: the results of library calls.
KEPT = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.cat.default, aten.split.Tensor,
        aten.split_with_sizes.default)  # fmt: skip

#: Operations that are no loop over all elements of their result.
NOT_ELEMENTWISE = (*VIEWS, *KEPT, aten.sum.dim_IntList, aten.sum.default, aten.amax.default)


def materialize_broadcasts(graph: GraphModule, arguments: Sequence[Tensor]) -> GraphModule:
    """Mark every computed value that is broadcast, so that Inductor stores it.

    Parameters
    ----------
    graph : GraphModule
        Of plain tensor operations; it is changed.
    arguments : sequence of Tensor
    """
    try:
        from torch._inductor import test_operators  # noqa: F401  its import registers the operation
    except ImportError:  # Inductor's tests have it, not its interface: without it code is right, and slower
        return graph
    realize = torch.ops._inductor_test.realize.default
    with_shapes(graph, arguments)
    for node in _broadcast(graph):
        with graph.graph.inserting_after(node):
            stored = graph.graph.call_function(realize, (node,))
        node.replace_all_uses_with(stored, delete_user_cb=lambda user, stored=stored: user is not stored)
    graph.recompile()
    return graph


def _broadcast(graph: GraphModule) -> list[Node]:
    """Computed values of more than one element that another operation repeats."""
    sources: dict[Node, None] = {}  # a set in order
    for node in graph.graph.nodes:
        if node.op != "call_function" or "shape" not in node.meta:
            continue
        if node.target in NOT_ELEMENTWISE and node.target is not aten.expand.default:
            continue
        for argument in node.all_input_nodes:
            if _size(argument) < _size(node):
                sources[_without_views(argument)] = None
    return [node for node in sources if _is_computed(node) and _size(node) > 1]


def _is_computed(node: Node) -> bool:
    """Return True for a result of tensors that Inductor may compute again; a constant is none."""
    return node.op == "call_function" and node.target not in KEPT and bool(node.all_input_nodes)


def _without_views(node: Node) -> Node:
    while node.op == "call_function" and node.target in VIEWS:
        node = node.args[0]
    return node


def _size(node: Node) -> float:
    """Number of elements; infinite for what is no tensor."""
    return math.prod(node.meta["shape"]) if "shape" in node.meta else math.inf

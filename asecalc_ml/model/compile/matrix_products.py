"""Linear layers that act on one tensor as a single matrix product: of small matrices, calls cost the time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.fx import GraphModule

from asecalc_ml.model.compile.energy_graph import Node

aten = torch.ops.aten

#: Operations that change how a tensor is addressed, and none of its numbers.
RESHAPING = (aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.alias.default)


@dataclass(frozen=True)
class JointProduct:
    """x W + b of several layers with one x.

    Parameters
    ----------
    names : tuple of (str, str or None)
        The graph's names of each layer's matrix and bias.
    sizes : tuple of int
        n_out of each layer.
    weights : Tensor, shape (n_in, Σ n_out)
        The layers' matrices, side by side.
    biases : tuple of Tensor, shape (n_out,), or None
    """

    names: tuple[tuple[str, str | None], ...]
    sizes: tuple[int, ...]
    weights: Tensor
    biases: tuple[Tensor | None, ...]

    def of(self, parameter: Callable[[str], Tensor]) -> JointProduct:
        """The same layers with other parameters, by their names."""
        matrices = torch.cat([parameter(weight) for weight, _ in self.names])
        biases = tuple(None if bias is None else parameter(bias) for _, bias in self.names)
        return replace(self, weights=matrices.t(), biases=biases)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Outputs of the layers, each of shape (n, n_out)."""
        products = torch.mm(x, self.weights).split(self.sizes, dim=1)
        return [y if b is None else y + b for y, b in zip(products, self.biases, strict=True)]


@dataclass(frozen=True)
class _Linear:
    node: Node
    weight: str
    bias: str | None


def joint_products(graph: GraphModule) -> dict[Node, tuple[JointProduct, int]]:
    """For every linear layer of a graph the product it is a part of, and its place there."""
    groups: dict[tuple, list[_Linear]] = defaultdict(list)
    for node in graph.graph.find_nodes(op="call_function", target=aten.addmm.default):
        _add(groups, node, bias=node.args[0])
    for node in graph.graph.find_nodes(op="call_function", target=aten.mm.default):
        _add(groups, node, bias=None)
    products: dict[Node, tuple[JointProduct, int]] = {}
    for layers in groups.values():
        matrices = [_value(graph, layer.weight) for layer in layers]  # (n_out, n_in)
        joint = JointProduct(
            names=tuple((layer.weight, layer.bias) for layer in layers),
            sizes=tuple(map(len, matrices)),
            weights=torch.cat(matrices).T.contiguous(),
            biases=tuple(None if layer.bias is None else _value(graph, layer.bias) for layer in layers),
        )
        products |= {layer.node: (joint, place) for place, layer in enumerate(layers)}
    return products


def _add(groups: dict[tuple, list[_Linear]], node: Node, bias: Node | None) -> None:
    x, weight = node.args[-2:]
    if node.kwargs or not _is_transposed_parameter(weight) or not (bias is None or bias.op == "get_attr"):
        return
    source = x
    while source.op == "call_function" and source.target in RESHAPING:
        source = source.args[0]
    layer = _Linear(node, str(weight.args[0].target), None if bias is None else str(bias.target))
    groups[source, x.meta["shape"]].append(layer)


def _is_transposed_parameter(node: Node) -> bool:
    """Return True for the matrix of a linear layer, as a product takes it."""
    return node.op == "call_function" and node.target is aten.t.default and node.args[0].op == "get_attr"


def _value(graph: GraphModule, parameter: str) -> Tensor:
    return getattr(graph, parameter).detach()

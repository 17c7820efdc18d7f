"""Linear layers that act on one tensor as a single matrix product: of small matrices, calls cost the time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule

from asecalc_ml.model.compile.molecules.energy_graph import Node

aten = torch.ops.aten

#: Operations that change how a tensor is addressed, and none of its numbers.
RESHAPING = (aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.alias.default)


class JointProduct(NamedTuple):
    """x W + b of several layers with one x.

    Parameters
    ----------
    weights : Tensor, shape (n_in, Σ n_out)
        The layers' matrices, side by side.
    biases : tuple of Tensor, shape (n_out,), or None
    """

    weights: Tensor
    biases: tuple[Tensor | None, ...]
    sizes: tuple[int, ...]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Outputs of the layers, each of shape (n, n_out)."""
        products = torch.mm(x, self.weights).split(self.sizes, dim=1)
        return [y if b is None else y + b for y, b in zip(products, self.biases, strict=True)]


@dataclass(frozen=True)
class _Linear:
    node: Node
    weight: Tensor  # (n_out, n_in)
    bias: Tensor | None


def joint_products(
    graph: GraphModule, attributes: Mapping[str, Tensor]
) -> tuple[list[JointProduct], dict[Node, tuple[int, int]]]:
    """Products of all linear layers of a graph.

    Parameters
    ----------
    graph : GraphModule
    attributes : mapping of str to Tensor
        Weights and biases by the names under which the graph reads them.

    Returns
    -------
    products : list of JointProduct
    places : dict
        For every linear layer the number of the product it is a part of, and its place there.
    """
    groups: dict[tuple, list[_Linear]] = defaultdict(list)
    for node in graph.graph.find_nodes(op="call_function", target=aten.addmm.default):
        _add(attributes, groups, node, bias=node.args[0])
    for node in graph.graph.find_nodes(op="call_function", target=aten.mm.default):
        _add(attributes, groups, node, bias=None)
    products: list[JointProduct] = []
    places: dict[Node, tuple[int, int]] = {}
    for number, layers in enumerate(groups.values()):
        weights = torch.cat([layer.weight for layer in layers]).T
        # constants lie as the product reads them; of weights that are trained this would copy in each step
        weights = weights if weights.requires_grad else weights.contiguous()
        biases, sizes = zip(*((layer.bias, len(layer.weight)) for layer in layers), strict=True)
        products.append(JointProduct(weights, biases, sizes))
        places |= {layer.node: (number, place) for place, layer in enumerate(layers)}
    return products, places


def _add(
    attributes: Mapping[str, Tensor], groups: dict[tuple, list[_Linear]], node: Node, bias: Node | None
) -> None:
    x, weight = node.args[-2:]
    if node.kwargs or not _is_transposed_parameter(weight) or not (bias is None or bias.op == "get_attr"):
        return
    source = x
    while source.op == "call_function" and source.target in RESHAPING:
        source = source.args[0]
    own_bias = None if bias is None else attributes[str(bias.target)]
    layer = _Linear(node, attributes[str(weight.args[0].target)], own_bias)
    groups[source, x.meta["shape"]].append(layer)


def _is_transposed_parameter(node: Node) -> bool:
    """Return True for the matrix of a linear layer, as a product takes it."""
    return node.op == "call_function" and node.target is aten.t.default and node.args[0].op == "get_attr"

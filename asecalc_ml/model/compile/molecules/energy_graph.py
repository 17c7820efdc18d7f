"""The energy of a model as a graph of plain tensor operations, and what its nodes depend on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter

from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput

if TYPE_CHECKING:
    Node: TypeAlias = Any  # arguments of a node may be nearly anything, by torch's own type
else:
    from torch.fx import Node

__all__ = ["Node", "dependents", "energy_graph", "with_shapes"]


def energy_graph(model: Model, inputs: PotentialInput) -> GraphModule:
    """Trace energies of atoms and systems, and partial charges, for inputs of one shape.

    Parameters
    ----------
    model : Model
    inputs : PotentialInput
        An example without triplets; its ``self_pairs`` become a constant of the graph.

    Returns
    -------
    GraphModule
        Of ``inputs.tensors``. Every node that computes a tensor has its shape in ``meta["shape"]``.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    def energies(*tensors: Tensor) -> tuple[Tensor, ...]:
        output = model(inputs.with_tensors(tensors)._replace(self_pairs=inputs.self_pairs))
        charges = output.potential.charges
        return output.atoms, output.systems, *(() if charges is None else (charges.double(),))

    with torch.no_grad():
        graph = make_fx(energies)(*inputs.tensors)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return with_shapes(graph, inputs.tensors)


def with_shapes(graph: GraphModule, arguments: Iterable[Tensor]) -> GraphModule:
    """The graph, with the shape of every tensor noted at its node."""
    _Shapes(graph).run(*arguments)
    return graph


class _Shapes(Interpreter):
    def run_node(self, n: Node) -> object:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            n.meta["shape"] = tuple(value.shape)
        return value


def dependents(graph: GraphModule, source: Node) -> set[Node]:
    """Nodes whose value depends on that of a node, the node itself included."""
    depending = {source}
    for node in graph.graph.nodes:  # in the order of computation
        if any(argument in depending for argument in node.all_input_nodes):
            depending.add(node)
    return depending

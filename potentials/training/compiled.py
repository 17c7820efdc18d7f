"""The training step as one compiled graph of energies and their edge derivative.

``torch.compile`` refuses a derivative of a derivative. Tracing energy and derivative together with
``make_fx``, parameters as inputs, leaves a graph of plain operations that is compiled and
differentiated once more like any other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asecalc_ml.derivative import EdgeDerivative, edge_derivative
from asecalc_ml.model import Model
from asecalc_ml.potential import PotentialInput

Forward = Callable[[PotentialInput], EdgeDerivative]
Compiler = Callable[[torch.fx.GraphModule], Callable]


def eager_forward(model: Model) -> Forward:
    """Energies and edge derivative by autograd, ready for a loss on both."""
    return lambda inputs: edge_derivative(model, inputs, create_graph=True)


def traced_forward(
    model: Model, example: PotentialInput, compiler: Compiler = lambda graph: graph
) -> Forward:
    """The same as one graph of plain operations, for inputs of the example's shape."""
    from torch.fx.experimental.proxy_tensor import make_fx

    parameters = dict(model.named_parameters())

    def derivative(values: list[Tensor], *tensors: Tensor) -> tuple[Tensor, ...]:
        substituted = _Substituted(model, dict(zip(parameters, values, strict=True)))
        return tuple(edge_derivative(substituted, PotentialInput(*tensors), create_graph=True))

    graph = _differentiable(make_fx(derivative)(list(parameters.values()), *example))
    run = compiler(graph)
    return lambda inputs: EdgeDerivative(*run(list(parameters.values()), *inputs))


def compiled_forward(model: Model, example: PotentialInput) -> Forward:
    """That graph compiled by Inductor, which needs a C++ compiler."""
    return traced_forward(model, example, lambda graph: torch.compile(graph, dynamic=False))


def _differentiable(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph without the ``detach`` that autograd puts around outputs it saved for a backward pass.

    Left in, they cut what exp, sqrt and norms contribute to the derivative of the forces, silently.
    """
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.detach.default):
        node.replace_all_uses_with(node.args[0])
        graph.graph.erase_node(node)
    graph.recompile()
    return graph


class _Substituted:
    """The model called with other tensors in place of its parameters."""

    def __init__(self, model: Model, parameters: dict[str, Tensor]):
        self.model, self.parameters = model, parameters

    def __call__(self, inputs: PotentialInput):
        return torch.func.functional_call(self.model, self.parameters, (inputs,))

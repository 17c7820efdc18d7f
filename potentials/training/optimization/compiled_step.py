"""The training step as one compiled graph of energies and their edge derivative.

``torch.compile`` refuses a derivative of a derivative. Tracing energy and derivative together with
``make_fx``, parameters as inputs, leaves a graph of plain operations that is compiled and
differentiated once more like any other.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative, with_derivative
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.model.rounding import ROUNDOFF, SAFETY, perturbed

Forward = Callable[[PotentialInput], EdgeDerivative]
Compiler = Callable[[torch.fx.GraphModule], Callable]


def eager_forward(model: Model, with_gradient: bool = True) -> Forward:
    """Energies and edge derivative by autograd, ready for a loss on both; or energies alone."""
    if not with_gradient:
        return lambda inputs: energies_alone(model, inputs)
    return lambda inputs: edge_derivative(model, inputs, create_graph=True)


def energies_alone(model: Model, inputs: PotentialInput) -> EdgeDerivative:
    """What a model finds, for a loss that needs no derivative: the derivative is empty."""
    output = model(inputs)
    return with_derivative(output, output.systems.new_empty(0))


def traced_forward(
    model: Model,
    example: PotentialInput,
    dynamic: bool = False,
    with_gradient: bool = True,
    compiler: Compiler = lambda graph: graph,
) -> Forward:
    """The same as one graph of plain operations, for inputs of the example's shape.

    Parameters
    ----------
    dynamic : bool
        Keep the numbers of atoms and edges open; the number of systems is the example's.
    with_gradient : bool
        False for a loss on energies alone.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    parameters = dict(model.named_parameters())
    traced = copy.deepcopy(model)  # functional_call leaves its tensors in a module that has two names

    def derivative(values: list[Tensor], *tensors: Tensor) -> tuple[Tensor, ...]:
        substituted = Substituted(traced, dict(zip(parameters, values, strict=True)))
        return tuple(eager_forward(substituted, with_gradient)(PotentialInput(*tensors)))

    tracing_mode = "symbolic" if dynamic else "real"
    trace = make_fx(derivative, tracing_mode=tracing_mode, _allow_non_fake_inputs=dynamic)
    graph = _differentiable(trace(list(parameters.values()), *example.tensors))
    run = compiler(graph)
    return lambda inputs: EdgeDerivative(*run(list(parameters.values()), *inputs.tensors))


def compiled_forward(
    model: Model,
    example: PotentialInput,
    dynamic: bool = False,
    with_gradient: bool = True,
    inductor_options: dict | None = None,
) -> Forward:
    """That graph compiled by Inductor, which needs a C++ compiler."""

    def compiler(graph: torch.fx.GraphModule) -> Callable:
        return torch.compile(graph, dynamic=dynamic, options=inductor_options)

    return traced_forward(model, example, dynamic, with_gradient, compiler)


class DeviationError(RuntimeError):
    """Compiled code that does not find what eager mode finds."""


def check_forward(
    forward: Forward, model: Model, batches: Sequence[PotentialInput], with_gradient: bool = True
) -> None:
    """Compare what a loss sees with the eager model: edge derivative, and its derivative by the parameters.

    A trace that took one batch's sizes for every batch's would show here. Weights are shaken for it and put
    back: where outputs start at zero, as PhysNet's do, so does all that could differ.

    Raises
    ------
    DeviationError
        If they differ by more than rounding explains.
    """
    eager = eager_forward(model, with_gradient)
    with _shaken(model):
        for inputs in batches:
            found, expected = (_gradients(f, model, inputs) for f in (forward, eager))
            allowed = _rounding(eager, model, inputs, expected)
            for name, bound in allowed.items():
                deviation = float((found[name] - expected[name]).norm())
                if not deviation <= bound:
                    raise DeviationError(
                        f"gradients of the compiled and the eager step by {name} differ by {deviation:.0e}, "
                        f"where rounding explains {bound:.0e}"
                    )


def _rounding(
    eager: Forward, model: Model, inputs: PotentialInput, expected: dict[str, Tensor]
) -> dict[str, float]:
    """Norm of what rounding may change of the gradient by each parameter.

    As in :mod:`asecalc_ml.model.rounding`: the roundoff times the norm of the whole gradient, whose parts
    share their intermediate values, and what eager mode itself makes of edge vectors that differ by the
    roundoff.
    """
    roundoff = ROUNDOFF[model.dtype]
    whole = float(torch.stack([one.norm() for one in expected.values()]).norm())
    moved = [_gradients(eager, model, one) for one in perturbed(inputs, roundoff)]
    return {
        name: SAFETY * (roundoff * whole + max(float((one[name] - expected[name]).norm()) for one in moved))
        for name in expected
    }


@contextlib.contextmanager
def _shaken(model: Model, size: float = 0.01) -> Iterator[None]:
    """Weights a little off, by random numbers of their own, and exactly as they were afterwards."""
    generator = torch.Generator().manual_seed(0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    try:
        for parameter in model.parameters():
            parameter.data += size * torch.randn(parameter.shape, generator=generator).to(parameter)
        yield
    finally:
        for parameter, values in zip(model.parameters(), before, strict=True):
            parameter.data.copy_(values)


def _gradients(forward: Forward, model: Model, inputs: PotentialInput) -> dict[str, Tensor]:
    """Derivative by each parameter of sums of squares: of edge derivatives or energies, and of charges."""
    parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
    predicted = forward(inputs)
    fitted = predicted.gradient if predicted.gradient.numel() else predicted.systems
    loss = fitted.square().sum() + predicted.charges.square().sum() + predicted.penalty.sum()
    given = list(parameters.values())
    gradients = torch.autograd.grad(loss, given, allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, gradients, strict=True))


def _differentiable(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph without the ``detach`` that autograd puts around outputs it saved for a backward pass.

    Left in, they cut what exp, sqrt and norms contribute to the derivative of the forces, silently. Autograd
    of torch 2.14 and later puts an ``alias`` there, which can be differentiated.
    """
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.detach.default):
        node.replace_all_uses_with(node.args[0])
        graph.graph.erase_node(node)
    graph.recompile()
    return graph


class Substituted:
    """The model called with other tensors in place of its parameters."""

    def __init__(self, model: Model, parameters: dict[str, Tensor]):
        self.model, self.parameters = model, parameters

    def __call__(self, inputs: PotentialInput) -> Any:
        return torch.func.functional_call(self.model, self.parameters, (inputs,))

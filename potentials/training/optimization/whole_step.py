"""A training step as one function: from a batch to the loss and its derivative by all weights.

Eagerly, or as one compiled graph of the forward pass, the edge derivative, the loss and the derivative of
the loss by the weights: autograd runs while the step is traced, and at no step. ``torch.compile`` alone
refuses a derivative of a derivative. The predictions of validation are compiled in the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from asecalc_ml.model.compile.compiled_graph import INDUCTOR_OPTIONS
from asecalc_ml.model.derivative import EdgeDerivative
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch
from asecalc_ml.potentials.training.losses import total_loss
from asecalc_ml.potentials.training.optimization.agreement import DeviationError, check_prediction, check_step
from asecalc_ml.potentials.training.optimization.eager import Evaluate, Prediction, Step, eager_forward
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.options import LossOptions

Compiled = TypeVar("Compiled")

#: Makes a function of a graph.
Compiler = Callable[[torch.fx.GraphModule], Callable]


def uncompiled(graph: torch.fx.GraphModule) -> Callable:
    """Return the graph, which runs operation by operation."""
    return graph


def inductor(dynamic: bool = False, options: dict | None = None) -> Compiler:
    """Compile with Inductor, which needs a C++ compiler."""
    return partial(torch.compile, dynamic=dynamic, options=options)


def traced_step(
    model: Model,
    weights: FlatWeights,
    example: Batch,
    loss: LossOptions,
    dynamic: bool = False,
    compiler: Compiler = uncompiled,
) -> Step:
    """Return the same as one graph of plain operations, for batches of the example's shape.

    Parameters
    ----------
    dynamic : bool
        Keep the numbers of atoms and edges open; the number of systems is the example's.
    """
    evaluate = _with_weights(model, weights)

    def step(values: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        batch = example.with_tensors(tensors)
        leaf = values.detach().requires_grad_(True)
        predicted = eager_forward(evaluate(leaf), loss.needs_derivative)(batch.inputs)
        value = total_loss(predicted, batch, loss)
        (gradient,) = torch.autograd.grad(value, leaf, materialize_grads=True)
        return value.detach(), gradient.detach()

    run = _traced(step, [weights.values.detach(), *example.tensors], dynamic, compiler)
    return lambda values, batch: run(values.detach(), *batch.tensors)


def traced_prediction(
    model: Model,
    weights: FlatWeights,
    example: PotentialInput,
    with_gradient: bool,
    dynamic: bool = False,
    compiler: Compiler = uncompiled,
) -> Prediction:
    """Return what the model finds as one graph of plain operations, for inputs of the example's shape.

    Parameters
    ----------
    with_gradient : bool
        False for energies alone.
    dynamic : bool
        As in :func:`traced_step`.
    """
    evaluate = _with_weights(model, weights)

    def predict(values: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        predicted = eager_forward(evaluate(values), with_gradient)(PotentialInput(*tensors))
        return tuple(tensor.detach() for tensor in predicted)

    run = _traced(predict, [weights.values.detach(), *example.tensors], dynamic, compiler)
    return lambda values, inputs: EdgeDerivative(*run(values.detach(), *inputs.tensors))


def _with_weights(model: Model, weights: FlatWeights) -> Callable[[Tensor], Evaluate]:
    """The model as a function of its joined weights."""
    # a copy, since functional_call leaves its tensors in modules that have two names
    copied = copy.deepcopy(model).requires_grad_(False)

    def evaluate(values: Tensor) -> Evaluate:
        named = dict(zip(weights.names, weights.views(values), strict=True))
        return lambda inputs: torch.func.functional_call(copied, named, (inputs,))

    return evaluate


def _traced(function: Callable, arguments: Sequence[Tensor], dynamic: bool, compiler: Compiler) -> Callable:
    """What the compiler makes of a function of tensors, as a graph without what its results do not need."""
    from torch.fx.experimental.proxy_tensor import make_fx

    trace = make_fx(function, tracing_mode="symbolic" if dynamic else "real", _allow_non_fake_inputs=dynamic)
    graph = trace(*arguments)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    run = compiler(graph)

    def without_autograd(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return run(*tensors)

    return without_autograd


def checked_step(
    model: Model, weights: FlatWeights, batches: Sequence[Batch], loss: LossOptions, dynamic: bool
) -> Step:
    """Compile for the first batch in the first way that agrees with eager mode on all of them.

    Raises
    ------
    DeviationError
        If no way does.
    """

    def compiled(options: dict | None) -> Step:
        step = traced_step(model, weights, batches[0], loss, dynamic, inductor(dynamic, options))
        check_step(step, model, weights, batches, loss)
        return step

    return _first_that_agrees(compiled)


def checked_prediction(
    model: Model,
    weights: FlatWeights,
    inputs: Sequence[PotentialInput],
    with_gradient: bool,
    dynamic: bool,
) -> Prediction:
    """Compile for the first input in the first way that agrees with eager mode on all of them.

    Raises
    ------
    DeviationError
        If no way does.
    """

    def compiled(options: dict | None) -> Prediction:
        compiler = inductor(dynamic, options)
        predict = traced_prediction(model, weights, inputs[0], with_gradient, dynamic, compiler)
        check_prediction(predict, model, weights, inputs)
        return predict

    return _first_that_agrees(compiled)


def _first_that_agrees(compiled: Callable[[dict | None], Compiled]) -> Compiled:
    for options in INDUCTOR_OPTIONS:
        try:
            return compiled(options)
        except DeviationError as error:
            deviation = error
    raise deviation

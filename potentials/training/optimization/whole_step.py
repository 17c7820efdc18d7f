"""A training step as one function: from a batch to the loss and its derivative by all weights.

Eagerly, or as one compiled graph of the forward pass, the edge derivative, the loss and the derivative of
the loss by the weights: autograd runs while the step is traced, and at no step. ``torch.compile`` alone
refuses a derivative of a derivative. The predictions of validation are compiled in the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.fx import GraphModule

from asecalc_ml.model.compile.compiled_graph import INDUCTOR_OPTIONS
from asecalc_ml.model.compile.materialize import materialize_broadcasts
from asecalc_ml.model.derivative import EdgeDerivative
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch
from asecalc_ml.potentials.training.losses import total_loss
from asecalc_ml.potentials.training.optimization.agreement import DeviationError, check_prediction, check_step
from asecalc_ml.potentials.training.optimization.eager import Evaluate, Prediction, Step, eager_forward
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.molecules import molecule_model
from asecalc_ml.potentials.training.options import LossOptions

Function = TypeVar("Function")


def step_graph(
    model: Model,
    weights: FlatWeights,
    example: Batch,
    loss: LossOptions,
    dynamic: bool = False,
    all_pairs: bool = False,
) -> GraphModule:
    """Trace the step for batches of the example's shape, as a graph of plain operations.

    Parameters
    ----------
    dynamic : bool
        Keep the numbers of atoms and edges open; the number of systems is the example's.
    all_pairs : bool
        Take sums over neighbors along axes, for molecules of one size with all pairs.

    Returns
    -------
    GraphModule
        From weights and the tensors of a batch to loss and gradient.

    Raises
    ------
    NotDenseError
        If the architecture cannot be computed with arrays of all pairs.
    """
    with_weights = molecule_model if all_pairs else edge_list_model
    evaluate = with_weights(model, weights, example.inputs)

    def step(values: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        batch = example.with_tensors(tensors)
        leaf = values.detach().requires_grad_(True)
        predicted = eager_forward(evaluate(leaf), loss.needs_derivative)(batch.inputs)
        value = total_loss(predicted, batch, loss)
        (gradient,) = torch.autograd.grad(value, leaf, materialize_grads=True)
        return value.detach(), gradient.detach()

    return _graph(step, [weights.values.detach(), *example.tensors], dynamic)


def step_of(run: Callable) -> Step:
    """Return the step that a graph computes, or what was compiled of one."""
    return lambda values, batch: _without_autograd(run, values, batch.tensors)


def prediction_graph(
    model: Model,
    weights: FlatWeights,
    example: PotentialInput,
    with_gradient: bool,
    dynamic: bool = False,
    all_pairs: bool = False,
) -> GraphModule:
    """Trace what the model finds as a graph of plain operations; parameters as in :func:`step_graph`.

    Parameters
    ----------
    with_gradient : bool
        False for energies alone.

    Returns
    -------
    GraphModule
        From weights and the tensors of an input to those of an :class:`EdgeDerivative`.
    """
    evaluate = (molecule_model if all_pairs else edge_list_model)(model, weights, example)

    def predict(values: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        predicted = eager_forward(evaluate(values), with_gradient)(example.with_tensors(tensors))
        return tuple(tensor.detach() for tensor in predicted)

    return _graph(predict, [weights.values.detach(), *example.tensors], dynamic)


def prediction_of(run: Callable) -> Prediction:
    """Return the prediction that a graph computes, or what was compiled of one."""
    return lambda values, inputs: EdgeDerivative(*_without_autograd(run, values, inputs.tensors))


def edge_list_model(
    model: Model, weights: FlatWeights, example: PotentialInput
) -> Callable[[Tensor], Evaluate]:
    """Return the model as a function of its joined weights, for any batch."""
    copied = copy.deepcopy(model).requires_grad_(False)  # functional_call leaves tensors in shared modules

    def with_weights(values: Tensor) -> Evaluate:
        named = dict(zip(weights.names, weights.views(values), strict=True))
        return lambda inputs: torch.func.functional_call(copied, named, (inputs,))

    return with_weights


def _graph(function: Callable, arguments: Sequence[Tensor], dynamic: bool) -> GraphModule:
    """A function of tensors as a graph, without what its results do not need."""
    from torch.fx.experimental.proxy_tensor import make_fx

    mode = "symbolic" if dynamic else "real"
    graph = make_fx(function, tracing_mode=mode, _allow_non_fake_inputs=dynamic)(*arguments)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _without_autograd(run: Callable, values: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return run(values.detach(), *tensors)


def checked_step(
    model: Model,
    weights: FlatWeights,
    batches: Sequence[Batch],
    loss: LossOptions,
    dynamic: bool,
    all_pairs: bool = False,
) -> Step:
    """Compile for the first batch in the first way that agrees with eager mode on all of them.

    Parameters
    ----------
    dynamic : bool
        As in :func:`step_graph`.
    all_pairs : bool
        Batches hold molecules of one size with all pairs: try arrays before the edge list.

    Raises
    ------
    DeviationError
        If no way does.
    """
    return _first_way(
        lambda arrays: step_graph(model, weights, batches[0], loss, dynamic, arrays),
        step_of,
        lambda step: check_step(step, model, weights, batches, loss),
        [weights.values.detach(), *batches[0].tensors],
        dynamic,
        all_pairs,
    )


def checked_prediction(
    model: Model,
    weights: FlatWeights,
    inputs: Sequence[PotentialInput],
    with_gradient: bool,
    dynamic: bool,
    all_pairs: bool = False,
) -> Prediction:
    """Compile for the first input in the first way that agrees with eager mode on all of them.

    Parameters and exceptions as in :func:`checked_step`.
    """
    return _first_way(
        lambda arrays: prediction_graph(model, weights, inputs[0], with_gradient, dynamic, arrays),
        prediction_of,
        lambda predict: check_prediction(predict, model, weights, inputs),
        [weights.values.detach(), *inputs[0].tensors],
        dynamic,
        all_pairs,
    )


def _first_way(
    trace: Callable[[bool], GraphModule],
    function_of: Callable[[Callable], Function],
    check: Callable[[Function], None],
    arguments: Sequence[Tensor],
    dynamic: bool,
    all_pairs: bool,
) -> Function:
    """What is compiled in the first way that passes the check; a trace has to pass it before."""
    for arrays in [True, False] if all_pairs else [False]:
        try:
            graph = trace(arrays)
            check(function_of(graph))
        except Exception as error:  # whatever an unusual architecture raises: the edge list takes all
            failure = error
            continue
        for options in INDUCTOR_OPTIONS:
            try:
                function = function_of(compiled(graph, arguments, dynamic, options))
                check(function)
                return function
            except DeviationError as error:
                failure = error
    raise failure


def compiled(
    graph: GraphModule, arguments: Sequence[Tensor], dynamic: bool = False, options: dict | None = None
) -> Callable:
    """Compile a graph with Inductor, which needs a C++ compiler; the graph is changed."""
    if not dynamic and arguments[0].device.type == "cpu":
        graph = materialize_broadcasts(graph, arguments)
    return torch.compile(graph, dynamic=dynamic, options=options)

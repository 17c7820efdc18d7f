"""A training step as one function: from a batch to the loss and its derivative by all weights.

Eagerly, or as one compiled graph of the forward pass, the edge derivative, the loss and the derivative of
the loss by the weights, so that no autograd runs at a step. It is traced twice. The first trace is the
forward pass alone, of plain operations, which a function from graph to graph may rewrite. The second takes
the derivatives of that graph: autograd runs while it is traced.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from asecalc_ml.model.compile.compiled_graph import INDUCTOR_OPTIONS
from asecalc_ml.model.model import Model, ModelOutput
from asecalc_ml.model.potential import AtomOutput, PotentialInput
from asecalc_ml.model.rounding import ROUNDOFF, SAFETY, perturbed
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch
from asecalc_ml.potentials.training.losses import total_loss
from asecalc_ml.potentials.training.optimization.compiled_step import (
    Compiler,
    DeviationError,
    Substituted,
    eager_forward,
)
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.options import LossOptions

#: Loss, shape (), and its derivative by the weights, shape (n_weights,), at these weights.
Step = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]

#: Rewrites the graph of a forward pass: outputs are atoms, systems, charges and penalty of a ModelOutput.
Rewrite = Callable[[torch.fx.GraphModule], torch.fx.GraphModule]


def unchanged(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Return the graph."""
    return graph


def eager_step(model: Model, weights: FlatWeights, loss: LossOptions) -> Step:
    """Return a step by autograd, for the weights that the model has; other weights are ignored."""
    forward = eager_forward(model, loss.needs_derivative)

    def step(values: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        value = total_loss(forward(batch.inputs), batch, loss)
        gradients = torch.autograd.grad(value, weights.parameters, allow_unused=True, materialize_grads=True)
        return value.detach(), torch.cat([gradient.reshape(-1) for gradient in gradients])

    return step


def traced_step(
    model: Model,
    weights: FlatWeights,
    example: Batch,
    loss: LossOptions,
    dynamic: bool = False,
    rewrite: Rewrite = unchanged,
    compiler: Compiler = unchanged,
) -> Step:
    """Return the same as one graph of plain operations, for batches of the example's shape.

    Parameters
    ----------
    dynamic : bool
        Keep the numbers of atoms and edges open; the number of systems is the example's.
    rewrite : callable
        Changes the graph of the forward pass before derivatives are taken.
    compiler : callable
        Makes a function of the graph.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    mode = "symbolic" if dynamic else "real"
    forward = rewrite(_forward_graph(model, weights, example.inputs, mode))

    def step(values: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        batch = example.with_tensors(tensors)
        leaf = values.detach().requires_grad_(True)
        parts = weights.views(leaf)

        def evaluate(inputs: PotentialInput) -> ModelOutput:
            atoms, systems, charges, penalty = forward(parts, *inputs.tensors)
            return ModelOutput(atoms, systems, AtomOutput(atoms, charges=charges, penalty=penalty))

        predicted = eager_forward(evaluate, loss.needs_derivative)(batch.inputs)
        value = total_loss(predicted, batch, loss)
        (gradient,) = torch.autograd.grad(value, leaf, materialize_grads=True)
        return value.detach(), gradient.detach()

    trace = make_fx(step, tracing_mode=mode, _allow_non_fake_inputs=dynamic)
    graph = trace(weights.values.detach(), *example.tensors)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    run = compiler(graph)

    def run_batch(values: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return run(values.detach(), *batch.tensors)

    return run_batch


def _forward_graph(
    model: Model, weights: FlatWeights, example: PotentialInput, mode: str
) -> torch.fx.GraphModule:
    """Forward pass with the trainable parameters as inputs; charges and penalty are empty where absent."""
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = copy.deepcopy(model).requires_grad_(
        False
    )  # functional_call leaves its tensors in shared modules

    def forward(values: list[Tensor], *tensors: Tensor) -> tuple[Tensor, ...]:
        output = Substituted(traced, dict(zip(weights.names, values, strict=True)))(PotentialInput(*tensors))
        extras = (output.potential.charges, output.potential.penalty)
        empty = output.systems.new_empty(0)
        return output.atoms, output.systems, *(empty if one is None else one for one in extras)

    values = [parameter.detach() for parameter in weights.parameters]
    trace = make_fx(forward, tracing_mode=mode, _allow_non_fake_inputs=mode == "symbolic")
    graph = trace(values, *example.tensors)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def compiled_step(
    model: Model,
    weights: FlatWeights,
    example: Batch,
    loss: LossOptions,
    dynamic: bool = False,
    inductor_options: dict | None = None,
) -> Step:
    """Return that graph compiled by Inductor, which needs a C++ compiler."""

    def compiler(graph: torch.fx.GraphModule) -> Callable:
        return torch.compile(graph, dynamic=dynamic, options=inductor_options)

    return traced_step(model, weights, example, loss, dynamic, compiler=compiler)


def checked_step(
    model: Model, weights: FlatWeights, batches: Sequence[Batch], loss: LossOptions, dynamic: bool
) -> Step:
    """Compile for the first batch in the first way that agrees with eager mode on all of them.

    Raises
    ------
    DeviationError
        If no way does.
    """
    for inductor_options in INDUCTOR_OPTIONS:
        try:
            step = compiled_step(model, weights, batches[0], loss, dynamic, inductor_options)
            check_step(step, model, weights, batches, loss)
            return step
        except DeviationError as error:
            deviation = error
    raise deviation


def check_step(
    step: Step, model: Model, weights: FlatWeights, batches: Sequence[Batch], loss: LossOptions
) -> None:
    """Compare loss and gradient with those of the eager step.

    A trace that took one batch's sizes for every batch's would show here. Weights are shaken for it and put
    back: where outputs start at zero, as PhysNet's do, so does all that could differ.

    Raises
    ------
    DeviationError
        If they differ by more than rounding explains.
    """
    eager = eager_step(model, weights, loss)
    with weights.replaced_by(_shaken(weights.values.detach())):
        for batch in batches:
            values = weights.values.detach()
            (value, gradient), (expected_value, expected) = step(values, batch), eager(values, batch)
            bounds, value_bound = _rounding(eager, weights, model, batch, expected_value, expected)
            deviations = [part.norm() for part in weights.views(gradient - expected)]
            compared = [*zip(weights.names, deviations, bounds, strict=True)]
            compared.append(("loss", (value - expected_value).abs(), value_bound))
            for name, deviation, bound in compared:
                if not deviation <= bound:
                    raise DeviationError(
                        f"{name if name == 'loss' else f'gradients by {name}'} of the compiled and the eager "
                        f"step differ by {float(deviation):.0e}, where rounding explains {bound:.0e}"
                    )


def _rounding(
    eager: Step, weights: FlatWeights, model: Model, batch: Batch, value: Tensor, gradient: Tensor
) -> tuple[list[float], float]:
    """Norm of what rounding may change of the gradient by each parameter, and of the loss.

    As in :mod:`asecalc_ml.model.rounding`: the roundoff times the norm of the whole gradient, whose parts
    share their intermediate values, and what eager mode itself makes of edge vectors that differ by the
    roundoff.
    """
    roundoff = ROUNDOFF[model.dtype]
    values = weights.values.detach()
    moved = [eager(values, batch._replace(inputs=inputs)) for inputs in perturbed(batch.inputs, roundoff)]
    moved_norms = [[part.norm() for part in weights.views(other - gradient)] for _, other in moved]
    largest = torch.stack([torch.stack(norms) for norms in moved_norms]).amax(dim=0)
    whole = float(gradient.norm())
    value_change = max(abs(float(other - value)) for other, _ in moved)
    bounds = [SAFETY * (roundoff * whole + float(change)) for change in largest]
    return bounds, SAFETY * (roundoff * abs(float(value)) + value_change)


def _shaken(values: Tensor, size: float = 0.01) -> Tensor:
    """Weights a little off, by random numbers of their own."""
    generator = torch.Generator().manual_seed(0)
    return values + size * torch.randn(values.shape, generator=generator).to(values)

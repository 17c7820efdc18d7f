"""What a loss sees of a model, energies of a batch and their edge derivative, and the step of autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative, with_derivative
from asecalc_ml.model.model import Model, ModelOutput
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch
from asecalc_ml.potentials.training.losses import total_loss
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.options import LossOptions

#: A model, or what computes the same of other weights.
Evaluate = Callable[[PotentialInput], ModelOutput]

Forward = Callable[[PotentialInput], EdgeDerivative]

#: The same at these weights, shape (n_weights,).
Prediction = Callable[[Tensor, PotentialInput], EdgeDerivative]

#: Loss, shape (), and its derivative by the weights, shape (n_weights,), at these weights.
Step = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]


def eager_forward(model: Evaluate, with_gradient: bool = True) -> Forward:
    """Energies and edge derivative by autograd, ready for a loss on both; or energies alone."""
    if not with_gradient:
        return lambda inputs: energies_alone(model, inputs)
    return lambda inputs: edge_derivative(model, inputs, create_graph=True)


def energies_alone(model: Evaluate, inputs: PotentialInput) -> EdgeDerivative:
    """What a model finds, for a loss that needs no derivative: the derivative is empty."""
    output = model(inputs)
    return with_derivative(output, output.systems.new_empty(0))


def eager_step(model: Model, weights: FlatWeights, loss: LossOptions, mixed_precision: bool = False) -> Step:
    """Return a step by autograd, for the weights that the model has; other weights are ignored.

    Parameters
    ----------
    mixed_precision : bool
        Multiply matrices in bfloat16.
    """
    forward = eager_forward(model, loss.needs_derivative)

    def step(values: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.autocast(values.device.type, torch.bfloat16, enabled=mixed_precision):
            predicted = forward(batch.inputs)
        value = total_loss(predicted, batch, loss)
        gradients = torch.autograd.grad(value, weights.parameters, allow_unused=True, materialize_grads=True)
        return value.detach(), torch.cat([gradient.reshape(-1) for gradient in gradients])

    return step

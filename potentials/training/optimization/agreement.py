"""Whether compiled code finds what eager mode finds, in a step of training and in validation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asecalc_ml.model.derivative import edge_derivative, forces
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.model.rounding import ROUNDOFF, SAFETY, perturbed, rounding
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch
from asecalc_ml.potentials.training.optimization.eager import Prediction, Step, eager_step
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.options import LossOptions


class DeviationError(RuntimeError):
    """Compiled code that does not find what eager mode finds."""


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


def check_prediction(
    predict: Prediction, model: Model, weights: FlatWeights, inputs: Sequence[PotentialInput]
) -> None:
    """Compare energies, charges and forces with those of the eager model, at shaken weights as above.

    Raises
    ------
    DeviationError
        If they differ by more than rounding explains.
    """
    with weights.replaced_by(_shaken(weights.values.detach())):
        for given in inputs:
            found, expected = predict(weights.values.detach(), given), edge_derivative(model, given)
            bounds = rounding(model, given, expected)
            compared = [
                (name, getattr(found, name), getattr(expected, name), getattr(bounds, name))
                for name in ("systems", "charges", "penalty")
            ]
            if len(found.gradient):
                pulls = [forces(one.gradient, given.edge_index, given.n_atoms) for one in (found, expected)]
                compared.append(("forces", *pulls, bounds.forces))
            for name, value, reference, bound in compared:
                agrees = (value - reference).abs() <= bound
                if not bool(agrees[:-1].all()):  # the last row is the ghost's
                    raise DeviationError(f"{name} of the compiled and the eager model differ")


def _shaken(values: Tensor, size: float = 0.01) -> Tensor:
    """Weights a little off, by random numbers of their own."""
    generator = torch.Generator().manual_seed(0)
    return values + size * torch.randn(values.shape, generator=generator).to(values)

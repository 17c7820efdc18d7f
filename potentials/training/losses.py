r"""The loss: a weighted sum of terms, each the mean of a penalty over errors of one label.

The mean is that over the labels in the batch. With sums over the frames i that have forces, their atoms a and
three components k, the term of the forces is Σ_iak penalty(ΔF_iak) / Σ_i 3 n_i: a frame without forces is in
neither sum. A term is zero in a batch in which no frame has its label. A batch may be computed in parts, one
after the other or by several processes: each part gives its sum over the number of labels in the whole batch,
so that the losses and gradients of the parts sum to those of the batch.

A term is a function of prediction, batch and options; its weight is the option of the name under which it
stands in :data:`TERMS`. A penalty is a function of an error and of a characteristic scale of the same unit:

============  =======================  ==============================================================
`function`    penalty of an error Δ    source
============  =======================  ==============================================================
squared       Δ²                       its energy errors are ΔE / √N, so that a molecule weighs like its
                                       parts
log-cosh      s log cosh(Δ / s)        Montes-Campos et al., J. Chem. Inf. Model. 62, 88 (2022); Hödl's
                                       JAT, eqs. 3.4 and 3.6, whose α is 1 / s. Energy errors are ΔE / N
============  =======================  ==============================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from asecalc_ml.contracts import plugin_code, returned
from asecalc_ml.graph.segments import segment_sum
from asecalc_ml.model.derivative import EdgeDerivative, forces, virials
from asecalc_ml.plugins import get
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch
from asecalc_ml.potentials.training.options import LossOptions


def squared(errors: Tensor, scale: float) -> Tensor:
    """Squares, whatever the scale."""
    return errors**2


def log_cosh(errors: Tensor, scale: float) -> Tensor:
    """Δ² / 2s for errors far below the scale s, and the size of Δ less s log 2 far above.

    s log cosh(Δ / s), with log cosh x = x + softplus(−2x) − log 2 for x ≥ 0, since cosh itself overflows;
    softplus(x) = log(1 + eˣ).
    """
    size = errors.abs() / scale
    return scale * (size + torch.nn.functional.softplus(-2 * size) - math.log(2))


class Penalty(NamedTuple):
    """A penalty; an entry point of the group ``asecalc_ml.losses`` names one.

    Parameters
    ----------
    function : callable
        Of errors (a tensor of any shape) and their characteristic scale (a number in the same unit); returns
        the penalty of each error. It can be differentiated twice, since forces are derivatives.
    atoms_power : float
        Power of the number of atoms that an energy error is divided by.
    """

    function: Callable[[Tensor, float], Tensor]
    atoms_power: float

    def __call__(self, errors: Tensor, scale: float) -> Tensor:
        """Penalty of each error; PluginError where the function raises or returns something else."""
        what = f"{getattr(self.function, '__qualname__', self.function)}() of a loss"
        with plugin_code(what):
            found = self.function(errors, scale)
        if not isinstance(found, Tensor) or found.shape != errors.shape:
            raise returned(what, found, "a tensor with the penalty of each error, of the errors' shape")
        return found


SQUARED, LOG_COSH = Penalty(squared, 0.5), Penalty(log_cosh, 1.0)


@cache
def penalty_of(name: str) -> Penalty:
    """The penalty that is registered under a name in the group asecalc_ml.losses."""
    return get("losses", name)


def energy_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Predicted less labelled energies, shape (n_systems,), eV; like all errors 0 where there is no label."""
    return batch.energy.errors(predicted.systems)


def forces_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Predicted less labelled forces, shape (n_atoms, 3), eV/Å."""
    return batch.forces.errors(forces(predicted.gradient, batch.inputs.edge_index, batch.inputs.n_atoms))


def virial_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Errors of stress times volume, shape (n_systems, 3, 3), eV."""
    inputs = batch.inputs
    predicted_virials = virials(
        predicted.gradient, inputs.edge_vectors, inputs.edge_index, inputs.batch, inputs.n_systems
    )
    labelled = batch.stress._replace(values=batch.stress.values * batch.volume[:, None, None])
    return labelled.errors(predicted_virials)


def dipole_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Predicted less labelled dipoles, shape (n_systems, 3), e Å."""
    moments = predicted.charges[:, None] * batch.from_centre
    return batch.dipole.errors(segment_sum(moments, batch.inputs.batch, batch.inputs.n_systems))


def energy_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean penalty of the energy errors over the frames that have an energy."""
    penalty = penalty_of(options.function)
    errors = energy_errors(predicted, batch) / batch.n_atoms**penalty.atoms_power
    return batch.energy.mean(penalty(errors, options.energy_scale_eV_atom))


def forces_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean penalty of the force errors over all components of the frames that have forces."""
    penalty = penalty_of(options.function)
    return batch.forces.mean(penalty(forces_errors(predicted, batch), options.forces_scale_eV_A))


def stress_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean penalty of the errors of the virial per atom over nine components, where there is a stress."""
    penalty = penalty_of(options.function)
    errors = virial_errors(predicted, batch) / batch.n_atoms[:, None, None]
    return batch.stress.mean(penalty(errors, options.energy_scale_eV_atom))


def dipole_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean penalty of the dipole errors over three components of the frames that have a dipole."""
    penalty = penalty_of(options.function)
    return batch.dipole.mean(penalty(dipole_errors(predicted, batch), options.dipole_scale_e_A))


def target_errors(predicted: EdgeDerivative, batch: Batch) -> list[Tensor]:
    """Predicted less labelled values of each target other than the energy, shape (n_systems, ...)."""
    columns = predicted.systems.reshape(batch.inputs.n_systems, -1)
    sizes = [label.values[0].numel() for label in batch.targets]
    return [
        label.errors(values.reshape(label.values.shape))
        for label, values in zip(batch.targets, columns.split(sizes, dim=1), strict=True)
    ]


def targets_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Weighted sum over the targets of the mean penalty of their errors in units of their spreads."""
    penalty = penalty_of(options.function)
    weights, labels = options.target_weights.values(), batch.targets
    errors = target_errors(predicted, batch)
    terms = [
        weight * label.mean(penalty(error / spread, options.target_scale))
        for weight, label, error, spread in zip(weights, labels, errors, batch.spreads, strict=True)
    ]
    return torch.stack(terms).sum()


def penalty_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean over the batch's frames of what the architecture adds itself; zero for one that adds nothing."""
    if len(predicted.penalty) == 0:
        return predicted.systems.new_zeros(())
    return predicted.penalty[:-1].sum() / batch.n_frames


#: A term of the loss by the option that is its weight; the order is that of the sum.
TERMS: dict[str, Callable[[EdgeDerivative, Batch, LossOptions], Tensor]] = {
    "energy_weight": energy_term,
    "forces_weight": forces_term,
    "stress_weight": stress_term,
    "dipole_weight": dipole_term,
    "penalty_weight": penalty_term,
}


def total_loss(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Sum of the terms whose weight is above zero; the others are not computed."""
    weights = {name: getattr(options, name) for name in TERMS}
    terms = [w * TERMS[name](predicted, batch, options) for name, w in weights.items() if w > 0]
    if options.target_weights:
        terms.append(targets_term(predicted, batch, options))
    return torch.stack(terms).sum()

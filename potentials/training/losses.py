r"""The loss: a weighted sum of terms, each the mean of a penalty over errors of one label.

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
from typing import NamedTuple

import torch
from torch import Tensor

from asecalc_ml.derivative import EdgeDerivative, forces, virials
from asecalc_ml.potentials.training.batches import Batch
from asecalc_ml.potentials.training.options import LossOptions
from asecalc_ml.segments import segment_sum


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
    """A penalty, and the power of the number of atoms that an energy error is divided by."""

    function: Callable[[Tensor, float], Tensor]
    atoms_power: float


PENALTIES: dict[str, Penalty] = {"squared": Penalty(squared, 0.5), "log-cosh": Penalty(log_cosh, 1.0)}


def energy_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Predicted less labelled energies, shape (n_systems,), eV."""
    return predicted.systems[:-1] - batch.energies


def forces_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Predicted less labelled forces, shape (n_atoms, 3), eV/Å."""
    return forces(predicted.gradient, batch.inputs.edge_index, batch.inputs.n_atoms)[:-1] - batch.forces


def virial_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Errors of stress times volume, shape (n_systems, 3, 3), eV."""
    inputs = batch.inputs
    found = virials(
        predicted.gradient, inputs.edge_vectors, inputs.edge_index, inputs.batch, inputs.n_systems
    )
    return found[:-1] - batch.stress.stress * batch.stress.volume


def dipole_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Predicted less labelled dipoles, shape (n_systems, 3), e Å."""
    moments = predicted.charges[:-1, None] * batch.dipole.positions
    found = segment_sum(moments, batch.inputs.batch[:-1], len(batch.energies))
    return found - batch.dipole.dipole


def energy_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean penalty of the energy errors over the frames."""
    penalty = PENALTIES[options.function]
    errors = energy_errors(predicted, batch) / batch.atoms_per_system**penalty.atoms_power
    return penalty.function(errors, options.energy_scale_eV_atom).mean()


def forces_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean penalty of the force errors over all components."""
    penalty = PENALTIES[options.function]
    return penalty.function(forces_errors(predicted, batch), options.forces_scale_eV_A).mean()


def stress_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean penalty of the errors of the virial per atom over its nine components."""
    penalty = PENALTIES[options.function]
    errors = virial_errors(predicted, batch) / batch.atoms_per_system[:, None, None]
    return penalty.function(errors, options.energy_scale_eV_atom).mean()


def dipole_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean penalty of the dipole errors over the three components."""
    penalty = PENALTIES[options.function]
    return penalty.function(dipole_errors(predicted, batch), options.dipole_scale_e_A).mean()


def penalty_term(predicted: EdgeDerivative, batch: Batch, options: LossOptions) -> Tensor:
    """Mean over the frames of what the architecture adds itself; zero for one that adds nothing."""
    if len(predicted.penalty) == 0:
        return predicted.systems.new_zeros(())
    return predicted.penalty[:-1].mean()


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
    return torch.stack(terms).sum()

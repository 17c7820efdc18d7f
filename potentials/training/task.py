"""What a training fits: its loss, and the errors that it reports after each epoch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from ase import units
from torch import Tensor

from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch
from asecalc_ml.potentials.training.losses import (
    dipole_errors,
    energy_errors,
    forces_errors,
    target_errors,
    total_loss,
    virial_errors,
)
from asecalc_ml.potentials.training.optimization.eager import Forward, energies_alone
from asecalc_ml.potentials.training.options import LossOptions
from asecalc_ml.potentials.training.processes.world import ALONE, World


class EnergyForcesTask:
    """Fits what has a weight: energies, forces, stress and dipoles of a model, or its other quantities.

    Parameters
    ----------
    model : Model
    loss : LossOptions
    """

    def __init__(self, model: Model, loss: LossOptions):
        self.model, self.loss = model, loss
        derive = edge_derivative if loss.needs_derivative else energies_alone
        self.predict: Forward = lambda inputs: derive(model, inputs)

    def validation_errors(self, batches: Iterable[Batch], world: World = ALONE) -> dict[str, float]:
        """Loss and mean absolute errors of the labels that are fitted, each over the frames that have it.

        Parameters
        ----------
        batches : iterable of Batch
            Parts of all frames, whose contributions to the loss sum to it.
        world : World
            Processes among which the batches are divided.
        """
        own = itertools.islice(batches, world.rank, None, world.n)
        sums = [self.validation_step(batch) for batch in own]
        names = ("val_loss", *columns(self.loss))
        rows = [torch.stack([one[name] for name in names]).double() for one in sums]
        device = next(self.model.parameters()).device
        none = torch.zeros(len(names), 2, dtype=torch.float64, device=device)
        totals = world.sum(torch.stack([none, *rows]).sum(dim=0))
        return {name: float(total / count) for name, (total, count) in zip(names, totals, strict=True)}

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """Sum and number of the values behind the mean of each error, shape (2,)."""
        with torch.no_grad():
            predicted = self.predict(batch.inputs)
            loss = total_loss(predicted, batch, self.loss)
            sums = {"val_loss": torch.stack([loss.double(), batch.n_systems / batch.n_frames])}
            for label in self.loss.fitted:
                if label in self.loss.target_weights:
                    continue
                name, errors, unit = VALIDATION[label]
                sizes, labelled = errors(predicted, batch).abs() / unit, getattr(batch, label)
                sums[name] = torch.stack([sizes.sum(), labelled.n_components(sizes)])
            targets = zip(self.loss.target_weights, batch.targets, strict=True)
            errors_of_targets = target_errors(predicted, batch) if batch.targets else []
            for (target, labelled), error in zip(targets, errors_of_targets, strict=True):
                sizes = error.abs()
                sums[target_column(target)] = torch.stack([sizes.sum(), labelled.n_components(sizes)])
        return sums


def target_column(target: str) -> str:
    """Name of the mean absolute error of a target other than the energy, in its unit."""
    return f"val_{target}_mae"


def columns(loss: LossOptions) -> list[str]:
    """Names of the mean absolute errors of the labels that are fitted."""
    return [
        target_column(label) if label in loss.target_weights else VALIDATION[label].name
        for label in loss.fitted
    ]


def monitor(loss: LossOptions) -> str:
    """The error that the best epoch is chosen by: of forces, else of energies, else of stress.

    Of other targets it is that of the only one, or the loss of several.
    """
    if loss.target_weights:
        return target_column(*loss.target_weights) if len(loss.target_weights) == 1 else "val_loss"
    label = next(label for label in ("forces", "energy", "stress") if label in loss.fitted)
    return VALIDATION[label].name


def stress_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Errors of the stress, shape (n_systems, 3, 3), eV/Å³."""
    return virial_errors(predicted, batch) / batch.volume[:, None, None]


class ValidationError(NamedTuple):
    """Name of a mean absolute error, the errors, and its unit in eV, Å and e."""

    name: str
    errors: Callable[[EdgeDerivative, Batch], Tensor]
    unit: float


VALIDATION = {
    "energy": ValidationError("val_energy_mae_meV", energy_errors, 1e-3),
    "forces": ValidationError("val_forces_mae_meV_A", forces_errors, 1e-3),
    "stress": ValidationError("val_stress_mae_GPa", stress_errors, units.GPa),
    "dipole": ValidationError("val_dipole_mae_mD", dipole_errors, 1e-3 * units.Debye),
}

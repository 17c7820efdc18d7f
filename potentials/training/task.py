"""The Lightning module: loss on energies, forces and stress, optimizer, schedule, validation errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import lightning
import torch
from ase import units
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from asecalc_ml.errors import TrainingError
from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.training.frames.batches import Batch
from asecalc_ml.potentials.training.losses import (
    dipole_errors,
    energy_errors,
    forces_errors,
    total_loss,
    virial_errors,
)
from asecalc_ml.potentials.training.optimization.compiled_step import Forward, eager_forward, energies_alone
from asecalc_ml.potentials.training.optimization.schedules import SCHEDULES
from asecalc_ml.potentials.training.options import TrainOptions


class EnergyForcesTask(lightning.LightningModule):
    """Fits energies, forces, stress and dipoles of a model, each where it has a weight.

    Parameters
    ----------
    model : Model
    options : TrainOptions
    """

    def __init__(self, model: Model, options: TrainOptions):
        super().__init__()
        self.model = model
        self.options = options
        self._forward = _Uncopied(eager_forward(model, options.loss.needs_derivative))

    def use_forward(self, forward: Forward) -> None:
        """Compute training batches by another function of the same model, such as a compiled one."""
        self._forward = _Uncopied(forward)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = self._loss(self._forward.function(batch.inputs), batch)
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=batch.n_systems)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Errors of the labels that are fitted, each a mean over the frames that have it."""
        loss = self.options.loss
        predict = edge_derivative if loss.needs_derivative else energies_alone
        predicted = predict(self.model, batch.inputs)
        self.log("val_loss", self._loss(predicted, batch), batch_size=batch.n_systems)
        for label in loss.fitted:
            name, errors, unit = VALIDATION[label]
            label_errors = errors(predicted, batch)
            if len(label_errors):
                self.log(name, label_errors.abs().mean() / unit, batch_size=len(label_errors))

    def on_train_epoch_end(self) -> None:
        if not torch.isfinite(self.trainer.callback_metrics["train_loss"]):
            raise TrainingError(
                f"the loss is not finite after epoch {self.current_epoch + 1}",
                name="loss",
                remedy=f"lower optimizer.learning_rate ({self.options.optimizer.learning_rate}) or raise "
                "optimizer.warmup_steps, and look for frames with huge forces in the data",
            )

    def _loss(self, predicted: EdgeDerivative, batch: Batch) -> Tensor:
        return total_loss(predicted, batch, self.options.loss)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        options = self.options.optimizer
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
        n_steps = int(self.trainer.estimated_stepping_batches)
        steps_per_epoch = max(1, n_steps // self.trainer.max_epochs)
        factor = SCHEDULES[options.schedule](options, n_steps, steps_per_epoch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)


def stress_errors(predicted: EdgeDerivative, batch: Batch) -> Tensor:
    """Errors of the stress of the frames that have one, shape (n_labelled, 3, 3), eV/Å³."""
    return virial_errors(predicted, batch) / batch.volume[batch.stress.rows, None, None]


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


class _Uncopied:
    """Holds a function that copies of the module share: the average of weights is never run through it."""

    def __init__(self, function: Forward):
        self.function = function

    def __deepcopy__(self, memo: dict) -> _Uncopied:
        return self

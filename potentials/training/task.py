"""The Lightning module: loss on energies, forces and stress, optimizer, schedule, validation errors."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from ase import units
from torch import Tensor

from asecalc_ml.derivative import EdgeDerivative, edge_derivative, forces, virials
from asecalc_ml.errors import TrainingError
from asecalc_ml.model import Model
from asecalc_ml.potentials.training.batches import Batch
from asecalc_ml.potentials.training.compiled import Forward, eager_forward
from asecalc_ml.potentials.training.options import TrainOptions


class EnergyForcesTask(lightning.LightningModule):
    """Fits energies and forces of a model, and stress where it has a weight.

    Parameters
    ----------
    model : Model
    options : TrainOptions
    """

    def __init__(self, model: Model, options: TrainOptions):
        super().__init__()
        self.model = model
        self.options = options
        self._forward = _Uncopied(eager_forward(model))

    def use_forward(self, forward: Forward) -> None:
        """Compute training batches by another function of the same model, such as a compiled one."""
        self._forward = _Uncopied(forward)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = self._loss(self._forward.function(batch.inputs), batch)
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=len(batch.energies))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        derivative = edge_derivative(self.model, batch.inputs)
        d_energy, d_forces = errors(derivative, batch)
        n_systems, n_atoms = len(batch.energies), len(batch.forces)
        self.log("val_loss", self._loss(derivative, batch), batch_size=n_systems)
        self.log("val_energy_mae_meV", 1000 * d_energy.abs().mean(), batch_size=n_systems)
        self.log("val_forces_mae_meV_A", 1000 * d_forces.abs().mean(), batch_size=n_atoms)
        if batch.stress is not None:
            d_stress = virial_errors(derivative, batch) / batch.stress.volume
            self.log("val_stress_mae_GPa", d_stress.abs().mean() / units.GPa, batch_size=n_systems)

    def on_train_epoch_end(self) -> None:
        if not torch.isfinite(self.trainer.callback_metrics["train_loss"]):
            raise TrainingError(
                f"the loss is not finite after epoch {self.current_epoch + 1}: lower optimizer.learning_rate "
                f"({self.options.optimizer.learning_rate}) or raise optimizer.warmup_steps, and look for "
                "frames with huge forces in the data"
            )

    def _loss(self, derivative: EdgeDerivative, batch: Batch) -> Tensor:
        d_energy, d_forces = errors(derivative, batch)
        weights = self.options.loss
        energy_loss = (d_energy**2 / batch.atoms_per_system).mean()
        loss = weights.energy_weight * energy_loss + weights.forces_weight * (d_forces**2).mean()
        if batch.stress is None:
            return loss
        per_atom = virial_errors(derivative, batch) / batch.atoms_per_system[:, None, None]
        return loss + weights.stress_weight * (per_atom**2).mean()

    def configure_optimizers(self) -> dict[str, Any]:
        options = self.options.optimizer
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
        n_steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, options.warmup_steps, n_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)


def learning_rate_factor(step: int, warmup_steps: int, n_steps: int) -> float:
    """Rises linearly to 1 over the warm-up, then falls to 0 along half a cosine."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, n_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def errors(derivative: EdgeDerivative, batch: Batch) -> tuple[Tensor, Tensor]:
    """Energy errors (n_systems,), eV, and force errors (n_atoms, 3), eV/Å."""
    predicted = forces(derivative.gradient, batch.inputs.edge_index, batch.inputs.n_atoms)[:-1]
    return derivative.systems[:-1] - batch.energies, predicted - batch.forces


def virial_errors(derivative: EdgeDerivative, batch: Batch) -> Tensor:
    """Errors of stress times volume, shape (n_systems, 3, 3), eV."""
    inputs = batch.inputs
    predicted = virials(
        derivative.gradient, inputs.edge_vectors, inputs.edge_index, inputs.batch, inputs.n_systems
    )
    return predicted[:-1] - batch.stress.stress * batch.stress.volume


class _Uncopied:
    """Holds a function that copies of the module share: the average of weights is never run through it."""

    def __init__(self, function: Forward):
        self.function = function

    def __deepcopy__(self, memo: dict) -> _Uncopied:
        return self

"""The loop of a training: epochs of steps, an average of the weights, validation, and checkpoints."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from asecalc_ml.errors import TrainingError
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.training.checkpoint import TrainingProgress, load_checkpoint, write_checkpoint
from asecalc_ml.potentials.training.directory import BEST, LAST, METRICS
from asecalc_ml.potentials.training.frames.batches import EpochBatches
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch
from asecalc_ml.potentials.training.metrics_file import MetricsFile
from asecalc_ml.potentials.training.optimization.eager import Step, eager_step
from asecalc_ml.potentials.training.optimization.exponential_average import ExponentialAverage
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.optimizers import make_optimizer
from asecalc_ml.potentials.training.optimization.schedules import SCHEDULES
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.training.progress import ProgressLines
from asecalc_ml.potentials.training.task import EnergyForcesTask, columns, monitor
from asecalc_ml.terminal.tracking import Tracker

#: Added to the norm of the gradient before it divides, as in :func:`torch.nn.utils.clip_grad_norm_`.
CLIP_EPSILON = 1e-6


class TrainingLoop:
    """Fits a model to batches until the last epoch, or until it no longer improves.

    Parameters
    ----------
    model : Model
        On the device of the batches. Its parameters are views of ``weights`` until :meth:`release`.
    options : TrainOptions
    train, validation : EpochBatches
    quiet : bool
        Print nothing.

    Attributes
    ----------
    step : Step
        Loss and gradient of a batch; may be replaced by a compiled one.
    progress : TrainingProgress
    """

    def __init__(
        self,
        model: Model,
        options: TrainOptions,
        train: EpochBatches,
        validation: EpochBatches,
        quiet: bool = False,
    ):
        self.model, self.options, self.train, self.validation = model, options, train, validation
        self.task = EnergyForcesTask(model, options.loss)
        self.weights = FlatWeights(model)
        self.step: Step = eager_step(model, self.weights, options.loss, options.mixed_precision)
        self.average = ExponentialAverage(options.optimizer.ema_decay)
        self.progress = TrainingProgress()
        optimizer = options.optimizer
        self.optimizer = make_optimizer(optimizer, self.weights)
        self.n_steps = max(1, len(train) // options.accumulated_batches)  # an incomplete last one is left out
        n_steps_in_all = options.max_epochs * self.n_steps
        self.rate_factor = SCHEDULES[optimizer.schedule](optimizer, n_steps_in_all, self.n_steps)
        self.metrics_file = MetricsFile(options.training_directory / METRICS, columns(options.loss))
        self.lines = ProgressLines(options.max_epochs, quiet)

    def load(self) -> None:
        """Continue after the last finished epoch.

        Raises
        ------
        TrainingError
            If its checkpoint is damaged, or has more epochs than the training.
        """
        path, max_epochs = self.options.training_directory / LAST, self.options.max_epochs
        self.progress = load_checkpoint(path, self.model, self.weights, self.average, self.optimizer)
        if self.progress.n_epochs > max_epochs:
            raise TrainingError(
                f"max_epochs is {max_epochs}, and {self.progress.n_epochs} epochs are done already",
                name="max_epochs",
                value=max_epochs,
                allowed=f"at least {self.progress.n_epochs}",
                remedy="raise it",
            )

    def run(self, tracker: Tracker, ends_early: Callable[[int], bool] | None = None) -> None:
        """Train until the end; metrics of each epoch go to the tracker, too.

        Parameters
        ----------
        tracker : Tracker
        ends_early : callable, optional
            Asked before each epoch, with the number of finished ones, whether the training ends there.
        """
        self.metrics_file.begin(self.progress.n_epochs)
        self.lines.begin(self.progress.n_epochs)
        for epoch in range(self.progress.n_epochs, self.options.max_epochs):
            if ends_early is not None and ends_early(epoch):
                break
            train_loss = self.train_epoch(epoch)
            metrics = {"train_loss": train_loss, **self.validate()}
            self.end_epoch(metrics)
            tracker.row("training", metrics, step=epoch + 1)
            if self.is_stuck(metrics):
                break

    def train_epoch(self, epoch: int) -> float:
        """Take a step for each batch; the mean loss over the frames."""
        losses, n_frames = [], []
        batches = iter(self.train.of_epoch(epoch))
        for _ in range(self.n_steps):
            accumulated = list(itertools.islice(batches, self.options.accumulated_batches))
            losses.append(self.train_step(*accumulated))
            n_frames.append(sum(batch.n_systems for batch in accumulated))
        # the only number of an epoch that the device is waited for
        weights = torch.tensor(n_frames, dtype=torch.float64)
        return float(torch.stack(losses).double().cpu() @ weights / weights.sum())

    def train_step(self, *batches: Batch) -> Tensor:
        """Change the weights once, by the gradient of one batch or of several; the loss before it."""
        options, values = self.options.optimizer, self.weights.values
        loss, gradient = self.loss_and_gradient(batches)
        norm = torch.nn.utils.get_total_norm(gradient.split(self.weights.sizes))
        gradient = gradient.mul_((options.gradient_clip / (norm + CLIP_EPSILON)).clamp(max=1.0))
        rate = options.learning_rate * self.rate_factor(self.progress.n_steps)
        self.optimizer.step(gradient, rate)
        self.average.update(values)
        self.progress.n_steps += 1
        return loss

    def loss_and_gradient(self, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        """Loss and its derivative by the weights, means over batches weighted by their numbers of frames."""
        if len(batches) == 1:
            return self.step(self.weights.values, batches[0])
        n_frames = sum(batch.n_systems for batch in batches)
        losses, gradients = zip(*(self.step(self.weights.values, batch) for batch in batches), strict=True)
        parts = [batch.n_systems / n_frames for batch in batches]
        loss = torch.stack([part * value for part, value in zip(parts, losses, strict=True)]).sum(dim=0)
        gradient = gradients[0] * parts[0]
        for part, other in zip(parts[1:], gradients[1:], strict=True):
            gradient.add_(other, alpha=part)
        return loss, gradient

    def validate(self) -> dict[str, float]:
        """Errors of the averaged weights."""
        with self.weights.replaced_by(self.average.values):
            return self.task.validation_errors(self.validation)

    def end_epoch(self, metrics: dict[str, float]) -> None:
        """Print and store an epoch.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        progress, directory = self.progress, self.options.training_directory
        progress.n_epochs += 1
        self.lines.show(progress.n_epochs, metrics)
        self.metrics_file.append(progress.n_epochs, metrics)
        if not math.isfinite(metrics["train_loss"]):
            raise TrainingError(
                f"the loss is not finite after epoch {progress.n_epochs}",
                name="loss",
                remedy=f"lower optimizer.learning_rate ({self.options.optimizer.learning_rate}) or raise "
                "optimizer.warmup_steps, and look for frames with huge forces in the data",
            )
        error = metrics[monitor(self.options.loss)]
        if progress.best_error is None or error < progress.best_error:
            progress.best_error = math.inf if math.isnan(error) else error  # every number is better than NaN
            progress.n_since_best = 0
            self.write(directory / BEST)
        else:
            progress.n_since_best += 1
        self.write(directory / LAST)

    def is_stuck(self, metrics: dict[str, float]) -> bool:
        """Return True if there was no improvement for as long as the options allow."""
        patience = self.options.patience_epochs
        finite = math.isfinite(metrics[monitor(self.options.loss)])
        return patience is not None and (self.progress.n_since_best >= patience or not finite)

    def write(self, path: Path) -> None:
        """Write a checkpoint."""
        write_checkpoint(path, self.model, self.weights, self.average, self.optimizer, self.progress)

    def release(self) -> None:
        """Give the model parameters of its own again."""
        self.weights.release()

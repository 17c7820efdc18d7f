"""The loop of a training: epochs of steps, an average of the weights, validation, and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from asecalc_ml.errors import TrainingError, TrainingPausedError
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.training.checkpoint import TrainingProgress, load_checkpoint, write_checkpoint
from asecalc_ml.potentials.training.directory import BEST, LAST, METRICS, continued
from asecalc_ml.potentials.training.frames.batches import EpochBatches
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch
from asecalc_ml.potentials.training.metrics_file import MetricsFile
from asecalc_ml.potentials.training.optimization.eager import Step, eager_step
from asecalc_ml.potentials.training.optimization.exponential_average import ExponentialAverage
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.optimizers import make_optimizer
from asecalc_ml.potentials.training.optimization.schedules import SCHEDULES
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.training.processes.world import ALONE, World
from asecalc_ml.potentials.training.progress import ProgressLines
from asecalc_ml.potentials.training.task import EnergyForcesTask, columns, monitor
from asecalc_ml.terminal.signals import ending_on_sigterm
from asecalc_ml.tracking.tracker import Tracker

Item = TypeVar("Item")

#: Added to the norm of the gradient before it divides, as in :func:`torch.nn.utils.clip_grad_norm_`.
CLIP_EPSILON = 1e-6


class AskedToEndError(Exception):
    """The system asks the process to end, between two batches."""


class TrainingLoop:
    """Fits a model to batches until the last epoch, or until it no longer improves.

    Parameters
    ----------
    model : Model
        On the device of the batches. Its parameters are views of ``weights`` until :meth:`release`.
    options : TrainOptions
    train, validation : EpochBatches
    world : World
        Processes that train together; each computes the parts of batches that ``train`` yields in it.
    quiet : bool
        Print nothing.

    Attributes
    ----------
    step : Step
        Loss and gradient of a batch, or part of one; may be replaced by a compiled one.
    progress : TrainingProgress
    terminated : bool
        Set when the system asks the process to end; looked at before each batch.
    """

    def __init__(
        self,
        model: Model,
        options: TrainOptions,
        train: EpochBatches,
        validation: EpochBatches,
        world: World = ALONE,
        quiet: bool = False,
    ):
        self.world = world
        self.model, self.options, self.train, self.validation = model, options, train, validation
        self.task = EnergyForcesTask(model, options.loss)
        self.weights = FlatWeights(model)
        self.step: Step = eager_step(model, self.weights, options.loss, options.mixed_precision)
        self.average = ExponentialAverage(options.optimizer.ema_decay)
        self.progress = TrainingProgress()
        self.terminated = False
        optimizer = options.optimizer
        self.optimizer = make_optimizer(optimizer, self.weights)
        n_steps = len(train)
        self.rate_factor = SCHEDULES[optimizer.schedule](optimizer, options.max_epochs * n_steps, n_steps)
        self.metrics_file = MetricsFile(options.training_directory / METRICS, columns(options.loss))
        self.lines = ProgressLines(options.max_epochs, quiet or not world.is_first)

    def load(self) -> None:
        """Continue after the last epoch that is stored, or after the step at which the training paused.

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

        Raises
        ------
        TrainingPausedError
            If the system asks the process to end; the last step is stored.
        """
        if self.world.is_first:
            self.metrics_file.begin(self.progress.n_epochs, self.progress.cpu_s)
        self.lines.begin(self.progress.n_epochs)
        with ending_on_sigterm(self):
            try:
                self._run(tracker, ends_early or (lambda n_epochs: False))
                self._end_if_asked()
            except AskedToEndError:
                raise self._paused() from None

    def _run(self, tracker: Tracker, ends_early: Callable[[int], bool]) -> None:
        while self.progress.n_epochs < self.options.max_epochs and not self.is_stuck:
            if self.world.any(ends_early(self.progress.n_epochs), self.weights.values.device):
                break
            train_loss = self.train_epoch(self.progress.n_epochs)
            metrics = {"train_loss": train_loss, **self.validate()}
            self.end_epoch(metrics)
            tracker.row("training", metrics, step=self.progress.n_epochs)
        best = {f"best_{monitor(self.options.loss)}": self.progress.best_error}
        tracker.summary({"epochs": self.progress.n_epochs, **best})

    def train_epoch(self, epoch: int) -> float:
        """Take a step for each batch that the epoch has not had; the mean loss over the frames."""
        losses: list[Tensor] = []
        n_frames: list[int] = []
        parts = self.train.of_epoch(epoch, len(self.progress.step_losses))
        batches = zip(*[parts] * self.options.accumulated_batches, strict=True)
        try:
            for batch in self._until_asked_to_end(batches):
                losses.append(self.train_step(batch))
                n_frames.append(self.train.n_frames_of_first)
        finally:
            # the only numbers of an epoch that the device is waited for
            values = torch.stack(losses).double().tolist() if losses else []
            self.progress.step_losses += zip(values, n_frames, strict=True)
        means, weights = torch.tensor(self.progress.step_losses, dtype=torch.float64).T
        return float(means @ weights / weights.sum())

    def _until_asked_to_end(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield batches until the system asks the process, or another one, to end."""
        for batch in batches:
            self._end_if_asked()
            yield batch

    def _end_if_asked(self) -> None:
        if self.world.any(self.terminated, self.weights.values.device):
            raise AskedToEndError

    def _paused(self) -> TrainingPausedError:
        """Store the last step; the error that ends the training for now."""
        directory, progress = self.options.training_directory, self.progress
        if progress.n_steps:  # before the first, the optimizer has nothing to store
            self.write(directory / LAST)
        return TrainingPausedError(
            f"{directory}: the system asked the training to end (SIGTERM), after {progress.n_epochs} epochs "
            f"and {len(progress.step_losses)} steps.",
            name=str(directory),
            value="SIGTERM",
            remedy=continued(directory),
        )

    def train_step(self, parts: Sequence[Batch]) -> Tensor:
        """Change the weights once; the loss before it.

        Parameters
        ----------
        parts : sequence of Batch
            Of one batch, those that are computed here.
        """
        options, values = self.options.optimizer, self.weights.values
        loss, gradient = self.step(values, parts[0])
        for part in parts[1:]:
            loss_of_part, gradient_of_part = self.step(values, part)
            loss, gradient = loss + loss_of_part, gradient + gradient_of_part
        loss, gradient = self.world.sum(loss), self.world.sum(gradient)
        norm = torch.nn.utils.get_total_norm(gradient.split(self.weights.sizes))
        gradient = gradient.mul_((options.gradient_clip / (norm + CLIP_EPSILON)).clamp(max=1.0))
        rate = options.learning_rate * self.rate_factor(self.progress.n_steps)
        self.optimizer.step(gradient, rate)
        self.average.update(values)
        self.progress.n_steps += 1
        return loss

    def validate(self) -> dict[str, float]:
        """Errors of the averaged weights."""
        with self.weights.replaced_by(self.average.values):
            if self.world.n == 1:
                return self.task.validation_errors(self._until_asked_to_end(self.validation))
            self._end_if_asked()  # processes may have different numbers of batches, and ask together
            return self.task.validation_errors(self.validation, self.world)

    def end_epoch(self, metrics: dict[str, float]) -> None:
        """Print and store an epoch.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        progress, directory = self.progress, self.options.training_directory
        progress.n_epochs += 1
        progress.step_losses.clear()
        self.lines.show(progress.n_epochs, metrics)
        self._count_processor_time()
        if self.world.is_first:
            self.metrics_file.append(progress.n_epochs, metrics)
        if not math.isfinite(metrics["train_loss"]):
            raise TrainingError(
                f"the loss is not finite after epoch {progress.n_epochs}",
                name="loss",
                remedy=f"lower optimizer.learning_rate ({self.options.optimizer.learning_rate}) or raise "
                "optimizer.warmup_steps, and look for frames with huge forces in the data",
            )
        error = progress.last_error = metrics[monitor(self.options.loss)]
        if progress.best_error is None or error < progress.best_error:
            progress.best_error = math.inf if math.isnan(error) else error  # every number is better than NaN
            progress.n_since_best = 0
            self.write(directory / BEST)
        else:
            progress.n_since_best += 1
        self.write(directory / LAST)

    @property
    def is_stuck(self) -> bool:
        """True if there was no improvement for as long as the options allow."""
        patience, progress = self.options.patience_epochs, self.progress
        is_finite = progress.last_error is None or math.isfinite(progress.last_error)
        return patience is not None and (progress.n_since_best >= patience or not is_finite)

    def _count_processor_time(self) -> None:
        """Let the first process know how long the others have computed."""
        own = torch.tensor([time.process_time()], dtype=torch.float64, device=self.weights.values.device)
        self.metrics_file.cpu_s_of_others = float(self.world.sum(own.clone()) - own)

    def write(self, path: Path) -> None:
        """Write a checkpoint, in the first process."""
        if not self.world.is_first:
            return
        self.progress.cpu_s = self.metrics_file.cpu_s
        write_checkpoint(path, self.model, self.weights, self.average, self.optimizer, self.progress)

    def release(self) -> None:
        """Give the model parameters of its own again."""
        self.weights.release()

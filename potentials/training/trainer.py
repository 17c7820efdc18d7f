"""Model and Lightning trainer from the options, and checkpoints that are written whole."""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from asecalc_ml.config.options import Options, parse_options
from asecalc_ml.errors import TrainingError
from asecalc_ml.files.reading import check_archive
from asecalc_ml.files.writing import write_whole
from asecalc_ml.model.architectures import build_potential
from asecalc_ml.model.model import Model
from asecalc_ml.plugins import get
from asecalc_ml.potentials.training.directory import BEST, LAST, METRICS
from asecalc_ml.potentials.training.frames.batches import LabelledGraph, loader, one_shape
from asecalc_ml.potentials.training.frames.scaling import Scaling
from asecalc_ml.potentials.training.frames.training_data import TrainingData
from asecalc_ml.potentials.training.metrics_file import MetricsFile
from asecalc_ml.potentials.training.optimization.compiled_step import checked_forward
from asecalc_ml.potentials.training.optimization.exponential_average import ExponentialAverage
from asecalc_ml.potentials.training.options import LossOptions, TrainingRequest, TrainOptions
from asecalc_ml.potentials.training.progress import ProgressLines, quiet_lightning
from asecalc_ml.potentials.training.task import VALIDATION, EnergyForcesTask

BATCHES_COMPARED = 3


def build_model(options: TrainOptions, scaling: Scaling) -> Model:
    """The architecture with random weights from the seed, scaled to the data."""
    torch.manual_seed(options.seed)
    model = Model(build_potential(architecture(options)), scaling.scale, scaling.shift)
    return model.set_dtype(getattr(torch, options.precision))


def architecture(options: TrainOptions) -> Options:
    """Options of the architecture, complete."""
    hyperparameters = {key: value for key, value in options.model.items() if key != "architecture"}
    kind = get("architectures", options.model.get("architecture", ""))
    return parse_options(hyperparameters, kind, source="model")


def fit(request: TrainingRequest, data: TrainingData, model: Model) -> Path:
    """Train and return the checkpoint of the best epoch; its weights are the averaged ones."""
    options, cutoff = request.options, model.potential.cutoff
    directory = options.training_directory
    train, validation = (
        [LabelledGraph.from_atoms(atoms, cutoff, options.loss.fitted) for atoms in part]
        for part in (data.train, data.validation)
    )
    task = EnergyForcesTask(model, options)
    triplet_cutoff = model.triplet_cutoff
    train_loader = loader(train, cutoff, options.batch_size, options.seed, triplet_cutoff)
    if request.resume:
        _check_checkpoint(directory, task, options.max_epochs)
    with quiet_lightning(), _told_plainly():
        if options.compile:
            _compile(task, train_loader, dynamic=not one_shape(train))
        _trainer(options, request.quiet).fit(
            task,
            train_loader,
            loader(validation, cutoff, options.batch_size, triplet_cutoff=triplet_cutoff),
            ckpt_path=directory / LAST if request.resume else None,
            weights_only=True if request.resume else None,
        )
    return directory / BEST


def monitor(loss: LossOptions) -> str:
    """The error that the best epoch is chosen by: of forces, else of energies, else of stress."""
    label = next(label for label in ("forces", "energy", "stress") if label in loss.fitted)
    return VALIDATION[label].name


def _check_checkpoint(directory: Path, task: EnergyForcesTask, max_epochs: int) -> None:
    try:
        check_archive(directory / LAST)
        checkpoint = torch.load(directory / LAST, map_location="cpu", weights_only=True)
        done, weights = checkpoint["epoch"] + 1, checkpoint["state_dict"]
        shapes = {name: tensor.shape for name, tensor in task.state_dict().items()}
        if {name: tensor.shape for name, tensor in weights.items()} != shapes:
            raise ValueError("its weights are not those of this model")
    except Exception as error:  # whatever unpickling meets in a file that a kill or a full disk cut
        raise TrainingError(
            f"{directory / LAST} is damaged or cut short",
            name=str(directory / LAST),
            remedy=f"copy {BEST} over it to continue from the best epoch, or start over with --replace",
        ) from error
    if done > max_epochs:
        raise TrainingError(
            f"max_epochs is {max_epochs}, and {done} epochs are done already",
            name="max_epochs",
            value=max_epochs,
            allowed=f"at least {done}",
            remedy="raise it",
        )


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
    """Ctrl-C, which Lightning turns into an exit, stays Ctrl-C; what Weights & Biases lacks is told."""
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        if not type(error).__module__.startswith("wandb"):
            raise
        raise TrainingError(
            f"Weights & Biases: {error}",
            name="Weights & Biases",
            remedy="Or set `wandb.mode: offline`, or leave `wandb` out.",
        ) from error


def _compile(task: EnergyForcesTask, train_loader: DataLoader, dynamic: bool) -> None:
    """Compile the training step, or say why not and go on without."""
    with_gradient = task.options.loss.needs_derivative
    device = torch.device("cuda" if accelerator(task.options.device) == "gpu" else "cpu")
    task.to(device)  # a trace keeps the model's buffers where they are now
    batches = [batch.to(device).inputs for batch in itertools.islice(train_loader, BATCHES_COMPARED)]
    try:
        forward = checked_forward(task.model, batches, dynamic, with_gradient)
    except Exception as error:  # no C++ compiler, or whatever Inductor meets in it
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"the training step cannot be compiled and runs slower: {reason}", stacklevel=2)
        return
    finally:
        task.model.zero_grad()
    task.use_forward(forward)


def _trainer(options: TrainOptions, quiet: bool) -> lightning.Trainer:
    directory, best_by = options.training_directory, monitor(options.loss)
    columns = [VALIDATION[label].name for label in options.loss.fitted]
    callbacks = [
        ExponentialAverage(options.optimizer.ema_decay),
        ModelCheckpoint(directory, BEST.removesuffix(".ckpt"), monitor=best_by, enable_version_counter=False),
        ModelCheckpoint(directory, LAST.removesuffix(".ckpt"), enable_version_counter=False),
        MetricsFile(directory / METRICS, columns),
        ProgressLines(quiet),
    ]
    if options.patience_epochs is not None:
        callbacks.append(EarlyStopping(best_by, patience=options.patience_epochs))
    return lightning.Trainer(
        max_epochs=options.max_epochs,
        accelerator=accelerator(options.device),
        devices=1,
        gradient_clip_val=options.optimizer.gradient_clip,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        logger=_logger(options),
        inference_mode=False,  # forces are a derivative
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


class WholeCheckpoints(TorchCheckpointIO):
    """Replaces a checkpoint at once or not at all.

    Lightning's own writes to the folder for temporary files and moves the file from there, which between two
    file systems is a copy: a kill or a full disk cuts the checkpoint short.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_whole(Path(path), content.getvalue())


def accelerator(device: str) -> str:
    """Lightning's name; "auto" takes no accelerator without float64, which geometry and sums need."""
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise TrainingError(
            "device is cuda, and torch sees no CUDA device",
            name="device",
            value=device,
            allowed=["auto", "cpu"],
            remedy="use `device: cpu`",
        )
    return "gpu" if has_cuda and device != "cpu" else "cpu"


def _logger(options: TrainOptions) -> Logger | bool:
    """Weights & Biases where asked for; the CSV file is written in any case."""
    if options.wandb is None:
        return False
    from lightning.pytorch.loggers import WandbLogger

    offline, directory = options.wandb.mode == "offline", options.training_directory
    return WandbLogger(name=options.name, project=options.wandb.project, save_dir=directory, offline=offline)

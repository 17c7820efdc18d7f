"""Data, model and Lightning trainer from the options."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from ase import Atoms
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch.optim.swa_utils import get_ema_multi_avg_fn

from asecalc_ml.config import dump_yaml, parse_options
from asecalc_ml.errors import TrainingError
from asecalc_ml.model import Model
from asecalc_ml.plugins import get
from asecalc_ml.potentials.datasets import DatasetOptions, dataset
from asecalc_ml.potentials.training.batches import LabelledGraph, loader, one_shape
from asecalc_ml.potentials.training.compiled import compiled_forward
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.training.progress import ProgressLines, quiet_lightning
from asecalc_ml.potentials.training.scaling import Scaling
from asecalc_ml.potentials.training.split import Split
from asecalc_ml.potentials.training.task import EnergyForcesTask

BEST, LAST = "best.ckpt", "last.ckpt"
MONITOR = "val_forces_mae_meV_A"
VALIDATION_BATCH = 32


@dataclass(frozen=True)
class TrainingData:
    """Frames of each part, and the reader they came from."""

    train: list[Atoms]
    validation: list[Atoms]
    test: list[Atoms]
    source: DatasetOptions


def read_data(options: TrainOptions) -> TrainingData:
    """Read the frames, draw the split and store it in the training directory."""
    source = dataset(options.data)
    frames = source.read()
    split = Split.draw(len(frames), options.split, options.seed)
    options.training_directory.mkdir(parents=True, exist_ok=True)
    split.write(options.training_directory / "split.json")
    test = [frames[k] for k in split.test]
    if options.test_data is not None:
        test += dataset(options.test_data).read()
    if not test:
        raise TrainingError("nothing to test on: give `test_data`, or `split.n_test` above zero")
    return TrainingData([frames[k] for k in split.train], [frames[k] for k in split.validation], test, source)


def build_model(options: TrainOptions, scaling: Scaling) -> Model:
    """The architecture with random weights from the seed, scaled to the data."""
    hyperparameters = {key: value for key, value in options.model.items() if key != "architecture"}
    architecture = parse_options(
        hyperparameters, get("architectures", options.model.get("architecture", "")), source="model"
    )
    torch.manual_seed(options.seed)
    model = Model(architecture.build(), scaling.scale, scaling.shift)
    return model.set_dtype(getattr(torch, options.precision))


def fit(options: TrainOptions, data: TrainingData, model: Model, resume: bool, quiet: bool) -> Path:
    """Train and return the checkpoint of the best epoch; its weights are the averaged ones."""
    directory = options.training_directory
    (directory / "train.yaml").write_text(dump_yaml(options))
    checkpoint = directory / LAST
    if resume and not checkpoint.exists():
        raise TrainingError(f"nothing to resume: {checkpoint} does not exist; start without --resume")
    cutoff = model.potential.cutoff
    train = [LabelledGraph.from_atoms(atoms, cutoff) for atoms in data.train]
    validation = [LabelledGraph.from_atoms(atoms, cutoff) for atoms in data.validation]
    task = EnergyForcesTask(model, options)
    train_loader = loader(train, cutoff, options.batch_size, shuffle_seed=options.seed)
    if options.compile:
        _compile(task, train, train_loader)
    with quiet_lightning():
        _trainer(options, quiet).fit(
            task,
            train_loader,
            loader(validation, cutoff, VALIDATION_BATCH),
            ckpt_path=checkpoint if resume else None,
            weights_only=True if resume else None,
        )
    return directory / BEST


def _compile(task: EnergyForcesTask, train: Sequence[LabelledGraph], train_loader) -> None:
    if not one_shape(train) or len(train) < train_loader.batch_size:
        warnings.warn("frames differ in size, so the training step is not compiled", stacklevel=2)
        return
    task.use_forward(compiled_forward(task.model, next(iter(train_loader)).inputs))


def _trainer(options: TrainOptions, quiet: bool) -> lightning.Trainer:
    directory = options.training_directory
    callbacks = [
        WeightAveraging(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(options.optimizer.ema_decay)),
        ModelCheckpoint(
            directory, filename=BEST.removesuffix(".ckpt"), monitor=MONITOR, enable_version_counter=False
        ),
        ModelCheckpoint(directory, filename=LAST.removesuffix(".ckpt"), enable_version_counter=False),
        ProgressLines(quiet),
    ]
    if options.patience_epochs is not None:
        callbacks.append(EarlyStopping(MONITOR, patience=options.patience_epochs))
    return lightning.Trainer(
        max_epochs=options.max_epochs,
        accelerator="gpu" if options.device == "cuda" else options.device,
        devices=1,
        gradient_clip_val=options.optimizer.gradient_clip,
        callbacks=callbacks,
        logger=_loggers(options),
        inference_mode=False,  # forces are a derivative
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _loggers(options: TrainOptions) -> list:
    directory = options.training_directory
    loggers = [CSVLogger(directory, name="", version="metrics")]
    if options.wandb is not None:
        from lightning.pytorch.loggers import WandbLogger

        offline = options.wandb.mode == "offline"
        loggers.append(
            WandbLogger(name=options.name, project=options.wandb.project, save_dir=directory, offline=offline)
        )
    return loggers

"""Model, data on the device, and the loop from the options of a training."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from asecalc_ml.config.options import Options, parse_options
from asecalc_ml.errors import TrainingError
from asecalc_ml.graph.graph_of import graph_of
from asecalc_ml.graph.neighbors.pairs import n_of_all_pairs
from asecalc_ml.model.architectures import build_potential
from asecalc_ml.model.derivative import EdgeDerivative
from asecalc_ml.model.heads.build import build_heads
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.plugins import get
from asecalc_ml.potentials.training.directory import BEST
from asecalc_ml.potentials.training.frames.batches import EpochBatches, StoredFrames
from asecalc_ml.potentials.training.frames.labelled_graphs import LabelledGraph
from asecalc_ml.potentials.training.frames.scaling import Scaling
from asecalc_ml.potentials.training.frames.training_data import TrainingData
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.optimization.whole_step import checked_prediction, checked_step
from asecalc_ml.potentials.training.options import TrainingRequest, TrainOptions
from asecalc_ml.potentials.training.processes.world import ALONE, World
from asecalc_ml.potentials.training.progress import ShownFrames, quiet_torch
from asecalc_ml.potentials.training.task import monitor
from asecalc_ml.tracking.trackers import Trackers

__all__ = ["accelerator", "architecture", "build_model", "compile_step", "fit", "monitor"]

BATCHES_COMPARED = 3

#: Batches of validation in a whole training from which on compiling takes less time than it saves: half a
#: minute, and ten to twenty milliseconds a batch.
WORTH_COMPILING = 3000


def build_model(options: TrainOptions, scaling: Scaling) -> Model:
    """The architecture with random weights from the seed, scaled to the data."""
    torch.manual_seed(options.seed)
    potential = build_potential(architecture(options))
    heads = build_heads([target.as_quantity() for target in options.targets], potential)
    model = Model(potential, scaling.scale, scaling.shift, heads=heads)
    return model.set_dtype(getattr(torch, options.precision))


def architecture(options: TrainOptions) -> Options:
    """Options of the architecture, complete."""
    hyperparameters = {key: value for key, value in options.model.items() if key != "architecture"}
    kind = get("architectures", options.model.get("architecture", ""))
    return parse_options(hyperparameters, kind, source="model")


def fit(
    request: TrainingRequest, data: TrainingData, model: Model, scaling: Scaling, world: World = ALONE
) -> Path:
    """Train and return the checkpoint of the best epoch; its weights are the averaged ones."""
    options, directory = request.options, request.options.training_directory
    names, device, quiet = options.target_names, accelerator(options.device), request.quiet
    labels = [label for label in options.loss.fitted if label not in names]
    targets = list(zip(model.quantities, scaling.spreads, strict=True)) if names else []
    model.to(device)
    train, validation = (
        StoredFrames(
            (LabelledGraph.of(graph_of(atoms, model), atoms, labels, names) for atoms in shown),
            model.cutoff,
            labels,
            model.triplet_cutoff,
            device,
            targets,
            sum(n_of_all_pairs(atoms) for atoms in shown.frames),
        )
        for shown in (
            ShownFrames("graphs of training frames", data.train, quiet or not world.is_first),
            ShownFrames("graphs of validation frames", data.validation, quiet or not world.is_first),
        )
    )
    own_parts = world.parts(options.accumulated_batches)
    shuffled = EpochBatches(train, options.frames_per_step, options.seed, own_parts)
    in_order = EpochBatches(validation, options.batch_size, of_all=True)
    loop = TrainingLoop(model, options, shuffled, in_order, world, quiet)
    if request.resume:
        loop.load()
    with (
        quiet_torch(),
        Trackers(options.tracking if world.is_first else None).start(
            directory, began=data.split.data_hash, config=options.model_dump(mode="json")
        ) as tracker,
    ):
        if options.compile:
            compile_step(loop)
            if len(loop.validation) * options.max_epochs >= WORTH_COMPILING:
                compile_validation(loop)
        loop.run(tracker, request.ends_early)
    loop.release()
    return directory / BEST


def compile_step(loop: TrainingLoop) -> None:
    """Compile the training step, or warn why not and go on without."""
    batches = list(itertools.islice(loop.train.of_epoch(0), BATCHES_COMPARED))
    frames = loop.train.frames
    with _warning_of_failure("the training step"):
        loop.step = checked_step(
            loop.model, loop.weights, batches, loop.options.loss, not frames.one_shape, frames.all_pairs
        )


def compile_validation(loop: TrainingLoop) -> None:
    """Compile the predictions for batches of the first one's size, or warn why not and go on without."""
    batches = itertools.islice(loop.validation.of_epoch(0), BATCHES_COMPARED)
    first, *others = [batch.inputs for batch in batches]
    compared = [first, *(inputs for inputs in others if inputs.n_systems == first.n_systems)]
    frames, derivative = loop.validation.frames, loop.options.loss.needs_derivative
    with _warning_of_failure("validation"):
        compiled = checked_prediction(
            loop.model, loop.weights, compared, derivative, not frames.one_shape, frames.all_pairs
        )
        eager = loop.task.predict

        def predict(inputs: PotentialInput) -> EdgeDerivative:
            if inputs.n_systems != first.n_systems:
                return eager(inputs)
            return compiled(loop.weights.values, inputs)

        loop.task.predict = predict


@contextlib.contextmanager
def _warning_of_failure(what: str) -> Iterator[None]:
    """Go on without what cannot be compiled."""
    try:
        yield
    except Exception as error:  # no C++ compiler, or whatever Inductor meets in it
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"{what} cannot be compiled and runs slower: {reason}", stacklevel=4)


def accelerator(device: str) -> torch.device:
    """The device; "auto" takes no accelerator without float64, which geometry and sums need."""
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise TrainingError(
            "device is cuda, and torch sees no CUDA device",
            name="device",
            value=device,
            allowed=["auto", "cpu"],
            remedy="use `device: cpu`",
        )
    return torch.device("cuda" if has_cuda and device != "cpu" else "cpu")  # of several the current one

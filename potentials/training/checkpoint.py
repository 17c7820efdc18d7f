"""Checkpoints of a training: what is stored, and how those of earlier versions are read.

The keys are those that Lightning gave them, which ran the loop in earlier versions: one function reads both.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asecalc_ml.errors import TrainingError
from asecalc_ml.files.reading import check_archive
from asecalc_ml.files.writing import write_whole
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.training.directory import BEST
from asecalc_ml.potentials.training.optimization.exponential_average import (
    STATE_KEY,
    ExponentialAverage,
    decay_rises,
    read_checkpoint,
)
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.optimizers import WeightOptimizer

#: Of the model's weights in a checkpoint.
PREFIX = "model."


@dataclass
class TrainingProgress:
    """How far a training is.

    Attributes
    ----------
    n_epochs, n_steps : int
        Number of finished epochs, and of steps.
    best_error : float or None
        Lowest error of the epochs; None before the first.
    n_since_best : int
        Number of epochs since then.
    last_error : float or None
        Error of the last epoch; None where a checkpoint does not say.
    step_losses : list of (float, int)
        Loss and number of frames of each step that the unfinished epoch has had.
    cpu_s : float or None
        Time of all processor cores since the first epoch began, s; None where a checkpoint does not say.
    """

    n_epochs: int = 0
    n_steps: int = 0
    best_error: float | None = None
    n_since_best: int = 0
    last_error: float | None = None
    step_losses: list[tuple[float, int]] = field(default_factory=list)
    cpu_s: float | None = None


def write_checkpoint(
    path: Path,
    model: Model,
    weights: FlatWeights,
    average: ExponentialAverage,
    optimizer: WeightOptimizer,
    progress: TrainingProgress,
) -> None:
    """Store everything that the rest of a training depends on; the file is replaced at once or not at all."""
    with weights.replaced_by(average.values):
        averaged = _named_state(model)
    places = {name: place for place, (name, _) in enumerate(model.named_parameters())}
    stored = {
        "epoch": progress.n_epochs - 1,
        "global_step": progress.n_steps,
        "state_dict": averaged,
        "current_model_state": _named_state(model),
        "averaging_state": {"n_averaged": torch.tensor(average.n_averaged)},
        "optimizer_states": [
            {
                "state": {places[name]: state for name, state in optimizer.state().items()},
                "n_steps": optimizer.n_steps,
            }
        ],
        "callbacks": {
            STATE_KEY: {"rises": average.rises},
            "ModelCheckpoint": {"best_model_score": progress.best_error},
            "EarlyStopping": {"wait_count": progress.n_since_best},
        },
        "progress": {name: getattr(progress, name) for name in ("last_error", "step_losses", "cpu_s")},
    }
    content = io.BytesIO()
    torch.save(stored, content)
    write_whole(path, content.getvalue())


def load_checkpoint(
    path: Path,
    model: Model,
    weights: FlatWeights,
    average: ExponentialAverage,
    optimizer: WeightOptimizer,
) -> TrainingProgress:
    """Put weights, their average and the optimizer's moments back as they were stored.

    Raises
    ------
    TrainingError
        If the file is damaged, or is that of another model.
    """
    try:
        check_archive(path)
        stored = read_checkpoint(path)
        averaged, own = (_unnamed(stored[key]) for key in ("state_dict", "current_model_state"))
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if {name: tensor.shape for name, tensor in own.items()} != shapes:
            raise ValueError("its weights are not those of this model")
        average.values, average.rises = weights.flatten(averaged), decay_rises(stored)
        average.n_averaged = int(stored["averaging_state"]["n_averaged"])
        model.load_state_dict(own)
        names = [name for name, _ in model.named_parameters()]
        (kept,) = stored["optimizer_states"]
        # a parameter that no gradient has reached has no state in a checkpoint of an earlier version
        named = {names[place]: state for place, state in kept["state"].items()}
        optimizer.load(named, kept.get("n_steps"))
        return _progress(stored)
    except Exception as error:  # whatever unpickling meets in a file that a kill or a full disk cut
        raise TrainingError(
            f"{path} is damaged or cut short",
            name=str(path),
            remedy=f"copy {BEST} over it to continue from the best epoch, or start over with --replace",
        ) from error


def _named_state(model: Model) -> dict[str, Tensor]:
    return {PREFIX + name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _unnamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}


def _progress(stored: dict[str, Any]) -> TrainingProgress:
    """Read how far a training is; Lightning's names of its callbacks go on with their arguments."""
    values: dict[str, Any] = {}
    for state in stored["callbacks"].values():
        values |= {name: value for name, value in state.items() if value is not None}
    best_error = values.get("best_model_score")
    return TrainingProgress(
        n_epochs=stored["epoch"] + 1,
        n_steps=stored["global_step"],
        best_error=None if best_error is None else float(best_error),
        n_since_best=values.get("wait_count", 0),
        **stored.get("progress", {}),
    )

"""Whether the average of the weights, which is shipped, lags behind the weights that it is made of."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from asecalc_ml.model.model import Model
from asecalc_ml.potentials.training.evaluate import measure
from asecalc_ml.potentials.training.optimization.exponential_average import (
    ExponentialAverage,
    decay_rises,
    read_checkpoint,
    weights_of,
)
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.store.card import Metrics
from asecalc_ml.units import number_with_unit

#: Ratio of the errors of averaged and other weights above which the average is said to lag.
FAR_ABOVE = 1.5

#: Mean absolute errors that are compared, with their units.
ERRORS = {
    "energy": ("energy_mae_meV_atom", "meV/atom"),
    "forces": ("forces_mae_meV_A", "meV/Å"),
    "stress": ("stress_mae_GPa", "GPa"),
    "dipole": ("dipole_mae_mD", "mD"),
}


def lagging_average(
    options: TrainOptions, model: Model, checkpoint: Path, validation: Sequence[Atoms]
) -> list[str]:
    """Return a sentence if averaged weights predict a fitted label far worse than those of the same step.

    Parameters
    ----------
    options : TrainOptions
    model : Model
        With the averaged weights of the checkpoint.
    checkpoint : Path
        Holds the weights of the same step that are not averaged, too.
    validation : sequence of Atoms
        With the labels that the model was fitted to.
    """
    stored = read_checkpoint(checkpoint)
    last = copy.deepcopy(model)
    last.load_state_dict(weights_of(stored, averaged=False))
    averaged, unaveraged = (measure(weights, validation) for weights in (model, last))
    worse = [text for label in options.loss.fitted if (text := _worse(label, averaged, unaveraged))]
    if not worse:
        return []
    remedy = _remedy(options, decay_rises(stored), stored["global_step"])
    return [
        f"The average of the weights lags behind the weights of the same step ({stored['global_step']}). "
        f"Mean absolute errors on the validation frames: {', '.join(worse)}. {remedy}"
    ]


def _worse(label: str, averaged: Metrics, unaveraged: Metrics) -> str | None:
    """Return both errors of a label in words, where that of the average is far above the other."""
    (error, unit), (reference, _) = _mean_error(averaged, label), _mean_error(unaveraged, label)
    if error is None or reference is None or error <= FAR_ABOVE * reference:
        return None
    return f"{label} {number_with_unit(f'{error:.4g}', unit)} averaged, {reference:.4g} not averaged"


def _mean_error(metrics: Metrics, label: str) -> tuple[float | None, str]:
    """Mean absolute error of a label, None where no frame has it, and its unit."""
    if errors := metrics.quantities.get(label):
        return errors.mae, errors.unit
    name, unit = ERRORS.get(label, ("", ""))
    return getattr(metrics, name, None), unit


def _remedy(options: TrainOptions, rises: bool, step: int) -> str:
    decay = options.optimizer.ema_decay
    if rises:
        reached = ExponentialAverage(decay).decay_at(step)
        return f"Raise max_epochs ({options.max_epochs}), or set optimizer.ema_decay below {reached:.3g}."
    return (
        f"This training began with an earlier version, whose decay ({decay}) was constant from the first "
        "step, and a resumed training keeps it: train again from the start, with --replace."
    )

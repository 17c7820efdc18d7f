"""Scales, reference values and spreads of targets other than the energy, from the training labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from asecalc_ml.model.model import N_ELEMENTS
from asecalc_ml.potentials.datasets.labels import label_of, with_label
from asecalc_ml.potentials.training.frames.scaling import (
    Scaling,
    elements_of,
    isolated_atoms,
    least_squares,
)
from asecalc_ml.targets import TargetOptions


class TargetScaling(NamedTuple):
    """Of one target, in its unit.

    Parameters
    ----------
    scale, shift : Tensor, shape (119,), float64
    spread : float
        Root mean square component of what the reference values leave: errors are divided by it in the loss.
    degenerate : bool
        True if the data do not tell the elements' reference values apart.
    """

    scale: Tensor
    shift: Tensor
    spread: float
    degenerate: bool


def fit_target_scaling(frames: Sequence[Atoms], targets: Sequence[TargetOptions]) -> Scaling:
    """Scales and shifts of the heads of a model, and spreads of their labels.

    Parameters
    ----------
    frames : sequence of Atoms
        Training frames; each target is a label of at least one of them.
    targets : sequence of TargetOptions

    Raises
    ------
    TrainingError
        If reference values are given, but not for every element.
    """
    fitted = [fit_target(frames, target) for target in targets]
    table = [torch.stack(rows) for rows in ([one.scale for one in fitted], [one.shift for one in fitted])]
    scale, shift = (rows[0] if len(targets) == 1 else rows for rows in table)
    return Scaling(scale, shift, any(one.degenerate for one in fitted), tuple(one.spread for one in fitted))


def fit_target(frames: Sequence[Atoms], target: TargetOptions) -> TargetScaling:
    """Scale, shift and spread of a target; see :func:`fit_target_scaling`."""
    labelled = with_label(frames, target.name)
    values = labels(labelled, target.name)
    shift, degenerate = _shift(labelled, values, target, frames)
    left = values - references(labelled, shift, target)
    spread = float(np.sqrt((left**2).mean())) or 1.0
    scale = spread
    if target.as_quantity().pooling == "sum":
        # a sum over N atoms of independent contributions grows with √N; a norm has three components
        n_atoms = np.array([len(atoms) for atoms in labelled])
        per_atom = left / np.sqrt(n_atoms)[:, None]
        scale = float(np.sqrt((per_atom**2).mean())) or 1.0
        if target.kind == "vector norm":
            scale /= np.sqrt(3)
    return TargetScaling(torch.full((N_ELEMENTS,), scale, dtype=torch.float64), shift, spread, degenerate)


def labels(frames: Sequence[Atoms], name: str) -> np.ndarray:
    """Labels of frames that have them, shape (n_frames, n_components)."""
    return np.array([np.ravel(label_of(atoms, name)) for atoms in frames], dtype=np.float64)


def references(frames: Sequence[Atoms], shift: Tensor, target: TargetOptions) -> np.ndarray:
    """What a model predicts without contributions, shape (n_frames, n_components).

    It knows the composition of a structure at most: the baseline that a network has to be better than.
    """
    if target.kind == "vector norm":
        return np.zeros((len(frames), 1))
    per_element = shift.numpy()
    pool = np.sum if target.as_quantity().pooling == "sum" else np.mean
    totals = np.array([pool(per_element[atoms.numbers]) for atoms in frames])
    return totals[:, None] * _identity(target)


def _identity(target: TargetOptions) -> np.ndarray:
    """What a shift is multiplied by: 1 of a scalar, the unit matrix, 0 of what has no constant."""
    shape = target.as_quantity().shape
    if not shape:
        return np.ones(1)
    return np.eye(3).ravel() if len(shape) == 2 else np.zeros(3 ** len(shape))


def _shift(
    labelled: Sequence[Atoms], values: np.ndarray, target: TargetOptions, frames: Sequence[Atoms]
) -> tuple[Tensor, bool]:
    """Reference value of each element, and whether the data leave them open."""
    zero = torch.zeros(N_ELEMENTS, dtype=torch.float64)
    if target.kind == "intensive scalar":
        return zero + float(values.mean()), False
    if target.kind == "vector norm" or not _identity(target).any():
        return zero, False
    if target.per_element is not None:
        return isolated_atoms(frames, target.per_element, f"references of {target.name}"), False
    # a scalar, or the mean of a tensor's diagonal, as a sum of one value per element
    identity = _identity(target)
    return least_squares(labelled, values @ identity / identity.sum(), elements_of(frames))

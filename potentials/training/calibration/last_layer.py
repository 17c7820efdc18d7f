r"""Fits the uncertainty of a trained model from its last-layer features.

H is a sum over the training structures, and two numbers are fitted to validation structures, which must not
have been trained on: with prediction errors e and :math:`v = F^T (H + \varsigma^2 1)^{-1} F` of these, the
errors are most likely, as draws from normal distributions with variances :math:`\alpha^2 v`, for

.. math:: \alpha^2 = \frac1n \sum_i \frac{e_i^2}{v_i}, \qquad
          \varsigma = \operatorname*{argmin} \; \frac1n \sum_i \ln v_i + \ln \alpha^2(\varsigma)
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from asecalc_ml.errors import DatasetError
from asecalc_ml.graph.atom_graph import collate
from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.graph.graph_of import graph_of
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.heads.last_layer import LastLayerUncertainty, last_layer_features
from asecalc_ml.model.heads.values import BATCH_ATOMS
from asecalc_ml.model.model import Model
from asecalc_ml.model.rounding import ROUNDOFF
from asecalc_ml.potentials.datasets.labels import label_of, with_label
from asecalc_ml.statistics.calibration import Calibration
from asecalc_ml.store.card import UncertaintyCard

#: Fewer errors than this do not tell the size of an uncertainty.
FEWEST = 10

#: Share of the root mean square error that a mean error is taken for a shift of the labels.
MOSTLY_SHIFT = 0.95

#: Smallest regularizer, as a fraction of the largest eigenvalue of H: features have the rounding errors of
#: float32, of which ς² should make less than a hundredth of the variance.
LOWEST = 100 * ROUNDOFF[torch.float32] ** 2

#: Values of ς² that are compared, as powers of ten of the largest eigenvalue of H.
EXPONENTS = np.linspace(math.log10(LOWEST), 0.0, 121)


class Fit(NamedTuple):
    """Fitted numbers of a quantity.

    Parameters
    ----------
    factor : ndarray, shape (n_features, n_features)
        Lower Cholesky factor of (H + ς²) / α².
    alpha, varsigma : float
    stds : ndarray, shape (n_validation,)
        Standard deviations of the validation structures.
    """

    factor: np.ndarray
    alpha: float
    varsigma: float
    stds: np.ndarray


def fit(hessian: np.ndarray, features: np.ndarray, errors: np.ndarray) -> Fit:
    """Fit α and ς to errors of validation structures.

    Parameters
    ----------
    hessian : ndarray, shape (n_features, n_features)
        H, the sum of F Fᵀ over the training structures.
    features : ndarray, shape (n_validation, n_features)
        F of the validation structures.
    errors : ndarray, shape (n_validation,)
        Predicted minus labelled values of the same structures.

    Raises
    ------
    DatasetError
        If the features of the training structures are all zero or not finite, or all errors are zero.
    """
    if not (np.isfinite(hessian).all() and np.isfinite(features).all() and hessian.any() and errors.any()):
        raise DatasetError(
            "last-layer features are not finite or all zero, or the model has no error at all on the "
            "validation structures: there is nothing to fit an uncertainty to",
            remedy="give validation structures with labels that the model was not trained on",
        )
    # H = U diag(λ) Uᵀ, so that v = Σ_k (Uᵀ F)_k² / (λ_k + ς²) for any ς
    eigenvalues, vectors = np.linalg.eigh(hessian)
    eigenvalues = eigenvalues.clip(min=0)
    squares = (features @ vectors) ** 2
    candidates = eigenvalues[-1] * 10.0**EXPONENTS
    costs = [_cost(squares @ (1 / (eigenvalues + ridge)), errors) for ridge in candidates]
    ridge = candidates[int(np.argmin(costs))]
    variances = squares @ (1 / (eigenvalues + ridge))
    alpha = math.sqrt(_alpha_squared(variances, errors))
    factor = np.linalg.cholesky((hessian + ridge * np.eye(len(hessian))) / alpha**2)
    return Fit(factor, alpha, math.sqrt(ridge), alpha * np.sqrt(variances))


def _alpha_squared(variances: np.ndarray, errors: np.ndarray) -> float:
    return float((errors**2 / variances).mean())


def _cost(variances: np.ndarray, errors: np.ndarray) -> float:
    """Twice the mean negative log-likelihood at the best α, less a constant."""
    return float(np.log(variances).mean() + math.log(_alpha_squared(variances, errors)))


def fit_uncertainty(
    model: Model, train: Sequence[Atoms], validation: Sequence[Atoms], data: str, fitted: Sequence[str]
) -> tuple[LastLayerUncertainty, dict[str, UncertaintyCard]]:
    """Uncertainty of a model in memory, for each scalar with enough labelled validation structures.

    Parameters
    ----------
    model : Model
    train : sequence of Atoms
        Training structures. Of a label that the loss had, those that have the label.
    validation : sequence of Atoms
        Structures with labels (less the terms that the model is trained on top of) that did not train it.
    data : str
        Name of the data, for the card.
    fitted : sequence of str
        Labels that the loss had.

    Returns
    -------
    LastLayerUncertainty, dict
        The latter with a card for each scalar, by name; both are empty where nothing can be fitted.

    Raises
    ------
    DatasetError
        As :func:`fit`.
    """
    scalars = [quantity.name for quantity in model.quantities if quantity.is_scalar]
    names = [name for name in scalars if len(with_label(validation, name)) >= FEWEST]
    if not names:
        return LastLayerUncertainty({}), {}
    hessians, n_train = _sums_over_training(model, train, names, fitted)
    factors, cards = {}, {}
    for name, (features, errors) in _held_out(model, validation, names).items():
        _warn_of_shift(name, errors, data)
        of_name = fit(hessians[name], features, errors)
        measured = Calibration(name, "", errors, of_name.stds)
        factors[name] = of_name.factor
        cards[name] = UncertaintyCard(
            data=data,
            n_train=n_train[name],
            n_validation=len(errors),
            n_features=features.shape[1],
            alpha=of_name.alpha,
            varsigma=of_name.varsigma,
            rmse=measured.rmse,
            rms_std=measured.rms_std,
            miscalibration_area=measured.miscalibration_area,
            spearman=measured.spearman,
        )
    return LastLayerUncertainty(factors), cards


def _warn_of_shift(name: str, errors: np.ndarray, data: str) -> None:
    """Warn where nearly all of the error is one constant, as with labels that have another zero."""
    mean, rmse = float(errors.mean()), float(np.sqrt((errors**2).mean()))
    if abs(mean) > MOSTLY_SHIFT * rmse:
        warnings.warn(
            f"errors of {name} on the validation structures of {data} are mostly one constant, {mean:.4g}, "
            "and standard deviations will be of this size: if the labels have another zero than those of the "
            "training, take labels that have the same",
            stacklevel=4,
        )


def _sums_over_training(
    model: Model, train: Sequence[Atoms], names: Sequence[str], fitted: Sequence[str]
) -> tuple[dict[str, np.ndarray], Counter[str]]:
    """H of each scalar, and the number of structures in it."""
    hessians: dict[str, np.ndarray] = {}
    n_train: Counter[str] = Counter()
    for batch, features, _ in _of_batches(model, train):
        for name in names:
            informs = [name not in fitted or label_of(atoms, name) is not None for atoms in batch]
            rows = features[name][informs]
            hessians[name] = hessians.get(name, 0.0) + rows.T @ rows
            n_train[name] += len(rows)
    return hessians, n_train


def _held_out(
    model: Model, validation: Sequence[Atoms], names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and errors of each scalar for the structures that have its label."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in names}
    for batch, features, values in _of_batches(model, validation):
        for name in names:
            labels = [label_of(atoms, name) for atoms in batch]
            rows = [k for k, label in enumerate(labels) if label is not None]
            labelled = np.array([labels[k] for k in rows], dtype=np.float64).ravel()
            parts[name].append((features[name][rows], values[name][rows] - labelled))
    return {
        name: (np.concatenate([part[0] for part in of_name]), np.concatenate([part[1] for part in of_name]))
        for name, of_name in parts.items()
    }


@torch.no_grad()
def _of_batches(
    model: Model, frames: Sequence[Atoms]
) -> Iterator[tuple[list[Atoms], dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Structures, with last-layer features and values of each scalar by name, a batch at a time."""
    model.eval()
    for batch in batches_by_atoms(frames, BATCH_ATOMS):
        graphs = [graph_of(atoms, model) for atoms in batch]
        inputs = with_ghost(collate(graphs), model.cutoff, triplet_cutoff=model.triplet_cutoff)
        output, inputs = model.outputs(inputs)
        values = model.by_name(model.combine(output, inputs).systems)
        features = last_layer_features(model, output, inputs)
        yield batch, _arrays(features), _arrays(values)


def _arrays(by_name: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Rows of the structures, without the ghost's, which is the last."""
    return {name: rows[:-1].numpy() for name, rows in by_name.items()}

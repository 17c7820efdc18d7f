"""Errors of a model of other quantities than the energy on labelled frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from asecalc_ml.graph.graph_of import graph_of
from asecalc_ml.model.heads.values import values_of
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.datasets.labels import label_of, with_label
from asecalc_ml.potentials.training.progress import ShownFrames
from asecalc_ml.potentials.training.targets.scaling import fit_target, labels, references
from asecalc_ml.store.card import Metrics, QuantityErrors
from asecalc_ml.targets import Quantity, TargetOptions
from asecalc_ml.units import number_with_unit


@dataclass(frozen=True)
class QuantityPredictions:
    """Predicted and labelled values of the frames that have the label, shape (n_labelled, n_components).

    ``rows`` are the numbers of these frames among those that were evaluated.
    """

    quantity: Quantity
    predicted: np.ndarray
    labelled: np.ndarray
    rows: list[int]

    def errors(self) -> QuantityErrors:
        """Mean absolute and root mean square errors of components, beside the spread of the labels."""
        difference = self.predicted - self.labelled
        centre = self.labelled.mean() if not self.quantity.shape else 0.0
        return QuantityErrors(
            unit=self.quantity.unit,
            n_labelled=len(difference),
            mae=float(np.abs(difference).mean()),
            rmse=_rms(difference),
            spread=_rms(self.labelled - centre),
        )


def predictions_of(model: Model, frames: Sequence[Atoms], quiet: bool = True) -> list[QuantityPredictions]:
    """What a model in memory predicts of labelled frames, for each quantity that some frame has.

    Parameters
    ----------
    model : Model
    frames : sequence of Atoms
        With the labels of targets in their info.
    quiet : bool
        Show no progress.
    """
    shown = ShownFrames("predicting the test frames", frames, quiet)
    graphs = (graph_of(atoms, model) for atoms in shown)
    values = values_of(model.eval(), graphs)
    predicted = [{name: value.cpu().numpy() for name, value in one.items()} for one in values]
    return compare(model.quantities, frames, predicted)


def compare(
    quantities: Sequence[Quantity], frames: Sequence[Atoms], predicted: Sequence[dict]
) -> list[QuantityPredictions]:
    """Values of frames beside their labels, for each quantity that some frame has a label of."""
    pairs = []
    for quantity in quantities:
        rows = [k for k, atoms in enumerate(frames) if label_of(atoms, quantity.name) is not None]
        if rows:
            own = np.array([np.ravel(predicted[k][quantity.name]) for k in rows])
            of_frames = labels([frames[k] for k in rows], quantity.name)
            pairs.append(QuantityPredictions(quantity, own, of_frames, rows))
    return pairs


def target_metrics(n_frames: int, predictions: Sequence[QuantityPredictions]) -> Metrics:
    """Errors for a card."""
    return Metrics(n_frames=n_frames, quantities={one.quantity.name: one.errors() for one in predictions})


def standardized_errors(quantities: Mapping[str, QuantityErrors]) -> tuple[float, float]:
    """Return std. MAE and logMAE: the means over targets of MAE/σ and of ln(MAE/σ), σ the labels' spread.

    As for QM9 in Klicpera, Groß and Günnemann, arXiv:2003.03123, appendix, whose energies are those of
    atomisation.

    Parameters
    ----------
    quantities : mapping of str to QuantityErrors
        With labels that differ.
    """
    ratios = np.array([errors.mae / errors.spread for errors in quantities.values()])
    with np.errstate(divide="ignore"):  # of a target without errors
        return float(ratios.mean()), float(np.log(ratios).mean())


def summary_of_targets(quantities: Mapping[str, QuantityErrors]) -> list[str]:
    """Line with the measures of :func:`standardized_errors`; none for fewer than two targets."""
    differing = {name: errors for name, errors in quantities.items() if errors.spread > 0}
    if len(differing) < 2:
        return []
    std_mae, log_mae = standardized_errors(differing)
    return [
        f"mean over {len(differing)} targets: std. MAE {100 * std_mae:.3g} %, logMAE {log_mae:.2f} "
        "(of MAE over the labels' spread, and of its natural logarithm)"
    ]


def no_better_than_composition(
    metrics: Metrics, targets: Sequence[TargetOptions], training: Sequence[Atoms], test: Sequence[Atoms]
) -> list[str]:
    """Sentences on targets that are predicted as well or better without any structure.

    The baseline is the mean of the training labels, a least-squares sum of one value per element for what is
    extensive, and zero for vectors and rank-3 tensors.
    """
    sentences = []
    for target in targets:
        errors, labelled = metrics.quantities.get(target.name), with_label(test, target.name)
        if errors is None:
            continue
        shift = fit_target(training, target).shift
        baseline = references(labelled, shift, target)
        if target.kind == "vector norm":
            baseline = baseline + labels(with_label(training, target.name), target.name).mean()
        alone = _rms(labels(labelled, target.name) - baseline)
        if not errors.rmse < alone:
            own, baseline_rms = (
                number_with_unit(f"{error:.4g}", errors.unit) for error in (errors.rmse, alone)
            )
            sentences.append(
                f"The model has learned nothing of {target.name}: its root mean square error on the test "
                f"frames, {own}, is not below that of a predictor that knows the "
                f"composition alone, {baseline_rms}. Check the labels, train longer, or change "
                "the learning rate."
            )
    return sentences


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))

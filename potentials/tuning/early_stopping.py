"""When a trial ends before its last epoch: asynchronous successive halving, and the median rule.

Both compare a trial with the others at the same epoch. Values are those of the epoch that was best until
then, as the trial's model would have them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

from asecalc_ml.potentials.tuning.options import SearchOptions

#: Whether a trial with this curve ends after its last epoch, given the curves of the others.
Rule = Callable[[Sequence[float], Sequence[Sequence[float]]], bool]


def rule_of(options: SearchOptions) -> Rule | None:
    """Rule of a search; None where it has none."""
    if options.early_stopping == "asha":
        return lambda curve, others: asha(curve, others, options.min_epochs, options.reduction_factor)
    if options.early_stopping == "median":
        return lambda curve, others: median_rule(curve, others, options.min_epochs, options.min_competing)
    return None


def asha(
    curve: Sequence[float], others: Sequence[Sequence[float]], min_epochs: int, reduction_factor: int
) -> bool:
    """Return True if, at a rung, a trial is not among the best 1/reduction_factor of those that reached it.

    Parameters
    ----------
    curve : sequence of float
        Value of the trial after each of its epochs; lower is better.
    others : sequence of sequence of float
        Those of the other trials.
    min_epochs : int
        Epochs of the first rung; those of the next are ``reduction_factor`` times as many.

    Notes
    -----
    L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in the form without
    promotion of paused trials. The best one of fewer than ``reduction_factor`` at a rung continues.
    """
    epoch = len(curve)
    if not is_rung(epoch, min_epochs, reduction_factor):
        return False
    values = sorted([curve[-1], *(other[epoch - 1] for other in others if len(other) >= epoch)])
    n_continuing = max(1, len(values) // reduction_factor)
    return not curve[-1] <= values[n_continuing - 1]


def is_rung(epoch: int, min_epochs: int, reduction_factor: int) -> bool:
    """Whether an epoch is min_epochs, min_epochs × reduction_factor, min_epochs × reduction_factor², ..."""
    while epoch > min_epochs and epoch % reduction_factor == 0:
        epoch //= reduction_factor
    return epoch == min_epochs


def median_rule(
    curve: Sequence[float], others: Sequence[Sequence[float]], min_epochs: int, min_competing: int
) -> bool:
    """Return True if a trial is worse than the median of the others at the same epoch.

    Notes
    -----
    D. Golovin et al., "Google Vizier", KDD 2017, with the best value so far on both sides.
    """
    epoch = len(curve)
    values = [other[epoch - 1] for other in others if len(other) >= epoch]
    if epoch < min_epochs or len(values) < min_competing:
        return False
    return not curve[-1] <= median(values)


def best_so_far(values: Sequence[float], monitored: Sequence[float]) -> list[float]:
    """Value after each epoch of the epoch that was best until then, as a training chooses it.

    Parameters
    ----------
    values : sequence of float
        Objective at each epoch.
    monitored : sequence of float
        Error that chooses the best epoch; lower is better.
    """
    curve: list[float] = []
    lowest = math.inf
    for value, error in zip(values, monitored, strict=True):
        is_best = not curve or error < lowest
        curve.append(value if is_best else curve[-1])
        lowest = min(lowest, math.inf if math.isnan(error) else error)
    return curve

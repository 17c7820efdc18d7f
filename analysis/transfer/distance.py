r"""How far a model's distribution lies from a reference's, and how far chance alone would put it.

=================================================== ===================================================
W = W1(all runs of the model, of the reference)     :func:`judged`, the first number
W\* = W1(m runs, n runs), both drawn with           the null: what two sets of runs of the reference
repetition from the n runs of the reference         would have between them
t_{n-1}(0.975) / z(0.975) Q_{0.95}(√(n/(n−1)) W\*)   :func:`judged`, the second number, W's bound
=================================================== ===================================================

The unit that is drawn is a whole run: frames of one run resemble each other, and at constant energy a small
molecule keeps the share of energy of each vibration for longer than a run, so that runs differ by more than
their frames tell. Model and reference are compared in the same way as the reference with itself, with as many
runs of the same length. Student's t over the normal z widens the bound, since n runs tell their own scatter
only so well; for n = 8 it is 1.21. It is exact for distributions that differ by their mean, which scatters
normally from run to run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asecalc_ml.analysis.comparing.wasserstein import (
    COVERAGE,
    Blocks,
    on_same_bins,
    wasserstein_distance,
    widening,
)
from asecalc_ml.statistics.histogram import Histogram


def judged(reference: Sequence[Histogram], model: Sequence[Histogram]) -> tuple[float, float | None]:
    """Distance between all runs of a model and all of a reference, and the largest that passes.

    Parameters
    ----------
    reference, model : sequence of Histogram
        One of each run, of the same width and as many samples.

    Returns
    -------
    distance : float
        In the unit of the coordinate.
    bound : float or None
        None with a single run of the reference, which tells nothing of their scatter.
    """
    # counts of every run on the same bins: a run is a block
    width, period, counts = reference[0].width, reference[0].period, on_same_bins([*reference, *model])
    whole, other = Blocks(counts[: len(reference)]), Blocks(counts[len(reference) :])
    # W1 of all runs of the model from all of the reference
    distance = float(wasserstein_distance(other.cumulative, whole.cumulative, width, period))
    if len(reference) == 1:
        return distance, None
    # the null: m and n runs drawn with repetition from the n of the reference, and Q95 of their W1
    rng = np.random.default_rng(0)
    few, many = whole.draws(rng, len(model)), whole.draws(rng)
    chance = np.quantile(wasserstein_distance(few, many, width, period), COVERAGE)
    return distance, float(chance * widening(len(reference)))

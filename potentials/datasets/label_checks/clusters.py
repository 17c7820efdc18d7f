"""Robust spread of values, and two clusters of them."""

import numpy as np

#: Two clusters are this many median deviations apart; a normal or uniform distribution cut in two has 2.
CLUSTERS = 8.0


def deviation(values: np.ndarray) -> float:
    """Median absolute deviation from the median."""
    return float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def two_clusters(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The cut of a line of values in two with the smallest squares within.

    Returns
    -------
    upper : array of bool
        Which values lie above the cut.
    distance : float
        Between the medians of both.
    separation : float
        The distance over the sum of their median deviations.
    """
    # The squares within are smallest where those between, S₁²/n₁ + S₂²/n₂ with the sums S, are largest.
    ordered = np.sort(values)
    n = np.arange(1, len(values))
    sums = np.cumsum(ordered)
    between = (sums[:-1] ** 2) / n + (sums[-1] - sums[:-1]) ** 2 / (len(values) - n)
    cut = int(np.argmax(between)) + 1
    upper = values >= ordered[cut]
    if upper.all():
        return upper, 0.0, 0.0
    # Distance of the medians, in units of the spread of both parts.
    distance = float(np.median(values[upper]) - np.median(values[~upper]))
    return upper, distance, distance / (deviation(values[upper]) + deviation(values[~upper]) + 1e-12)

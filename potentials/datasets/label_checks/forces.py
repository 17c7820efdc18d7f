"""Do forces and energies belong together? What near frames say of signs and units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asecalc_ml.potentials.datasets.label_checks.near import NearPairs
from asecalc_ml.potentials.datasets.label_checks.units import force_factors, name_factor

FEWEST_PAIRS = 10
NEAREST_SHARE = 0.25  # of the near pairs, the nearest, give the slope

#: Share of the energy differences that the forces have to explain before a slope is believed.
EXPLAINED = 0.5
#: A slope between these is 1 with the trapezoidal rule's error; the nearest mistake is 1.89 (Å and Bohr).
SLOPES = (0.7, 1.4)


@dataclass(frozen=True)
class Slope:
    """Energy differences of near frames over those that the forces predict.

    Parameters
    ----------
    slope : float
        1 where energies and forces agree.
    explained : float
        1 - ⟨|ΔE - slope × prediction|⟩ / ⟨|ΔE|⟩.
    n_pairs : int
    """

    slope: float
    explained: float
    n_pairs: int

    @property
    def decided(self) -> bool:
        return self.n_pairs >= FEWEST_PAIRS and self.explained >= EXPLAINED

    @property
    def right(self) -> bool:
        return SLOPES[0] < self.slope < SLOPES[1]


def measure_slope(pairs: NearPairs) -> Slope:
    """Slope through the origin with the smallest sum of absolute deviations, of the nearest pairs."""
    pairs = pairs[pairs.with_forces & (pairs.work != 0)]
    nearest = np.argsort(pairs.displacement, kind="stable")
    pairs = pairs[nearest[: max(4 * FEWEST_PAIRS, int(NEAREST_SHARE * len(pairs)))]]
    total = np.abs(pairs.difference).sum()
    if len(pairs) == 0 or total == 0:
        return Slope(1.0, 0.0, len(pairs))
    slope = _weighted_median(pairs.difference / pairs.work, np.abs(pairs.work))
    return Slope(slope, 1 - float(np.abs(pairs.difference - slope * pairs.work).sum() / total), len(pairs))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2)])


def slope_warning(slope: Slope, pairs: NearPairs) -> str | None:
    """Energies and forces of all frames contradict each other: sign, units, energies per atom."""
    if not slope.decided or slope.right:
        return None
    start = (
        f"energies and forces contradict each other: between {slope.n_pairs} pairs of near frames the energy "
        f"changes by {slope.slope:.3g} times what the forces say (1 is right)"
    )
    sizes = np.unique(pairs.n_atoms)
    return f"{start}{name_factor(slope.slope, int(sizes[0]) if len(sizes) == 1 else None)}"


MIXED_EXPLAINED, MIXED_GAIN, MIXED_SHARE, SWEEPS = 0.6, 0.5, 0.02, 8


def mixed_forces(pairs: NearPairs, names: list[str] | np.ndarray) -> str | None:
    """Forces of a part of the frames have another sign or unit than those of the rest.

    Each frame is given the factor, 1 or another one, that explains its energy differences better, in turns.
    """
    pairs = pairs[pairs.with_forces]
    total = np.abs(pairs.difference).sum()
    if len(pairs) < 4 * FEWEST_PAIRS or total == 0:
        return None
    ids, a, b = pairs.renumbered()
    alone, best = _misfit(pairs, a, b, np.ones(len(ids))) / total, None
    for factor in force_factors():
        factors = _factors_of_frames(pairs, a, b, len(ids), factor)
        left, changed = _misfit(pairs, a, b, factors) / total, factors != 1
        share = changed.mean()
        if left < min(1 - MIXED_EXPLAINED, MIXED_GAIN * alone) and MIXED_SHARE < share < 1 - MIXED_SHARE:
            best = min(filter(None, (best, (left, factor, ids[changed], len(ids)))), key=lambda x: x[0])
    if best is None:
        return None
    _, factor, frames, n_frames = best
    return (
        f"forces of {len(frames)} of {n_frames} frames compared (the first is {names[frames[0]]}) contradict "
        f"the energies, and those of the others do not: energies change by {factor:.3g} times what they say"
        f"{name_factor(factor, None)}"
    )


def _factors_of_frames(pairs: NearPairs, a: np.ndarray, b: np.ndarray, n: int, factor: float) -> np.ndarray:
    factors = np.ones(n)
    for sweep in range(SWEEPS):
        costs = []
        for value in (1.0, factor):
            at_a = np.abs(pairs.difference - value * pairs.work_a - factors[b] * pairs.work_b)
            at_b = np.abs(pairs.difference - value * pairs.work_b - factors[a] * pairs.work_a)
            costs.append(np.bincount(a, at_a, n) + np.bincount(b, at_b, n))
        new = np.where(costs[1] < costs[0], factor, 1.0)
        moving = np.arange(n) % 2 == sweep % 2  # all at once, neighbors would swap for ever
        factors = np.where(moving, new, factors)
    return factors


def _misfit(pairs: NearPairs, a: np.ndarray, b: np.ndarray, factors: np.ndarray) -> float:
    return float(np.abs(pairs.difference - factors[a] * pairs.work_a - factors[b] * pairs.work_b).sum())

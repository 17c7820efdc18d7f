"""Do forces and energies belong together? What near frames say of signs and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asecalc_ml._lazy import renamed
from asecalc_ml.potentials.datasets.label_checks.near import NearPairs
from asecalc_ml.potentials.datasets.label_checks.units import force_factors, name_factor

FEWEST_PAIRS = 10
#: Factors of a part of the frames have to explain so much of the differences, and to leave so little of what
#: is left without them: 0.8 to 1 in the sets tried. Fewer frames than this share are outliers, and no part.
MIXED_EXPLAINED, MIXED_GAIN, MIXED_SHARE, SWEEPS = 0.6, 0.5, 0.02, 8
#: Pairs of which both frames have the factor, and the logarithm by which their slope may miss it: at the wall
#: of a dissociation curve a factor mends pairs of a steep and a flat frame, but not those of two steep ones.
MIXED_PAIRS, MIXED_SLOPE = 4, 0.4
NEAREST_SHARE = 0.25  # of the near pairs, the nearest, give the slope

#: Share of the energy differences that the forces have to explain before a slope is believed.
EXPLAINED = 0.5
#: Forces of other frames or other atoms explain less, and miss more times the rule's own error: 0 to 0.05,
#: and 0.68 to 15, in sets with exchanged energies or forces, 0.70 to 1 and 0 to 0.5 in correct ones.
UNRELATED, UNRELATED_ERROR, UNRELATED_PAIRS, SMALL_EV = 0.2, 0.6, 40, 0.005
#: A slope between these is 1 with the trapezoidal rule's error; the nearest mistake is 1.89 (Å and Bohr).
SLOPES = (0.7, 1.4)


@dataclass(frozen=True)
class ForceSlope:
    """Energy differences of near frames over those that the forces predict.

    Parameters
    ----------
    slope : float
        1 where energies and forces agree.
    explained : float
        1 - ⟨|ΔE - slope × prediction|⟩ / ⟨|ΔE|⟩.
    n_pairs : int
    misfit_eV, error_eV : float
        Mean of |ΔE - prediction|, and of what the trapezoidal rule may be off by.
    """

    slope: float
    explained: float
    n_pairs: int
    misfit_eV: float = 0.0
    error_eV: float = 0.0

    @property
    def decided(self) -> bool:
        return self.n_pairs >= FEWEST_PAIRS and self.explained >= EXPLAINED

    @property
    def right(self) -> bool:
        return SLOPES[0] < self.slope < SLOPES[1]

    @property
    def unrelated(self) -> bool:
        """True if the forces explain no part of the energy differences."""
        beyond_error = self.misfit_eV > max(UNRELATED_ERROR * self.error_eV, SMALL_EV)
        return self.n_pairs >= UNRELATED_PAIRS and self.explained < UNRELATED and beyond_error


def measure_slope(pairs: NearPairs) -> ForceSlope:
    """Slope through the origin with the smallest sum of absolute deviations, of the nearest pairs."""
    # The trapezoidal rule is best for the nearest pairs.
    pairs = pairs[pairs.with_forces & (pairs.work != 0)]
    nearest = np.argsort(pairs.displacement, kind="stable")
    pairs = pairs[nearest[: max(4 * FEWEST_PAIRS, int(NEAREST_SHARE * len(pairs)))]]
    total = np.abs(pairs.difference).sum()
    if len(pairs) == 0 or total == 0:
        return ForceSlope(1.0, 0.0, len(pairs))
    # Σ |ΔE − slope W| is smallest at the median of ΔE / W with weights |W|.
    slope = _weighted_median(pairs.difference / pairs.work, np.abs(pairs.work))
    explained = 1 - float(np.abs(pairs.difference - slope * pairs.work).sum() / total)
    misfit = float(np.abs(pairs.difference - pairs.work).mean())
    return ForceSlope(slope, explained, len(pairs), misfit, float(pairs.error.mean()))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2)])


def slope_warning(slope: ForceSlope, pairs: NearPairs) -> str | None:
    """Energies and forces of all frames contradict each other: sign, units, energies per atom."""
    if not slope.decided or slope.right:
        return None
    start = (
        f"energies and forces contradict each other: between {slope.n_pairs} pairs of near frames the energy "
        f"changes by {slope.slope:.3g} times what the forces say (1 is right)"
    )
    sizes = np.unique(pairs.n_atoms)
    return f"{start}{name_factor(slope.slope, int(sizes[0]) if len(sizes) == 1 else None)}"


def unrelated_text(slope: ForceSlope) -> str:
    """Forces that belong to other frames, or to other atoms."""
    return (
        f"energies and forces do not belong together: between {slope.n_pairs} pairs of near frames the "
        f"forces explain {100 * slope.explained:.0f} % of the energy changes. Look for a part of the frames "
        "whose forces have another sign or unit, energies or forces of other frames, forces of atoms in "
        "another order, or electronic states that nothing tells apart"
    )


@dataclass(frozen=True, eq=False)
class MixedForces:
    """Frames whose forces have another sign or unit than those of the rest.

    Parameters
    ----------
    factor : float
        What their forces have to be multiplied with to explain the energies.
    frames : array of int
    n_compared : int
    misfit_eV : float
        Sum of absolute energy differences that are left with the factor.
    """

    factor: float
    frames: np.ndarray
    n_compared: int
    misfit_eV: float

    def text(self, names: Sequence[str]) -> str:
        """Describe the fault of these frames, and the remedy."""
        return (
            f"forces of {len(self.frames)} of {self.n_compared} frames compared (the first is "
            f"{names[self.frames[0]]}) contradict the energies, and those of the others do not: energies "
            f"change by {self.factor:.3g} times what they say{name_factor(self.factor, None)}"
        )


def mixed_forces(pairs: NearPairs) -> MixedForces | None:
    """Look for another sign or unit of the forces of a part of the frames.

    Each frame is given the factor, 1 or another one, that explains its energy differences better, in turns.
    """
    pairs = pairs[pairs.with_forces]
    total = np.abs(pairs.difference).sum()
    if len(pairs) < 4 * FEWEST_PAIRS or total == 0:
        return None
    # What is left with the forces as they are, and how much of it a factor has to explain.
    ids, a, b = pairs.renumbered()
    alone = _misfit(pairs, a, b, np.ones(len(ids)))
    largest, candidates = min((1 - MIXED_EXPLAINED) * total, MIXED_GAIN * alone), []
    # Every factor of signs and units: the frames that it fits better have to be a convincing part.
    for factor in force_factors():
        factors = _factors_of_frames(pairs, a, b, len(ids), factor)
        misfit, changed = _misfit(pairs, a, b, factors), factors != 1
        convincing = MIXED_SHARE < changed.mean() < 1 - MIXED_SHARE
        if misfit < largest and convincing and _has_factor(pairs[changed[a] & changed[b]], factor):
            candidates.append(MixedForces(factor, ids[changed], len(ids), misfit))
    return min(candidates, key=lambda mixed: mixed.misfit_eV, default=None)


def _has_factor(pairs: NearPairs, factor: float) -> bool:
    """Return True if pairs of near frames that both have the factor show it."""
    pairs = pairs[pairs.work != 0]
    if len(pairs) < MIXED_PAIRS:
        return False
    slope = _weighted_median(pairs.difference / pairs.work, np.abs(pairs.work))
    return slope * factor > 0 and abs(np.log(slope / factor)) < MIXED_SLOPE


def _factors_of_frames(pairs: NearPairs, a: np.ndarray, b: np.ndarray, n: int, factor: float) -> np.ndarray:
    factors = np.ones(n)
    for sweep in range(SWEEPS):
        # Misfit of each frame's pairs with factor 1 and with the other, given the factors of its neighbors.
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


__getattr__ = renamed(__name__, {"Slope": "ForceSlope"})

"""Which mistake a factor between energies, or between energies and forces, looks like."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

from asecalc_ml.units import ENERGY_UNITS, LENGTH_UNITS, energy_unit, length_unit

SAME_RATIO = 0.02  # of medians of energies that differ by the unit
ALIKE = 0.2  # of the logarithm: factors this near are not told apart from a slope


@cache
def energy_ratios() -> dict[tuple[str, str], float]:
    """One unit of energy in another, for every two."""
    return {
        (one, other): energy_unit(one) / energy_unit(other)
        for one, other in itertools.permutations(ENERGY_UNITS, 2)
    }


@cache
def _factors() -> list[tuple[float, str, int]]:
    """Energy change over what forces say, the mistake, and how many units are mistaken."""
    factors = []
    for energy, of_forces, length in itertools.product(ENERGY_UNITS, ENERGY_UNITS, LENGTH_UNITS):
        factor = energy_unit(of_forces) / length_unit(length) / energy_unit(energy)
        mistakes = (energy != of_forces) + (length != "Angstrom") + ("eV" not in (energy, of_forces))
        if not np.isclose(factor, 1.0):
            factors.append((factor, f"energies in {energy} and forces in {of_forces}/{length}", mistakes))
    return factors


def force_factors() -> list[float]:
    """Factors that a part of the frames may have: the other sign, and mistaken units."""
    return [-1.0, *sorted({round(factor, 9) for factor, _, mistakes in _factors() if mistakes < 3})]


def name_factor(factor: float, n_atoms: int | None) -> str:
    """Describe the likely cause of a factor, and the remedy, as the rest of a sentence.

    Parameters
    ----------
    factor : float
        Energy change over what the forces say.
    n_atoms : int, optional
        Atoms of a frame, where all have as many.
    """
    size, known = abs(factor), [(abs(np.log(abs(factor) / f)), m, text) for f, text, m in _factors()]
    if n_atoms is not None and n_atoms > 1:
        known.append((abs(np.log(size * n_atoms)), 1, "energies per atom and forces of whole frames"))
    known.append((abs(np.log(size)), 0, ""))
    near = sorted((mistakes, off, text) for off, mistakes, text in known if off < ALIKE)
    alike = [text for mistakes, _, text in near if mistakes == near[0][0]][:2]
    looks = " or ".join(alike) if alike and alike[0] else ""
    sign = "gradients in place of forces (the other sign)" if factor < 0 else ""
    told = " and ".join(filter(None, (sign, looks)))
    return f", which looks like {told}: correct the file, or name its units" if told else ": correct the file"


def mixed_units_text(first: str, n_few: int, n_frames: int, units: tuple[str, str]) -> str:
    """Some energies are in one unit and the others in another."""
    return (
        f"energies are in mixed units: those of {n_few} of {n_frames} frames compared (the first is "
        f"{first}) look like {units[0]} where the others are in {units[1]}. Write all of them in one "
        "unit"
    )


def units_of_ratio(one: float, other: float) -> tuple[str, str] | None:
    """Units in which one energy and the other would be the same; None where there are none."""
    if one * other <= 0:
        return None
    ratio = other / one
    near = [(abs(ratio / value - 1), units) for units, value in energy_ratios().items()]
    off, units = min(near)
    return units if off < SAME_RATIO else None

"""Rounding: what is left of a quantity along a short line when everything smooth is taken away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms

POINTS = 24
REACH_A = 1e-3
DEGREE = 5  # what is left of a smooth function at this reach is below 1e-15 of it


def rounding(quantity: Callable[[Atoms], float | np.ndarray], atoms: Atoms) -> float:
    """Largest standard deviation of a component around a polynomial, in the quantity's unit."""
    direction = np.random.default_rng(1).normal(size=atoms.positions.shape)
    direction *= REACH_A / np.linalg.norm(direction)
    offsets = np.linspace(-1, 1, POINTS)
    values = np.array([np.ravel(quantity(_along(atoms, offset * direction))) for offset in offsets])
    values -= values[0]
    powers = np.polynomial.chebyshev.chebvander(offsets, DEGREE)
    fitted = powers @ np.linalg.lstsq(powers, values, rcond=None)[0]
    return float(np.std(values - fitted, axis=0).max())


def _along(atoms: Atoms, displacement: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.positions += displacement
    return moved

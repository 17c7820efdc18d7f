"""Deviations between two answers that should be one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from asecalc_ml.conformance.bounds import Bounds
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.subject import Results


def deviations(
    results: Results, expected: Results, bounds: Bounds, n_atoms: int, note: str = ""
) -> Iterator[Measured]:
    """Of energy (per atom), forces, and stress where both have one, each with its bound."""
    yield energy_deviation(results["energy"] - expected["energy"], bounds, n_atoms, note)
    yield array_deviation(results["forces"], expected["forces"], bounds.forces, "eV/Å", _add(note, "forces"))
    if "stress" in results and "stress" in expected:
        yield array_deviation(
            results["stress"], expected["stress"], bounds.stress, "eV/Å³", _add(note, "stress")
        )


def energy_deviation(
    difference: float | np.ndarray, bounds: Bounds, n_atoms: int, note: str = ""
) -> Measured:
    """Of an energy, per atom; some calculators give it as an array of one."""
    return Measured(abs(float(np.squeeze(difference))) / n_atoms, bounds.energy_eV_atom, "eV/atom", note)


def array_deviation(
    values: ArrayLike, expected: ArrayLike, part: float, unit: str, note: str = ""
) -> Measured:
    """Of the worst component; the bound is a part of the largest one, or of 1 if that is larger."""
    values, expected = np.asarray(values, float), np.asarray(expected, float)
    bound = part * max(1.0, np.abs(expected).max(initial=0.0))
    return Measured(float(np.abs(values - expected).max(initial=0.0)), bound, unit, note)


def _add(note: str, word: str) -> str:
    return f"{note}, {word}" if note else word

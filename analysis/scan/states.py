"""Spin states of one method along a scan: which is the lower, and where they cross."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from asecalc_ml.analysis.base import Record

if TYPE_CHECKING:
    from asecalc_ml.analysis.scan.curve import Curve

SPIN = {"spin", "multiplicity", "unrestricted"}  # parameters of calculators that choose a state
SAME = 1e-4  # eV below which two states are one, such as a singlet with and without broken symmetry
METHOD = ("name", "class", "model_hash", "corrections")  # the same for all states of one method


class Crossing(Record):
    """Where the curves of two states meet."""

    below: str = Field(description="the state that is lower before, at smaller values")
    above: str = Field(description="the one that is lower behind")
    at: float = Field(description="value of the coordinate, Å or degrees")
    energy_eV: float = Field(description="relative to the scan's zero")


def states_of_methods(entries: list[dict[str, Any]]) -> list[list[int]]:
    """Numbers of those calculators of a scan that are the same but for their spin, where there are several.

    Energies of states of one method compare as they are; those of different methods do not.
    """
    groups: dict[str, dict[str, int]] = {}
    for k, entry in enumerate(entries):
        parameters = entry.get("parameters", {})
        spin = {key: parameters[key] for key in sorted(SPIN & parameters.keys())}
        method = {key: entry.get(key) for key in METHOD}
        method["parameters"] = {key: value for key, value in parameters.items() if key not in SPIN}
        groups.setdefault(_text(method), {})[_text(spin)] = k
    return [sorted(states.values()) for states in groups.values() if len(states) > 1]


def _text(parameters: dict[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True)


def crossings(values: np.ndarray, states: list[Curve], per_unit: float) -> list[Crossing]:
    """All crossings of curves of one method, by value.

    Parameters
    ----------
    values : ndarray, shape (n_points,)
    states : list of Curve
    per_unit : float
        Converts a projected force to eV per unit of ``values``.

    Notes
    -----
    Between two points next to each other at which the lower state is another, the difference of energies is
    a cubic with the known slopes, or a line where forces are missing. Points at which the two are one are
    passed over.
    """
    order = np.argsort(values)
    all_crossings = [
        crossing
        for a, b in combinations(states, 2)
        for crossing in _between(
            values[order], _ordered(a, order, per_unit), _ordered(b, order, per_unit), (a, b)
        )
    ]
    return sorted(all_crossings, key=lambda one: one.at)


def _ordered(curve: Curve, order: np.ndarray, per_unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Energies and slopes by value, NaN where there are none."""
    return (
        np.array(curve.energies_eV, dtype=float)[order],
        -per_unit * np.array(curve.forces, dtype=float)[order],
    )


def _between(values: np.ndarray, a: tuple, b: tuple, curves: tuple[Curve, Curve]) -> list[Crossing]:
    # points at which the two states differ, or were not computed
    apart = np.flatnonzero(~(np.abs(a[0] - b[0]) < SAME))
    gap, slope = (a[0] - b[0])[apart], (a[1] - b[1])[apart]
    pair_crossings = []
    # intervals in which E_a − E_b changes its sign
    for k in np.flatnonzero(gap[:-1] * gap[1:] < 0):
        pair, ends = slice(k, k + 2), apart[k : k + 2]
        at = _root(values[ends], gap[pair], slope[pair])
        # E_a < E_b before the crossing: a is the lower state there
        below, above = curves if gap[k] < 0 else curves[::-1]
        energy = _interpolate(values[ends], a[0][ends], a[1][ends])(at)
        pair_crossings.append(Crossing(below=below.label, above=above.label, at=at, energy_eV=float(energy)))
    return pair_crossings


def _root(x: np.ndarray, gap: np.ndarray, slope: np.ndarray) -> float:
    from scipy.optimize import brentq  # slow to import, and options lead here

    return float(brentq(_interpolate(x, gap, slope), x[0], x[1]))


def _interpolate(x: np.ndarray, y: np.ndarray, slope: np.ndarray) -> Callable[[float], np.ndarray]:
    # slow to import, and options lead here
    from scipy.interpolate import CubicHermiteSpline, make_interp_spline

    return CubicHermiteSpline(x, y, slope) if np.isfinite(slope).all() else make_interp_spline(x, y, k=1)


def is_lowest(states: list[Curve]) -> list[list[bool]]:
    """For each state, at which points none of the others is lower; both where two are one."""
    energies = np.array([state.energies_eV for state in states], dtype=float)
    lowest = np.nanmin(np.where(np.isnan(energies), np.inf, energies), axis=0)
    return (energies < lowest + SAME).tolist()

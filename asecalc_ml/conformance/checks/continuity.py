"""Continuity: no jump of energy or force where an atom crosses a cutoff, found by looking for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError

from asecalc_ml._lazy import renamed
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.structures import even_element, extent, nearest_distance, with_info
from asecalc_ml.conformance.subject import CalculatorUnderTest

STEP_A, LONGEST_A = 0.1, 13.0
WIDTH_A = 1e-9  # interval in which a jump is enclosed
SUSPECTS = 3  # intervals that are looked into, for energy and for forces each
ORDER = 4  # of differences; a jump shows in five of them
WINDOW = 6  # intervals on either side that say what is smooth, more than a jump shows in
AXIS, ACROSS = np.array([0.36, 0.48, 0.80]), np.array([-0.6, -0.8, 0.0])


class ApproachPoint(NamedTuple):
    """Energy (eV) and forces (eV/Å) at a distance, and the force along the axis on what is moved."""

    distance: float
    energy: float
    forces: np.ndarray
    pull: float


Jump = Callable[[ApproachPoint, ApproachPoint], float | np.ndarray]


def continuity(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """An atom drawn away from two others that are not in line with it, and a molecule from its like.

    Three atoms in a line are no test of a cutoff: a network's vectors all point along that line, change their
    sign somewhere, and their lengths have a kink there. Three atoms with open valences are no molecule, and a
    quantum-chemical calculator may refuse them.
    """
    molecule = subject.molecule
    length = 1.2 * nearest_distance(molecule)
    pair = with_info(Atoms([even_element(molecule)] * 2, [np.zeros(3), length * ACROSS]), molecule)
    with suppress(CalculatorError):
        yield from _largest_jumps(subject, pair, pair[:1], length, "three atoms")
    yield from _largest_jumps(subject, molecule, molecule, 1.7 * extent(molecule) + 1.5, "two molecules")


def _largest_jumps(
    subject: CalculatorUnderTest, standing: Atoms, moving: Atoms, start: float, what: str
) -> Iterator[Measured]:
    def at(distance: float) -> ApproachPoint:
        atoms = standing + moving
        atoms.info = dict(standing.info)
        atoms.positions[len(standing) :] += distance * AXIS
        results = subject.evaluate(atoms)
        forces = np.asarray(results["forces"], float)
        return ApproachPoint(
            distance, results["energy"], forces, float((forces[len(standing) :] @ AXIS).sum())
        )

    # energies and forces on a coarse grid of distances
    points = [at(distance) for distance in np.arange(start, start + LONGEST_A, STEP_A)]
    floor = max(subject.noise_eV, 1e-13)

    def ends(first: ApproachPoint, second: ApproachPoint) -> float:
        """Whether the energy stops to change between two points: the outermost cutoff."""
        before, after = (abs(point.energy - points[-1].energy) > 4 * floor for point in (first, second))
        return float(before != after)

    # around each suspected jump, bisect until the interval is narrow; a jump stays, a slope shrinks
    enclosed = [
        _enclose(at, points[k], points[k + 1], jump)
        for jump in (ends, _energy_jump, _force_jump)
        for k in _suspects(points, jump, floor)
    ]
    # what is left across each narrow interval, in energy and in force
    n_atoms = len(standing) + len(moving)
    for first, second in enclosed:
        where = f"{what}, moved by {first.distance:.4f} Å"
        yield Measured(
            _size(_energy_jump(first, second)), subject.bounds.energy_eV_atom * n_atoms, "eV", where
        )
        bound = subject.bounds.forces * max(1.0, np.abs(second.forces).max())
        yield Measured(_size(_force_jump(first, second)), bound, "eV/Å", f"{where}, force")


def _suspects(points: list[ApproachPoint], jump: Jump, floor: float) -> list[int]:
    """Intervals whose jump stands out among their neighbors, the most suspect first."""
    spikes = _spikes(np.array([np.ravel(jump(*pair)) for pair in pairwise(points)], float), floor)
    suspects: list[int] = []
    while len(suspects) < SUSPECTS and spikes.any():
        suspects.append(int(np.argmax(spikes)))
        spikes[max(0, suspects[-1] - ORDER // 2) : suspects[-1] + ORDER // 2 + 1] = 0.0
    return suspects


def _spikes(jumps: np.ndarray, floor: float) -> np.ndarray:
    """How far the fourth differences, which leave little of what is smooth, exceed those around."""
    differences = np.abs(np.diff(jumps, ORDER, axis=0)).max(axis=1)
    padded = np.pad(differences, WINDOW, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * WINDOW + 1)
    return np.pad(differences / (np.median(around, axis=1) + floor), ORDER // 2)


def _enclose(
    at: Callable[[float], ApproachPoint], first: ApproachPoint, second: ApproachPoint, jump: Jump
) -> tuple[ApproachPoint, ApproachPoint]:
    """Halve an interval around its larger jump until only a jump is left."""
    while second.distance - first.distance > WIDTH_A:
        middle = at((first.distance + second.distance) / 2)
        left = _size(jump(first, middle)) >= _size(jump(middle, second))
        first, second = (first, middle) if left else (middle, second)
    return first, second


def _energy_jump(first: ApproachPoint, second: ApproachPoint) -> float:
    """What the forces at both ends do not explain of the energy's change, eV."""
    work = (first.pull + second.pull) / 2 * (second.distance - first.distance)
    return second.energy - first.energy + work


def _force_jump(first: ApproachPoint, second: ApproachPoint) -> np.ndarray:
    return second.forces - first.forces


def _size(jump: float | np.ndarray) -> float:
    return float(np.abs(jump).max())


__getattr__ = renamed(__name__, {"Point": "ApproachPoint"})

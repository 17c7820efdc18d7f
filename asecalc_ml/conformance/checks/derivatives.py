"""Forces, stress and Hessian against finite differences of the energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from asecalc_ml._lazy import renamed
from asecalc_ml.calculators.protocol import offers
from asecalc_ml.conformance.bounds import NOISE_FACTOR, RESOLVED, SLOPE
from asecalc_ml.conformance.noise import rounding
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.structures import SEED, strained
from asecalc_ml.conformance.subject import CalculatorUnderTest

MAX_ATOMS = {"molecule": 16, "bulk": 4}  # are displaced, chosen at random
HESSIAN_ATOMS = 8
HALVINGS = 13  # of the first step at most
MAX_GAIN = 16  # of accuracy by one of them: values may agree by chance
ENOUGH = SLOPE / 3  # error of the differences, relative to the largest component, at which halving ends


class FiniteDifference(NamedTuple):
    """Numerical derivatives, and the uncertainty of each."""

    value: np.ndarray
    error: np.ndarray


def slope(
    function: Callable[[float], float | np.ndarray], step: float, noise: float = 0.0, tolerance: float = 0.0
) -> FiniteDifference:
    r"""First derivatives at zero from central differences, extrapolated to a step of zero.

    The step is halved until every component is as accurate as wanted, or rounding prevents it to become
    better. Of all extrapolations the one with the smallest error counts, for each component.

    Parameters
    ----------
    function : callable
        Of an offset; gives one value or an array.
    step : float
        The largest one.
    noise : float
        Standard deviation of the function's rounding; five of them over the step are part of the error.
    tolerance : float
        Error that is small enough.

    Notes
    -----
    Source: C. J. F. Ridders, Adv. Eng. Software 4, 75 (1982); error as in W. H. Press et al., *Numerical
    Recipes*, section 5.7.
    """
    # Ridders' table: each row has half the step of the row above, each column one order of h² less
    row = [_central(function, step)]
    best = FiniteDifference(row[0], np.full_like(row[0], np.inf))
    for _ in range(HALVINGS):
        # two values that round by σ give a difference with an error of σ / h
        step /= 2
        rounding = NOISE_FACTOR * noise / step
        if (best.error <= np.maximum(tolerance, rounding)).all():
            break
        # Richardson's extrapolation, D_k(h/2) + (D_k(h/2) - D_k(h)) / (4^k - 1)
        above, row = row, [_central(function, step)]
        least = best.error / MAX_GAIN
        for order, coarse in enumerate(above, start=1):
            row.append(row[-1] + (row[-1] - coarse) / (4**order - 1))
            # its error: the larger distance to the two values that it was made of, and rounding
            changes = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - coarse))
            error = np.where(np.isfinite(least), np.maximum(changes, least), changes) + rounding
            # each component keeps the entry of the table with the smallest error
            better = error < best.error
            best = FiniteDifference(
                np.where(better, row[-1], best.value), np.where(better, error, best.error)
            )
    return best


def _central(function: Callable[[float], float | np.ndarray], step: float) -> np.ndarray:
    return np.asarray(function(step) - function(-step), dtype=float) / (2 * step)


def forces(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Forces of the molecule, and of the bulk where there is one."""
    for atoms, (what, most) in zip(subject.bodies(), MAX_ATOMS.items(), strict=False):
        chosen = _chosen(atoms, most)
        given = np.asarray(subject.evaluate(atoms)["forces"], float)[chosen]
        yield from _decided(subject, partial(_forces, atoms, chosen, given, what))


def stress_of_bulk(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Strain derivative per volume, in a cell periodic in three directions."""
    yield from _stress(subject, subject.bulk)


def stress_of_slab(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """The same with two periodic directions and ASE's volume."""
    yield from _stress(subject, subject.slab)


def hessian(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """The slope of force i along coordinate j is that of force j along i.

    Where the calculator gives second derivatives itself, they are compared with those slopes.
    """
    atoms = subject.molecule
    chosen = _chosen(atoms, HESSIAN_ATOMS)
    own = None
    if offers(subject.calculator, "get_hessian"):
        of_chosen = (3 * chosen[:, None] + np.arange(3)).ravel()
        whole = np.asarray(subject.calculator.get_hessian(atoms)).reshape(3 * len(atoms), -1)
        own = whole[np.ix_(of_chosen, of_chosen)]
    yield from _decided(subject, partial(_hessian, atoms, chosen, own))


def _decided(
    subject: CalculatorUnderTest, compare: Callable[[CalculatorUnderTest], list[Measured]]
) -> list[Measured]:
    """Comparisons with differences, of energies in float64 where those of float32 do not pass."""
    measured = compare(subject)
    if all(figure.verdict == "passed" for figure in measured) or subject.double is None:
        return measured
    return [
        replace(figure, note=f"{figure.note} against differences in float64".strip())
        for figure in compare(subject.double)
    ]


def _forces(
    atoms: Atoms, chosen: np.ndarray, given: np.ndarray, what: str, reference: CalculatorUnderTest
) -> list[Measured]:
    # ∂E/∂x of every coordinate of the chosen atoms
    noise, tolerance = reference.noise_of(atoms), ENOUGH * np.abs(given).max()

    def energy(index: tuple[int, int], x: float) -> float:
        return reference.energy(_moved(atoms, index, x))

    slopes = [
        slope(partial(energy, (i, k)), reference.bounds.step_A, noise, tolerance)
        for i in chosen
        for k in range(3)
    ]
    # F = -∂E/∂x
    values, errors = (np.reshape(part, given.shape) for part in zip(*slopes, strict=True))
    return [_relative(given, FiniteDifference(-values, errors), what)]


def _hessian(
    atoms: Atoms, chosen: np.ndarray, own: np.ndarray | None, reference: CalculatorUnderTest
) -> list[Measured]:
    # ∂F_j/∂x_i against ∂F_i/∂x_j, and the Hessian's own H_ij against -∂F_j/∂x_i
    rows = _slopes_of_forces(atoms, chosen, reference)
    measured = [_relative(rows.value, FiniteDifference(rows.value.T, rows.error + rows.error.T), "")]
    if own is not None:
        measured.append(_relative(own, FiniteDifference(-rows.value, rows.error), "get_hessian"))
    return measured


def _slopes_of_forces(atoms: Atoms, chosen: np.ndarray, reference: CalculatorUnderTest) -> FiniteDifference:
    def forces_of(moved: Atoms) -> np.ndarray:
        return np.asarray(reference.evaluate(moved)["forces"], float)[chosen].ravel()

    def forces_at(index: tuple[int, int], x: float) -> np.ndarray:
        return forces_of(_moved(atoms, index, x))

    # rounding of the forces bounds how small a difference can be resolved
    noise, step, tolerance = rounding(forces_of, atoms), reference.bounds.hessian_step_A, 0.0
    rows = []
    for index in ((i, k) for i in chosen for k in range(3)):
        # a row of the Hessian: −∂F/∂x of one coordinate, as far as the largest element so far needs it
        rows.append(slope(partial(forces_at, index), step, noise, tolerance))
        tolerance = max(tolerance, ENOUGH * float(np.abs(rows[-1].value).max()))
    return FiniteDifference(*(np.array(part) for part in zip(*rows, strict=True)))


def _stress(subject: CalculatorUnderTest, atoms: Atoms) -> list[Measured]:
    subject.need("stress")
    stress = np.asarray(subject.evaluate(atoms, "stress")["stress"], float)
    if stress.shape != (6,):
        raise ValueError(f"stress has shape {stress.shape}, not (6,)")
    return _decided(subject, partial(_compared_stress, atoms, stress))


def _compared_stress(atoms: Atoms, stress: np.ndarray, reference: CalculatorUnderTest) -> list[Measured]:
    # ∂E/∂ε of the six components of Voigt; a shear of ε_yz = ε_zy = x/2 is one of x
    volume, noise = atoms.get_volume(), reference.noise_of(atoms)

    def energy(unit: np.ndarray, x: float) -> float:
        return reference.energy(strained(atoms, x * unit))

    slopes = [
        slope(
            partial(energy, unit),
            reference.bounds.strain,
            noise,
            ENOUGH * np.abs(stress).max() * volume,
        )
        for unit in (voigt_6_to_full_3x3_stress(row) for row in np.diag([1, 1, 1, 0.5, 0.5, 0.5]))
    ]
    # σ = (∂E/∂ε) / V
    values, errors = (np.array(part) / volume for part in zip(*slopes, strict=True))
    measured = _relative(stress, FiniteDifference(values, errors), "")
    return [_explained(measured, stress, values) if measured.verdict == "failed" else measured]


def _moved(atoms: Atoms, index: tuple[int, int], offset: float) -> Atoms:
    moved = atoms.copy()
    moved.positions[index] += offset
    return moved


def _chosen(atoms: Atoms, most: int) -> np.ndarray:
    return np.sort(np.random.default_rng(SEED).permutation(len(atoms))[:most])


def _relative(given: np.ndarray, expected: FiniteDifference, note: str) -> Measured:
    """Worst deviation relative to the largest component; the bound leaves room for the slopes' errors."""
    # relative to the largest component, where that is known at all
    scale, largest_error = float(np.abs(expected.value).max()), float(expected.error.max())
    relative = scale > largest_error
    unit = scale if relative else 1.0
    # the component that is furthest beyond its bound stands for all
    deviations, bounds = np.abs(given - expected.value) / unit, SLOPE * relative + expected.error / unit
    worst = np.unravel_index(np.argmax(deviations - bounds), deviations.shape)
    notes = [note] * bool(note) + ["nothing but rounding"] * (not relative)
    # a difference as uncertain as this could hide a defect
    decided = largest_error <= RESOLVED * max(scale, 1.0)
    if not decided:
        notes.append(f"the differences are uncertain by {largest_error / unit:.1e}")
    figures = float(deviations[worst]), float(bounds[worst])
    return Measured(*figures, "relative" if relative else "absolute", " ".join(notes), decided)


def _explained(measured: Measured, stress: np.ndarray, expected: np.ndarray) -> Measured:
    """Name the usual mistake, where the stress is right but for one."""
    x, y, z, yz, xz, xy = expected
    guesses = {
        "the opposite sign": -expected,
        "shear components in another order than yz, xz, xy": np.array([x, y, z, xy, xz, yz]),
        "shear components in another order than yz, xz, xy ": np.array([x, y, z, xy, yz, xz]),
        "doubled shear components": expected * [1, 1, 1, 2, 2, 2],
    }
    close = [
        name for name, guess in guesses.items() if np.allclose(stress, guess, rtol=1e-2, atol=1e-2 * abs(x))
    ]
    # least-squares factor between the two, where all components are off by the same
    factor = float(stress @ expected / (expected @ expected))
    parallel = np.allclose(stress, factor * expected, atol=1e-2 * np.abs(stress).max())
    if not close and parallel and abs(factor - 1) > 0.01:
        close = [f"{factor:.4g} times what it should be (volume or unit?)"]
    return replace(measured, note=close[0].strip() if close else "")


__getattr__ = renamed(__name__, {"Slope": "FiniteDifference"})

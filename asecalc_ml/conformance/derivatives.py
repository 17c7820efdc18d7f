"""Forces, stress and Hessian against finite differences of the energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from asecalc_ml.conformance.bounds import NOISE_FACTOR, SLOPE
from asecalc_ml.conformance.noise import rounding
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.structures import SEED, strained
from asecalc_ml.conformance.subject import Subject

MAX_ATOMS = {"molecule": 16, "bulk": 4}  # are displaced, chosen at random
HESSIAN_ATOMS = 8


def slope(function: Callable[[float], float | np.ndarray], step: float) -> float | np.ndarray:
    r"""First derivative at zero from four points, with an error of order step⁴.

    .. math:: f' = \frac{8 [f(h) - f(-h)] - [f(2h) - f(-2h)]}{12 h}
    """
    near, far = function(step) - function(-step), function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def forces(subject: Subject) -> Iterator[Measured]:
    """Of the molecule, and of the bulk where there is one."""
    for atoms, (what, most) in zip(subject.bodies(), MAX_ATOMS.items(), strict=False):
        chosen = _chosen(atoms, most)
        numerical = -np.array([[_force_slope(subject, atoms, i, k) for k in range(3)] for i in chosen])
        found = np.asarray(subject.evaluate(atoms)["forces"])[chosen]
        yield _relative(found, numerical, subject.noise_of(atoms) / subject.bounds.step_A, what)


def stress_of_bulk(subject: Subject) -> Iterator[Measured]:
    """Strain derivative per volume, in a cell periodic in three directions."""
    yield _stress(subject, subject.bulk)


def stress_of_slab(subject: Subject) -> Iterator[Measured]:
    """The same with two periodic directions and ASE's volume."""
    yield _stress(subject, subject.slab)


def hessian(subject: Subject) -> Iterator[Measured]:
    """The slope of force i along coordinate j is that of force j along i.

    Where the calculator gives second derivatives itself, they are compared with those slopes.
    """
    atoms, step = subject.molecule, subject.bounds.hessian_step_A
    chosen = _chosen(atoms, HESSIAN_ATOMS)

    def forces_of(moved: Atoms) -> np.ndarray:
        return np.asarray(subject.evaluate(moved)["forces"], float)[chosen].ravel()

    indices = [(i, k) for i in chosen for k in range(3)]
    rows = [slope(lambda x, index=index: forces_of(_moved(atoms, index, x)), step) for index in indices]
    noise = rounding(forces_of, atoms) / step
    yield _relative(np.array(rows), np.transpose(rows), noise, "")
    if hasattr(subject.calculator, "get_hessian"):
        own = np.asarray(subject.calculator.get_hessian(atoms)).reshape(3 * len(atoms), -1)
        of_chosen = (3 * chosen[:, None] + np.arange(3)).ravel()
        yield _relative(own[np.ix_(of_chosen, of_chosen)], -np.array(rows), noise, "get_hessian")


def _stress(subject: Subject, atoms: Atoms) -> Measured:
    subject.need("stress")
    step, volume = subject.bounds.strain, atoms.get_volume()
    numerical = np.zeros((3, 3))
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        unit = np.zeros((3, 3))
        unit[a, b] += 0.5
        unit[b, a] += 0.5
        numerical[a, b] = numerical[b, a] = slope(
            lambda x, unit=unit: subject.energy(strained(atoms, x * unit)), step
        )
    expected = full_3x3_to_voigt_6_stress(numerical / volume)
    found = np.asarray(subject.evaluate(atoms, "stress")["stress"], float)
    if found.shape != (6,):
        raise ValueError(f"stress has shape {found.shape}, not (6,)")
    measured = _relative(found, expected, subject.noise_of(atoms) / step / volume, "")
    return measured if measured.passed else _explained(measured, found, expected)


def _force_slope(subject: Subject, atoms: Atoms, i: int, k: int) -> float:
    return slope(lambda x: subject.energy(_moved(atoms, (i, k), x)), subject.bounds.step_A)


def _moved(atoms: Atoms, index: tuple[int, int], offset: float) -> Atoms:
    found = atoms.copy()
    found.positions[index] += offset
    return found


def _chosen(atoms: Atoms, most: int) -> np.ndarray:
    return np.sort(np.random.default_rng(SEED).permutation(len(atoms))[:most])


def _relative(found: np.ndarray, expected: np.ndarray, rounding: float, note: str) -> Measured:
    """Deviation relative to the largest component; the bound leaves room for the energy's rounding."""
    scale = float(np.abs(expected).max())
    if scale <= NOISE_FACTOR * rounding:
        deviation = float(np.abs(found - expected).max())
        return Measured(
            deviation, NOISE_FACTOR * rounding, "absolute", f"{note} nothing but rounding".strip()
        )
    bound = SLOPE + NOISE_FACTOR * rounding / scale
    return Measured(float(np.abs(found - expected).max()) / scale, bound, "relative", note)


def _explained(measured: Measured, found: np.ndarray, expected: np.ndarray) -> Measured:
    """Name the usual mistake, where the stress is right but for one."""
    x, y, z, yz, xz, xy = expected
    guesses = {
        "the opposite sign": -expected,
        "shear components in another order than yz, xz, xy": np.array([x, y, z, xy, xz, yz]),
        "shear components in another order than yz, xz, xy ": np.array([x, y, z, xy, yz, xz]),
        "doubled shear components": expected * [1, 1, 1, 2, 2, 2],
    }
    close = [
        name for name, guess in guesses.items() if np.allclose(found, guess, rtol=1e-2, atol=1e-2 * abs(x))
    ]
    factor = float(found @ expected / (expected @ expected))
    parallel = np.allclose(found, factor * expected, atol=1e-2 * np.abs(found).max())
    if not close and parallel and abs(factor - 1) > 0.01:
        close = [f"{factor:.4g} times what it should be (volume or unit?)"]
    return Measured(measured.figure, measured.bound, measured.unit, close[0].strip() if close else "")

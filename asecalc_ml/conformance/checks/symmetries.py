"""What may not change an energy: rotation, reflection, translation, the order of atoms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from asecalc_ml.conformance.deviations import deviations
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.structures import SEED, random_rotation, turned
from asecalc_ml.conformance.subject import CalculatorUnderTest, Results

FAR_A = 50.0 * np.array([0.6, -0.48, 0.64])  # 50 Å from the origin
N_PLACES = 5


def rotation(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Energy stays, forces and stress turn."""
    yield from _orthogonal(subject, random_rotation())


def reflection(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """A mirror image has the mirrored forces."""
    yield from _orthogonal(subject, -random_rotation(SEED + 1))


def translation(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """At several places some 50 Å from the origin, since rounding differs from place to place."""
    places = FAR_A + np.random.default_rng(SEED).normal(size=(N_PLACES, 3))
    for atoms in subject.bodies():
        before = subject.everything(atoms)
        for place in places:
            moved = atoms.copy()
            moved.positions += place
            after = subject.everything(moved)
            yield from deviations(after, before, subject.bounds_of(atoms), len(atoms), _kind(atoms))


def permutation(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Atoms in another order have the same forces in that order."""
    for atoms in subject.bodies():
        order = np.random.default_rng(SEED).permutation(len(atoms))
        mixed = atoms[order]
        mixed.info = dict(atoms.info)
        before, after = subject.everything(atoms), subject.everything(mixed)
        before["forces"] = np.asarray(before["forces"])[order]
        yield from deviations(after, before, subject.bounds_of(atoms), len(atoms), _kind(atoms))


def net_force(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Forces sum to zero."""
    for atoms in subject.bodies():
        forces = np.asarray(subject.evaluate(atoms)["forces"], float)
        bound = subject.bounds.forces * max(1.0, np.abs(forces).max())
        yield Measured(float(np.abs(forces.sum(axis=0)).max()), bound, "eV/Å", _kind(atoms))


def net_torque(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Forces on a molecule do not turn it."""
    atoms = subject.molecule
    forces = np.asarray(subject.evaluate(atoms)["forces"], float)
    arms = atoms.positions - atoms.positions.mean(axis=0)
    bound = subject.bounds.forces * max(1.0, np.abs(forces).max()) * max(1.0, np.abs(arms).max())
    yield Measured(float(np.abs(np.cross(arms, forces).sum(axis=0)).max()), bound, "eV")


def _orthogonal(subject: CalculatorUnderTest, matrix: np.ndarray) -> Iterator[Measured]:
    for atoms in subject.bodies():
        before, after = subject.everything(atoms), subject.everything(turned(atoms, matrix))
        yield from deviations(
            after, _turned_results(before, matrix), subject.bounds_of(atoms), len(atoms), _kind(atoms)
        )


def _turned_results(results: Results, matrix: np.ndarray) -> Results:
    turned_results = {**results, "forces": np.asarray(results["forces"]) @ matrix.T}
    if "stress" in results:
        stress = matrix @ voigt_6_to_full_3x3_stress(results["stress"]) @ matrix.T
        turned_results["stress"] = full_3x3_to_voigt_6_stress(stress)
    return turned_results


def _kind(atoms: Atoms) -> str:
    return "bulk" if atoms.pbc.any() else "molecule"

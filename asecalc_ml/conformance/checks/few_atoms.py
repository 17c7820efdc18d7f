"""Structures at the edge: one atom, two, none within the cutoff, molecules far apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from asecalc_ml.conformance.deviations import array_deviation, deviations, energy_deviation
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.structures import even_element, nearest_distance, random_rotation, with_info
from asecalc_ml.conformance.subject import CalculatorUnderTest

FAR_A = 100.0  # dipoles of 2 D interact by 4e-6 eV here
BOX_A = 40.0


def isolated_atom(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """A finite energy and no force."""
    alone = subject.evaluate(_atoms(subject, [[0.0, 0.0, 0.0]]))
    yield array_deviation(alone["forces"], np.zeros((1, 3)), subject.bounds.forces, "eV/Å", "force")


def isolated_atom_in_a_box(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """The same energy in a periodic box as without one."""
    free = _atoms(subject, [[0.0, 0.0, 0.0]])
    boxed = free.copy()
    boxed.set_cell(BOX_A * np.eye(3))
    boxed.pbc = True
    yield from deviations(subject.evaluate(boxed), subject.evaluate(free), subject.bounds, 1)


def two_atoms(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Equal and opposite forces along the axis; the energy knows no direction."""
    vector = random_rotation(3)[0] * 1.2 * nearest_distance(subject.molecule)
    axis = vector / np.linalg.norm(vector)
    results = subject.evaluate(_atoms(subject, [np.zeros(3), vector]))
    pair = np.asarray(results["forces"], float)
    yield array_deviation(pair[0], -pair[1], subject.bounds.forces, "eV/Å", "opposite")
    across = pair[1] - (pair[1] @ axis) * axis
    bound = subject.bounds.forces * max(1.0, np.abs(pair).max())
    yield Measured(float(np.abs(across).max()), bound, "eV/Å", "across the axis")
    other = subject.evaluate(_atoms(subject, [np.zeros(3), [0.0, 0.0, float(np.linalg.norm(vector))]]))
    yield energy_deviation(results["energy"] - other["energy"], subject.bounds, 2, "another direction")


def empty_neighbor_list(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Two atoms 100 Å apart: twice the energy of one, and no force."""
    alone = subject.evaluate(_atoms(subject, [[0.0, 0.0, 0.0]]))
    apart = subject.evaluate(_atoms(subject, [[0.0, 0.0, 0.0], [0.0, 0.0, FAR_A]]))
    yield energy_deviation(apart["energy"] - 2 * alone["energy"], subject.bounds, 2)
    yield array_deviation(apart["forces"], np.zeros((2, 3)), subject.bounds.forces, "eV/Å", "force")


def extensivity(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Two molecules 100 Å apart have twice the energy of one, and its forces.

    What at twice the distance is less than half of what it was is a field of multipoles, and no failure.
    """
    near, far = (list(_excess(subject, factor * FAR_A)) for factor in (1, 2))
    for here, further in zip(near, far, strict=True):
        falls = here.verdict == "failed" and further.figure < here.figure / 2
        yield Measured(here.figure, None, here.unit, "falls with the distance") if falls else here


def _excess(subject: CalculatorUnderTest, distance: float) -> Iterator[Measured]:
    """Energy and forces of two molecules, less those of each alone."""
    atoms = subject.molecule
    alone = subject.evaluate(atoms)
    both = subject.evaluate(side_by_side(atoms, distance * np.array([0.0, 0.6, 0.8])))
    yield energy_deviation(both["energy"] - 2 * alone["energy"], subject.bounds, 2 * len(atoms))
    expected = np.concatenate([alone["forces"]] * 2)
    yield array_deviation(both["forces"], expected, subject.bounds.forces, "eV/Å", "forces")


def side_by_side(atoms: Atoms, shift: np.ndarray) -> Atoms:
    """The atoms and a copy of them elsewhere."""
    copy = atoms.copy()
    copy.positions += shift
    both = atoms + copy
    both.info = dict(atoms.info)
    return both


def _atoms(subject: CalculatorUnderTest, positions: Sequence[ArrayLike]) -> Atoms:
    molecule = subject.molecule
    return with_info(Atoms([even_element(molecule)] * len(positions), positions), molecule)

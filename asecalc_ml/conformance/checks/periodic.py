"""Periodic structures: one crystal can be written down in many ways."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms

from asecalc_ml.conformance.deviations import array_deviation, deviations
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.structures import SEED
from asecalc_ml.conformance.subject import CalculatorUnderTest


def lattice_translation(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """All atoms moved by whole cell vectors."""
    atoms = subject.bulk
    moved = atoms.copy()
    moved.positions += [2, -1, 3] @ atoms.cell.array
    yield from _same(subject, atoms, moved)


def wrapped(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Each atom in another image of the cell, and all of them put back into it."""
    atoms = subject.bulk
    shifts = np.random.default_rng(SEED).integers(-2, 3, (len(atoms), 3))
    scattered, inside = atoms.copy(), atoms.copy()
    scattered.positions += shifts @ atoms.cell.array
    inside.wrap()
    yield from _same(subject, inside, scattered)


def supercell(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Twice the cell has twice the energy, in each direction: every image that one cell left out shows."""
    atoms = subject.bulk
    single = subject.everything(atoms)
    n_atoms = len(atoms)
    for axis, repeats in enumerate(2 * np.eye(3, dtype=int) + 1 - np.eye(3, dtype=int)):
        repeated = atoms * tuple(repeats)
        repeated.info = dict(atoms.info)
        double = subject.everything(repeated)
        bounds, where = subject.bounds_of(atoms), f"along {'abc'[axis]}"
        limit = bounds.energy_eV_atom * (1 if subject.dtype == "float64" else n_atoms)
        yield Measured(abs(double["energy"] / 2 - single["energy"]), limit, "eV", where)
        expected = np.concatenate([single["forces"]] * 2)
        yield array_deviation(double["forces"], expected, bounds.forces, "eV/Å", f"{where}, forces")
        if "stress" in single:
            yield array_deviation(
                double["stress"], single["stress"], bounds.stress, "eV/Å³", f"{where}, stress"
            )


def slab_height(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Energy and forces do not depend on a cell vector along which nothing repeats, however short."""
    atoms = subject.slab
    expected = subject.evaluate(atoms)
    for factor in (0.3, 5.0):
        other = atoms.copy()
        other.cell[2] *= factor
        results = subject.evaluate(other)
        yield from deviations(results, expected, subject.bounds_of(atoms), len(atoms), f"c times {factor:g}")


def stresses_of_atoms(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """ASE's: with the volume of the whole cell, so that they sum to the stress; images have equal ones."""
    subject.need("stress")
    subject.need("stresses")
    for atoms in (subject.bulk, subject.slab):
        stress, stresses = subject.evaluate(atoms, "stress", "stresses").values()
        where = "bulk" if atoms.pbc.all() else "slab"
        limit = subject.bounds_of(atoms).stress
        yield array_deviation(stresses.sum(axis=0), stress, limit, "eV/Å³", f"{where}, sum")
        repeated = atoms * (1, 2, 1)
        repeated.info = dict(atoms.info)
        of_images = subject.evaluate(repeated, "stresses")["stresses"]
        expected = np.concatenate([stresses] * 2) / 2
        yield array_deviation(of_images, expected, limit, "eV/Å³", f"{where}, twice the cell")


def _same(subject: CalculatorUnderTest, first: Atoms, second: Atoms) -> Iterator[Measured]:
    before, after = subject.everything(first), subject.everything(second)
    yield from deviations(after, before, subject.bounds_of(first), len(first))

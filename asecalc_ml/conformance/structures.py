"""Structures to ask a calculator about: a molecule, a bulk and a slab, from what the user gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk as crystal

from asecalc_ml.structure.charge_and_spin import charge_and_spin

SEED = 0
RATTLE_A = 0.05  # no force vanishes, nothing breaks
GAP_A = 2.6  # between a molecule and its images: nearer than any cutoff, further than any bond
CLUSTER = 13  # atoms of a molecule cut out of a crystal: an atom and its shell
SHEAR = np.array([[1.0, 0.0, 0.0], [0.02, 1.01, 0.0], [0.01, 0.03, 0.99]])  # a stays along x, b in the plane


@dataclass(frozen=True)
class Structures:
    """Without symmetry, so that no component of a force or a stress is zero.

    Parameters
    ----------
    given : Atoms
        As the user gave it; dynamics starts here.
    molecule : Atoms
        Not periodic, without a cell.
    bulk, slab : Atoms
        Periodic in three directions and in two, with the same cell vectors.
    """

    given: Atoms
    molecule: Atoms
    bulk: Atoms
    slab: Atoms

    @property
    def formula(self) -> str:
        return self.given.get_chemical_formula()


def make_structures(given: Atoms) -> Structures:
    """Derive all structures from one; a molecule gets a box, a crystal gives a cluster."""
    given = given.copy()
    given.calc = None
    given.info["charge"], given.info["spin"] = charge_and_spin(given)
    periodic = given.cell.rank == 3 and given.pbc.any()
    bulk = _without_symmetry(_sheared(_large_enough(given) if periodic else _boxed(given)))
    molecule = _without_symmetry(_cluster(given) if periodic else _bare(given))
    slab = bulk.copy()
    slab.pbc = [True, True, False]
    return Structures(given, molecule, bulk, slab)


def default_structures() -> Iterator[Atoms]:
    """What to try, in this order, for a calculator that does not say what it takes."""
    from asecalc_ml.structure.loading import load_structure

    yield load_structure("ethanol")
    yield crystal("Cu", cubic=True)
    yield crystal("Si", cubic=True)
    yield crystal("Ar", "fcc", 5.26, cubic=True)
    yield crystal("NaCl", "rocksalt", 5.64, cubic=True)


def even_element(atoms: Atoms) -> int:
    """The heaviest atomic number with an even number of electrons, else the heaviest.

    One atom of it, or two, can be neutral without a spin, which a quantum-chemical calculator needs.
    """
    numbers = sorted(set(atoms.numbers.tolist()))
    return max([z for z in numbers if z % 2 == 0] or numbers)


def with_info(atoms: Atoms, like: Atoms) -> Atoms:
    """The same atoms as a neutral system, told where the original tells it."""
    atoms.info = {key: 0 for key in ("charge", "spin") if key in like.info}
    return atoms


def turned(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    """Atoms and cell under an orthogonal matrix."""
    image = atoms.copy()
    image.set_cell(atoms.cell.array @ matrix.T)
    image.positions = atoms.positions @ matrix.T
    return image


def random_rotation(seed: int = SEED) -> np.ndarray:
    """A proper rotation matrix."""
    orthogonal, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return orthogonal * np.linalg.det(orthogonal)


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """Atoms and cell under a small strain."""
    deformed = atoms.copy()
    deformed.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=False)
    deformed.positions = atoms.positions @ (np.eye(3) + strain)
    return deformed


def extent(atoms: Atoms) -> float:
    """Largest extent along an axis, Å."""
    return float(np.ptp(atoms.positions, axis=0).max())


def nearest_distance(atoms: Atoms) -> float:
    """Shortest distance of two atoms, Å; 1.5 for a single one."""
    if len(atoms) < 2:
        return 1.5
    distances = atoms.get_all_distances()
    return float(distances[np.triu_indices(len(atoms), 1)].min())


def _bare(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.set_cell(None)
    copy.pbc = False
    copy.positions -= copy.positions.mean(axis=0)
    return copy


def _boxed(atoms: Atoms) -> Atoms:
    copy = _bare(atoms)
    copy.set_cell(np.diag(np.ptp(copy.positions, axis=0) + GAP_A))
    copy.pbc = True
    return copy


def _large_enough(atoms: Atoms) -> Atoms:
    """At least four atoms, since a rattled atom alone in its cell has no force."""
    copy = atoms.copy()
    copy.pbc = True
    while len(copy) < 4:
        copy *= (2, 1, 1) if copy.cell.lengths().argmin() == 0 else (1, 2, 2)
    copy.info = atoms.info
    return copy


def _cluster(atoms: Atoms) -> Atoms:
    """The atoms of a crystal that are nearest to one in its middle."""
    block = atoms.copy()
    block.pbc = True
    block = block * (3, 3, 3)
    centre = block.positions[len(block) // 2]
    nearest = np.argsort(np.linalg.norm(block.positions - centre, axis=1))[:CLUSTER]
    copy = block[np.sort(nearest)]
    copy.info = dict(atoms.info)
    return _bare(copy)


def _sheared(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ SHEAR, scale_atoms=True)
    return copy


def _without_symmetry(atoms: Atoms) -> Atoms:
    atoms.set_constraint()
    random = np.random.default_rng(SEED)
    atoms.positions += random.uniform(-RATTLE_A, RATTLE_A, atoms.positions.shape)
    return atoms

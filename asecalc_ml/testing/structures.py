"""Structures to check potentials on: no symmetry, no two distances alike, any elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle, islice, product

import numpy as np
from ase import Atoms
from ase.build import molecule


def cluster(elements: Sequence[str], spacing: float, n_atoms: int = 6, seed: int = 0) -> Atoms:
    """Atoms on a grid of the given spacing (Å), shaken by a tenth of it."""
    random = np.random.default_rng(seed)
    side = max(3, math.ceil(n_atoms ** (1 / 3)))
    grid = np.array(list(islice(product(range(side), repeat=3), n_atoms)), dtype=float)
    positions = spacing * (grid + random.uniform(-0.1, 0.1, grid.shape))
    return Atoms(list(islice(cycle(elements), n_atoms)), positions)


#: Molecules of ASE's g2 set with so many atoms.
REAL = {2: "HF", 3: "H2O", 4: "H2CO", 5: "HCOOH", 6: "CH3OH", 7: "CH3CHO", 8: "CH3COOH", 9: "CH3CH2OH"}


def real_molecule(n_atoms: int = 6, seed: int = 0) -> Atoms:
    """A molecule with bonds and 2 to 9 atoms, shaken by hundredths of an Å."""
    atoms = molecule(REAL[n_atoms])
    atoms.positions += np.random.default_rng(seed).uniform(-0.03, 0.03, atoms.positions.shape)
    return atoms


def small_crystal(elements: Sequence[str], spacing: float, seed: int = 0) -> Atoms:
    """Three atoms in a triclinic cell about twice as long as the spacing: an atom sees its own images."""
    random = np.random.default_rng(seed)
    cell = spacing * (np.diag([1.9, 2.0, 2.1]) + random.uniform(-0.2, 0.2, (3, 3)))
    fractional = [[0.05, 0.10, 0.00], [0.55, 0.50, 0.60], [0.15, 0.65, 0.45]]
    return Atoms(list(islice(cycle(elements), 3)), scaled_positions=fractional, cell=cell, pbc=True)


def random_rotation(seed: int) -> np.ndarray:
    """A proper rotation matrix."""
    orthogonal, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return orthogonal * np.linalg.det(orthogonal)

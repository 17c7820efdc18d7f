"""Notes bonds that break and form, at a cost that does not show."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from asecalc_ml.topology import BROKEN_TOLERANCE, FORMED_TOLERANCE, bond_changes

ALL_PAIRS_UP_TO = 200  # atoms; larger or periodic systems need a neighbor search
SEARCH_EVERY = 10  # frames


class BondWatch:
    """Compares frames with the bonds of the starting structure.

    For a molecule, distances of all pairs are compared with thresholds in every frame (some 10 µs), and bonds
    are searched only where one is crossed. Larger and periodic systems are searched at every tenth frame.
    """

    def __init__(self, start: Atoms, bonds: np.ndarray):
        self._bonds = bonds
        self._by_pairs = len(start) <= ALL_PAIRS_UP_TO and not start.pbc.any()
        self._first, self._second = np.triu_indices(len(start), 1)
        radii = covalent_radii[start.numbers]
        bonded = np.zeros((len(start), len(start)), dtype=bool)
        bonded[tuple(bonds.T)] = True
        self._is_bond = (bonded | bonded.T)[self._first, self._second]
        tolerance = np.where(self._is_bond, BROKEN_TOLERANCE, FORMED_TOLERANCE)
        self._limits = (tolerance * (radii[self._first] + radii[self._second])) ** 2

    def changes(self, atoms: Atoms, frame: int) -> list[list[list[int]]] | None:
        """Bonds broken and formed since the start; None where this frame was not searched."""
        if self._by_pairs and not self._crossed(atoms.positions):
            return [[], []]
        if not self._by_pairs and frame % SEARCH_EVERY:
            return None
        return [[list(pair) for pair in pairs] for pairs in bond_changes(self._bonds, atoms)]

    def _crossed(self, positions: np.ndarray) -> bool:
        vectors = positions[self._second] - positions[self._first]
        is_near = np.einsum("ij,ij->i", vectors, vectors) < self._limits
        return bool((is_near != self._is_bond).any())

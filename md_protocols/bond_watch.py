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

    Distances of all pairs of a molecule, in every frame, are compared with the thresholds of
    :func:`~asecalc_ml.topology.bond_changes` (some 10 µs). Larger and periodic systems are searched at every
    tenth frame.
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
        if self._by_pairs:
            return self._compare(atoms.positions)
        if frame % SEARCH_EVERY:
            return None
        return [[list(pair) for pair in pairs] for pairs in bond_changes(self._bonds, atoms)]

    def _compare(self, positions: np.ndarray) -> list[list[list[int]]]:
        vectors = positions[self._second] - positions[self._first]
        crossed = (np.einsum("ij,ij->i", vectors, vectors) < self._limits) != self._is_bond
        if not crossed.any():
            return [[], []]
        return [self._pairs(crossed & self._is_bond), self._pairs(crossed & ~self._is_bond)]

    def _pairs(self, chosen: np.ndarray) -> list[list[int]]:
        return np.stack([self._first[chosen], self._second[chosen]], axis=1).tolist()

"""Notes bonds that break and form, at a cost that does not show."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from asecalc_ml.structure.topology.bonds import MoleculePairs, bond_changes

ALL_PAIRS_UP_TO = 200  # atoms; larger or periodic systems need a neighbor search
SEARCH_EVERY = 10  # frames


class BondWatch:
    """Compares frames with the bonds of the starting structure.

    Distances of all pairs of a molecule, in every frame, are compared with the thresholds of
    :func:`~asecalc_ml.structure.topology.bonds.bond_changes` (some 10 µs). Larger and periodic systems are
    searched at every tenth frame.
    """

    def __init__(self, start: Atoms, bonds: np.ndarray):
        self._bonds = bonds
        by_pairs = len(start) <= ALL_PAIRS_UP_TO and not start.pbc.any()
        self._molecule = MoleculePairs(start.numbers, bonds) if by_pairs else None

    def changes(self, atoms: Atoms, frame: int) -> list[list[list[int]]] | None:
        """Bonds broken and formed since the start; None where this frame was not searched."""
        if self._molecule is not None:
            return _compare(self._molecule, atoms.positions)
        if frame % SEARCH_EVERY:
            return None
        return [[list(pair) for pair in pairs] for pairs in bond_changes(self._bonds, atoms)]


def _compare(molecule: MoleculePairs, positions: np.ndarray) -> list[list[list[int]]]:
    changed = molecule.changed(positions)
    if not changed.any():
        return [[], []]
    return [molecule.pairs[changed & which].tolist() for which in (molecule.bonded, ~molecule.bonded)]

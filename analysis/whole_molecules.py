"""Molecules that the faces of a cell cut, put together for pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.topology import BondGraph, find_bonds_and_shifts

if TYPE_CHECKING:
    from ase import Atoms

Level = tuple[list[int], list[int], list[tuple[int, int, int]]]  # atoms, the atoms they hang on, cell shifts


class WholeMolecules:
    """Moves atoms by cell vectors, so that molecules are whole and their centres lie in the cell.

    Bonds are those of the starting structure. Atoms of a network without end, such as a crystal, are put
    into the cell one by one at the start, and stay with their neighbors from then on, whatever the frames'
    own images: a bond's atoms are taken to move less than half a cell with respect to each other.

    Parameters
    ----------
    atoms : Atoms
        Starting structure.

    Attributes
    ----------
    bonds : ndarray of int, shape (n_bonds, 2)
    shifts : ndarray of int, shape (n_bonds, 3)
        Cell shifts of the bonds between the atoms as they are put; the same in every frame.
    """

    def __init__(self, atoms: Atoms):
        self.bonds, found = find_bonds_and_shifts(atoms)
        graph = BondGraph(len(atoms), self.bonds, found)
        self._molecules, self._pbc = graph.molecules, atoms.pbc
        self._levels = _levels(graph)
        self._start = _fractions(atoms.positions, atoms.cell.array)
        self._images = self._chosen_images(found)
        self.shifts = found + self._images[self.bonds[:, 0]] - self._images[self.bonds[:, 1]]

    def _chosen_images(self, found: np.ndarray) -> np.ndarray:
        """By how many cell vectors each atom of the start is moved, shape (n_atoms, 3)."""
        images = np.zeros((len(self._start), 3), dtype=int)
        for atoms, hosts, shifts in self._levels:
            images[atoms] = images[hosts] + shifts
        crossing = (found + images[self.bonds[:, 0]] - images[self.bonds[:, 1]]).any(axis=1)
        self._endless = np.isin(self._molecules, self._molecules[self.bonds[crossing, 0]])
        inside = np.floor(self._start + 1e-6).astype(int) * self._pbc
        return np.where(self._endless[:, None], -inside, images)

    def place(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Positions of a frame, moved.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3), Å
        cell : ndarray, shape (3, 3), Å

        Returns
        -------
        ndarray, shape (n_atoms, 3), Å
        """
        if not self._pbc.any():
            return positions
        cell = _complete(cell)
        fractions = _fractions(positions, cell)
        moved = (fractions - self._start) * self._pbc
        steps = self._images - self._jumps(moved)
        centres = _means(self._molecules, fractions + steps)
        drift = _means(self._molecules, moved + steps - self._images)
        back = np.where(self._endless[:, None], np.round(drift), np.floor(centres)) * self._pbc
        return positions + (steps - back) @ cell

    def _jumps(self, moved: np.ndarray) -> np.ndarray:
        """Cell vectors that each atom has jumped by beyond the atom it hangs on, shape (n_atoms, 3)."""
        jumps = np.zeros_like(moved)
        for atoms, hosts, _ in self._levels:
            jumps[atoms] = np.round(moved[atoms] - (moved[hosts] - jumps[hosts]))
        return jumps


def _levels(graph: BondGraph) -> list[Level]:
    """Atoms by their number of bonds from the first atom of their molecule, each with one it hangs on."""
    seen = set(np.unique(graph.molecules, return_index=True)[1].tolist())
    front, levels = sorted(seen), []
    while front:
        level: Level = ([], [], [])
        for host in front:
            for atom, shift in graph.neighbors[host]:
                if atom not in seen:
                    seen.add(atom)
                    for column, value in zip(level, (atom, host, shift), strict=True):
                        column.append(value)
        front = level[0]
        levels += [level] if front else []
    return levels


def _complete(cell: np.ndarray) -> np.ndarray:
    from ase.geometry import complete_cell

    return complete_cell(cell)


def _fractions(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    return positions @ np.linalg.inv(_complete(cell))


def _means(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean over the members of its group, for each member."""
    sums = np.zeros((groups.max() + 1, 3))
    np.add.at(sums, groups, values)
    return (sums / np.bincount(groups)[:, None])[groups]

"""Molecules that the faces of a cell cut, put together for pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.structure.minimum_image import Lattices
from asecalc_ml.structure.topology.bonds import BondGraph, find_bonds_and_shifts

if TYPE_CHECKING:
    from ase import Atoms

Level = tuple[list[int], list[int], list[tuple[int, int, int]]]  # atoms, the atoms they hang on, cell shifts


class WholeMolecules:
    """Moves atoms by cell vectors, so that molecules are whole and their centres lie in the cell.

    Bonds are those of the starting structure. Atoms of a network without end, such as a crystal, are put
    into the cell one by one at the start, and stay with their neighbors from then on, whatever the frames'
    own images: the shortest displacement of a bond's atoms with respect to each other counts.

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
        self.bonds, shifts = find_bonds_and_shifts(atoms)
        graph = BondGraph(len(atoms), self.bonds, shifts)
        self._molecules, self._pbc = graph.molecules, atoms.pbc
        self._levels = _levels(graph)
        self._start = Lattices(atoms.cell.array, self._pbc).fractional(atoms.positions)[0]
        self._images = self._chosen_images(shifts)
        self.shifts = shifts + self._images[self.bonds[:, 0]] - self._images[self.bonds[:, 1]]

    def _chosen_images(self, found: np.ndarray) -> np.ndarray:
        """By how many cell vectors each atom of the start is moved, shape (n_atoms, 3)."""
        images = np.zeros((len(self._start), 3), dtype=int)
        for atoms, hosts, shifts in self._levels:
            images[atoms] = images[hosts] + shifts
        crossing = (found + images[self.bonds[:, 0]] - images[self.bonds[:, 1]]).any(axis=1)
        self._endless = np.isin(self._molecules, self._molecules[self.bonds[crossing, 0]])
        inside = np.floor(self._start + 1e-6).astype(int)
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
        lattice = Lattices(cell, self._pbc)
        fractions = lattice.fractional(positions)[0]
        moved = fractions - self._start
        steps = self._images + self._back(moved, lattice)
        centres = _means(self._molecules, fractions + steps)
        drift = _means(self._molecules, moved + steps - self._images)
        inside = np.where(self._endless[:, None], _shifts(drift, lattice), -np.floor(centres))
        return positions + (steps + inside) @ lattice.cells[0]

    def _back(self, moved: np.ndarray, lattice: Lattices) -> np.ndarray:
        """Cell shifts that take back the jumps of atoms beyond those they hang on, shape (n_atoms, 3)."""
        back = np.zeros_like(moved)
        for atoms, hosts, _ in self._levels:
            back[atoms] = _shifts(moved[atoms] - moved[hosts] - back[hosts], lattice)
        return back


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
                    atoms, hosts, shifts = level
                    atoms.append(atom)
                    hosts.append(host)
                    shifts.append(shift)
        front = level[0]
        levels += [level] if front else []
    return levels


def _shifts(moved: np.ndarray, lattice: Lattices) -> np.ndarray:
    """Cell shifts that make displacements in fractional coordinates, shape (n_atoms, 3), the shortest."""
    return lattice.shifts(moved @ lattice.cells)[0]


def _means(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean over the members of its group, for each member."""
    sums = np.zeros((groups.max() + 1, 3))
    np.add.at(sums, groups, values)
    return (sums / np.bincount(groups)[:, None])[groups]

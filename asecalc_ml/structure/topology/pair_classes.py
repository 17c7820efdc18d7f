"""Distances with the names under which a model's card knows them, such as "C-O bonded"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from asecalc_ml.graph.neighbors import find_pairs
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import CLASSES, BondGraph, canonical_pattern


class ClassedPairs(NamedTuple):
    """Pairs closer than a cutoff, each once.

    Parameters
    ----------
    atoms : array of int, shape (n_pairs, 2)
    lengths : array, shape (n_pairs,), Å
    names : PairNames
        Elements and topological class.
    """

    atoms: np.ndarray
    lengths: np.ndarray
    names: PairNames


class PairNames(NamedTuple):
    """Names of pairs.

    Parameters
    ----------
    names : list of str
        In alphabetical order, each once.
    numbers : array of int, shape (n_pairs,)
        Place of the name of each pair in the list.
    """

    names: list[str]
    numbers: np.ndarray

    def rows(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each name, with the places of its pairs."""
        return ((name, np.flatnonzero(self.numbers == k)) for k, name in enumerate(self.names))


def classed_pairs(atoms: Atoms, graph: BondGraph, cutoff: float) -> ClassedPairs:
    """All pairs of atoms, and of atoms and images, within a cutoff.

    Parameters
    ----------
    atoms : Atoms
        Not wrapped since the graph's cell shifts were found.
    graph : BondGraph
        Of the structure whose bonds count.
    cutoff : float, Å
    """
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    i, j = pairs.edge_index
    image_once = (i == j) & (np.sign(pairs.cell_shifts) @ [4, 2, 1] > 0)  # one of a shift and its opposite
    once = (i < j) | image_once
    return classes_within(atoms, graph, cutoff, pairs.edge_index.T[once], pairs.cell_shifts[once])


def classes_within(
    atoms: Atoms, graph: BondGraph, cutoff: float, pairs: np.ndarray, shifts: np.ndarray
) -> ClassedPairs:
    """Those of the pairs that are closer than a cutoff, with their names; see :func:`classed_pairs`.

    Parameters
    ----------
    pairs : array of int, shape (n_pairs, 2)
    shifts : array of int, shape (n_pairs, 3)
    """
    lengths = np.linalg.norm(pair_vectors(atoms.positions, pairs.T, shifts, atoms.cell.array), axis=1)
    near = lengths < cutoff
    members, classes = pairs[near], graph.class_numbers(pairs[near], shifts[near])
    return ClassedPairs(members, lengths[near], pair_names(atoms, members, classes))


def pair_names(atoms: Atoms, members: np.ndarray, classes: np.ndarray) -> PairNames:
    """Elements and topological class of pairs.

    Parameters
    ----------
    members : array of int, shape (n_pairs, 2)
    classes : array of int, shape (n_pairs,)
        As :meth:`asecalc_ml.structure.topology.bonds.BondGraph.class_numbers` returns them.
    """
    # kinds of pairs: both atomic numbers and the class as one number
    first, second = np.sort(atoms.numbers[members].astype(int), axis=1).T
    n_elements, n_classes = len(chemical_symbols), len(CLASSES)
    kinds, kind = np.unique((first * n_elements + second) * n_classes + classes, return_inverse=True)
    named = [_name(number // n_classes, CLASSES[number % n_classes]) for number in kinds.tolist()]
    names, place = np.unique(np.array(named, dtype=str), return_inverse=True)
    return PairNames(names.tolist(), place[kind])


def _name(elements: int, class_: str) -> str:
    symbols = [chemical_symbols[number] for number in divmod(elements, len(chemical_symbols))]
    return f"{canonical_pattern(symbols)} {class_}"

"""Distances with the names under which a model's card knows them, such as "C-O bonded"."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms

from asecalc_ml.graph.neighbors import find_pairs
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import BondGraph, canonical_pattern


class ClassedPairs(NamedTuple):
    """Pairs closer than a cutoff, each once.

    Parameters
    ----------
    atoms : array of int, shape (n_pairs, 2)
    lengths : array, shape (n_pairs,), Å
    names : array of str, shape (n_pairs,)
        Elements and topological class.
    """

    atoms: np.ndarray
    lengths: np.ndarray
    names: np.ndarray


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
    vectors = pair_vectors(atoms.positions, *pairs, atoms.cell.array)
    lengths = np.linalg.norm(vectors, axis=1)
    image_once = (i == j) & (np.sign(pairs.cell_shifts) @ [4, 2, 1] > 0)  # one of a shift and its opposite
    once = (lengths < cutoff) & ((i < j) | image_once)
    members = pairs.edge_index.T[once]
    classes = graph.classes(members, pairs.cell_shifts[once])
    return ClassedPairs(members, lengths[once], pair_names(atoms, members, classes))


def pair_names(atoms: Atoms, members: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Elements and topological class of pairs, array of str of shape (n_pairs,)."""
    symbols = atoms.get_chemical_symbols()
    elements = [canonical_pattern((symbols[i], symbols[j])) for i, j in members]
    return np.array([f"{pair} {kind}" for pair, kind in zip(elements, classes, strict=True)])

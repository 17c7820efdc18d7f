"""A molecular graph as one vector of fixed length, for networks that take no graphs."""

from __future__ import annotations

import numpy as np

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.molecular_graph.features import (
    ATOM_GROUPS,
    N_ATOM_FEATURES,
    N_PAIR_FEATURES,
    places_of,
)
from asecalc_ml.structure.molecular_graph.graph import MolecularGraph

#: Atoms of the largest molecule of QM9.
MAX_ATOMS = 29


def padded_length(max_atoms: int = MAX_ATOMS) -> int:
    """Length of the vector: 21 n + 13 n (n − 1) / 2, which is 5,887 for 29 atoms."""
    return N_ATOM_FEATURES * max_atoms + N_PAIR_FEATURES * (max_atoms * (max_atoms - 1) // 2)


def padded_vector(graph: MolecularGraph, max_atoms: int = MAX_ATOMS) -> np.ndarray:
    """Features of all atoms, then of all pairs i < j with i ascending, then j; zero where there is no atom.

    The atoms are in the order of the graph. Of a structure in the order of
    :func:`asecalc_ml.structure.molecular_graph.order.canonical_order` the vector does not depend on the order
    in which a file lists the atoms.

    Parameters
    ----------
    graph : MolecularGraph
    max_atoms : int
        Atoms that there is room for.

    Returns
    -------
    ndarray, shape (padded_length(max_atoms),)

    Raises
    ------
    StructureError
        If the molecule has more atoms.
    """
    n_atoms = len(graph.atoms)
    if n_atoms > max_atoms:
        raise StructureError(
            f"the molecule has {n_atoms} atoms, and the padded vector has room for {max_atoms};",
            name="max_atoms",
            value=n_atoms,
            allowed=f"up to {max_atoms}",
            remedy="raise max_atoms, or leave the molecule out",
        )
    atoms = np.zeros((max_atoms, N_ATOM_FEATURES))
    pairs = np.zeros((max_atoms, max_atoms, N_PAIR_FEATURES))
    atoms[:n_atoms] = graph.atoms
    pairs[np.triu_indices(n_atoms, 1)] = graph.pairs
    return np.concatenate([atoms.ravel(), pairs[np.triu_indices(max_atoms, 1)].ravel()])


def unpadded(vector: np.ndarray, max_atoms: int = MAX_ATOMS) -> MolecularGraph:
    """The molecular graph of a padded vector; atoms are those that have a type.

    Parameters
    ----------
    vector : ndarray, shape (padded_length(max_atoms),)
    max_atoms : int
        That of :func:`padded_vector`.
    """
    atoms, of_pairs = np.split(vector, [N_ATOM_FEATURES * max_atoms])
    atoms = atoms.reshape(max_atoms, N_ATOM_FEATURES)
    pairs = np.zeros((max_atoms, max_atoms, N_PAIR_FEATURES))
    pairs[np.triu_indices(max_atoms, 1)] = of_pairs.reshape(-1, N_PAIR_FEATURES)
    n_atoms = int((atoms[:, places_of(ATOM_GROUPS)["atom type"]] != 0).any(axis=1).sum())
    return MolecularGraph(atoms[:n_atoms].copy(), pairs[np.triu_indices(n_atoms, 1)])

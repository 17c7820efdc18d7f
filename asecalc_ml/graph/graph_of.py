"""The graph that a model needs of a structure: pairs within its cutoff, and features where it takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from ase import Atoms

from asecalc_ml.errors import StructureError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.structure.molecular_graph.graph import constant_features


class NeedsGraph(Protocol):
    """A model, in memory or stored."""

    @property
    def cutoff(self) -> float:
        """Distance beyond which atoms do not see each other, Å."""

    @property
    def molecular_graph(self) -> bool:
        """True if the model takes features of atoms and pairs."""


def graph_of(atoms: Atoms, model: NeedsGraph, backend: str = "auto", margin_A: float = 0.0) -> AtomGraph:
    """Graph of one structure as a model needs it.

    Parameters
    ----------
    atoms : Atoms
    model : Model or StoredModel
    backend : {"auto", "vesin", "matscipy", "all-pairs"}
        See :func:`asecalc_ml.graph.neighbors.find_pairs`.
    margin_A : float
        Keep pairs so far beyond the cutoff, Å.

    Raises
    ------
    StructureError
        If the model takes a molecular graph and the structure has none, see
        :func:`asecalc_ml.structure.molecular_graph.molecular_graph`.
    """
    graph = AtomGraph.from_atoms(atoms, model.cutoff + margin_A, backend)
    return with_molecular_graph(graph, atoms) if model.molecular_graph else graph


def with_molecular_graph(graph: AtomGraph, atoms: Atoms) -> AtomGraph:
    """The graph of a molecule with the features of its atoms and edges.

    Raises
    ------
    StructureError
        If the structure has no molecular graph, or its edges are not all pairs of its atoms.
    """
    features, n_atoms = constant_features(atoms), graph.n_atoms
    if graph.n_edges != n_atoms * (n_atoms - 1):
        raise StructureError(
            f"the molecule of {n_atoms} atoms is longer than the cutoff of the architecture;",
            name="cutoff_A",
            value=n_atoms,
            remedy="use a model of an architecture that sees geometry, such as painn",
        )
    first, second = graph.edge_index.sort(dim=0).values
    # number of the pair i < j among those of numpy.triu_indices(n_atoms, 1)
    rows = first * (2 * n_atoms - first - 1) // 2 + second - first - 1
    device = graph.edge_index.device
    return replace(
        graph,
        atom_features=torch.tensor(features.atoms, device=device),
        pair_features=torch.tensor(features.pairs, device=device)[rows],
    )

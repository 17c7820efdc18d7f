"""Molecular graphs: chemical features of atoms and pairs of atoms, from a structure by RDKit."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily
from asecalc_ml.structure.molecular_graph.features import ATOM_GROUPS, PAIR_GROUPS

if TYPE_CHECKING:
    from asecalc_ml.structure.molecular_graph.graph import MolecularGraph, molecular_graph
    from asecalc_ml.structure.molecular_graph.padded import padded_vector, unpadded

__all__ = ["ATOM_GROUPS", "PAIR_GROUPS", "MolecularGraph", "molecular_graph", "padded_vector", "unpadded"]

__getattr__ = lazily(
    __name__,
    {
        "MolecularGraph": "asecalc_ml.structure.molecular_graph.graph",
        "molecular_graph": "asecalc_ml.structure.molecular_graph.graph",
        "padded_vector": "asecalc_ml.structure.molecular_graph.padded",
        "unpadded": "asecalc_ml.structure.molecular_graph.padded",
    },
)

"""Molecular graphs: chemical features of atoms and pairs of atoms, from a structure by RDKit."""

from asecalc_ml.structure.molecular_graph.features import ATOM_GROUPS, PAIR_GROUPS
from asecalc_ml.structure.molecular_graph.graph import MolecularGraph, molecular_graph
from asecalc_ml.structure.molecular_graph.padded import padded_vector, unpadded

__all__ = ["ATOM_GROUPS", "PAIR_GROUPS", "MolecularGraph", "molecular_graph", "padded_vector", "unpadded"]

"""Networks on molecular graphs: graph convolutions (weave) and a gated graph network."""

from asecalc_ml.potentials.molecular_graph.options import GatedGraph, GraphConvolutions

__all__ = ["GatedGraph", "GraphConvolutions"]

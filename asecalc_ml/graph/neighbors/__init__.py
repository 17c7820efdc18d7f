"""Pairs of atoms within a cutoff, found anew or kept from step to step with a skin."""

from asecalc_ml.graph.neighbors.pairs import BACKENDS, Pairs, find_batch_pairs, find_pairs, find_tensor_pairs
from asecalc_ml.graph.neighbors.skin import SkinNeighborList

__all__ = [
    "BACKENDS",
    "Pairs",
    "SkinNeighborList",
    "find_batch_pairs",
    "find_pairs",
    "find_tensor_pairs",
]

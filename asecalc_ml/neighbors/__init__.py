"""Pairs of atoms within a cutoff, by three backends that agree with ASE's neighbor list."""

from asecalc_ml.neighbors.pairs import BACKENDS, Pairs, find_pairs

__all__ = ["BACKENDS", "Pairs", "find_pairs"]

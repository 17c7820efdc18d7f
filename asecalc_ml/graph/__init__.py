"""Structures as graphs: neighbor lists, padding, triplets, and sums over edges."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.graph.atom_graph import AtomGraph, collate

__all__ = ["AtomGraph", "collate"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.graph.atom_graph"))

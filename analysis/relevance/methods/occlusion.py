r"""Occlusion: what is lost when an atom, or a pair of atoms, does not see and is not seen.

.. math:: R_i = T - T(\text{all edges of } i \text{ removed}), \qquad
          R_{ij} = T - T(\text{the edges } i \to j, j \to i \text{ removed})

For the energy R_i is the energy it takes to carry the atom away, all others held in place, and R_ij that part
of it which needs both atoms to see each other. The removed atom keeps its own energy, so that reference
energies play no role. It takes one pass for each atom and each pair; other methods are compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from asecalc_ml.analysis.relevance.methods.method_output import Found
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import Subject
from asecalc_ml.analysis.relevance.targets import Target
from asecalc_ml.graph.atom_graph import AtomGraph

#: Atoms of copies that are computed together.
BATCH_ATOMS = 1024


def explain(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    """Differences for each atom, and for each pair where ``options.pairs`` asks for them."""
    parts = [_one(single, target, options) for single in subject.singles()]
    edges = torch.cat([part.edges for part in parts]) if parts[0].edges is not None else None
    return Found(torch.cat([part.atoms for part in parts]), edges)


def _one(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    bound = target.bind(subject)
    whole = bound.value(subject.run()).detach()
    i, j = subject.graph.edge_index
    without = [(i != atom) & (j != atom) for atom in range(subject.n_atoms)]
    atoms = whole - torch.cat([*_values(subject, bound, without)])
    if options.pairs == "none":
        return Found(atoms)
    return Found(atoms, _edges(subject, bound, whole))


def _edges(subject: Subject, bound: Target, whole: Tensor) -> Tensor:
    """Half of each pair's difference for each of its directions."""
    n_edges = subject.graph.n_edges
    numbers = torch.arange(n_edges, device=whole.device)
    reverse = subject.reverse[:n_edges]
    real = subject.inputs.edge_index[0, :n_edges] < subject.n_atoms
    firsts = numbers[real & (numbers < reverse)]
    kept = [(numbers != first) & (numbers != reverse[first]) for first in firsts]
    found = torch.zeros(n_edges, dtype=whole.dtype, device=whole.device)
    if kept:
        found[firsts] = 0.5 * (whole - torch.cat([*_values(subject, bound, kept)]))
    return found + found[reverse] * real


def _values(subject: Subject, bound: Target, kept: list[Tensor]) -> Iterator[Tensor]:
    """The target with only the edges that are kept, for each choice; many at once."""
    graph, size = subject.graph, max(1, BATCH_ATOMS // subject.n_atoms)
    for start in range(0, len(kept), size):
        graphs = [_with_edges(graph, mask) for mask in kept[start : start + size]]
        copies = Subject.of(subject.model, graphs)
        yield bound.on_copies(copies).value(copies.run()).detach()


def _with_edges(graph: AtomGraph, mask: Tensor) -> AtomGraph:
    return replace(graph, edge_index=graph.edge_index[:, mask], cell_shifts=graph.cell_shifts[mask])

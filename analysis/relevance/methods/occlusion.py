r"""Occlusion: what is lost when an atom, or a pair of atoms, does not see and is not seen.

.. math:: R_i = T - T(\text{all edges of } i \text{ removed}), \qquad
          R_{ij} = T - T(\text{the edges } i \to j, j \to i \text{ removed})

For the energy R_i is the energy it takes to carry the atom away, all others held in place, and R_ij that part
of it which needs both atoms to see each other. The removed atom keeps its own energy, so that reference
energies play no role. It takes one pass for each atom and each pair; other methods are compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from asecalc_ml.analysis.relevance.methods.method_output import MethodOutput
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import ExplainedBatch
from asecalc_ml.analysis.relevance.targets import Target
from asecalc_ml.graph.batching import batches_by_atoms

#: Atoms of copies that are computed together.
BATCH_ATOMS = 1024


def explain(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Differences for each atom, and for each pair where ``options.pairs`` asks for them."""
    parts = [_one(single, target, options) for single in subject.singles()]
    edges = torch.cat([part.edges for part in parts]) if parts[0].edges is not None else None
    return MethodOutput(torch.cat([part.atoms for part in parts]), edges)


def _one(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    bound = target.bind(subject)
    whole = bound.value(subject.run()).detach()
    i, j = subject.graph.edge_index
    without = [(i != atom) & (j != atom) for atom in range(subject.n_atoms)]
    atoms = whole - torch.cat([*_values(subject, bound, without)])
    if options.pairs == "none":
        return MethodOutput(atoms)
    return MethodOutput(atoms, _edges(subject, bound, whole))


def _edges(subject: ExplainedBatch, bound: Target, whole: Tensor) -> Tensor:
    """Half of each pair's difference for each of its directions."""
    n_edges = subject.graph.n_edges
    numbers = torch.arange(n_edges, device=whole.device)
    reverse = subject.reverse[:n_edges]
    real = subject.inputs.edge_index[0, :n_edges] < subject.n_atoms
    firsts = numbers[real & (numbers < reverse)]
    kept = [(numbers != first) & (numbers != reverse[first]) for first in firsts]
    halves = torch.zeros(n_edges, dtype=whole.dtype, device=whole.device)
    if kept:
        halves[firsts] = 0.5 * (whole - torch.cat([*_values(subject, bound, kept)]))
    return halves + halves[reverse] * real


def _values(subject: ExplainedBatch, bound: Target, kept: list[Tensor]) -> Iterator[Tensor]:
    """The target with only the edges that are kept, for each choice; many at once."""
    for masks in batches_by_atoms(kept, BATCH_ATOMS, n_atoms=lambda mask: subject.n_atoms):
        graphs = [subject.graph.with_edges(mask) for mask in masks]
        copies = ExplainedBatch.of(subject.model, graphs)
        yield bound.on_copies(copies).value(copies.run()).detach()

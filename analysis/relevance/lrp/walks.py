r"""Relevant walks: relevance propagation that keeps to one atom at each step.

.. math:: E = \sum_{i_0 \to i_1 \to \dots \to i_n} R_{i_0 i_1 \dots i_n} + \text{absorbed}

i_n is the atom at which the walk is read out, i_0 the one whose embedding it comes from, and those between
are where relevance stands when it enters an interaction block. An atom may follow itself, inside a block or
by its own image. A walk of n steps has n + 1 atoms; where a skip connection passes a block by, or earlier
features are read out, shorter walks come out beside them. A network of more blocks than steps takes several
of them in one step, so that atoms of a step need not be neighbors. Schnake et al., arXiv:2006.03589, equation
(4), with the rules of :mod:`.rules`.

Relevance of an atom is that of the walks that visit it, divided evenly among the atoms of each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from asecalc_ml.analysis.relevance.lrp.method import checked, of_target, shared_out
from asecalc_ml.analysis.relevance.lrp.propagation import Propagation, padded_inputs
from asecalc_ml.analysis.relevance.methods.method_output import MethodOutput, joined
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import ExplainedBatch
from asecalc_ml.analysis.relevance.targets import Target

#: Walks whose relevance is propagated together.
BATCH_WALKS = 256

Walk = tuple[int, ...]


def explain(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """All walks of up to ``options.walk_length`` steps, one structure after another."""

    def of_energy(single: ExplainedBatch, bound: Target) -> MethodOutput:
        return _explained(single, bound, options.walk_length)

    singles = subject.singles()
    return joined([of_target(single, target.bind(single), of_energy) for single in singles])


def _explained(subject: ExplainedBatch, target: Target, length: int) -> MethodOutput:
    model, inputs = subject.model, padded_inputs(subject)
    whole = Propagation(model, inputs)
    rest = shared_out(subject, whole, checked(subject, target, target.traced(*whole.propagate())), target)
    propagation = Propagation(model, inputs, cuts(whole.message_blocks, length))
    outputs = propagation.propagate()
    walks = _Walks(propagation, subject.n_atoms).of(target.readouts(subject, *outputs))
    return MethodOutput(
        _visits(walks, subject) + subject.halves(rest.edges), rest.edges, rest.absorbed, walks=walks
    )


def cuts(blocks: Sequence[int], length: int) -> tuple[int, ...]:
    """Blocks that a step ends in front of: evenly spread, none before the first."""
    n_steps = min(length, len(blocks))
    return tuple(blocks[len(blocks) * k // n_steps] for k in range(1, n_steps))


class _Walks:
    """Follows relevance from the readout back to embeddings, one state after another."""

    def __init__(self, propagation: Propagation, n_atoms: int):
        self.sources, self.n_atoms = propagation.sources, n_atoms
        self.found: dict[Walk, Tensor] = defaultdict(lambda: torch.zeros(1, dtype=torch.float64))

    def of(self, readouts: Tensor) -> dict[Walk, Tensor]:
        """Walks that end in each readout: one for each atom, or a single one of the whole structure."""
        n_rows = len(readouts)
        suffixes = [(atom,) for atom in range(n_rows)] if n_rows == self.n_atoms else [()] * n_rows
        eye = torch.eye(n_rows, dtype=readouts.dtype, device=readouts.device)
        self._follow([readouts], [eye], suffixes, max(self.sources.states, default=-1) + 1)
        return dict(self.found)

    def _follow(self, outputs: list[Tensor], slopes: list[Tensor], suffixes: list[Walk], before: int) -> None:
        """Go on from outputs, whose slopes have a row for each walk so far, to all earlier states."""
        for start in range(0, len(suffixes), BATCH_WALKS):
            rows = slice(start, start + BATCH_WALKS)
            self._step(outputs, [slope[rows] for slope in slopes], suffixes[rows], before)

    def _step(self, outputs: list[Tensor], slopes: list[Tensor], suffixes: list[Walk], before: int) -> None:
        self._end(outputs, slopes, suffixes)
        for block in sorted((one for one in self.sources.states if one < before), reverse=True):
            values, leaves = zip(*self.sources.states[block], strict=True)
            state_slopes = _gradients(outputs, leaves, slopes)
            masked = [_one_atom_each(slope, self.n_atoms) for slope in state_slopes]
            longer = [(atom, *suffix) for suffix in suffixes for atom in range(self.n_atoms)]
            self._follow(list(values), masked, longer, block)

    def _end(self, outputs: list[Tensor], slopes: list[Tensor], suffixes: list[Walk]) -> None:
        """Walks that come from embeddings without passing another state."""
        total = torch.zeros(len(suffixes), self.n_atoms, dtype=torch.float64)
        leaves = self.sources.embeddings
        for leaf, slope in zip(leaves, _gradients(outputs, leaves, slopes), strict=True):
            total = total + (leaf.detach() * slope).flatten(2).sum(dim=2)[:, : self.n_atoms].cpu()
        for suffix, relevance in zip(suffixes, total, strict=True):
            for atom in relevance.nonzero()[:, 0].tolist():
                walk = (atom, *suffix)
                self.found[walk] = self.found[walk] + relevance[atom]


def _gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor], slopes: Sequence[Tensor]) -> list[Tensor]:
    """Slopes of each walk at the leaves, first dimension walks."""
    pairs = [(out, slope) for out, slope in zip(outputs, slopes, strict=True) if out.requires_grad]
    leaf_slopes: Sequence[Tensor | None] = [None] * len(leaves)
    if pairs and leaves:
        values, weights = zip(*pairs, strict=True)
        leaf_slopes = torch.autograd.grad(
            values, leaves, weights, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
    n_walks = len(slopes[0])
    return [
        leaf.new_zeros(n_walks, *leaf.shape) if slope is None else slope
        for leaf, slope in zip(leaves, leaf_slopes, strict=True)
    ]


def _one_atom_each(slopes: Tensor, n_atoms: int) -> Tensor:
    """From (n_walks, n_rows, ...) to (n_walks n_atoms, n_rows, ...), with all rows but one atom's zero."""
    chosen = torch.eye(n_atoms, slopes.shape[1], dtype=slopes.dtype, device=slopes.device)
    chosen = chosen.view(1, n_atoms, -1, *[1] * (slopes.dim() - 2))
    return (slopes[:, None] * chosen).flatten(0, 1)


def _visits(walks: dict[Walk, Tensor], subject: ExplainedBatch) -> Tensor:
    # a walk's relevance, divided evenly among its atoms
    atoms = torch.zeros(subject.n_atoms, dtype=torch.float64)
    for walk, relevance in walks.items():
        for atom in walk:
            atoms[atom] += float(relevance) / len(walk)
    return atoms.to(subject.graph.positions.device)

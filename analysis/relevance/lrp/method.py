r"""Layer-wise relevance propagation: gradient × input through the rules of :mod:`.rules`.

.. math:: \sum_i R_i + \text{absorbed} = E

Relevance ends at the embeddings of atoms, and at what geometry alone adds to the signal of an edge, which
goes half to each of its atoms; that of a triplet to its two edges. It is absorbed by biases, by activations
at zero and other constants, and by reference energies. A force component has the slope of the energy's
relevance, by finite differences of fourth order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from asecalc_ml.analysis.relevance.lrp.propagation import (
    CONSTANTS,
    Propagation,
    graph_of,
    moved,
    padded_inputs,
)
from asecalc_ml.analysis.relevance.methods.method_output import MethodOutput, joined, weighted_sum
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import ExplainedBatch, gradients
from asecalc_ml.analysis.relevance.targets import Force, Target
from asecalc_ml.errors import AnalysisError
from asecalc_ml.graph.segments import segment_sum

REFERENCES = "reference energies"

VALUE_TOLERANCE = 1e-10  # relative: 4e-7 eV at the -4210 eV of ethanol in rMD17

#: Step of the finite differences that make shares of a force, Å, and their coefficients by multiples of it.
STEP_A = 3e-4
STENCIL = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}

Energies = Callable[[ExplainedBatch, Target], MethodOutput]


def explain(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Relevance of embeddings and edges, and what is absorbed."""
    return for_each(subject, target, _explained)


def for_each(subject: ExplainedBatch, target: Target, propagate: Energies) -> MethodOutput:
    """What a function finds for each structure alone; for a force the slope of what the energy has."""
    parts = []
    for single in subject.singles():
        bound = target.bind(single)
        parts.append(
            _slope(single, bound, propagate) if isinstance(bound, Force) else propagate(single, bound)
        )
    return joined(parts)


def _slope(subject: ExplainedBatch, target: Force, propagate: Energies) -> MethodOutput:
    # −dR/dε for a motion ε u of the atom, by central differences of fourth order
    ends = {k: propagate(moved(subject, target.motion, k * STEP_A), target) for k in STENCIL}
    return weighted_sum([(-weight / STEP_A, ends[k]) for k, weight in STENCIL.items()])


def _explained(subject: ExplainedBatch, target: Target) -> MethodOutput:
    inputs = padded_inputs(subject)
    propagation = Propagation(graph_of(subject.model, inputs), inputs)
    value = checked(subject, target, target.traced(*propagation.propagate()))
    return shared_out(subject, propagation, value, target)


def checked(subject: ExplainedBatch, target: Target, value: Tensor) -> Tensor:
    """The value, if it is the model's own: rules change derivatives alone."""
    run = subject.run()
    charges = run.output.potential.charges
    expected = target.traced(run.output.atoms, run.output.systems, value if charges is None else charges)
    if not torch.allclose(value, expected, rtol=VALUE_TOLERANCE, atol=VALUE_TOLERANCE):
        by_rules, by_model = float(value.detach()[0]), float(expected.detach()[0])
        raise AnalysisError(
            f"method 'lrp' computes {by_rules} for {target}, and the model {by_model}: its rules do not "
            "describe an operation of this architecture;",
            name="lrp",
            value=by_rules,
            allowed=by_model,
            remedy="take another method",
        )
    return value


def shared_out(
    subject: ExplainedBatch, propagation: Propagation, value: Tensor, target: Target
) -> MethodOutput:
    """Gradient × input of all sources."""
    # gradient × input at the embeddings, and at what geometry adds to edges
    sources = propagation.sources
    atoms = _relevance(value, sources.embeddings, subject.n_atoms)
    edges = edge_relevance(subject, propagation, value)
    # biases and constants; reference energies are among the constants, and are listed apart
    absorbed = absorbed_by(propagation, value)
    if target.additive:
        references = subject.per_system(subject.shifts)
        absorbed[CONSTANTS] = absorbed.get(CONSTANTS, 0) - references
        absorbed[REFERENCES] = references
    return MethodOutput(atoms + subject.halves(edges), edges, absorbed)


def edge_relevance(subject: ExplainedBatch, propagation: Propagation, value: Tensor) -> Tensor:
    """What geometry alone adds, shape (n_edges,); a triplet's half to each of its edges."""
    sources, inputs = propagation.sources, propagation.inputs
    n_edges = inputs.edge_index.shape[1]
    edges = _relevance(value, sources.edges, n_edges)
    if inputs.triplets is not None:
        triplets = 0.5 * _relevance(value, sources.triplets, inputs.triplets.shape[1])
        for ends in inputs.triplets:
            edges = edges + segment_sum(triplets, ends, n_edges)
    return edges[: subject.graph.n_edges]


def absorbed_by(propagation: Propagation, value: Tensor) -> dict[str, Tensor]:
    """Gradient × input of all constants, by what they are."""
    absorbed: dict[str, Tensor] = defaultdict(lambda: torch.zeros(1, dtype=torch.float64))
    names = [name for name, _ in propagation.sources.constants]
    leaves = [leaf for _, leaf in propagation.sources.constants]
    for name, leaf, slope in zip(names, leaves, gradients(value, leaves), strict=True):
        absorbed[name] = absorbed[name] + (leaf.detach() * slope).sum()
    return dict(absorbed)


def _relevance(value: Tensor, leaves: list[Tensor], n_rows: int) -> Tensor:
    """Sums over features of gradient × input, the first rows of each leaf."""
    total = torch.zeros(n_rows, dtype=torch.float64, device=value.device)
    for leaf, slope in zip(leaves, gradients(value, leaves), strict=True):
        total = total + (leaf.detach() * slope).reshape(len(leaf), -1).sum(dim=1)[:n_rows]
    return total

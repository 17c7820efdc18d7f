r"""Layer-wise relevance propagation: gradient × input through the rules of :mod:`.rules`.

.. math:: \sum_i R_i + \text{absorbed} = E

Relevance ends at the embeddings of atoms, and at what geometry alone adds to the signal of an edge, which
goes half to each of its atoms; that of a triplet to its two edges. It is absorbed by biases, by activations
at zero and other constants, and by reference energies. A force component has the slope of the energy's
relevance, by finite differences of fourth order.

Structures of a batch are propagated together. A constant serves all of them; what each structure has of it is
the slope of what all have, :math:`\partial/\partial w_s` of
:math:`c \cdot \partial(\sum_s w_s E_s)/\partial c`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from asecalc_ml.analysis.relevance.lrp.propagation import CONSTANTS, Propagation, moved, padded_inputs
from asecalc_ml.analysis.relevance.methods.method_output import MethodOutput, weighted_sum
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
    return of_target(subject, target, _explained)


def of_target(subject: ExplainedBatch, target: Target, propagate: Energies) -> MethodOutput:
    """Relevance of a target by a function of energies; for a force the slope of the energy's relevance."""
    if not isinstance(target, Force):
        return propagate(subject, target)
    # −dR/dε for a motion ε u of the atom, by central differences of fourth order
    ends = {k: propagate(moved(subject, target.motion, k * STEP_A), target) for k in STENCIL}
    return weighted_sum([(-weight / STEP_A, ends[k]) for k, weight in STENCIL.items()])


def _explained(subject: ExplainedBatch, target: Target) -> MethodOutput:
    propagation = Propagation(subject.model, padded_inputs(subject))
    values = checked(subject, target, target.traced(*propagation.propagate()))
    return shared_out(subject, propagation, values, target)


def checked(subject: ExplainedBatch, target: Target, values: Tensor) -> Tensor:
    """The values, shape (n_systems,), if they are the model's own: rules change derivatives alone."""
    with torch.no_grad():
        output = subject.model(subject.inputs)
    charges = output.potential.charges
    expected = target.traced(output.atoms, output.systems, output.systems if charges is None else charges)
    differs = ~torch.isclose(values, expected, rtol=VALUE_TOLERANCE, atol=VALUE_TOLERANCE)
    if differs.any():
        by_rules, by_model = float(values.detach()[differs][0]), float(expected[differs][0])
        raise AnalysisError(
            f"method 'lrp' computes {by_rules} for {target}, and the model {by_model}: its rules do not "
            "describe an operation of this architecture;",
            name="lrp",
            value=by_rules,
            allowed=by_model,
            remedy="take another method",
        )
    return values


def shared_out(
    subject: ExplainedBatch, propagation: Propagation, values: Tensor, target: Target
) -> MethodOutput:
    """Gradient × input of all sources."""
    sources = propagation.sources
    # ∂(Σ_s w_s E_s)/∂x of all sources x; a row belongs to one structure, which sees no other
    weights = torch.ones_like(values, requires_grad=True)
    names = [name for name, _ in sources.constants]
    constants = [leaf for _, leaf in sources.constants]
    groups = [sources.embeddings, sources.edges, sources.triplets, constants]
    leaves = [leaf for group in groups for leaf in group]
    slopes = iter(gradients(values * weights, leaves, create_graph=True))
    embedded, edges, triplets, absorbed = (
        [leaf.detach() * next(slopes) for leaf in group] for group in groups
    )
    # relevance of atoms by their embeddings, and of edges by what geometry alone adds to them
    atoms = _sum_of_rows(embedded, subject.n_atoms, values)
    of_edges = _edge_relevance(subject, propagation, edges, triplets, values)
    # biases and constants; reference energies are among the constants, and are listed apart
    by_cause = _by_cause(names, absorbed, weights)
    if target.additive:
        references = subject.per_system(subject.shifts)
        by_cause[CONSTANTS] = by_cause.get(CONSTANTS, 0) - references
        by_cause[REFERENCES] = references
    return MethodOutput(atoms + subject.halves(of_edges), of_edges, by_cause)


def _edge_relevance(
    subject: ExplainedBatch,
    propagation: Propagation,
    edges: list[Tensor],
    triplets: list[Tensor],
    values: Tensor,
) -> Tensor:
    """What geometry alone adds, shape (n_edges,); a triplet's half to each of its edges."""
    inputs = propagation.inputs
    n_edges = inputs.edge_index.shape[1]
    total = _sum_of_rows(edges, n_edges, values)
    if inputs.triplets is not None:
        halves = 0.5 * _sum_of_rows(triplets, inputs.triplets.shape[1], values)
        for ends in inputs.triplets:
            total = total + segment_sum(halves, ends, n_edges)
    return total[: subject.graph.n_edges]


def _by_cause(names: list[str], products: list[Tensor], weights: Tensor) -> dict[str, Tensor]:
    """Products c · ∂E/∂c of all constants, summed by what they are, for each structure."""
    totals: dict[str, Tensor] = defaultdict(
        lambda: torch.zeros((), dtype=torch.float64, device=weights.device)
    )
    for name, product in zip(names, products, strict=True):
        totals[name] = totals[name] + product.sum()
    return {name: gradients(total, [weights])[0] for name, total in totals.items()}


def _sum_of_rows(products: list[Tensor], n_rows: int, like: Tensor) -> Tensor:
    """Sums over features, of the first rows."""
    total = torch.zeros(n_rows, dtype=torch.float64, device=like.device)
    for product in products:
        total = total + product.detach().reshape(*product.shape, 1).flatten(1).sum(dim=1)[:n_rows]
    return total

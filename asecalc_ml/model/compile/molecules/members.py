"""Members of a committee in one graph: one architecture with several sets of weights, over a leading axis.

Pairs and the structure of the graph are shared. Every operation of the energy acts on all members at once
(``torch.vmap``), so that a linear layer is one batched matrix product, and members cost fewer, longer loops
than graphs of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._pytree import tree_flatten, tree_unflatten

from asecalc_ml.model.compile.materialize import materialize_broadcasts
from asecalc_ml.model.compile.molecules.all_pairs import Constants, DenseEnergy
from asecalc_ml.model.compile.molecules.energy_graph import energy_graph
from asecalc_ml.model.compile.molecules.molecule_graph import (
    POOLED,
    MoleculeInput,
    PairArrays,
    known_calls,
    molecule_output,
)
from asecalc_ml.model.compile.program import KnownCall, Program, traced
from asecalc_ml.model.derivative import energy_gradient
from asecalc_ml.model.model import Model


def members_program(given: MoleculeInput) -> Program[tuple[Model, ...]]:
    """From a :class:`MoleculeInput` to packed results of each member, shape (n_members, n_systems, n_values).

    Tracing raises ``NotDenseError`` for an architecture that has no form
    with sums along an axis.
    """

    def trace(models: tuple[Model, ...]) -> GraphModule:
        evaluate = evaluate_members(models, given)
        graph = traced(lambda *tensors: [evaluate(MoleculeInput(*tensors))], given)
        return materialize_broadcasts(graph, given) if given.is_on_cpu else graph

    options = POOLED if given.is_on_cpu else {}
    molecules = given.molecules
    return Program(
        tuple(molecules),
        str(molecules),
        molecules.n_pairs,
        given,
        trace,
        lambda models: _known_calls(models, given),
        options,
    )


def evaluate_members(models: Sequence[Model], example: MoleculeInput) -> Callable[[MoleculeInput], Tensor]:
    """Function that gives packed results of each member for molecules of the example's shape."""
    first = models[0]
    pairs = PairArrays.of(example, first.cutoff)
    inputs = pairs.potential_input(example)
    graph = energy_graph(first, inputs)
    dense = DenseEnergy(graph, example.molecules, inputs.tensors)
    weights = _Weights(graph, models)

    def evaluate(given: MoleculeInput) -> Tensor:
        vectors, visible = pairs.vectors(given, first.cutoff)

        def energies(moving: Tensor, *differing: Tensor) -> tuple[Tensor, ...]:
            arguments = given.atomic_numbers, pairs.edge_index, moving, pairs.batch, given.charge, given.spin
            return dense(list(arguments), visible, given.present, weights.constants(differing))

        def packed(gradient: Tensor, atoms: Tensor, systems: Tensor, charges: Tensor) -> Tensor:
            return molecule_output(given, atoms, systems, charges, vectors, gradient).packed()

        with torch.enable_grad():
            moving = vectors.detach().expand(len(models), -1, -1).contiguous().requires_grad_(True)
            atoms, systems, *charges = torch.vmap(energies)(moving, *weights.differing)
            gradient = energy_gradient(systems.sum(), moving)
        own_charges = charges[0] if charges else gradient.new_empty(len(models), 0)
        results = (result.detach() for result in (atoms, systems, own_charges))
        return torch.vmap(packed)(gradient, *results)

    return evaluate


class _Weights:
    """Constants of a graph for each of several models of one architecture.

    Parameters
    ----------
    graph : GraphModule
        Energy of the first model.
    models : sequence of Model

    Attributes
    ----------
    differing : list of Tensor, shape (n_models, ...)
        Those that are not equal in all models.
    """

    def __init__(self, graph: GraphModule, models: Sequence[Model]):
        names = {id(tensor): name for name, tensor in _tensors(models[0]).items()}
        attributes = {str(node.target) for node in graph.graph.find_nodes(op="get_attr")}
        named = {key: names[id(value)] for key in attributes if id(value := getattr(graph, key)) in names}
        leaves = []
        for model in models:
            own = _tensors(model)
            flat, self.form = tree_flatten(
                Constants.of(graph, {key: own[named[key]].detach() for key in named})
            )
            leaves.append(flat)
        self.shared, self.places = list(leaves[0]), []
        self.differing: list[Tensor] = []
        for place, values in enumerate(zip(*leaves, strict=True)):
            if isinstance(values[0], Tensor) and not all(torch.equal(values[0], value) for value in values):
                self.places.append(place)
                self.differing.append(torch.stack(values))

    def constants(self, differing: Sequence[Tensor]) -> Constants:
        """Constants of one model, of which those that differ are given."""
        leaves = list(self.shared)
        for place, value in zip(self.places, differing, strict=True):
            leaves[place] = value
        return tree_unflatten(leaves, self.form)


def _tensors(model: Model) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return dict(chain(model.named_parameters(), model.named_buffers()))


def _known_calls(models: Sequence[Model], given: MoleculeInput) -> list[KnownCall]:
    """Calls with the results of every member in eager mode, one behind the other."""
    by_member = [known_calls(model, given) for model in models]
    return [
        KnownCall(calls[0].arguments, _stacked(calls, "results"), _stacked(calls, "bounds"))
        for calls in zip(*by_member, strict=True)
    ]


def _stacked(calls: Sequence[KnownCall], part: str) -> list[Tensor]:
    return [torch.stack(tensors) for tensors in zip(*(getattr(call, part) for call in calls), strict=True)]

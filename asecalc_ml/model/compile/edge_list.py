"""Energy and edge derivative for an edge list, as a program that is compiled."""

from __future__ import annotations

from torch import Tensor
from torch.fx import GraphModule

from asecalc_ml.model.compile.materialize import materialize_broadcasts
from asecalc_ml.model.compile.program import KnownCall, Program, Shape, traced
from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.model.rounding import rounding


def edge_list_program(inputs: PotentialInput) -> Program:
    """From a :class:`PotentialInput` to an :class:`EdgeDerivative`."""
    shape = shape_of(inputs)
    return Program(
        shape,
        _in_words(inputs),
        max(shape[2:]),
        inputs.tensors,
        lambda model: trace(model, inputs),
        lambda model: [_call(model, inputs)],
    )


def trace(model: Model, inputs: PotentialInput) -> GraphModule:
    """One graph of plain tensor operations for energy and edge derivative, for inputs of one shape."""

    def energy_and_gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(edge_derivative(model, inputs.with_tensors(tensors)))

    graph = traced(energy_and_gradient, inputs.tensors)
    if inputs.edge_vectors.device.type != "cpu":
        return graph
    return materialize_broadcasts(graph, inputs.tensors)


def shape_of(inputs: PotentialInput) -> Shape:
    """Numbers of atoms, systems, edges, and triplets where there are some."""
    n_triplets = () if inputs.triplets is None else (inputs.triplets.shape[1],)
    return inputs.n_atoms, inputs.n_systems, inputs.edge_index.shape[1], *n_triplets


def _in_words(inputs: PotentialInput) -> str:
    """Numbers of atoms, pairs and triplets: a structure whose pairs need more room is announced again."""
    n_triplets = "" if inputs.triplets is None else f" and {inputs.triplets.shape[1]:,} triplets"
    return f"{inputs.n_atoms - 1} atoms with room for {inputs.edge_index.shape[1]:,} pairs{n_triplets}"


def _call(model: Model, inputs: PotentialInput) -> KnownCall:
    expected = edge_derivative(model, inputs)
    bounds = rounding(model, inputs, expected)[: len(EdgeDerivative._fields)]
    return KnownCall(inputs.tensors, list(expected), list(bounds))

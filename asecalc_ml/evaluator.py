"""From graph to energies, forces and virials: the one place that decides how a model is run."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from asecalc_ml.derivative import EdgeDerivative, edge_derivative, forces, virials
from asecalc_ml.ghost import with_ghost
from asecalc_ml.graph import AtomGraph
from asecalc_ml.model import Model
from asecalc_ml.potential import PotentialInput

Mode = Literal["auto", "eager", "traced"]

#: Calls with one shape after which "auto" traces it: tracing costs about a second.
TRACE_AFTER = 20

#: Room for more pairs than the first call had, so that a liquid does not change shape at every rebuild.
CAPACITY_FACTOR = 1.1

Shape = tuple[int, int, int]  # atoms, systems, edges


@dataclass(frozen=True)
class Evaluation:
    """Results for a batch, float64, on the model's device; the ghost is gone.

    Parameters
    ----------
    energies : Tensor, shape (n_atoms,), eV
    energy : Tensor, shape (n_systems,), eV
    forces : Tensor, shape (n_atoms, 3), eV/Å
    virial : Tensor, shape (n_systems, 3, 3), eV
        Strain derivative; stress is virial / volume.
    """

    energies: Tensor
    energy: Tensor
    forces: Tensor
    virial: Tensor


class Evaluator:
    """Runs a model on graphs, eagerly or as one traced graph of energy and edge derivative.

    Parameters
    ----------
    model : Model
        Is put into evaluation mode, and its parameters get no gradients from here on.
    mode : {"auto", "eager", "traced"}
        "traced" records energy and derivative once per shape with ``make_fx`` and replays the plain
        tensor operations, without autograd. Shapes change rarely: edges are padded to a capacity
        that grows and never shrinks. "auto" traces a shape that comes again and again, as in
        dynamics, and not one that is seen once, as when many molecules are screened.
    """

    def __init__(self, model: Model, mode: Mode = "auto"):
        self.model = model.eval().requires_grad_(False)
        self.mode = mode
        self._capacities: dict[tuple[int, int], int] = {}
        self._calls: Counter[Shape] = Counter()
        self._traced: dict[Shape, torch.fx.GraphModule] = {}

    @property
    def n_traces(self) -> int:
        """How many shapes have been traced so far."""
        return len(self._traced)

    def __call__(self, graph: AtomGraph) -> Evaluation:
        capacity = self._grown_capacity(graph)  # before the device would have to be waited for
        inputs = with_ghost(graph.to(self.model.device), self.model.potential.cutoff, capacity)
        derivative = self._derivative(inputs)
        return assemble(inputs, derivative)

    def state(self) -> dict:
        """What decides how the next call is run, ready for JSON: a resumed run goes the same way."""
        calls = [[*shape, n] for shape, n in self._calls.items()]
        capacities = [[*sizes, capacity] for sizes, capacity in self._capacities.items()]
        return {"mode": self.mode, "capacities": capacities, "calls": calls}

    def restore(self, state: dict) -> None:
        """Go on as the evaluator did whose :meth:`state` this is."""
        self.mode = state["mode"]
        self._capacities = {tuple(sizes): capacity for *sizes, capacity in state["capacities"]}
        self._calls = Counter({tuple(shape): n for *shape, n in state["calls"]})

    def _derivative(self, inputs: PotentialInput) -> EdgeDerivative:
        shape = (inputs.n_atoms, inputs.n_systems, inputs.edge_index.shape[1])
        self._calls[shape] += 1
        if not self._is_traced(shape):
            return edge_derivative(self.model, inputs)
        if shape not in self._traced and not self._trace(shape, inputs):
            return edge_derivative(self.model, inputs)
        with torch.no_grad():
            return EdgeDerivative(*self._traced[shape](*inputs))

    def _trace(self, shape: Shape, inputs: PotentialInput) -> bool:
        """Trace a shape; under "auto", an architecture that cannot be traced stays eager."""
        try:
            self._traced[shape] = trace(self.model, inputs)
        except Exception as error:  # whatever an architecture's code meets under the tracer
            if self.mode == "traced":
                raise
            warnings.warn(
                f"this model cannot be traced and goes on in eager mode, slower: {error}", stacklevel=2
            )
            self.mode = "eager"
        return shape in self._traced

    def _is_traced(self, shape: Shape) -> bool:
        return self.mode == "traced" or (self.mode == "auto" and self._calls[shape] > TRACE_AFTER)

    def _grown_capacity(self, graph: AtomGraph) -> int:
        """Enough edges for this graph: as they are for a molecule's static pairs, with room for a list."""
        sizes = torch.bincount(graph.batch)
        if graph.n_edges == int((sizes * (sizes - 1)).sum()) and not bool(graph.pbc.any()):
            return graph.n_edges
        key = (graph.n_atoms, graph.n_systems)
        if graph.n_edges > self._capacities.get(key, -1):
            self._capacities[key] = int(CAPACITY_FACTOR * graph.n_edges)
        return self._capacities[key]


def trace(model: Model, inputs: PotentialInput) -> torch.fx.GraphModule:
    """One graph of plain tensor operations for energy and edge derivative, for inputs of one shape."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def energy_and_gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(edge_derivative(model, PotentialInput(*tensors)))

    graph = make_fx(energy_and_gradient)(*inputs)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def assemble(inputs: PotentialInput, derivative: EdgeDerivative) -> Evaluation:
    """Forces and virials from the edge derivative, without the ghost."""
    return Evaluation(
        energies=derivative.atoms[:-1],
        energy=derivative.systems[:-1],
        forces=forces(derivative.gradient, inputs.edge_index, inputs.n_atoms)[:-1],
        virial=virials(
            derivative.gradient, inputs.edge_vectors, inputs.edge_index, inputs.batch, inputs.n_systems
        )[:-1],
    )

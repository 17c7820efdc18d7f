"""From graph to energies, forces and virials: the one place that decides how a model is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from asecalc_ml.derivative import EdgeDerivative, edge_derivative, forces, virials
from asecalc_ml.ghost import with_ghost
from asecalc_ml.graph import AtomGraph
from asecalc_ml.model import Model
from asecalc_ml.potential import PotentialInput

Mode = Literal["eager", "traced"]
MODES: tuple[Mode, ...] = ("eager", "traced")

# Room for more pairs than the first call had, so that a liquid does not change shape at every rebuild.
CAPACITY_FACTOR = 1.1


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
    mode : {"eager", "traced"}
        "traced" records energy and derivative once per shape with ``make_fx`` and replays the plain
        tensor operations, without autograd. Shapes change rarely: edges are padded to a capacity
        that grows and never shrinks.
    """

    def __init__(self, model: Model, mode: Mode = "eager"):
        self.model = model.eval().requires_grad_(False)
        self.mode = mode
        self.capacity = 0
        self._traced: dict[tuple[int, int, int], torch.fx.GraphModule] = {}

    @property
    def n_traces(self) -> int:
        """How many shapes have been traced so far."""
        return len(self._traced)

    def __call__(self, graph: AtomGraph) -> Evaluation:
        graph = graph.to(self.model.device)
        inputs = with_ghost(graph, self.model.potential.cutoff, self._grown_capacity(graph))
        derivative = self._derivative(inputs)
        return assemble(inputs, derivative)

    def _derivative(self, inputs: PotentialInput) -> EdgeDerivative:
        if self.mode == "eager":
            return edge_derivative(self.model, inputs)
        shape = (inputs.n_atoms, inputs.n_systems, inputs.edge_index.shape[1])
        if shape not in self._traced:
            self._traced[shape] = trace(self.model, inputs)
        with torch.no_grad():
            return EdgeDerivative(*self._traced[shape](*inputs))

    def _grown_capacity(self, graph: AtomGraph) -> int:
        """Enough edges for this graph: as they are for a molecule's static pairs, with room for a list."""
        if self.mode == "eager":
            return graph.n_edges
        if graph.n_edges > self.capacity:
            room = CAPACITY_FACTOR if bool(graph.pbc.any()) else 1.0
            self.capacity = int(room * graph.n_edges)
        return self.capacity


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

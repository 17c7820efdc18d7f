"""What a method looks at: a model in float64, a batch of structures, and a pass through the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.segments import segment_sum
from asecalc_ml.graph.triplets import find_reverse
from asecalc_ml.model.model import Model, ModelOutput
from asecalc_ml.model.potential import PotentialInput


@dataclass(frozen=True)
class ExplainedBatch:
    """A model and the structures that are explained together.

    Parameters
    ----------
    model : Model
        In float64 and evaluation mode, its parameters without gradients.
    graph : AtomGraph
    """

    model: Model
    graph: AtomGraph

    @classmethod
    def of(cls, model: Model, graphs: Sequence[AtomGraph]) -> ExplainedBatch:
        """Structures side by side."""
        return cls(model, collate(graphs))

    @cached_property
    def inputs(self) -> PotentialInput:
        """With the ghost: its atom and its system are the last."""
        return with_ghost(self.graph, self.model.cutoff, triplet_cutoff=self.model.triplet_cutoff)

    @property
    def n_atoms(self) -> int:
        return self.graph.n_atoms

    @property
    def n_systems(self) -> int:
        return self.graph.n_systems

    @cached_property
    def reverse(self) -> Tensor:
        """Number of the edge back, for every edge of the inputs."""
        return find_reverse(self.inputs.edge_index, self.n_atoms)

    def run(self, inputs: PotentialInput | None = None) -> Run:
        """One pass, whose energies can be differentiated with respect to edge vectors."""
        inputs = self.inputs if inputs is None else inputs
        with torch.enable_grad():
            vectors = inputs.edge_vectors.detach().requires_grad_(True)
            return Run(self, vectors, self.model(inputs._replace(edge_vectors=vectors)))

    def own_edges(self, values: Tensor) -> Tensor:
        """Values of the graph's edges alone; zero for those that the ghost has taken."""
        n_edges = self.graph.n_edges
        seen = self.inputs.edge_index[0, :n_edges] < self.n_atoms
        return values[:n_edges] * seen

    def halves(self, edges: Tensor) -> Tensor:
        """Each edge's value, half to its centre and half to its neighbor, shape (n_atoms,)."""
        centres, neighbors = self.graph.edge_index
        return 0.5 * (segment_sum(edges, centres, self.n_atoms) + segment_sum(edges, neighbors, self.n_atoms))

    @cached_property
    def weights(self) -> Tensor:
        """With which an atom's contribution counts for its structure: 1, or 1/N where the model averages."""
        if self.model.pooling == "sum":
            return torch.ones_like(self.graph.batch, dtype=torch.float64)
        return 1 / torch.bincount(self.graph.batch).double()[self.graph.batch]

    @property
    def scales(self) -> Tensor:
        """Scale of each atom's element times its weight, shape (n_atoms,)."""
        return self.model.scale[self.graph.atomic_numbers] * self.weights

    @property
    def shifts(self) -> Tensor:
        """Reference energy of each atom's element times its weight, shape (n_atoms,), eV."""
        return self.model.shift[self.graph.atomic_numbers] * self.weights

    def singles(self) -> list[ExplainedBatch]:
        """The structures one by one."""
        return [ExplainedBatch(self.model, _single(self.graph, system)) for system in range(self.n_systems)]

    def per_system(self, atoms: Tensor) -> Tensor:
        """Sum over the atoms of each structure, shape (n_systems,)."""
        return segment_sum(atoms, self.graph.batch, self.n_systems)


@dataclass(frozen=True)
class Run:
    """A pass and what can be asked of it.

    Parameters
    ----------
    subject : ExplainedBatch
    vectors : Tensor, shape (n_edges, 3), Å
        Edge vectors of the inputs, with gradient.
    output : ModelOutput
    """

    subject: ExplainedBatch
    vectors: Tensor
    output: ModelOutput

    @property
    def energies(self) -> Tensor:
        """Value of each structure, shape (n_systems,), eV; the ghost left out."""
        return self.output.systems[:-1]

    def gradient(self, value: Tensor, create_graph: bool = False) -> Tensor:
        """Derivative of a value with respect to the edge vectors, shape (n_edges, 3)."""
        (slopes,) = gradients(value, [self.vectors], create_graph)
        return slopes


def _single(graph: AtomGraph, system: int) -> AtomGraph:
    atoms, row = graph.batch == system, slice(system, system + 1)
    own, first = graph.with_edges(atoms[graph.edge_index[0]]), int(atoms.nonzero()[0, 0])
    return AtomGraph(
        atomic_numbers=graph.atomic_numbers[atoms],
        positions=graph.positions[atoms],
        cell=graph.cell[row],
        pbc=graph.pbc[row],
        edge_index=own.edge_index - first,
        cell_shifts=own.cell_shifts,
        batch=graph.batch[atoms] - system,
        charge=graph.charge[row],
        spin=graph.spin[row],
        atom_features=None if graph.atom_features is None else graph.atom_features[atoms],
        pair_features=own.pair_features,
    )


def gradients(value: Tensor, sources: Sequence[Tensor], create_graph: bool = False) -> list[Tensor]:
    """Derivatives of a sum, zero where it does not depend on a source."""
    if not value.requires_grad or not sources:
        return [torch.zeros_like(source) for source in sources]
    return list(
        torch.autograd.grad(
            value.sum(), sources, create_graph=create_graph, retain_graph=True, materialize_grads=True
        )
    )


def embedding_modules(potential: nn.Module) -> list[nn.Module]:
    """Tables of vectors per element that the potential names, or what it names where that holds none.

    Their outputs have a row for each atom and depend on its element alone. What stands around a table, such
    as an embedding of the neighbors, depends on positions too.
    """
    modules = []
    for part in potential.embeddings:
        tables = [module for module in part.modules() if isinstance(module, nn.Embedding)]
        modules += tables or [part]
    return modules


__getattr__ = renamed(__name__, {"Subject": "ExplainedBatch"})

"""From graph to energies, forces and virials: the one place that decides how a model is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from ase import Atoms
from torch import Tensor

from asecalc_ml.forks import allow_forks, check_not_forked_from_cuda
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.graph.graph_of import graph_of
from asecalc_ml.graph.neighbors.pairs import takes_all_pairs
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.triplets import pad_triplets
from asecalc_ml.model.chunks import ChunkShape, StageFunctions, chunked_derivative, takes_chunks
from asecalc_ml.model.compile.chunk_programs import (
    StagePrograms,
    atoms_of_a_chunk,
    compiled_shape,
    fits_compiled_chunks,
    n_compiled_chunks,
    program_shape,
    stage_programs,
)
from asecalc_ml.model.compile.compiled_functions import Compile, CompiledFunctions
from asecalc_ml.model.compile.edge_list import edge_list_program
from asecalc_ml.model.compile.molecules.batches import fill, molecule_batches
from asecalc_ml.model.compile.molecules.molecule_graph import (
    MoleculeInput,
    MoleculeOutput,
    molecule_input,
    molecule_program,
)
from asecalc_ml.model.compile.program import Function, Program, Shape, plain
from asecalc_ml.model.derivative import (
    EdgeDerivative,
    atomic_virials,
    edge_derivative,
    forces,
    hessian,
    virials,
)
from asecalc_ml.model.memory_needed import check_memory
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_forces import PairForces, pair_forces
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.store.stored_model import StoredModel

#: Atoms of structures that are computed at once where nothing is compiled.
BATCH_ATOMS = 512

#: Edges above which chunks are compiled, and not the whole, if the architecture has stages: there they are
#: no slower, and what was compiled serves structures of any size.
COMPILED_CHUNKS_EDGES = 10_000

#: Edges above which a structure is compared with the memory that there is, and is computed in chunks where it
#: is not compiled and its architecture has stages. Below it takes some GB at most, and less time than chunks.
LARGE_EDGES = 200_000

#: Room for more pairs than the first call had, so that a liquid does not change shape at every rebuild.
CAPACITY_FACTOR = 1.1
TRIPLET_CAPACITY_FACTOR = CAPACITY_FACTOR**2  # there are as many as pairs of pairs


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
    charges : Tensor, shape (n_atoms,), e
        Partial charges; empty where the architecture has none.
    """

    energies: Tensor
    energy: Tensor
    forces: Tensor
    virial: Tensor
    charges: Tensor

    def split(self, sizes: Sequence[int]) -> list[SystemArrays]:
        """Arrays of each system, whose numbers of atoms are given."""
        energies, forces, charges = map(on_host, (self.energies, self.forces, self.charges))
        virial, last = on_host(self.virial), list(accumulate(sizes))
        return [
            SystemArrays(energy, energies[i:j], forces[i:j], virial[k], charges[i:j])
            for k, (energy, i, j) in enumerate(zip(self.energy.tolist(), [0, *last], last, strict=False))
        ]


class SystemArrays(NamedTuple):
    """Results for one system, on the host.

    Parameters
    ----------
    energy : float, eV
    energies : array, shape (n_atoms,), eV
    forces : array, shape (n_atoms, 3), eV/Å
    virial : array, shape (3, 3), eV
    charges : array, shape (n_atoms,), e
        Empty where the architecture has none.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    charges: np.ndarray


def on_host(values: Tensor) -> np.ndarray:
    """A tensor as an array."""
    return values.cpu().numpy()


class Evaluator:
    """Runs a model on graphs, eagerly or as machine code compiled for the graph's shape.

    Parameters
    ----------
    model : Model or StoredModel
        A model in memory is put into evaluation mode, its parameters get no gradients from here on, and
        it runs eagerly. A stored one is read when it is first needed.
    compile : {"auto", "never", "always"}
        Whether a stored model is compiled. "auto" takes a package that was compiled before, and
        compiles a shape that comes again and again, as in long dynamics: after
        :data:`EDGES_BEFORE_COMPILING`, or at once where :meth:`expect` has announced as many. Shapes
        change rarely: edges are padded to a capacity that grows and never shrinks.
    """

    def __init__(self, model: Model | StoredModel, compile: Compile = "never"):
        allow_forks()
        self._source = model.eval().requires_grad_(False) if isinstance(model, Model) else model
        self.compiled = CompiledFunctions(None if isinstance(model, Model) else model, compile)
        self._capacities: dict[tuple, int] = {}
        self._stages: dict[ChunkShape, list[StagePrograms]] = {}
        self._most_edges = 0  # of a structure that fits into memory

    @property
    def model(self) -> Model:
        """The model in memory."""
        return self._source if isinstance(self._source, Model) else self._source.model

    def __call__(self, graph: AtomGraph) -> Evaluation:
        check_not_forked_from_cuda()
        self._check_memory(graph)
        if self.compiled.may_compile and self._compiles_chunks(graph):
            return assemble(*self._chunked(graph))
        if self._is_large(graph):
            return self.eagerly(graph)
        if self._takes_all_pairs(graph):
            return self._molecule(graph)
        inputs = self._padded(graph)
        function = self.compiled.get(edge_list_program(inputs))
        if function is None:
            return assemble(inputs, edge_derivative(self.model, inputs))
        return assemble(inputs, EdgeDerivative(*function(plain(inputs.tensors))))

    def many(self, structures: Sequence[Atoms], backend: str = "auto") -> list[SystemArrays]:
        """Evaluate structures that may differ in everything, in batches.

        Molecules whose pairs are all pairs are sorted into arrays of few shapes, which are compiled as single
        structures are; other structures run eagerly.

        Parameters
        ----------
        structures : sequence of Atoms
        backend : {"auto", "vesin", "matscipy", "all-pairs"}
            See :func:`asecalc_ml.graph.neighbors.find_pairs`.
        """
        evaluated: dict[int, SystemArrays] = {}
        dense = [place for place, atoms in enumerate(structures) if self.is_molecule(atoms, backend)]
        for batch in molecule_batches([len(structures[place]) for place in dense]):
            places = [dense[place] for place in batch.places]
            given = fill([structures[place] for place in places], batch.shape, self._source.device)
            function = self.compiled.get(molecule_program(given))
            if function is not None:
                sizes = [len(structures[place]) for place in places]
                (rows,) = function(list(given))
                evaluated |= zip(places, system_arrays(rows, batch.shape.n_atoms, sizes), strict=True)
        rest = [place for place in range(len(structures)) if place not in evaluated]
        for places in batches_by_atoms(rest, BATCH_ATOMS, n_atoms=lambda place: len(structures[place])):
            graphs = [graph_of(structures[place], self._source, backend) for place in places]
            together = self.eagerly(collate(graphs))
            evaluated |= zip(places, together.split([graph.n_atoms for graph in graphs]), strict=True)
        return [evaluated[place] for place in range(len(structures))]

    def eagerly(self, graph: AtomGraph) -> Evaluation:
        """Without padding or compiling, as suits shapes that do not come again."""
        return assemble(*self._edge_derivative(graph))

    def atomic_virials(self, graph: AtomGraph) -> Tensor:
        """Share of each atom in the virial, shape (n_atoms, 3, 3), eV, without padding or compiling."""
        inputs, derivative = self._edge_derivative(graph)
        virials = atomic_virials(derivative.gradient, inputs.edge_vectors, inputs.edge_index, inputs.n_atoms)
        return virials[:-1]

    def pair_forces(self, graph: AtomGraph) -> PairForces:
        """Forces between pairs of atoms of one structure, without padding or compiling."""
        inputs, derivative = self._edge_derivative(graph)
        return pair_forces(graph, inputs, derivative.gradient)

    def hessian(self, graph: AtomGraph) -> Tensor:
        """Second derivatives of the energy, shape (3 n_atoms, 3 n_atoms), eV/Å²."""
        return hessian(self.model, graph.to(self._source.device))

    def prepare(self, graph: AtomGraph) -> None:
        """Compile for the shape of this graph now, or load what was compiled before.

        Raises
        ------
        ModelError
            If the model cannot be compiled here.
        """
        self._check_memory(graph)
        self.compiled.prepare(self._programs(graph))

    def expect(self, graph: AtomGraph, n_calls: int) -> None:
        """Count calls that will come, so that compiling for them comes first and not in their midst."""
        self._check_memory(graph)
        n_chunks = self._n_chunks(graph)
        for program in self._programs(graph):
            self.compiled.expect(program.shape, n_calls * n_chunks)

    def state(self) -> dict:
        """What decides how the next call is run, ready for JSON: a resumed run goes the same way."""
        capacities = [[*sizes, capacity] for sizes, capacity in self._capacities.items()]
        return {**self.compiled.state(), "capacities": capacities}

    def restore(self, state: dict) -> None:
        """Continue as the evaluator did whose :meth:`state` this is."""
        self._capacities = {tuple(sizes): capacity for *sizes, capacity in state["capacities"]}
        self.compiled.restore(state, self._current_shape)

    def _current_shape(self, shape: Sequence[int]) -> Shape:
        """A shape as it is named now; versions up to 0.1.0 had edge lists for molecules too."""
        if len(shape) == 3 and shape[1] == 2 and self._may_be_array:
            n_atoms = shape[0] - 1
            if shape[2] == n_atoms * (n_atoms - 1) > 0:
                return (1, n_atoms)
        return tuple(shape)

    @property
    def _may_be_array(self) -> bool:
        """True for a model that molecules may be given to as arrays of all pairs."""
        return self._source.triplet_cutoff is None and not self._source.molecular_graph

    def _takes_all_pairs(self, graph: AtomGraph) -> bool:
        """True for a molecule whose graph is compiled as an array of pairs."""
        return self._may_be_array and graph.n_atoms > 1 and _is_static(graph)

    def is_molecule(self, atoms: Atoms, backend: str) -> bool:
        """True if the graph of a structure would be one that :meth:`_takes_all_pairs`."""
        return (
            self._may_be_array
            and len(atoms) > 1
            and not atoms.pbc.any()
            and takes_all_pairs(len(atoms), atoms.pbc, backend)
        )

    def _programs(self, graph: AtomGraph) -> list[Program]:
        """Everything that is compiled for a structure."""
        if self._compiles_chunks(graph):
            stages = self._stage_programs(graph, self._with_ghost(graph))[1]
            return [program for stage in stages for program in stage.programs]
        if self._takes_all_pairs(graph):
            return [molecule_program(molecule_input(graph.to(self._source.device)))]
        return [edge_list_program(self._padded(graph))]

    def _molecule(self, graph: AtomGraph) -> Evaluation:
        given = molecule_input(graph.to(self._source.device))
        function = self.compiled.get(molecule_program(given))
        if function is None:
            inputs = self._padded(graph)
            return assemble(inputs, edge_derivative(self.model, inputs))
        return _of_molecule(function, given)

    def _is_large(self, graph: AtomGraph) -> bool:
        """True for a structure that is computed in chunks where it is not compiled."""
        return graph.n_edges > LARGE_EDGES and takes_chunks(self.model)

    def _compiles_chunks(self, graph: AtomGraph) -> bool:
        """True for a structure that is never compiled as a whole, but chunks of it."""
        return graph.n_edges > COMPILED_CHUNKS_EDGES and takes_chunks(self.model)

    def _n_chunks(self, graph: AtomGraph) -> int:
        """Number of compiled chunks of a structure, or 1 if it is compiled as a whole."""
        return n_compiled_chunks(graph.n_edges) if self._compiles_chunks(graph) else 1

    def _chunked(self, graph: AtomGraph) -> tuple[PotentialInput, EdgeDerivative]:
        """The inputs with a ghost, and what chunks give for them; before they are compiled, plain PyTorch."""
        inputs = self._with_ghost(graph)
        shape, programs = self._stage_programs(graph, inputs)
        functions = [
            stage.functions(eager, lambda program: self.compiled.get(program, self._n_chunks(graph)))
            for stage, eager in zip(programs, StageFunctions.of(self.model.potential.stages), strict=False)
        ]
        if any(stage.is_compiled for stage in functions):
            return inputs, chunked_derivative(self.model, inputs, shape, functions)
        return self._edge_derivative(graph)

    def _stage_programs(
        self, graph: AtomGraph, inputs: PotentialInput
    ) -> tuple[ChunkShape, list[StagePrograms]]:
        """Shape of compiled chunks, which a structure keeps, and programs; none if it does not fit."""
        key = (graph.n_atoms, graph.n_systems, "chunk")
        if key not in self._capacities:
            self._capacities[key] = atoms_of_a_chunk(graph.n_edges / graph.n_atoms, self._has_chunks)
        shape = compiled_shape(self._capacities[key])
        if not fits_compiled_chunks(inputs):
            return shape, []
        if shape not in self._stages:
            self._stages[shape] = stage_programs(self.model, inputs, shape)
        return shape, self._stages[shape]

    def _has_chunks(self, n_atoms: int) -> bool:
        """True if chunks of so many atoms are compiled, by this process or before."""
        shape = compiled_shape(n_atoms)
        return shape in self._stages or self.compiled.has_package(program_shape(shape))

    def _with_ghost(self, graph: AtomGraph) -> PotentialInput:
        source = self._source
        return with_ghost(graph.to(source.device), source.cutoff, triplet_cutoff=source.triplet_cutoff)

    def _check_memory(self, graph: AtomGraph) -> None:
        """Refuse a structure that does not fit into memory, where it has more edges than any before it."""
        if graph.n_edges > max(LARGE_EDGES, self._most_edges):
            check_memory(self.model, self._with_ghost(graph))
            self._most_edges = graph.n_edges

    def _edge_derivative(self, graph: AtomGraph) -> tuple[PotentialInput, EdgeDerivative]:
        """The inputs with a ghost, and what plain PyTorch gives for them."""
        check_not_forked_from_cuda()
        self._check_memory(graph)
        inputs = self._with_ghost(graph)
        derivative = chunked_derivative if self._is_large(graph) else edge_derivative
        return inputs, derivative(self.model, inputs)

    def _padded(self, graph: AtomGraph) -> PotentialInput:
        source = self._source
        capacity = self._edge_capacity(graph)
        inputs = with_ghost(graph.to(source.device), source.cutoff, capacity, source.triplet_cutoff)
        if inputs.triplets is None:
            return inputs
        return pad_triplets(inputs, self._triplet_capacity(graph, inputs.triplets.shape[1]))

    def _edge_capacity(self, graph: AtomGraph) -> int:
        """Enough edges for this graph: as they are for a molecule's static pairs, with room for a list."""
        if _is_static(graph):
            return graph.n_edges
        return self._grown((graph.n_atoms, graph.n_systems), graph.n_edges, CAPACITY_FACTOR)

    def _triplet_capacity(self, graph: AtomGraph, n_triplets: int) -> int:
        """The same for triplets: never more than a molecule can have."""
        key = (graph.n_atoms, graph.n_systems, "triplets")
        capacity = self._grown(key, n_triplets, TRIPLET_CAPACITY_FACTOR)
        most = graph.n_edges * (graph.n_atoms - 2) // 2 if _is_static(graph) else capacity
        return max(1, min(capacity, most))

    def _grown(self, key: tuple, n_needed: int, factor: float) -> int:
        if n_needed > self._capacities.get(key, -1):
            self._capacities[key] = int(factor * n_needed)
        return self._capacities[key]


def _is_static(graph: AtomGraph) -> bool:
    """Whether these are all pairs of one molecule, which never change."""
    is_molecule = graph.n_systems == 1 and not graph.pbc.any()
    return is_molecule and graph.n_edges == graph.n_atoms * (graph.n_atoms - 1)


def _of_molecule(function: Function, given: MoleculeInput) -> Evaluation:
    """Evaluation of a single molecule that fills its array."""
    (rows,) = function(list(given))
    systems, atoms, forces, virials, charges = MoleculeOutput.unpacked(rows, given.molecules.n_atoms)
    return Evaluation(energies=atoms[0], energy=systems, forces=forces[0], virial=virials, charges=charges[0])


def system_arrays(rows: Tensor, n_atoms: int, sizes: Sequence[int]) -> list[SystemArrays]:
    """Results of the molecules that are there.

    Parameters
    ----------
    rows : Tensor, shape (n_systems, n_values)
        A packed :class:`asecalc_ml.model.compile.molecules.molecule_graph.MoleculeOutput`.
    n_atoms : int
        Number of atoms that each molecule has room for.
    sizes : sequence of int
        Numbers of atoms that are there, of the first molecules.
    """
    systems, atoms, forces, virials, charges = map(on_host, MoleculeOutput.unpacked(rows, n_atoms))
    return [
        SystemArrays(energy, atoms[k, :size], forces[k, :size], virials[k], charges[k, :size])
        for k, (energy, size) in enumerate(zip(systems.tolist(), sizes, strict=False))
    ]


def assemble(inputs: PotentialInput, derivative: EdgeDerivative) -> Evaluation:
    """Forces and virials from the edge derivative, without the ghost."""
    return Evaluation(
        energies=derivative.atoms[:-1],
        energy=derivative.systems[:-1],
        forces=forces(derivative.gradient, inputs.edge_index, inputs.n_atoms)[:-1],
        virial=virials(
            derivative.gradient, inputs.edge_vectors, inputs.edge_index, inputs.batch, inputs.n_systems
        )[:-1],
        charges=derivative.charges[:-1],
    )

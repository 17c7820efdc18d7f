"""From graph to energies, forces and virials: the one place that decides how a model is run."""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
from ase import Atoms
from torch import Tensor

from asecalc_ml.errors import ModelError
from asecalc_ml.forks import allow_forks, check_not_forked_from_cuda
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.graph.neighbors.pairs import takes_all_pairs
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.triplets import pad_triplets
from asecalc_ml.model.chunks import chunked_derivative, takes_chunks
from asecalc_ml.model.compile.edge_list import edge_list_program
from asecalc_ml.model.compile.molecules import MoleculeInput, MoleculeOutput, molecule_input, molecule_program
from asecalc_ml.model.compile.no_compiling import may_compile
from asecalc_ml.model.compile.package_cache import CompilationError, PackageCache
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
from asecalc_ml.model.molecule_batches import fill, molecule_batches
from asecalc_ml.model.pair_forces import PairForces, pair_forces
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.store.stored_model import StoredModel

Compile = Literal["auto", "never", "always"]

#: Edges (or triplets, where there are more) of one shape, over all calls, after which "auto" compiles for
#: it: what compiling takes, some 40 s, is saved in as many. Counted and not timed, so that a run goes the
#: same way each time.
EDGES_BEFORE_COMPILING = 2_000_000

#: A call with fewer edges takes no less time than one with these.
FEWEST_EDGES = 200

#: Atoms of structures that are computed at once where nothing is compiled.
BATCH_ATOMS = 512

#: Edges above which a structure is computed in chunks if its architecture has stages, and is compared with
#: the memory that there is. Below it takes some GB at most, and compiled code is quicker than chunks.
LARGE_EDGES = 200_000

#: Room for more pairs than the first call had, so that a liquid does not change shape at every rebuild.
CAPACITY_FACTOR = 1.1
TRIPLET_CAPACITY_FACTOR = CAPACITY_FACTOR**2  # there are as many as pairs of pairs

log = logging.getLogger(__name__)


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
        self.compile = compile
        self._packages = None if isinstance(model, Model) else PackageCache(model)
        self._capacities: dict[tuple, int] = {}
        self._calls: Counter[Shape] = Counter()
        self._functions: dict[Shape, Function] = {}
        self._seen: set[Shape] = set()  # for which a package was looked for
        self._promised: set[Shape] = set()  # compiled in the run that is resumed
        self._most_edges = 0  # of a structure that fits into memory
        self.n_compilations = 0

    @property
    def model(self) -> Model:
        """The model in memory."""
        return self._source if isinstance(self._source, Model) else self._source.model

    @property
    def compiled_shapes(self) -> list[Shape]:
        """Shapes (:class:`asecalc_ml.model.compile.program.Program`) that run as machine code."""
        return sorted(self._functions)

    def __call__(self, graph: AtomGraph) -> Evaluation:
        check_not_forked_from_cuda()
        self._check_memory(graph)
        if self._is_large(graph):
            return self.eagerly(graph)
        if self._takes_all_pairs(graph):
            return self._molecule(graph)
        inputs = self._padded(graph)
        function = self._function(edge_list_program(inputs))
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
            function = self._function(molecule_program(given))
            if function is not None:
                sizes = [len(structures[place]) for place in places]
                (rows,) = function(list(given))
                evaluated |= zip(places, system_arrays(rows, batch.shape.n_atoms, sizes), strict=True)
        rest = [place for place in range(len(structures)) if place not in evaluated]
        for places in batches_by_atoms(rest, BATCH_ATOMS, n_atoms=lambda place: len(structures[place])):
            graphs = [
                AtomGraph.from_atoms(structures[place], self._source.cutoff, backend) for place in places
            ]
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
        if self._packages is None:
            raise ModelError("a model in memory cannot be compiled", remedy="save it to a model file first")
        self._check_memory(graph)
        if self._is_large(graph):
            return  # chunks are not compiled
        try:
            self._load_or_build(self._packages, self._program(graph))
        except CompilationError as error:
            name = self._packages.stored.name
            problem = f"model {name!r} cannot be compiled here: {error.problem}"
            raise ModelError(problem, name=name, remedy=error.remedy) from error

    def expect(self, graph: AtomGraph, n_calls: int) -> None:
        """Count calls that will come, so that compiling for them comes first and not in their midst."""
        self._check_memory(graph)
        if not self._is_large(graph):
            self._calls[self._program(graph).shape] += n_calls

    def state(self) -> dict:
        """What decides how the next call is run, ready for JSON: a resumed run goes the same way."""
        return {
            "compile": self.compile,
            "capacities": [[*sizes, capacity] for sizes, capacity in self._capacities.items()],
            "calls": [[*shape, n] for shape, n in self._calls.items()],
            "compiled": [list(shape) for shape in self.compiled_shapes],
        }

    def restore(self, state: dict) -> None:
        """Continue as the evaluator did whose :meth:`state` this is."""
        self.compile = state["compile"]
        self._capacities = {tuple(sizes): capacity for *sizes, capacity in state["capacities"]}
        self._calls = Counter({self._today(shape): n for *shape, n in state["calls"]})
        self._seen = set(self._calls)
        self._promised = {self._today(shape) for shape in state["compiled"]}
        self._functions.clear()

    def _today(self, shape: Sequence[int]) -> Shape:
        """A shape as it is named now; versions up to 0.1.0 had edge lists for molecules too."""
        if len(shape) == 3 and shape[1] == 2 and self._source.triplet_cutoff is None:
            n_atoms = shape[0] - 1
            if shape[2] == n_atoms * (n_atoms - 1) > 0:
                return (1, n_atoms)
        return tuple(shape)

    def _takes_all_pairs(self, graph: AtomGraph) -> bool:
        """True for a molecule whose graph is compiled as an array of pairs."""
        has_room = self._source.triplet_cutoff is None and graph.n_atoms > 1
        return has_room and _is_static(graph) and not graph.pbc.any()

    def is_molecule(self, atoms: Atoms, backend: str) -> bool:
        """True if the graph of a structure would be one that :meth:`_takes_all_pairs`."""
        has_room = self._source.triplet_cutoff is None and len(atoms) > 1
        return has_room and not atoms.pbc.any() and takes_all_pairs(len(atoms), atoms.pbc, backend)

    def _program(self, graph: AtomGraph) -> Program:
        if self._takes_all_pairs(graph):
            return molecule_program(molecule_input(graph.to(self._source.device)))
        return edge_list_program(self._padded(graph))

    def _molecule(self, graph: AtomGraph) -> Evaluation:
        given = molecule_input(graph.to(self._source.device))
        function = self._function(molecule_program(given))
        if function is None:
            inputs = self._padded(graph)
            return assemble(inputs, edge_derivative(self.model, inputs))
        return _of_molecule(function, given)

    def _is_large(self, graph: AtomGraph) -> bool:
        """Whether a structure is computed in chunks."""
        return graph.n_edges > LARGE_EDGES and takes_chunks(self.model)

    def _check_memory(self, graph: AtomGraph) -> None:
        """Refuse a structure that does not fit into memory, where it has more edges than any before it."""
        if graph.n_edges > max(LARGE_EDGES, self._most_edges):
            source = self._source
            inputs = with_ghost(graph.to(source.device), source.cutoff, triplet_cutoff=source.triplet_cutoff)
            check_memory(self.model, inputs)
            self._most_edges = graph.n_edges

    def _edge_derivative(self, graph: AtomGraph) -> tuple[PotentialInput, EdgeDerivative]:
        """The inputs with a ghost, and what plain PyTorch gives for them."""
        check_not_forked_from_cuda()
        self._check_memory(graph)
        source = self._source
        inputs = with_ghost(graph.to(source.device), source.cutoff, triplet_cutoff=source.triplet_cutoff)
        derivative = chunked_derivative if self._is_large(graph) else edge_derivative
        return inputs, derivative(self.model, inputs)

    def _function(self, program: Program) -> Function | None:
        """Compiled code for one more call of a program; None if it runs eagerly."""
        shape = program.shape
        self._calls[shape] += 1
        packages = self._packages
        if packages is not None and shape not in self._functions and self._is_due(packages, shape):
            self._compile(packages, program)
        return self._functions.get(shape)

    def _is_due(self, packages: PackageCache, shape: Shape) -> bool:
        """Whether a shape is compiled now.

        A package is looked for once: what another process compiles while a run goes on must not change it.
        """
        if self.compile == "never":
            return False
        if not may_compile() and not packages.has(shape):
            return False
        if self.compile == "always" or shape in self._promised:
            return True
        if self._calls[shape] * max(_n_edges(shape), FEWEST_EDGES) >= EDGES_BEFORE_COMPILING:
            return True
        first = shape not in self._seen
        self._seen.add(shape)
        return first and packages.has(shape)

    def _compile(self, packages: PackageCache, program: Program) -> None:
        """Load the program's package or build it; what cannot be compiled stays eager, with one warning."""
        try:
            self._load_or_build(packages, program)
        except CompilationError as error:
            warnings.warn(
                f"model {packages.stored.name!r} cannot be compiled here and continues in eager mode, "
                f"several times slower: {error}",
                stacklevel=2,
            )
            self.compile = "never"

    def _load_or_build(self, packages: PackageCache, program: Program) -> None:
        """Run calls of this shape as machine code from now on."""
        self._functions[program.shape] = packages.load(program.shape) or self._built(packages, program)

    def _built(self, packages: PackageCache, program: Program) -> Function:
        name = packages.stored.name
        # A warning, since Python shows it to who has set up no logging, and would wonder why nothing happens.
        log.warning(
            "compiling %s for %s, once on this machine: it takes about a minute", name, _size(program)
        )
        start = time.monotonic()
        function = packages.build(program)
        self.n_compilations += 1
        log.info("compiled %s in %.0f s", name, time.monotonic() - start)
        return function

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
    return graph.n_systems == 1 and graph.n_edges == graph.n_atoms * (graph.n_atoms - 1)


def _n_edges(shape: Shape) -> int:
    """Number of edges, or of triplets where there are more."""
    if len(shape) == 2:
        n_systems, n_atoms = shape
        return n_systems * n_atoms**2
    return max(shape[2:])


def _size(program: Program) -> str:
    """Numbers of atoms in words."""
    if len(program.shape) == 2 and program.shape[0] > 1:
        return f"{program.shape[0]} molecules of up to {program.shape[1]} atoms"
    n_atoms = program.shape[1] if len(program.shape) == 2 else program.shape[0] - 1
    return f"{n_atoms} atoms"


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
        A packed :class:`asecalc_ml.model.compile.molecules.MoleculeOutput`.
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

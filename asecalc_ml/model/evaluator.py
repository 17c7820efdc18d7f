"""From graph to energies, forces and virials: the one place that decides how a model is run."""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from asecalc_ml.errors import ModelError
from asecalc_ml.forks import allow_forks, check_not_forked_from_cuda
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.triplets import pad_triplets
from asecalc_ml.model.chunks import chunked_derivative, takes_chunks
from asecalc_ml.model.compile.compiled_graph import Runner
from asecalc_ml.model.compile.no_compiling import may_compile
from asecalc_ml.model.compile.package_cache import CompilationError, PackageCache, Shape
from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative, forces, hessian, virials
from asecalc_ml.model.memory_needed import check_memory
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.store.stored_model import StoredModel

Compile = Literal["auto", "never", "always"]

#: Edges (or triplets, where there are more) of one shape, over all calls, after which "auto" compiles for
#: it: what compiling takes, some 40 s, is saved in as many. Counted and not timed, so that a run goes the
#: same way each time.
EDGES_BEFORE_COMPILING = 2_000_000

#: A call with fewer edges takes no less time than one with these.
FEWEST_EDGES = 200

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

    def split(self, sizes: Sequence[int]) -> list[Evaluation]:
        """One for each system, whose numbers of atoms are given."""
        sizes, ones = list(sizes), [1] * len(sizes)
        per_system = (self.energy.split(ones), self.virial.split(ones))
        charges = self.charges.split(sizes) if len(self.charges) else [self.charges] * len(sizes)
        per_atom = (self.energies.split(sizes), self.forces.split(sizes), charges)
        names = ("energy", "virial", "energies", "forces", "charges")
        parts = zip(*per_system, *per_atom, strict=True)
        return [Evaluation(**dict(zip(names, part, strict=True))) for part in parts]


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
        self._source = model if isinstance(model, StoredModel) else model.eval().requires_grad_(False)
        self.compile = compile
        self._packages = PackageCache(model) if isinstance(model, StoredModel) else None
        self._capacities: dict[tuple, int] = {}
        self._calls: Counter[Shape] = Counter()
        self._runners: dict[Shape, Runner] = {}
        self._seen: set[Shape] = set()  # for which a package was looked for
        self._promised: set[Shape] = set()  # compiled in the run that is resumed
        self._most_edges = 0  # of a structure that fits into memory
        self.n_compilations = 0

    @property
    def model(self) -> Model:
        """The model in memory."""
        return self._source.model if isinstance(self._source, StoredModel) else self._source

    @property
    def compiled_shapes(self) -> list[Shape]:
        """Numbers of atoms, systems, edges (and triplets), the ghost's included, that run as machine code."""
        return sorted(self._runners)

    def __call__(self, graph: AtomGraph) -> Evaluation:
        check_not_forked_from_cuda()
        self._check_memory(graph)
        if self._is_large(graph):
            return self.eagerly(graph)
        inputs = self._padded(graph)
        return assemble(inputs, self._derivative(inputs))

    def eagerly(self, graph: AtomGraph) -> Evaluation:
        """Without padding or compiling, as suits shapes that do not come again."""
        check_not_forked_from_cuda()
        self._check_memory(graph)
        source = self._source
        inputs = with_ghost(graph.to(source.device), source.cutoff, triplet_cutoff=source.triplet_cutoff)
        derivative = chunked_derivative if self._is_large(graph) else edge_derivative
        return assemble(inputs, derivative(self.model, inputs))

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
        inputs = self._padded(graph)
        try:
            self._load_or_build(self._packages, inputs)
        except CompilationError as error:
            name = self._packages.stored.card.name
            problem = f"model {name!r} cannot be compiled here: {error.problem}"
            raise ModelError(problem, name=name, remedy=error.remedy) from error

    def expect(self, graph: AtomGraph, n_calls: int) -> None:
        """Count calls that will come, so that compiling for them comes first and not in their midst."""
        self._check_memory(graph)
        if self._is_large(graph):
            return
        self._calls[_shape(self._padded(graph))] += n_calls

    def state(self) -> dict:
        """What decides how the next call is run, ready for JSON: a resumed run goes the same way."""
        return {
            "compile": self.compile,
            "capacities": [[*sizes, capacity] for sizes, capacity in self._capacities.items()],
            "calls": [[*shape, n] for shape, n in self._calls.items()],
            "compiled": [list(shape) for shape in self.compiled_shapes],
        }

    def restore(self, state: dict) -> None:
        """Go on as the evaluator did whose :meth:`state` this is."""
        self.compile = state["compile"]
        self._capacities = {tuple(sizes): capacity for *sizes, capacity in state["capacities"]}
        self._calls = Counter({tuple(shape): n for *shape, n in state["calls"]})
        self._seen = set(self._calls)
        self._promised = {tuple(shape) for shape in state["compiled"]}
        self._runners.clear()

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

    def _derivative(self, inputs: PotentialInput) -> EdgeDerivative:
        shape = _shape(inputs)
        self._calls[shape] += 1
        packages = self._packages
        if packages is not None and shape not in self._runners and self._is_due(packages, shape):
            self._compile(packages, inputs)
        run = self._runners.get(shape)
        return edge_derivative(self.model, inputs) if run is None else run(inputs)

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
        if self._calls[shape] * max(*shape[2:], FEWEST_EDGES) >= EDGES_BEFORE_COMPILING:
            return True
        first = shape not in self._seen
        self._seen.add(shape)
        return first and packages.has(shape)

    def _compile(self, packages: PackageCache, inputs: PotentialInput) -> None:
        """Load the shape's package or build it; what cannot be compiled stays eager, and says so once."""
        try:
            self._load_or_build(packages, inputs)
        except CompilationError as error:
            warnings.warn(
                f"model {packages.stored.card.name!r} cannot be compiled here and goes on in eager mode, "
                f"several times slower: {error}",
                stacklevel=2,
            )
            self.compile = "never"

    def _load_or_build(self, packages: PackageCache, inputs: PotentialInput) -> None:
        """Run the shape of these inputs as machine code from now on."""
        shape = _shape(inputs)
        self._runners[shape] = packages.load(shape) or self._built(packages, shape, inputs)

    def _built(self, packages: PackageCache, shape: Shape, inputs: PotentialInput) -> Runner:
        name, n_atoms = packages.stored.card.name, shape[0] - 1
        # A warning, since Python shows it to who has set up no logging, and would wonder why nothing happens.
        log.warning("compiling %s for %d atoms, once on this machine: it takes about a minute", name, n_atoms)
        start = time.monotonic()
        runner = packages.build(shape, inputs)
        self.n_compilations += 1
        log.info("compiled %s in %.0f s", name, time.monotonic() - start)
        return runner

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


def _shape(inputs: PotentialInput) -> Shape:
    n_triplets = () if inputs.triplets is None else (inputs.triplets.shape[1],)
    return inputs.n_atoms, inputs.n_systems, inputs.edge_index.shape[1], *n_triplets


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

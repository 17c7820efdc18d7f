"""From positions to forces in one graph: architectures with sums along an axis, and all others."""

from collections.abc import Callable

import pytest
import torch
from ase import Atoms
from torch import Tensor, nn

from asecalc_ml import MLCalculator
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_softmax, segment_sum, take
from asecalc_ml.model.compile import package_cache
from asecalc_ml.model.compile.molecules.all_pairs import Molecules
from asecalc_ml.model.compile.molecules.batches import fill
from asecalc_ml.model.compile.molecules.molecule_graph import (
    MoleculeInput,
    known_call,
    molecule_program,
    trace_dense,
    trace_with_edge_list,
    varied,
)
from asecalc_ml.model.compile.program import as_function
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.plugins import get, names
from asecalc_ml.potentials.physnet import PhysNet
from asecalc_ml.potentials.schnetpack import PaiNN, SchNet
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, TensorNet
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained, untrained_model
from asecalc_ml.testing.structures import cluster

CUTOFF_A = 4.0

#: Of no form with sums along an axis: NeuralIL sums into slots of elements, the others need triplets.
WITH_EDGE_LIST = {"ani", "dimenet-plus-plus", "neuralil", "graph-convolutions", "gated-graph"}


def array(sizes: list[int], shape: Molecules, stretch: float = 1.0) -> MoleculeInput:
    """Molecules with charges and spins, at this multiple of bond lengths."""
    structures = [cluster(("C", "H", "O"), 1.3, size, seed) for seed, size in enumerate(sizes)]
    for number, atoms in enumerate(structures):
        atoms.positions *= stretch
        atoms.info.update(charge=number % 3 - 1, spin=number % 2)
    return fill(structures, shape)


def check(model: Model, shape: Molecules, is_dense: bool = True) -> None:
    """Both graphs of molecules of this shape agree with eager mode, near and far."""
    model = model.eval().requires_grad_(False)
    example = array(shape.n_systems * [shape.n_atoms], shape)
    dense = trace_dense(model, example)
    assert (dense is not None) == is_dense
    calls = [array(shape.n_systems * [shape.n_atoms], shape, stretch) for stretch in (0.6, 1.5, 10.0)]
    calls += [array([1], shape), varied(calls[0], model.cutoff)] if shape.n_systems > 1 else []
    for graph in (dense, molecule_program(example).trace(model), trace_with_edge_list(model, example)):
        if graph is not None:
            wrong = [k for k, given in enumerate(calls) if not agrees(model, given, graph)]
            assert wrong == []


def agrees(model: Model, given: MoleculeInput, graph: torch.fx.GraphModule) -> bool:
    return known_call(model, given).agrees_with(as_function(graph))


# ------------------------------------------------------------------------------------ our architectures


@pytest.mark.parametrize("name", names("architectures"))
def test_architectures_of_ours_have_sums_along_an_axis(name):
    options = get("architectures", name)
    if not options.__module__.startswith("asecalc_ml."):
        pytest.skip("another party's")
    model = untrained_model(options()).eval().requires_grad_(False)
    dense = trace_dense(model, array([4], Molecules(1, 4)))
    assert (dense is None) == (name in WITH_EDGE_LIST)


def networks(width: int) -> dict[str, object]:
    """Networks of which every width is the same."""
    common = {"n_rbf": width, "cutoff_A": CUTOFF_A}
    torchmdnet = {**common, "hidden_channels": width, "n_layers": 1}
    schnetpack = {**common, "n_atom_basis": width, "n_interactions": 1}
    return {
        "equivariant-transformer": EquivariantTransformer(**torchmdnet, n_heads=2),
        "tensornet": TensorNet(**torchmdnet),
        "schnet": SchNet(**schnetpack, n_filters=width),
        "painn": PaiNN(**schnetpack),
        "physnet": PhysNet(**torchmdnet),
    }


@pytest.mark.parametrize("width", [8, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", networks(8))
def test_as_many_channels_as_atoms_or_pairs(name, width):
    """Eight atoms have 64 pairs: what belongs to a pair is not told by its size alone."""
    check(untrained_model(networks(width)[name]), Molecules(1, 8))


def test_as_many_channels_as_pairs():
    check(untrained_model(networks(64)["schnet"]), Molecules(1, 8))


@pytest.mark.parametrize("name", networks(8))
def test_parameters_that_are_all_alike(name):
    """No vector of parameters can be told from its reverse."""
    model = untrained_model(networks(8)[name])
    for parameter in model.parameters():
        parameter.data.fill_(0.1)
    check(model, Molecules(2, 4))


@pytest.mark.parametrize("shape", [Molecules(1, 2), Molecules(1, 32), Molecules(16, 2)])
@pytest.mark.parametrize("name", ["schnet", "physnet"])
def test_smallest_and_largest_arrays(name, shape):
    check(untrained_model(networks(6)[name]), shape)


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_both_ways_of_pooling(pooling):
    model = untrained_model(networks(6)["schnet"])
    model.pooling = pooling
    check(model, Molecules(4, 3))


def test_hydrogen_by_hand():
    """The Morse curve of one bond: E = 2 D_e/2 (…) of both atoms, forces along the bond, virial r F."""
    model = untrained_model(Morse(cutoff_A=4.0)).eval().requires_grad_(False)
    near, far = (Atoms("H2", [[0, 0, 0], [0, 0, z]]) for z in (1.0, 1.0 + 1e-5))
    given, moved = (fill([atoms], Molecules(1, 2)) for atoms in (near, far))
    graph = molecule_program(given).trace(model)
    (rows,), (moved_rows,) = graph(*given), graph(*moved)
    energy, (fx, fy, fz), virial = rows[0, 0], rows[0, 3:6], rows[0, 9:18].view(3, 3)
    slope = float(moved_rows[0, 0] - energy) / 1e-5
    assert float(fx) == float(fy) == 0
    assert float(fz) == pytest.approx(slope, rel=1e-4)
    assert float(virial[2, 2]) == pytest.approx(float(fz), rel=1e-12)
    assert virial.abs().sum() == virial[2, 2].abs()


# ----------------------------------------------------------------------------------- unusual architectures


class Sums(Potential):
    """A sum over neighbors, as the function says that is given."""

    cutoff = CUTOFF_A

    def __init__(self, sums: Callable[[PotentialInput, Tensor], Tensor]):
        super().__init__()
        self.sums = sums
        self.weight = nn.Parameter(torch.tensor([[0.7]]))
        self.bias = nn.Parameter(torch.tensor([0.2]))

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        distances = inputs.edge_vectors.norm(dim=1)
        pairs = smooth_cutoff(distances, self.cutoff) * (1 + inputs.atomic_numbers[inputs.edge_index[1]] / 9)
        features = self.sums(inputs, pairs)[:, None]
        return AtomOutput(features, features @ self.weight.T + self.bias)

    @property
    def embeddings(self):
        return []

    @property
    def interactions(self):
        return []

    @property
    def readout(self):
        return self

    @property
    def last_linear(self):
        return self.weight, self.bias


def by_centre(inputs, pairs):
    return segment_sum(pairs, inputs.edge_index[0], inputs.n_atoms)


def by_neighbor(inputs, pairs):
    return segment_sum(pairs, inputs.edge_index[1], inputs.n_atoms)


def of_messages(inputs, pairs):
    """Two layers, with features of centre and neighbor."""
    i, j = inputs.edge_index
    atoms = by_centre(inputs, pairs)
    return atoms + by_centre(inputs, pairs * torch.tanh(take(atoms, j) - 2 * atoms[i]))


def attention(inputs, pairs):
    weights = segment_softmax(pairs, inputs.edge_index[0], inputs.n_atoms, weights=pairs / 10)
    return by_centre(inputs, weights * pairs)


def of_components(inputs, pairs):
    """Values of each pair that change their sign with the vector, written into an even array."""
    values = pairs[:, None] * torch.ones(2, dtype=pairs.dtype)
    values[:, 0] = pairs * inputs.edge_vectors[:, 2].to(pairs)
    return segment_sum(values, inputs.edge_index[0], inputs.n_atoms).pow(2).sum(dim=1)


def repeated(inputs, pairs):
    """As many filters as there are pairs of eight atoms, along a new first axis."""
    filters = torch.linspace(0, 1, 64, dtype=pairs.dtype)
    return by_centre(inputs, (filters[:, None] * pairs.expand(64, -1)).t().sum(dim=1))


def by_slots(inputs, pairs):
    """A sum for each parity of the neighbor's atomic number: the index is the result of arithmetic."""
    i, j = inputs.edge_index
    sums = segment_sum(pairs, 2 * i + inputs.atomic_numbers[j] % 2, 2 * inputs.n_atoms)
    return sums.view(-1, 2) @ torch.tensor([1.0, -0.4], dtype=pairs.dtype)


def by_systems(inputs, pairs):
    """A sum over all pairs of a system."""
    sums = segment_sum(pairs, inputs.batch[inputs.edge_index[0]], inputs.n_systems)
    return sums[inputs.batch]


def by_index_add(inputs, pairs):
    return pairs.new_zeros(inputs.n_atoms).index_add(0, inputs.edge_index[0], pairs)


def onto_ones(inputs, pairs):
    return pairs.new_ones(inputs.n_atoms).scatter_add(0, inputs.edge_index[0], pairs)


def products(inputs, pairs):
    start = pairs.new_ones(inputs.n_atoms)
    return start.scatter_reduce(0, inputs.edge_index[0], 1 + pairs, "prod")


DENSE = [by_centre, by_neighbor, of_messages, attention, repeated]
NOT_DENSE = [by_slots, by_systems, by_index_add, onto_ones, products]


def model_of(sums) -> Model:
    return Model(Sums(sums)).set_dtype(torch.float64)


@pytest.mark.parametrize("shape", [Molecules(1, 8), Molecules(3, 4)])
@pytest.mark.parametrize("sums", DENSE)
def test_sums_along_an_axis(sums, shape):
    check(model_of(sums), shape)


@pytest.mark.parametrize("shape", [Molecules(1, 8), Molecules(3, 4)])
@pytest.mark.parametrize("sums", NOT_DENSE)
def test_other_sums_have_an_edge_list(sums, shape):
    check(model_of(sums), shape, is_dense=False)


def test_values_that_are_written_in_place():
    """Right, with whichever graph."""
    model = model_of(of_components).eval().requires_grad_(False)
    given = array(3 * [4], Molecules(3, 4))
    graph = molecule_program(given).trace(model)
    assert all(agrees(model, call, graph) for call in (given, varied(given, CUTOFF_A)))


def over_all(pairs: Tensor) -> Tensor:
    return pairs - 0.1 * pairs.mean(0)


def normalised(pairs: Tensor) -> Tensor:
    """Batch normalisation by the statistics of the edges themselves."""
    return nn.functional.batch_norm(pairs[:, None], None, None, training=True)[:, 0]


@pytest.fixture
def traced_only(monkeypatch) -> None:
    """Compiled code is the graph itself, which takes no time."""
    graphs = {}

    def write(model, program, path, options):
        graphs[path] = program.trace(model)
        path.touch()

    monkeypatch.setattr(package_cache, "write_package", write)
    monkeypatch.setattr(package_cache, "load_package", lambda path, device: as_function(graphs[path]))


@pytest.mark.parametrize("change", [over_all, normalised])
def test_sums_over_all_edges_are_refused(own_home, traced_only, monkeypatch, change):
    """They depend on how many edges there are, which is no property of a molecule."""
    ethanol = load_structure("ethanol")
    register_untrained("morse", Morse(), ethanol, dtype=torch.float64)
    calculator = MLCalculator("morse", compile="always")
    potential = calculator._evaluator.model.potential
    plain = potential.pair_energies
    monkeypatch.setattr(potential, "pair_energies", lambda *pair: change(plain(*pair)))
    with pytest.warns(UserWarning, match=r"continues in eager mode.*does not compute what eager mode does"):
        forces = calculator.get_forces(ethanol)
    graph = AtomGraph.from_atoms(ethanol, 6.0)
    assert forces == pytest.approx(calculator._evaluator.eagerly(graph).forces.numpy(), abs=1e-12)


def test_a_correct_potential_passes_the_same_way(own_home, traced_only):
    ethanol = load_structure("ethanol")
    register_untrained("morse", Morse(), ethanol, dtype=torch.float64)
    calculator = MLCalculator("morse", compile="always")
    assert calculator.get_forces(ethanol) == pytest.approx(
        MLCalculator("morse", compile="never").get_forces(ethanol), abs=1e-9
    )
    assert calculator._evaluator.compiled.shapes == [(1, 9)]


# ------------------------------------------------------------------------------------------- known calls


def test_a_graph_that_knows_only_full_molecules_is_refused():
    """Means over atoms by their number in the array: right for the example, wrong where atoms are missing."""

    def mean_of_system(inputs, pairs):
        atoms = by_centre(inputs, pairs)
        counts = torch.full_like(atoms[: inputs.n_systems], inputs.n_atoms / inputs.n_systems)
        return take(segment_sum(atoms, inputs.batch, inputs.n_systems) / counts, inputs.batch)

    model = model_of(mean_of_system).eval().requires_grad_(False)
    assert trace_dense(model, array([4, 4], Molecules(2, 4))) is None


def test_a_mean_over_no_neighbors_is_refused():
    """Not a number where an atom has no neighbor, although every atom of the example has one."""

    def mean_of_neighbors(inputs, pairs):
        return by_centre(inputs, pairs) / by_centre(inputs, torch.ones_like(pairs)).detach()

    model = model_of(mean_of_neighbors).eval().requires_grad_(False)
    assert trace_dense(model, array([8], Molecules(1, 8))) is None


@pytest.mark.parametrize("shape", [Molecules(1, 2), Molecules(1, 9), Molecules(16, 5)])
def test_varied_input(shape):
    """An atom without neighbors, pairs on both sides of the cutoff but not at it, all numbers of atoms."""
    given = array(shape.n_systems * [shape.n_atoms], shape)
    other = varied(given, CUTOFF_A)
    n_systems, n_atoms = shape
    x = other.positions.view(n_systems, n_atoms, 3)
    distances = torch.cdist(x, x) + 10 * CUTOFF_A * torch.eye(n_atoms)
    assert (distances[:, 0] > CUTOFF_A).all()
    assert ((distances - CUTOFF_A).abs() > 1e-3).all()
    if n_atoms > 2:
        assert (distances[:, 1:, 1:] < CUTOFF_A).any()
    sizes = other.present.view(n_systems, n_atoms).sum(dim=1)
    assert set(sizes.tolist()) == ({n_atoms} if n_systems == 1 else set(range(1, n_atoms + 1)))
    assert other.present.view(n_systems, n_atoms)[:, 0].all()

"""Triplets are what counting over all images gives; the reverse of an edge is that edge backwards."""

import json
from itertools import combinations, product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.neighbors.skin import SkinNeighborList
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.graph.triplets import pad_triplets
from asecalc_ml.model.compile.edge_list import trace
from asecalc_ml.model.derivative import edge_derivative
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.training.frames.batches import LabelledGraph, loader
from asecalc_ml.structure.loading import load_structure

CUTOFF_A = 3.0


def inputs_of(atoms: Atoms, cutoff: float = CUTOFF_A, triplet_cutoff: float | None = None) -> PotentialInput:
    graph = AtomGraph.from_atoms(atoms, cutoff)
    return with_ghost(graph, cutoff, triplet_cutoff=triplet_cutoff or cutoff)


def angles_found(inputs: PotentialInput) -> list[tuple]:
    """Centre, both distances and the angle's cosine of each triplet, sorted."""
    first, second = inputs.triplets
    centres = inputs.edge_index[0]
    assert torch.equal(centres[first], centres[second])
    vectors = inputs.edge_vectors.numpy()
    return sorted(angle(int(centres[e]), vectors[e], vectors[f]) for e, f in zip(first, second, strict=True))


def angle(centre: int, first: np.ndarray, second: np.ndarray) -> tuple:
    lengths = sorted((float(np.linalg.norm(first)), float(np.linalg.norm(second))))
    values = (*lengths, float(first @ second) / (lengths[0] * lengths[1]))
    return (centre, *(round(value, 6) + 0.0 for value in values))


def angles_by_brute_force(atoms: Atoms, cutoff: float) -> list[tuple]:
    """Pairs of different neighbors of each atom, over all images that can be near."""
    shifts = [
        np.array(s) @ atoms.cell.array for s in product(*(range(-4, 5) if p else (0,) for p in atoms.pbc))
    ]
    found = []
    for i, here in enumerate(atoms.positions):
        vectors = [there + shift - here for there in atoms.positions for shift in shifts]
        near = [v for v in vectors if 0 < np.linalg.norm(v) < cutoff]
        found += [angle(i, first, second) for first, second in combinations(near, 2)]
    return sorted(found)


@st.composite
def crystals(draw) -> Atoms:
    """Few atoms in a cell of any shape that is smaller than the cutoff, periodic in some directions."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cell = 2.2 * (np.eye(3) + random.uniform(-0.2, 0.2, (3, 3)))
    pbc = draw(st.tuples(*3 * [st.booleans()]))
    n_atoms = draw(st.integers(1, 3))
    return Atoms(n_atoms * "C", scaled_positions=random.uniform(0, 1, (n_atoms, 3)), cell=cell, pbc=pbc)


@settings(max_examples=40)
@given(crystals(), st.sampled_from([1.0, 0.8]))
def test_triplets_are_those_of_brute_force(atoms, part):
    assume(_nearest(atoms) > 0.05)
    inputs = inputs_of(atoms, CUTOFF_A, part * CUTOFF_A)
    np.testing.assert_allclose(
        np.array(angles_found(inputs)).reshape(-1, 4),
        np.array(angles_by_brute_force(atoms, part * CUTOFF_A)).reshape(-1, 4),
        rtol=0,
        atol=1e-5,
    )


def _nearest(atoms: Atoms) -> float:
    distances = atoms.get_all_distances(mic=True)
    return distances[~np.eye(len(atoms), dtype=bool)].min(initial=1.0)


@settings(max_examples=40)
@given(st.lists(crystals(), min_size=1, max_size=3))
def test_reverse_edges_are_the_edges_backwards(structures):
    graph = collate([AtomGraph.from_atoms(atoms, CUTOFF_A + 1) for atoms in structures])  # some are beyond it
    inputs = with_ghost(graph, CUTOFF_A, graph.n_edges + 5, CUTOFF_A)
    reverse, real = inputs.reverse_edges, inputs.edge_index[0] < graph.n_atoms
    assert torch.equal(inputs.edge_index[:, reverse], inputs.edge_index.flip(0))
    torch.testing.assert_close(inputs.edge_vectors[reverse][real], -inputs.edge_vectors[real])
    assert torch.equal(reverse[reverse], torch.arange(graph.n_edges + 6))
    assert torch.equal(reverse[~real], torch.nonzero(~real)[:, 0])


def test_an_atom_and_its_own_images():
    """A chain of one atom: the left and the right neighbor are images of it, and of each other."""
    atoms = Atoms("C", cell=[2.0, 0, 0], pbc=[True, False, False])
    assert angles_found(inputs_of(atoms)) == [(0, 2.0, 2.0, -1.0)]


def test_only_the_same_image_is_excluded():
    """Two atoms in a cell: j sees i twice, and i–j–i′ is an angle, while i–j–i is none."""
    atoms = Atoms("CO", [[0, 0, 0], [1.4, 0.5, 0]], cell=[2.8, 0, 0], pbc=[True, False, False])
    inputs = inputs_of(atoms, 2.0)
    assert inputs.edge_index.tolist() == [[0, 0, 1, 1, 2], [1, 1, 0, 0, 2]]
    assert inputs.triplets.tolist() == [[0, 2], [1, 3]]


def test_triplets_are_sorted_and_none_is_twice():
    triplets = inputs_of(bulk("Si"), 4.5).triplets
    assert bool((triplets[0] < triplets[1]).all())
    pairs = [tuple(pair) for pair in triplets.T.tolist()]
    assert pairs == sorted(set(pairs))


def test_a_supercell_has_as_many_for_each_atom():
    atoms = bulk("Si")
    small, large = (inputs_of(one, 4.5).triplets.shape[1] for one in (atoms, atoms * (2, 1, 3)))
    assert large == 6 * small > 0


def test_a_batch_is_one_by_one():
    structures = [bulk("Si"), load_structure("ethanol"), Atoms("He")]
    graph = collate([AtomGraph.from_atoms(atoms, 4.5) for atoms in structures])
    inputs = with_ghost(graph, 4.5, triplet_cutoff=4.5)
    alone = [inputs_of(atoms, 4.5) for atoms in structures]
    starts = np.cumsum([0] + [one.edge_index.shape[1] - 1 for one in alone])
    joined = torch.cat([one.triplets + int(start) for one, start in zip(alone, starts, strict=False)], dim=1)
    assert torch.equal(inputs.triplets, joined)


def test_a_skin_list_has_the_same_triplets():
    atoms = bulk("Si") * 2
    pairs = SkinNeighborList(4.5, 1.0)
    pairs.update(atoms.positions, atoms.cell.array, atoms.pbc)
    atoms.rattle(0.05, seed=1)
    graph = AtomGraph.from_pairs(atoms, pairs.update(atoms.positions, atoms.cell.array, atoms.pbc))
    inputs, fresh = with_ghost(graph, 4.5, triplet_cutoff=3.5), inputs_of(atoms, 4.5, 3.5)
    assert torch.equal(inputs.triplets, fresh.triplets)
    assert torch.equal(inputs.reverse_edges, fresh.reverse_edges)


def test_ghost_edges_form_no_triplets():
    graph = AtomGraph.from_atoms(Atoms("CO", [[0, 0, 0], [1.2, 0, 0]]), CUTOFF_A)
    inputs = with_ghost(graph, CUTOFF_A, capacity=5000, triplet_cutoff=CUTOFF_A)
    assert inputs.triplets.shape == (2, 0)


def test_padding_is_of_the_ghost():
    inputs = inputs_of(load_structure("water"))
    padded = pad_triplets(inputs, 10)
    assert padded.triplets.shape == (2, 10)
    assert torch.equal(padded.triplets[:, :3], inputs.triplets)
    centres = inputs.edge_index[0][padded.triplets[:, 3:]]
    assert centres.unique().tolist() == [inputs.n_atoms - 1]
    assert pad_triplets(inputs, 2) is inputs


def test_no_triplets_where_nobody_asked():
    inputs = with_ghost(AtomGraph.from_atoms(load_structure("water"), CUTOFF_A), CUTOFF_A)
    assert inputs.triplets is None
    assert inputs.reverse_edges is None
    assert len(inputs.tensors) == 6


# ---------------------------------------------------------------------------- a potential of angles alone


class Angles(Potential):
    """Half of cos θ (1 − (r/c)²)² (1 − (s/c)²)² for each pair of neighbors: the least that needs triplets."""

    cutoff, triplet_cutoff = 4.0, 3.0
    embeddings = interactions = ()

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1).double()

    @property
    def readout(self):
        return self.linear

    @property
    def last_linear(self):
        return self.linear.weight, self.linear.bias

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        first, second = (take(inputs.edge_vectors, part) for part in inputs.triplets)
        r, s = (torch.linalg.vector_norm(vectors, dim=1) for vectors in (first, second))
        weights = ((1 - (r / 3) ** 2) * (1 - (s / 3) ** 2)) ** 2
        values = 0.5 * weights * (first * second).sum(dim=1) / (r * s)
        centres = inputs.edge_index[0][inputs.triplets[0]]
        features = segment_sum(values[:, None], centres, inputs.n_atoms)
        return AtomOutput(features=features, contributions=self.linear(features))


@pytest.fixture
def angles() -> Model:
    torch.manual_seed(0)
    return Model(Angles())


def test_the_evaluator_pads_triplets_to_a_capacity_that_grows(angles):
    evaluator, crystal = Evaluator(angles), bulk("Si", a=5.0) * 2
    shapes = set()
    for seed in range(5):
        crystal.rattle(0.02, seed=seed)
        graph = AtomGraph.from_atoms(crystal, 4.0)
        shapes.add(tuple(evaluator._padded(graph).triplets.shape))
        expected, found = evaluator.eagerly(graph), evaluator(graph)
        torch.testing.assert_close(found.forces, expected.forces)
        torch.testing.assert_close(found.energy, expected.energy)
    assert len(shapes) == 1
    other = Evaluator(angles)
    other.restore(json.loads(json.dumps(evaluator.state())))
    assert other.state() == evaluator.state()


def test_molecules_have_no_more_than_all_triplets(angles):
    ethanol = load_structure("ethanol")
    ethanol.positions *= 0.4  # all are near
    evaluator = Evaluator(angles)
    assert evaluator._padded(AtomGraph.from_atoms(ethanol, 4.0)).triplets.shape == (2, 9 * 8 * 7 // 2)
    assert evaluator._padded(AtomGraph.from_atoms(Atoms("C"), 4.0)).triplets.shape == (2, 1)


def test_the_hessian_is_the_slope_of_the_forces(angles):
    atoms, evaluator, step = load_structure("water"), Evaluator(angles), 1e-5
    numerical = np.zeros((9, 9))
    for column in range(9):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[divmod(column, 3)] += sign * step
            ends.append(evaluator(AtomGraph.from_atoms(moved, 4.0)).forces.numpy().ravel())
        numerical[:, column] = (ends[1] - ends[0]) / (2 * step)
    found = evaluator.hessian(AtomGraph.from_atoms(atoms, 4.0))
    np.testing.assert_allclose(found, numerical, atol=1e-7)


def test_a_trace_serves_other_positions(angles):
    atoms, evaluator = bulk("Si", a=5.0) * 2, Evaluator(angles)
    first = evaluator._padded(AtomGraph.from_atoms(atoms, 4.0))
    traced = trace(angles.requires_grad_(False), first)
    atoms.rattle(0.05, seed=3)
    second = evaluator._padded(AtomGraph.from_atoms(atoms, 4.0))
    for found, expected in zip(traced(*second.tensors), edge_derivative(angles, second), strict=True):
        torch.testing.assert_close(found, expected)


def test_batches_of_one_shape_have_triplets_of_one_shape():
    """Angles come and go between frames, numbers of pairs do not."""
    frames = []
    for seed in range(6):
        atoms = load_structure("ethanol")
        atoms.rattle(0.2, seed=seed)
        graph = AtomGraph.from_atoms(atoms, 5.0)
        frames.append(LabelledGraph(graph, torch.zeros(1), torch.zeros(9, 3)))
    own = {with_ghost(one.graph, 5.0, triplet_cutoff=2.5).triplets.shape[1] for one in frames}
    batches = [batch.inputs.triplets for batch in loader(frames, 5.0, 2, triplet_cutoff=2.5)]
    assert len(own) > 1
    assert {batch.shape for batch in batches} == {(2, 2 * max(own))}

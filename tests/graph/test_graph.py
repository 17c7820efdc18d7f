"""Graphs, batches, the ghost, sums by index, and the derivative with respect to edge vectors."""

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.derivative import edge_derivative, forces, virials
from asecalc_ml.model.evaluator import CAPACITY_FACTOR, Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_potentials import Morse


def dimer(distance: float) -> Atoms:
    return Atoms("CO", [[0, 0, 0], [0, 0, distance]])


def graph_of(atoms: Atoms, cutoff: float = 4.0) -> AtomGraph:
    return AtomGraph.from_atoms(atoms, cutoff)


# ------------------------------------------------------------------------------------------------- graphs


@pytest.mark.smoke
def test_the_one_equation():
    """Edge vectors counted by hand: the neighbor in the next cell along c."""
    atoms = Atoms("CO", [[0, 0, 0.5], [0, 0, 9.0]], cell=[20, 20, 10], pbc=True)
    graph = graph_of(atoms, 2.0)
    assert graph.edge_index.tolist() == [[0, 1], [1, 0]]
    assert graph.cell_shifts.tolist() == [[0, 0, -1], [0, 0, 1]]
    assert torch.allclose(graph.edge_vectors, torch.tensor([[0, 0, -1.5], [0, 0, 1.5]], dtype=torch.float64))


def test_types_and_shapes():
    graph = graph_of(bulk("Si"))
    assert (graph.n_atoms, graph.n_systems) == (2, 1)
    assert {graph.positions.dtype, graph.cell.dtype, graph.edge_vectors.dtype} == {torch.float64}
    assert (graph.cell.shape, graph.pbc.shape) == ((1, 3, 3), (1, 3))
    assert graph.cell_shifts.shape == (graph.n_edges, 3)


def test_the_structure_is_copied():
    atoms = molecule("H2O")
    graph = graph_of(atoms)
    atoms.positions += 1
    atoms.pbc = True
    assert not np.allclose(graph.positions, atoms.positions)
    assert not graph.pbc.any()


def test_charge_and_spin_come_with_the_structure():
    atoms = molecule("CH3")
    assert (graph_of(atoms).charge.item(), graph_of(atoms).spin.item()) == (0, 1)  # a radical, by its moments
    atoms.info.update(charge=-1, spin=0)
    assert (graph_of(atoms).charge.item(), graph_of(atoms).spin.item()) == (-1, 0)


def test_batch_keeps_order_and_vectors():
    graphs = [graph_of(atoms) for atoms in (molecule("H2O"), bulk("Si"), Atoms("He"), molecule("CH4"))]
    batch = collate(graphs)
    assert (batch.n_atoms, batch.n_systems) == (3 + 2 + 1 + 5, 4)
    assert batch.batch.tolist() == [0] * 3 + [1] * 2 + [2] + [3] * 5
    assert torch.equal(batch.edge_vectors, torch.cat([graph.edge_vectors for graph in graphs]))
    assert torch.equal(batch.batch[batch.edge_index[0]], batch.batch[batch.edge_index[1]])


def test_batches_can_be_joined():
    graphs = [graph_of(molecule(name)) for name in ("H2O", "CH4", "H2")]
    twice = collate([collate(graphs[:2]), graphs[2]])
    once = collate(graphs)
    assert torch.equal(twice.batch, once.batch)
    assert torch.equal(twice.edge_index, once.edge_index)


# -------------------------------------------------------------------------------------------------- ghost


def test_ghost_takes_what_is_beyond_the_cutoff():
    near, far = graph_of(dimer(3.9)), graph_of(dimer(4.1))
    assert with_ghost(near, 4.0).edge_index.tolist() == [[0, 1], [1, 0]]
    inputs = with_ghost(far, 4.0)
    assert inputs.edge_index.tolist() == [[2, 2], [2, 2]]
    assert torch.allclose(inputs.edge_vectors.norm(dim=1), torch.tensor(3.996, dtype=torch.float64))
    assert inputs.batch.tolist() == [0, 0, 1]
    assert (inputs.n_atoms, inputs.n_systems) == (3, 2)


def test_an_edge_of_exactly_the_cutoff_is_beyond_it():
    assert with_ghost(graph_of(dimer(4.0)), 4.0).edge_index.unique().tolist() == [2]


def test_padding_to_a_capacity():
    inputs = with_ghost(graph_of(dimer(1.0)), 4.0, capacity=7)
    assert inputs.edge_index.tolist() == [[0, 1, 2, 2, 2, 2, 2], [1, 0, 2, 2, 2, 2, 2]]
    assert (inputs.edge_vectors.norm(dim=1) < 4.0).all()
    assert with_ghost(graph_of(dimer(1.0)), 4.0, capacity=1).edge_index.shape == (2, 2)


# ------------------------------------------------------------------------------------------------ segments


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=12), st.sampled_from([(), (2,), (3, 2)]))
def test_segment_sum_is_a_loop(index, shape):
    values = torch.randn(len(index), *shape, dtype=torch.float64)
    expected = torch.zeros(6, *shape, dtype=torch.float64)
    for row, k in enumerate(index):
        expected[k] += values[row]
    index = torch.tensor(index, dtype=torch.int64)
    assert torch.allclose(segment_sum(values, index, 6), expected)
    if len(index):
        assert torch.equal(take(expected, index), expected[index])


def test_take_and_segment_sum_are_each_others_derivative():
    values = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 3, 3, 1, 0])
    assert torch.autograd.gradcheck(lambda rows: take(rows, index), values)
    assert torch.autograd.gradgradcheck(lambda rows: take(rows, index) ** 3, values)
    rows = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda rows: segment_sum(rows, index, 4) ** 3, rows)


def test_cutoff_function_has_two_continuous_derivatives():
    distances = torch.linspace(0, 3.0, 3001, dtype=torch.float64)
    weights = smooth_cutoff(distances, 2.0)
    assert weights[0] == 1
    assert torch.equal(weights[distances >= 2.0], torch.zeros(1001, dtype=torch.float64))
    for _ in range(2):
        weights = torch.diff(weights) / 0.001
        assert weights[[0, -1]].abs().max() < 0.01
        assert torch.diff(weights).abs().max() < 0.01


# ---------------------------------------------------------------------------------------------- derivative


def test_forces_and_virial_by_hand():
    """A pair at distance 2 along z, whose two edges have the derivative ±3 along z."""
    index = torch.tensor([[0, 1], [1, 0]])
    vectors = torch.tensor([[0, 0, 2.0], [0, 0, -2.0]], dtype=torch.float64)
    gradient = torch.tensor([[0, 0, 3.0], [0, 0, -3.0]], dtype=torch.float64)
    assert forces(gradient, index, 2).tolist() == [[0, 0, 6], [0, 0, -6]]
    virial = virials(gradient, vectors, index, torch.zeros(2, dtype=torch.int64), 1)
    assert virial[0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 12]]


def test_virial_is_symmetric_whatever_the_gradient():
    random = torch.Generator().manual_seed(0)
    vectors, gradient = torch.randn(2, 6, 3, generator=random, dtype=torch.float64)
    index = torch.randint(0, 4, (2, 6), generator=random)
    virial = virials(gradient, vectors, index, torch.zeros(4, dtype=torch.int64), 1)[0]
    assert torch.equal(virial, virial.T)


def test_no_edges_no_gradient():
    inputs = with_ghost(graph_of(Atoms("He")), 4.0)
    derivative = edge_derivative(Model(Morse(cutoff_A=4.0).build()), inputs)
    assert derivative.gradient.shape == (0, 3)
    assert derivative.systems.tolist() == [0, 0]


# ----------------------------------------------------------------------------------------------- the model


def test_scale_shift_and_pooling():
    """Contributions of a dimer are half its energy each; scale and shift act per element."""
    scale, shift = torch.ones(119, dtype=torch.float64), torch.zeros(119, dtype=torch.float64)
    scale[8], shift[6] = 3.0, -1000.0
    plain, inputs = Model(Morse().build()), with_ghost(graph_of(dimer(1.3), 6.0), 6.0)
    half = float(plain(inputs).systems[0].detach()) / 2
    scaled = Model(Morse().build(), scale, shift)
    assert scaled(inputs).atoms[:2].tolist() == pytest.approx([half - 1000, 3 * half])
    assert float(scaled(inputs).systems[0]) == pytest.approx(4 * half - 1000)
    assert float(Model(Morse().build(), scale, shift, "mean")(inputs).systems[0]) == pytest.approx(
        2 * half - 500
    )


def test_sums_are_float64_where_the_network_is_not():
    """At −4000 eV an atom float32 steps by 0.2 meV; the sum must not."""
    shift = torch.full((119,), -4000.0, dtype=torch.float64)
    models = [
        Model(Morse().build(), shift=shift).set_dtype(dtype) for dtype in (torch.float32, torch.float64)
    ]
    single, double = (Evaluator(model)(graph_of(dimer(1.35), 6.0)).energy for model in models)
    assert single.dtype == torch.float64
    assert float(single) == pytest.approx(float(double), abs=1e-6)


def test_far_from_the_origin_nothing_is_lost():
    """Positions are subtracted in float64 before they are cast."""
    model = Model(Morse().build()).set_dtype(torch.float32)
    here, there = dimer(1.35), dimer(1.35)
    there.positions += 1e4
    energies = [Evaluator(model)(graph_of(atoms, 6.0)).energy for atoms in (here, there)]
    assert float(energies[0]) == pytest.approx(float(energies[1]), abs=1e-6)


# ------------------------------------------------------------------------------------------- the evaluator


def capacity(evaluator: Evaluator) -> int:
    ((*_, edges),) = evaluator.state()["capacities"]
    return edges


def test_capacity_grows_and_never_shrinks():
    evaluator = Evaluator(Model(Morse(cutoff_A=4.0).build()))
    loose, tight = (graph_of(bulk("Si", a=a)) for a in (6.0, 4.5))
    evaluator(loose)
    assert capacity(evaluator) == int(CAPACITY_FACTOR * loose.n_edges)
    evaluator(tight)
    assert capacity(evaluator) == int(CAPACITY_FACTOR * tight.n_edges)
    evaluator(loose)
    assert capacity(evaluator) == int(CAPACITY_FACTOR * tight.n_edges)


def test_capacity_changes_no_result():
    model = Model(Morse(cutoff_A=4.0).build())
    used, fresh = Evaluator(model), Evaluator(model)
    used(graph_of(bulk("Si", a=4.0) * 2))
    first, second = (evaluator(graph_of(bulk("Si"))) for evaluator in (used, fresh))
    assert torch.allclose(first.energy, second.energy, rtol=1e-14)
    assert torch.allclose(first.forces, second.forces, rtol=0, atol=1e-13)


# ---------------------------------------------------------------------- batches


@given(sizes=st.lists(st.integers(1, 20), max_size=30), max_atoms=st.integers(1, 40))
def test_batches_by_atoms(sizes, max_atoms):
    """Order is kept; only a structure alone is too large; no batch has room for the next structure."""
    batches = list(batches_by_atoms(iter(sizes), max_atoms, n_atoms=lambda size: size))
    assert [size for batch in batches for size in batch] == sizes
    assert all(batch and (sum(batch) <= max_atoms or len(batch) == 1) for batch in batches)
    for batch, following in itertools.pairwise(batches):
        assert sum(batch) + following[0] > max_atoms

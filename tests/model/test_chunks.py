"""Chunks of atoms: the numbers of the plain path, for chunks of any size, in little memory."""

import pytest
import torch
from ase.build import bulk

from asecalc_ml.errors import MemoryShortageError, lacks_room
from asecalc_ml.graph import memory_left
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model import chunks, evaluator, memory_needed
from asecalc_ml.model.chunks import ChunkShape, chunked_derivative
from asecalc_ml.model.derivative import edge_derivative
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, TensorNet
from asecalc_ml.testing.models import untrained_model, without_ghost
from asecalc_ml.testing.structures import cluster, small_crystal

SMALL = {"hidden_channels": 8, "n_rbf": 4, "cutoff_A": 4.0, "max_atomic_number": 20}
ELEMENTS = ("H", "C", "O")


def inputs(*structures):
    graph = collate([AtomGraph.from_atoms(atoms, 4.0) for atoms in structures])
    return with_ghost(graph, 4.0)


def charged(n_atoms, charge, seed):
    atoms = cluster(ELEMENTS, 1.3, n_atoms, seed)
    atoms.info["charge"] = charge
    return atoms


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("group", ["O(3)", "SO(3)"])
@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize(
    "shape", [None, ChunkShape(1, 1), ChunkShape(3, 40), ChunkShape(5, 200, padded=True)]
)
def test_chunks_give_the_numbers_of_the_whole(n_layers, group, pooling, shape):
    """A cell smaller than the cutoff, an ion, a lone atom, and a molecule with pairs beyond the cutoff."""
    model = untrained_model(TensorNet(**SMALL, n_layers=n_layers, group=group))
    model.pooling = pooling
    crystal, far = small_crystal(ELEMENTS, 1.3), cluster(ELEMENTS, 2.5, 7, seed=2)
    given = inputs(crystal, charged(5, 1, seed=0), cluster(ELEMENTS, 1.3, 1), far)
    plain = without_ghost(edge_derivative(model, given), given)
    chunked = without_ghost(chunked_derivative(model, given, shape), given)
    for name, expected in plain._asdict().items():
        torch.testing.assert_close(getattr(chunked, name), expected, rtol=1e-11, atol=1e-11)
    assert plain.gradient.abs().max() > 1e-3


def test_large_structures_take_chunks(monkeypatch):
    """Energies, forces, virials of all atoms; eagerly and as the calculator does it."""
    model = untrained_model(TensorNet(**SMALL))
    graph = AtomGraph.from_atoms(small_crystal(ELEMENTS, 1.3) * (2, 2, 2), 4.0)
    plain = Evaluator(model)(graph)
    taken = []
    monkeypatch.setattr(evaluator, "LARGE_EDGES", graph.n_edges - 1)
    monkeypatch.setattr(
        evaluator, "chunked_derivative", lambda *given: taken.append(1) or chunked_derivative(*given)
    )
    for evaluation in (Evaluator(model)(graph), Evaluator(model).eagerly(graph)):
        for name, expected in vars(plain).items():
            torch.testing.assert_close(getattr(evaluation, name), expected, rtol=1e-10, atol=1e-10)
    assert len(taken) == 2


@pytest.mark.parametrize("architecture", [TensorNet(**SMALL), EquivariantTransformer(**SMALL, n_heads=2)])
def test_what_does_not_fit_is_refused_before_it_is_computed(architecture, monkeypatch):
    model = untrained_model(architecture)
    graph = AtomGraph.from_atoms(small_crystal(ELEMENTS, 1.3) * (2, 2, 2), 4.0)
    monkeypatch.setattr(evaluator, "LARGE_EDGES", graph.n_edges - 1)
    assert torch.isfinite(Evaluator(model)(graph).energy).all()  # fits
    monkeypatch.setattr(memory_left, "available_memory", lambda: 10**5)
    for name in ("edge_derivative", "chunked_derivative"):
        monkeypatch.setattr(evaluator, name, None)  # not called
    with pytest.raises(
        MemoryShortageError, match=r"24 atoms .* GB are left on 'cpu'; take a smaller"
    ) as caught:
        Evaluator(model)(graph)
    assert lacks_room(caught.value)  # no fault of the model: a transfer test continues


def test_memory_does_not_grow_with_the_edges(monkeypatch):
    """Chunks take a fraction of what the whole takes, and the estimate is no less than they take."""
    monkeypatch.setattr(memory_needed, "CHUNK_EDGES", 500)
    monkeypatch.setattr(chunks, "CHUNK_EDGES", 500)
    model = untrained_model(TensorNet(**SMALL))
    atoms = bulk("C", cubic=True) * 3
    given = inputs(atoms)
    taken = memory_needed.peak_of(lambda: chunked_derivative(model, given))
    assert taken < memory_needed.peak_of(lambda: edge_derivative(model, given)) / 4
    assert taken < memory_needed.memory_needed(model, given) < 2 * taken


def test_limits_of_control_groups_count(monkeypatch, tmp_path):
    """Of the process's own group and of those around it; "max" is no limit."""
    inner = tmp_path / "job" / "step"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("1000\n")
    (tmp_path / "job" / "memory.max").write_text("5000\n")
    (tmp_path / "job" / "memory.current").write_text("2000\n")
    (tmp_path / "cgroup").write_text("0::/job/step\n")
    monkeypatch.setattr(memory_left, "_OWN_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory_left, "_CONTROL_GROUPS", [(str(tmp_path), "memory.max", "memory.current")])
    assert memory_left.available_memory() == 3000
    (tmp_path / "job" / "memory.current").write_text("6000\n")
    assert memory_left.available_memory() == 0

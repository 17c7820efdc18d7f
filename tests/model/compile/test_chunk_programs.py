"""Compiled chunks: one shape for structures of every size, and the numbers of the whole."""

import logging

import numpy as np
import pytest
import torch
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from asecalc_ml import MLCalculator
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model import evaluator
from asecalc_ml.model.chunks import ChunkShape, StageFunctions, chunked_derivative
from asecalc_ml.model.compile import chunk_programs, compiled_functions
from asecalc_ml.model.compile.chunk_programs import atoms_of_a_chunk, fits_compiled_chunks, stage_programs
from asecalc_ml.model.compile.package_cache import PackageCache
from asecalc_ml.model.compile.program import as_function
from asecalc_ml.model.derivative import edge_derivative
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.potentials.torchmdnet import TensorNet
from asecalc_ml.testing.models import register_untrained, untrained_model, without_ghost
from asecalc_ml.testing.structures import cluster, small_crystal

CUTOFF_A = 4.0
SMALL = {"hidden_channels": 8, "n_rbf": 4, "cutoff_A": CUTOFF_A, "max_atomic_number": 20}
ELEMENTS = ("H", "C", "O")
PROPERTIES = ("energy", "energies", "forces", "stress")


def structure() -> AtomGraph:
    """A cell smaller than the cutoff, an ion, a lone atom, and a molecule with pairs beyond the cutoff."""
    ion = cluster(ELEMENTS, 1.3, 5)
    ion.info["charge"] = 1
    others = [cluster(ELEMENTS, 1.3, 1), cluster(ELEMENTS, 2.5, 7, seed=2)]
    structures = [small_crystal(ELEMENTS, 1.3), ion, *others]
    return collate([AtomGraph.from_atoms(atoms, CUTOFF_A) for atoms in structures])


def carbon(n_cells: int, compile: str = "auto"):
    """Displaced diamond of 8 n_cells³ atoms with the model "small"."""
    atoms = bulk("C", cubic=True) * n_cells
    atoms.rattle(0.05, seed=1)
    atoms.calc = MLCalculator("small", compile=compile)
    return atoms


@pytest.fixture
def small(own_home, monkeypatch) -> None:
    """An untrained model, and chunks of few edges for structures of few."""
    monkeypatch.setattr(evaluator, "COMPILED_CHUNKS_EDGES", 500)
    monkeypatch.setattr(chunk_programs, "COMPILED_EDGES", 300)
    options = TensorNet(**SMALL, n_layers=1)
    register_untrained("small", options, bulk("C", cubic=True), dtype=torch.float64)


@pytest.fixture
def traced(monkeypatch) -> list:
    """Programs that were compiled, were they not traced alone."""
    built = []

    def build(self, program):
        built.append(program.shape)
        return as_function(program.trace(self.stored.model))

    monkeypatch.setattr(PackageCache, "build", build)
    monkeypatch.setattr(PackageCache, "load", lambda self, shape: None)
    return built


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("shape", [ChunkShape(5, 120, padded=True), ChunkShape(40, 90, padded=True)])
def test_traced_stages_give_the_numbers_of_the_whole(n_layers, shape):
    model = untrained_model(TensorNet(**SMALL, n_layers=n_layers))
    inputs = with_ghost(structure(), CUTOFF_A)
    programs = stage_programs(model, inputs, shape)
    assert len({program.shape for stage in programs for program in stage.programs}) == 2 * n_layers + 1
    functions = [
        stage.functions(eager, lambda program: as_function(program.trace(model)))
        for stage, eager in zip(programs, StageFunctions.of(model.potential.stages), strict=True)
    ]
    expected = without_ghost(edge_derivative(model, inputs), inputs)
    chunked = without_ghost(chunked_derivative(model, inputs, shape, functions), inputs)
    for name, values in expected._asdict().items():
        torch.testing.assert_close(getattr(chunked, name), values, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_known_call_tells_rounding_from_mistakes(dtype):
    """The traced stage agrees with the eager one; results that are 1 % larger do not."""
    model = untrained_model(TensorNet(**SMALL), dtype=dtype).requires_grad_(False)
    programs = stage_programs(model, with_ghost(structure(), CUTOFF_A), ChunkShape(5, 120, padded=True))
    for program in (program for stage in programs for program in stage.programs):
        (call,) = program.known_calls(model)
        right = as_function(program.trace(model))
        assert call.agrees_with(right)
        assert not call.agrees_with(lambda tensors, right=right: [1.01 * result for result in right(tensors)])


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 300))
def test_chunks_have_room_for_their_edges(n_neighbors):
    """At most 42 % more atoms than needed, in few shapes; those of a step more or less are shared."""
    n_atoms = atoms_of_a_chunk(n_neighbors, lambda n: False)
    needed = chunk_programs.COMPILED_EDGES / max(1.0, n_neighbors)
    assert needed - 1e-6 <= n_atoms - 1 <= np.sqrt(2) * needed + 1
    for factor in (0.72, 1.0, 1.4):
        assert atoms_of_a_chunk(max(1.0, n_neighbors) * factor, lambda n: n == n_atoms) == n_atoms


def test_few_numbers_of_atoms_occur():
    assert len({atoms_of_a_chunk(n, lambda n: False) for n in np.linspace(10, 100, 1000)}) < 10


def test_an_atom_with_more_edges_than_a_chunk_is_not_compiled(small, traced, monkeypatch):
    monkeypatch.setattr(chunk_programs, "COMPILED_EDGES", 20)
    atoms = carbon(3, "always")
    assert not fits_compiled_chunks(with_ghost(AtomGraph.from_atoms(atoms, CUTOFF_A), CUTOFF_A))
    assert np.isfinite(atoms.get_forces()).all()
    assert not traced


def test_one_compilation_serves_all_sizes(small, traced, caplog):
    """Energies, forces and stress for other sizes, cells and displacements."""
    with caplog.at_level(logging.WARNING, "asecalc_ml"):
        calculator = MLCalculator("small", compile="always")
        for n_cells in (3, 4, 5):
            atoms, plain = carbon(n_cells, "never"), carbon(n_cells, "never")
            atoms.calc = calculator
            for cell in (atoms.cell.array, atoms.cell.array * [1.01, 0.99, 1.02]):
                for copy in (atoms, plain):
                    copy.set_cell(cell, scale_atoms=True)
                for name in PROPERTIES:
                    value, expected = (copy.calc.get_property(name, copy) for copy in (atoms, plain))
                    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)
    assert len(traced) == 3
    assert len(caplog.messages) == 1  # for all stages


def test_chunks_count_as_calls(small, traced, monkeypatch):
    """Automatic compiling starts after as many edges as with a graph for the whole."""
    atoms = carbon(3)
    n_edges = AtomGraph.from_atoms(atoms, CUTOFF_A).n_edges
    monkeypatch.setattr(compiled_functions, "EDGES_BEFORE_COMPILING", 3.5 * n_edges)
    for step in range(5):
        atoms.rattle(0.01, seed=step)
        atoms.get_forces()
        assert bool(traced) == (step >= 3)


def test_an_announced_run_is_compiled_before_its_first_step(small, traced, monkeypatch):
    atoms = carbon(3)
    monkeypatch.setattr(compiled_functions, "EDGES_BEFORE_COMPILING", 50_000)
    atoms.calc.expect(atoms, 100)
    atoms.get_forces()
    assert len(traced) == 3


def test_a_resumed_run_takes_the_same_chunks(small, traced):
    """A structure whose density has changed keeps the shape of its chunks, to the last bit."""
    atoms = carbon(3, "always")
    atoms.get_forces()
    state = atoms.calc.checkpoint_state()
    atoms.set_cell(1.15 * atoms.cell.array, scale_atoms=True)  # fewer neighbors
    forces, n_built = atoms.get_forces(), len(traced)
    assert n_built == 3
    resumed = carbon(3)
    resumed.calc.restore_state(state)
    resumed.set_cell(1.15 * resumed.cell.array, scale_atoms=True)
    np.testing.assert_array_equal(resumed.get_forces(), forces)
    assert traced[n_built:] == traced[:n_built]


def test_never_compiles_no_chunks(small, traced):
    """Unless it is asked to for later runs, and then never the whole."""
    atoms = carbon(3, "never")
    atoms.calc.expect(atoms, 10**6)
    atoms.get_forces()
    assert not traced
    atoms.calc.prepare(atoms)
    assert len(traced) == 3


def test_the_ghost_may_have_any_number_of_edges():
    """Pairs beyond the cutoff are sent to it, more than a chunk has room for."""
    model = untrained_model(TensorNet(**SMALL))
    wide = AtomGraph.from_atoms(small_crystal(ELEMENTS, 1.3) * (2, 2, 2), 6.0)
    inputs = with_ghost(wide, CUTOFF_A)
    shape = ChunkShape(9, int(inputs.edge_index[0].bincount()[:-1].max()), padded=True)
    assert int((inputs.edge_index[0] == wide.n_atoms).sum()) > shape.n_edges
    evaluations = Evaluator(model)(wide), evaluator.assemble(inputs, chunked_derivative(model, inputs, shape))
    for name, values in vars(evaluations[0]).items():
        torch.testing.assert_close(getattr(evaluations[1], name), values, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_chunks_are_the_eager_ones(small, dtype):
    """Compiled for one size, loaded again by another process's calculator, and used for another size."""
    atoms, plain = carbon(3), carbon(3)
    atoms.calc = MLCalculator("small", dtype=dtype, compile="always")
    plain.calc = MLCalculator("small", dtype=dtype, compile="never")
    assert_agree(atoms, plain, dtype)
    assert atoms.calc._evaluator.compiled.n_compilations == 3
    again, larger = carbon(4), carbon(4)
    again.calc, larger.calc = MLCalculator("small", dtype=dtype), plain.calc
    assert_agree(again, larger, dtype)
    assert again.calc._evaluator.compiled.n_compilations == 0
    assert len(again.calc._evaluator.compiled.shapes) == 3


def assert_agree(atoms, plain, dtype) -> None:
    tolerance = {"float32": 2e-5, "float64": 1e-9}[dtype]
    for name in PROPERTIES:
        value, expected = (copy.calc.get_property(name, copy) for copy in (atoms, plain))
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)

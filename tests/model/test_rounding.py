"""Rounding is allowed whatever the size of what is summed, and a model that differs by more is refused."""

import shutil

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from places import SHARED
from raising import told
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.errors import ModelError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.model.rounding import rounding
from asecalc_ml.potentials.mpnn import MPNN
from asecalc_ml.potentials.schnetpack import PaiNN, SchNet
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, TensorNet
from asecalc_ml.store.golden import deviation_from, make_golden
from asecalc_ml.testing import untrained_model
from asecalc_ml.testing.structures import cluster

REFUSED = SHARED / "cases" / "refused_painn.safetensors"
SMALL = {"cutoff_A": 4.0, "max_atomic_number": 20}
OPTIONS = [
    SchNet(**SMALL, n_atom_basis=16, n_interactions=2, n_rbf=8),
    PaiNN(**SMALL, n_atom_basis=16, n_interactions=2, n_rbf=8),
    EquivariantTransformer(**SMALL, hidden_channels=16, n_layers=1, n_rbf=8, n_heads=2),
    TensorNet(**SMALL, hidden_channels=16, n_layers=1, n_rbf=8),
    MPNN(**SMALL, hidden_channels=16, n_passes=2, edge_channels=6),
    MPNN(**SMALL, hidden_channels=16, n_passes=2, edge_channels=6, readout="set2set"),
]
BOTH = (torch.float32, torch.float64)


def scaled_model(options, scale: float, shift: float, seed: int = 0) -> Model:
    """A model with random weights, contributions times a scale, and shifts as large as total energies."""
    model = untrained_model(options, seed=seed, dtype=torch.float32)
    model.scale *= scale
    model.shift += shift
    return model


def inputs_of(model: Model, atoms: Atoms):
    graph = AtomGraph.from_atoms(atoms, model.cutoff)
    return with_ghost(graph, model.cutoff, triplet_cutoff=model.triplet_cutoff)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(OPTIONS),
    st.floats(-4, 5).map(lambda power: 10.0**power),
    st.sampled_from([0.0, -1000.0, -40_000.0]),
    st.integers(0, 1000),
    st.integers(1, 8),
)
def test_a_right_model_passes_and_a_damaged_one_does_not(options, scale, shift, seed, n_atoms):
    """Whatever the scale of energies; damaged by one weight, where this changes forces by a thousandth."""
    model = scaled_model(options, scale, shift, seed)
    golden = make_golden(model, cluster(("H", "C", "O"), 1.3, n_atoms, seed))
    for dtype in BOTH:
        assert deviation_from(golden, model.set_dtype(dtype)).is_rounding
    forces = np.abs(golden.forces_eV_A).max()
    weights = [one for one in model.potential.parameters() if one.numel() > 1]
    damaged = weights[seed % len(weights)].data.flatten()
    damaged[seed % len(damaged)] += 0.3
    weights[seed % len(weights)].data = damaged.reshape(weights[seed % len(weights)].shape)
    found = deviation_from(golden, model.set_dtype(torch.float64))
    assume(found.forces > 1e-3 * forces or found.energy > 1e-3 * scale)
    for dtype in BOTH:
        assert not deviation_from(golden, model.set_dtype(dtype)).is_rounding


@pytest.mark.parametrize("damage", [0.0, 1.0])
def test_swapped_rows_are_refused(damage):
    model = scaled_model(OPTIONS[0], 1.0, -1000.0)
    golden = make_golden(model, cluster(("H", "C", "O"), 1.3, 6))
    embedding = model.potential.embeddings[0].weight.data
    rows = [6, 8] if damage else [6, 6]
    embedding[rows] = embedding[rows[::-1]].clone()
    assert deviation_from(golden, model).is_rounding == (not damage)


def test_what_is_not_a_number_is_refused():
    model = scaled_model(OPTIONS[0], 1.0, 0.0)
    golden = make_golden(model, cluster(("H", "C", "O"), 1.3, 6))
    next(model.potential.parameters()).data[:] = torch.nan
    assert not deviation_from(golden, model).is_rounding
    with pytest.raises(ModelError, check=told(problem="finite", remedy="learning rate")):
        make_golden(model, cluster(("H", "C", "O"), 1.3, 6))
    assert model.dtype == torch.float32


def test_shifts_buy_no_room():
    """Sums of shifts are float64: a model whose atoms have -40 keV each is held to the same bounds."""
    bounds = []
    for shift in (0.0, -40_000.0):
        model = scaled_model(OPTIONS[0], 1.0, shift)
        inputs = inputs_of(model, cluster(("H", "C", "O"), 1.3, 6))
        bounds.append(float(rounding(model, inputs, edge_derivative(model, inputs)).systems[0]))
    assert bounds[1] == pytest.approx(bounds[0], rel=0.1)
    assert bounds[1] < 1e-3


@pytest.mark.parametrize("n", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_large_systems(n):
    """10,000 atoms; the bound of the energy grows with their number and that of a force does not."""
    atoms = bulk("Ar", "fcc", 5.3, cubic=True) * (n, n, 25 if n > 1 else 2)
    atoms.rattle(0.05, seed=0)
    model = untrained_model(Morse(cutoff_A=6.0), dtype=torch.float32)
    inputs = inputs_of(model, atoms)
    single = edge_derivative(model, inputs)
    bounds = rounding(model, inputs, single)
    assert bounds.allows(single, edge_derivative(model.set_dtype(torch.float64), inputs))
    assert float(bounds.systems[0]) < 1e-4 * len(atoms)
    assert float(bounds.forces.max()) < 1e-3


def test_an_atom_alone_has_room_for_what_its_contribution_is_a_sum_of():
    """Without edges there is no work, and terms of the last layer may cancel."""
    for seed in range(20):
        model = scaled_model(OPTIONS[seed % 2], 100.0, 0.0, seed)
        golden = make_golden(model, Atoms("C", info={"charge": 0, "spin": 0}))
        assert golden.forces_eV_A == [[0.0, 0.0, 0.0]]


def test_a_part_of_the_derivative_that_is_missing_is_refused():
    model = scaled_model(OPTIONS[1], 10.0, -1000.0)
    inputs = inputs_of(model, cluster(("H", "C", "O"), 1.3, 6))
    expected = edge_derivative(model, inputs)
    bounds = rounding(model, inputs, expected)
    assert bounds.allows(expected, expected)
    for name, part in expected._asdict().items():
        if part.numel():
            off = part.clone()
            off.view(-1)[0] += 1e-3 * part.abs().max()
            assert not bounds.allows(expected._replace(**{name: off}), expected)
    nothing = EdgeDerivative(*(one * torch.nan for one in expected))
    assert not bounds.allows(nothing, expected)


@pytest.mark.skipif(not REFUSED.is_file(), reason="needs ../shared/cases/refused_painn.safetensors")
def test_contributions_of_nine_electronvolts_an_atom(tmp_path):
    """Refused for a deviation of 5e-6 eV, which is one unit in the last place of -36 eV in float32."""
    copy = tmp_path / "platinum.safetensors"
    shutil.copy(REFUSED, copy)
    assert CliRunner().invoke(ml, ["models", "add", str(copy)]).exit_code == 0
    atoms = Atoms("Pt4", 2.5 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.87, 0], [0.5, 0.3, 0.8]]))
    energies = [
        MLCalculator("pt_painn", dtype=dtype).get_potential_energy(atoms) for dtype in ("float32", "float64")
    ]
    assert energies[0] == pytest.approx(energies[1], abs=2e-5)
    tensors = load_file(copy)
    name = next(one for one in tensors if one.endswith("weight") and tensors[one].ndim == 2)
    tensors[name][:, 0] *= 1.05
    from safetensors import safe_open

    with safe_open(REFUSED, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, copy, metadata)
    with pytest.raises(ModelError, check=told(value=True, remedy="asecalc-ml models show")):
        MLCalculator(copy)

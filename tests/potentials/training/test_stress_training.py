"""Stress as a label: its loss, its errors, crystals of different sizes, and data in other units."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.stress import full_3x3_to_voigt_6_stress
from raising import told
from torch import nn
from training_steps import check_training_step

from asecalc_ml import MLCalculator
from asecalc_ml.errors import TrainingError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_modules import MorsePotential
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.frames.batches import LabelledGraph, loader
from asecalc_ml.potentials.training.frames.scaling import fit_scaling
from asecalc_ml.potentials.training.losses import total_loss, virial_errors
from asecalc_ml.potentials.training.optimization.eager import eager_forward
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.whole_step import prediction_graph, prediction_of
from asecalc_ml.potentials.training.trainer import build_model

LABELS = ("energy", "forces", "stress")
SMALL = {"hidden_channels": 8, "n_layers": 1, "n_rbf": 8, "cutoff_A": 4.0}
MORSE = Morse(depth_eV=0.4, steepness_per_A=1.3, r0_A=2.8, cutoff_A=6.0)
ONLY_STRESS = {"energy_weight": 0.0, "forces_weight": 0.0, "stress_weight": 1.0}


def crystal(random: np.random.Generator, repeats: int = 1) -> Atoms:
    """Copper, strained and rattled: 4 atoms times the number of repeats."""
    atoms = bulk("Cu", cubic=True) * (repeats, 1, 1)
    strain = random.normal(scale=0.02, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
    atoms.positions += random.normal(scale=0.08, size=atoms.positions.shape)
    return atoms


def by_emt(n_frames: int = 24, seed: int = 0) -> list[Atoms]:
    """Crystals of 4 and 8 atoms with ASE's EMT for energy, forces and stress."""
    random, frames = np.random.default_rng(seed), []
    for k in range(n_frames):
        frames.append(crystal(random, repeats=1 + k % 2))
        frames[-1].calc = EMT()
        frames[-1].get_stress()
    return frames


def by_morse(n_frames: int = 8) -> list[Atoms]:
    """Crystals of two sizes with a Morse potential's energy, forces and stress."""
    random, evaluator, frames = np.random.default_rng(0), Evaluator(Model(MORSE.build())), []
    for k in range(n_frames):
        atoms = crystal(random, repeats=1 + k % 2)
        evaluation = evaluator(AtomGraph.from_atoms(atoms, MORSE.cutoff_A))
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=float(evaluation.energy[0]),
            forces=evaluation.forces.numpy(),
            stress=full_3x3_to_voigt_6_stress(evaluation.virial[0].numpy()) / atoms.get_volume(),
        )
        frames.append(atoms)
    return frames


class TrainableMorse(MorsePotential):
    """The Morse potential with its three numbers as parameters."""

    def __init__(self, options: Morse):
        super().__init__(options)
        for name in ("depth", "steepness", "r0"):
            setattr(self, name, nn.Parameter(torch.tensor(getattr(self, name), dtype=torch.float64)))


@pytest.fixture
def options(tmp_path):
    write(tmp_path / "frames.xyz", by_emt(), format="extxyz")
    return TrainOptions(
        name="copper",
        data={"format": "ase", "path": str(tmp_path / "frames.xyz")},
        split={"n_train": 16, "n_validation": 4, "n_test": 4},
        model={"architecture": "graph-network", **SMALL},
        loss={"stress_weight": 1.0},
        optimizer={"warmup_steps": 5, "ema_decay": 0.9},
        batch_size=2,
        max_epochs=2,
        directory=tmp_path / "training",
    )


def changed(options, **changes):
    return TrainOptions(**{**options.model_dump(), **changes})


def batches(frames, cutoff: float, batch_size: int = 3) -> list:
    labelled = [LabelledGraph.from_atoms(atoms, cutoff, LABELS) for atoms in frames]
    return list(loader(labelled, cutoff, batch_size))


# ----------------------------------------------------------------------------------------------- the loss


def test_a_morse_potential_is_found_from_stress_alone(options):
    """Energies and forces have no weight; the parameters start 30 % off."""
    start = Morse(depth_eV=0.55, steepness_per_A=1.0, r0_A=2.9, cutoff_A=6.0)
    model = Model(TrainableMorse(start))
    loss = changed(options, loss=ONLY_STRESS).loss
    (batch,) = batches(by_morse(), MORSE.cutoff_A, batch_size=8)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = total_loss(eager_forward(model)(batch.inputs), batch, loss)
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(closure)
    potential = model.potential
    found = [value.item() for value in (potential.depth, potential.steepness, potential.r0)]
    assert found == pytest.approx([MORSE.depth_eV, MORSE.steepness_per_A, MORSE.r0_A], rel=1e-4)


def test_the_stress_loss_is_the_squared_virial_per_atom(options):
    """Counted from ASE's stress: (volume × difference of stress / number of atoms)², nine components."""
    frames = by_emt(4)
    model = build_model(options, fit_scaling(frames, None)).set_dtype(torch.float64)
    loss = changed(options, loss=ONLY_STRESS).loss
    (batch,) = batches(frames, 4.0, batch_size=4)
    expected = []
    for atoms in frames:
        virial = Evaluator(model)(AtomGraph.from_atoms(atoms, 4.0)).virial[0].numpy()
        difference = virial / atoms.get_volume() - atoms.get_stress(voigt=False)
        expected.append((atoms.get_volume() * difference / len(atoms)) ** 2)
    assert total_loss(eager_forward(model)(batch.inputs), batch, loss).item() == pytest.approx(
        np.mean(expected)
    )


def test_the_gradient_of_the_stress_loss_is_that_of_finite_differences(options):
    frames = by_emt(4)
    model = build_model(options, fit_scaling(frames, None)).set_dtype(torch.float64)
    loss = changed(options, loss=ONLY_STRESS).loss
    (batch,) = batches(frames, 4.0, batch_size=4)
    forward = eager_forward(model)
    total_loss(forward(batch.inputs), batch, loss).backward()
    weight = model.potential.representation_model.interactions[0].mlp[2].weight
    expected, step, losses = weight.grad[3, 5].item(), 1e-5, []
    for shift in (step, -2 * step):
        with torch.no_grad():
            weight[3, 5] += shift
        losses.append(total_loss(forward(batch.inputs), batch, loss).item())
    assert abs(expected) > 1e-6
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(expected, rel=1e-6)


def test_virial_errors_vanish_on_the_models_own_labels():
    for batch in batches(by_morse(), MORSE.cutoff_A):
        derivative = eager_forward(Model(MORSE.build()))(batch.inputs)
        assert virial_errors(derivative, batch).abs().max().item() < 1e-12


# ------------------------------------------------------------------------------------- the whole training


@pytest.mark.smoke
def test_a_training_learns_stress_and_says_how_well(options):
    """The card's errors are those of the calculator on the frames that the stored split holds out."""
    quick = {**options.optimizer.model_dump(), "learning_rate": 5e-3}
    card = train(changed(options, max_epochs=6, optimizer=quick), quiet=True).card
    errors, frames = [], by_emt()
    for k in json.loads((options.directory / "split.json").read_text())["test"]:
        atoms = frames[k].copy()
        atoms.calc = MLCalculator("copper")
        errors.append((atoms.get_stress() - frames[k].get_stress()) / units.GPa)
    assert card.metrics.stress_mae_GPa == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert card.metrics.stress_rmse_GPa == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-4)
    header, *lines = (options.directory / "metrics.csv").read_text().splitlines()
    assert header.split(",")[-2] == "val_stress_mae_GPa"
    first, *_, last = (float(line.split(",")[-2]) for line in lines)
    assert last < first


def without_stress(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, energy=1.0, forces=np.zeros((len(atoms), 3)))
    return copy


def test_stress_needs_some_frames_that_have_it(options, tmp_path):
    frames = by_emt()
    for atoms in frames[:3]:
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((len(atoms), 3)))
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    with pytest.warns(UserWarning, match=r"not all of the 20 frames .* have every label: stress 1[789]\."):
        assert train(options, quiet=True).card.metrics.stress_mae_GPa is not None
    write(tmp_path / "frames.xyz", [without_stress(atoms) for atoms in frames], format="extxyz")
    check = told(name="loss.stress_weight", remedy="Give data that have it. Or set loss.stress_weight to 0")
    with pytest.raises(TrainingError, match="16", check=check):
        train(options, quiet=True, replace=True)


@pytest.mark.parametrize(
    ("named", "per_energy", "per_length"),
    [
        ({"energy_unit": "kcal/mol"}, 4184 / 1.602176634e-19 / 6.02214076e23, 1.0),
        ({"energy_unit": "Hartree", "length_unit": "Bohr"}, 27.211386245988, 0.529177210903),
    ],
    ids=["kcal/mol", "Hartree and Bohr"],
)
def test_data_in_other_units_give_the_same_model(options, tmp_path, named, per_energy, per_length):
    """Energies, lengths, forces and stress in a file's own units; what comes out speaks eV and Å."""
    write(tmp_path / "other.xyz", [in_units(a, per_energy, per_length) for a in by_emt()], format="extxyz")
    data = {"format": "ase", "path": str(tmp_path / "other.xyz"), **named}
    other = changed(options, name="other", data=data, directory=tmp_path / "other", precision="float64")
    metrics = train(other, quiet=True).card.metrics
    expected = train(changed(options, precision="float64"), quiet=True).card.metrics
    expected = expected.model_dump(exclude_none=True, exclude={"quantities"})
    assert metrics.model_dump(exclude_none=True, exclude={"quantities"}) == pytest.approx(expected, rel=1e-5)
    (atoms,) = by_emt(1, seed=1)
    results = []
    for name in ("copper", "other"):
        atoms.calc = MLCalculator(name)
        results.append([atoms.get_potential_energy(), *atoms.get_forces().ravel(), *atoms.get_stress()])
    assert results[0] == pytest.approx(results[1], rel=1e-5, abs=1e-6)


def in_units(atoms: Atoms, per_energy: float, per_length: float) -> Atoms:
    """The frame as a file in other units has it."""
    other = atoms.copy()
    other.set_cell(atoms.cell / per_length, scale_atoms=True)
    other.calc = SinglePointCalculator(
        other,
        energy=atoms.get_potential_energy() / per_energy,
        forces=atoms.get_forces() * (per_length / per_energy),
        stress=atoms.get_stress() * (per_length**3 / per_energy),
    )
    return other


# ------------------------------------------------------------------------------- frames of different sizes


@pytest.mark.parametrize(
    "architecture",
    [
        "graph-network",
        pytest.param("tensornet", marks=pytest.mark.slow),
        pytest.param("equivariant-transformer", marks=pytest.mark.slow),
    ],
)
def test_one_trace_serves_frames_of_every_size(options, architecture):
    """Sizes that the trace never saw, against the eager model: energies, and gradients of a loss."""
    options = changed(options, model={"architecture": architecture, **SMALL})
    frames = [*by_emt(6), *(crystal_by_emt(repeats) for repeats in (3, 1, 3))]
    model = build_model(options, fit_scaling(frames, None)).set_dtype(torch.float64)
    parts = batches(frames, 4.0)
    assert len({batch.inputs.edge_index.shape[1] for batch in parts}) == 3
    check_training_step(model, *(batch.inputs for batch in parts), dynamic=True)
    weights = FlatWeights(model)
    graph = prediction_graph(model, weights, parts[0].inputs, with_gradient=True, dynamic=True)
    predict = prediction_of(graph)
    for batch in parts:
        found, expected = predict(weights.values, batch.inputs), eager_forward(model)(batch.inputs)
        torch.testing.assert_close(found.systems, expected.systems.detach(), rtol=1e-12, atol=1e-10)


def crystal_by_emt(repeats: int) -> Atoms:
    atoms = crystal(np.random.default_rng(repeats), repeats)
    atoms.calc = EMT()
    return atoms


@pytest.mark.slow
def test_a_compiled_step_serves_frames_of_every_size(options):
    frames = by_emt(9)
    model = build_model(options, fit_scaling(frames, None)).set_dtype(torch.float64)
    parts = [batch.inputs for batch in batches(frames, 4.0)]
    check_training_step(model, *parts, dynamic=True, compiled=True)

"""Dipoles: of point charges, read from files, from reference calculations, learned, and predicted."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from raising import told
from training_steps import check_training_step

from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError, DatasetError, TrainingError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.dipoles import dipole_of, from_centre_of_mass
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.datasets import dataset_hash
from asecalc_ml.potentials.datasets.generation.generate import GenerateOptions
from asecalc_ml.potentials.datasets.readers.ase_file import AseFile
from asecalc_ml.potentials.physnet import PhysNet
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.frames.batches import LabelledGraph, loader
from asecalc_ml.potentials.training.frames.training_data import less_terms
from asecalc_ml.potentials.training.losses import dipole_errors, total_loss
from asecalc_ml.potentials.training.optimization.eager import eager_forward
from asecalc_ml.potentials.training.optimization.whole_step import step_graph
from asecalc_ml.potentials.training.options import LossOptions
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained, untrained_model


def test_two_charges():
    """A charge of +1 and of -1 at a distance of 2 Å: 2 e Å, wherever they lie."""
    atoms = Atoms("NaCl", [[5, 5, 7], [5, 5, 5]])
    np.testing.assert_allclose(dipole_of(np.array([1.0, -1.0]), atoms), [0, 0, 2], atol=1e-12)


def test_an_ion_is_seen_from_its_centre_of_mass():
    atoms = Atoms("HH", [[0, 0, 0], [0, 0, 1]])
    for shift in (0, 10):
        atoms.positions[:, 0] += shift
        np.testing.assert_allclose(dipole_of(np.array([0.0, 1.0]), atoms), [0, 0, 0.5], atol=1e-12)


def labelled(dipole, **cell) -> Atoms:
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1]], **cell)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)))
    if dipole is not None:
        atoms.calc.results["dipole"] = np.array(dipole)
    return atoms


def test_dipoles_are_read_in_their_unit(tmp_path):
    path = tmp_path / "frames.xyz"
    write(path, [labelled([0, 0, 1.5]), labelled(None), labelled([0, 0, 1.5], cell=[9, 9, 9], pbc=True)])
    first, without, periodic = AseFile(path=path).read()
    np.testing.assert_allclose(first.calc.results["dipole"], [0, 0, 1.5])
    assert "dipole" not in without.calc.results
    assert "dipole" not in periodic.calc.results
    in_debye = AseFile(path=path, dipole_unit="Debye").read()[0]
    np.testing.assert_allclose(in_debye.calc.results["dipole"], [0, 0, 1.5 * units.Debye])
    assert dataset_hash([first]) != dataset_hash([in_debye])


def test_dipoles_under_another_name(tmp_path):
    atoms = labelled(None)
    atoms.info["mu"] = [0.0, 0.0, 1.0]
    write(tmp_path / "frames.xyz", atoms)
    (found,) = AseFile(path=tmp_path / "frames.xyz", dipole_key="mu", dipole_unit="e Bohr").read()
    np.testing.assert_allclose(found.calc.results["dipole"], [0, 0, units.Bohr])


@pytest.mark.parametrize("dipole", [[0.0, 1.0], [0.0, 0.0, np.nan]])
def test_a_dipole_that_is_none_is_refused(tmp_path, dipole):
    atoms = labelled(None)
    atoms.info["mu"] = dipole
    write(tmp_path / "frames.traj", atoms)
    with pytest.raises(DatasetError, check=told(name="dipole")):
        AseFile(path=tmp_path / "frames.traj", dipole_key="mu").read()


def test_dispersion_leaves_the_dipole_alone():
    pytest.importorskip("dftd3")
    atoms = labelled([0, 0, 1.5])
    (found,) = less_terms([atoms], [{"d3": {"functional": "PBE"}}])
    assert found.calc.results["dipole"] == pytest.approx(atoms.calc.results["dipole"])
    assert found.calc.results["energy"] != atoms.calc.results["energy"]


@pytest.mark.parametrize("structure", ["H2O", "nitrate"])
def test_generated_frames_have_dipoles_seen_from_the_centre_of_mass(structure, tmp_path):
    """What tblite, which takes the origin, says of the frame once its centre of mass lies there."""
    xtb = pytest.importorskip("asecalc_ml.calculators.xtb")
    start = load_structure(structure)
    start.translate([3.0, 0.0, 0.0])
    write(tmp_path / "start.xyz", start)
    options = GenerateOptions(
        structure=str(tmp_path / "start.xyz"),
        temperatures_K=[300.0],
        n_frames=1,
        equilibration_ps=0,
        interval_fs=5,
        output=tmp_path / "frames.xyz",
    )
    options.run(quiet=True)
    (frame,) = AseFile(path=options.output).read()
    atoms = Atoms(frame.numbers, from_centre_of_mass(frame), info={"charge": frame.info["charge"]})
    atoms.calc = xtb.GFN2()
    assert frame.get_center_of_mass()[0] == pytest.approx(3.0, abs=0.1)
    assert atoms.info["charge"] == (0 if structure == "H2O" else -1)
    np.testing.assert_allclose(frame.calc.results["dipole"], atoms.get_dipole_moment(), atol=1e-4)


PHYSNET = PhysNet(hidden_channels=8, n_rbf=6, n_layers=1, max_atomic_number=10)


@pytest.fixture
def calculator():
    ethanol = load_structure("ethanol")
    register_untrained("charges", PHYSNET, ethanol, dtype=torch.float64, charges=[0, 1])
    return MLCalculator("charges", compile="never")


def test_charges_sum_to_the_total_charge(calculator):
    for charge in (0, 1):
        atoms = load_structure("ethanol")
        atoms.info["charge"] = charge
        atoms.calc = calculator
        assert atoms.get_charges().shape == (9,)
        assert atoms.get_charges().sum() == pytest.approx(charge, abs=1e-12)
        assert np.ptp(atoms.get_charges()) > 0.01


def test_the_dipole_turns_with_the_molecule(calculator):
    atoms = load_structure("ethanol")
    atoms.info["charge"] = 1
    turned = atoms.copy()
    turned.rotate(120, (1, 1, 1))  # x to y, y to z, z to x
    turned.translate([30.0, 0.0, 0.0])
    atoms.calc = turned.calc = calculator
    before, after = atoms.get_dipole_moment(), turned.get_dipole_moment()
    np.testing.assert_allclose(after, before[[2, 0, 1]], atol=1e-9)
    np.testing.assert_allclose(before, atoms.get_charges() @ from_centre_of_mass(atoms), atol=1e-12)


def test_a_periodic_structure_has_charges_and_no_dipole(calculator):
    atoms = load_structure("ethanol")
    atoms.set_cell(12 * np.eye(3))
    atoms.pbc = True
    atoms.calc = calculator
    assert len(atoms.get_charges()) == 9
    with pytest.raises(PropertyNotImplementedError, match="pbc"):
        atoms.get_dipole_moment()


def test_models_without_charges_offer_none(tiny_model_file):
    atoms = load_structure("ethanol")
    atoms.calc = MLCalculator(tiny_model_file)
    for name in ("charges", "dipole"):
        assert name not in atoms.calc.implemented_properties
        with pytest.raises(PropertyNotImplementedError, match=f"no {name}"):
            atoms.calc.get_property(name, atoms)
    atoms.get_potential_energy()
    assert not {"charges", "dipole"} & set(atoms.calc.results)


def test_many_at_once_have_their_own_charges(calculator):
    ethanol = load_structure("ethanol")
    structures = [ethanol, ethanol[:4]]
    for found, atoms in zip(calculator.calculate_many(structures), structures, strict=True):
        np.testing.assert_allclose(found["charges"], calculator.get_property("charges", atoms), atol=1e-12)
        np.testing.assert_allclose(found["dipole"], calculator.get_property("dipole", atoms), atol=1e-12)


@pytest.mark.slow
def test_compiled_charges_are_the_eager_ones(calculator):
    ethanol = load_structure("ethanol")
    compiled = MLCalculator("charges", compile="always")
    for atoms in (ethanol, _rattled(ethanol)):
        for name in ("energy", "forces", "charges", "dipole"):
            found = compiled.get_property(name, atoms)
            np.testing.assert_allclose(found, calculator.get_property(name, atoms), rtol=1e-9, atol=1e-9)
    assert compiled.checkpoint_state()["compiled"]


def _rattled(atoms: Atoms) -> Atoms:
    rattled = atoms.copy()
    rattled.rattle(0.05, seed=1)
    return rattled


# ------------------------------------------------------------------------------------------------ learning


def water(shared_data, n_frames: int) -> list[Atoms]:
    """Water with labels in atomic units; its `force` is the gradient of `potential`."""
    found = []
    file = shared_data / "water_response" / "water_monomers_1k_with_energies_and_gradients.xyz"
    for atoms in read(file, f":{n_frames}"):
        forces = -atoms.arrays["force"] * units.Hartree / units.Bohr
        labels = {"energy": atoms.info["potential"] * units.Hartree, "forces": forces}
        molecule = Atoms(atoms.numbers, atoms.positions)
        molecule.calc = SinglePointCalculator(molecule, **labels, dipole=atoms.info["mu"] * units.Bohr)
        found.append(molecule)
    return found


def training(folder, frames: list[Atoms], **changes) -> TrainOptions:
    write(folder / "frames.traj", frames)
    given = {
        "name": "water",
        "data": {"format": "ase", "path": str(folder / "frames.traj")},
        "split": {"n_train": len(frames) - 20, "n_validation": 10, "n_test": 10},
        "model": {"architecture": "physnet", **PHYSNET.model_dump(), "hidden_channels": 16, "n_rbf": 12},
        "loss": {"dipole_weight": 10.0},
        "optimizer": {"warmup_steps": 10, "ema_decay": 0.8, "learning_rate": 5e-3},
        "max_epochs": 15,
        "directory": folder / "training",
    }
    return parse_options(given | changes, TrainOptions, "test")


@pytest.mark.slow
def test_dipoles_are_learned(shared_data, tmp_path):
    """In a minute to a sixth of what they vary by, and the calculator gives what the card says."""
    frames = water(shared_data, 100)
    options = training(tmp_path, frames)
    card = train(options, quiet=True).card
    spread = 1000 / units.Debye * np.std([atoms.calc.results["dipole"] for atoms in frames], axis=0).mean()
    assert card.metrics.dipole_mae_mD < spread / 6
    assert "val_dipole_mae_mD" in (options.directory / "metrics.csv").read_text()
    test = json.loads((options.directory / "split.json").read_text())["test"]
    calculator = MLCalculator("water")
    found = [calculator.get_property("dipole", frames[k]) - frames[k].calc.results["dipole"] for k in test]
    assert 1000 / units.Debye * np.abs(found).mean() == pytest.approx(card.metrics.dipole_mae_mD, rel=1e-3)


OFFSET = np.array([0.0, 0.0, 0.5])


def test_the_loss_on_dipoles_has_no_origin():
    """Labels that are a model's own dipoles and a little more, wherever ions and molecules lie."""
    model = untrained_model(PHYSNET)
    structures = [load_structure("ethanol"), load_structure("ethanol")[:5]]
    structures[1].info["charge"] = 1
    frames = []
    for atoms, shift in zip(structures, (0, 50), strict=True):
        atoms.translate([shift, 0, 0])
        charges = Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)).charges.numpy()
        labels = {"energy": 0.0, "forces": atoms.positions, "dipole": dipole_of(charges, atoms) + OFFSET}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(LabelledGraph.from_atoms(atoms, model.cutoff, ["energy", "dipole"]))
    (batch,) = loader(frames, model.cutoff, 2)
    for forward in (eager_forward(model), eager_forward(model, with_gradient=False)):
        errors = dipole_errors(forward(batch.inputs), batch).detach().numpy()
        np.testing.assert_allclose(errors, [-OFFSET, -OFFSET, 0 * OFFSET], atol=1e-12)


def test_the_penalty_is_a_part_of_the_loss():
    """Of two frames alike it is that of one, and the ghost's does not count."""
    model = untrained_model(PhysNet(**PHYSNET.model_dump() | {"n_layers": 2}))
    atoms = load_structure("ethanol")
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=atoms.positions)
    frame = LabelledGraph.from_atoms(atoms, model.cutoff)
    losses = []
    for n_frames, weight in ((1, 0.0), (1, 1.0), (2, 1.0)):
        (batch,) = loader(n_frames * [frame], model.cutoff, n_frames)
        predicted = eager_forward(model)(batch.inputs)
        losses.append(total_loss(predicted, batch, LossOptions(penalty_weight=weight)).item())
    with_ghost_dropped = model(batch.inputs).potential.penalty[0]
    assert losses[1] - losses[0] == pytest.approx(float(with_ghost_dropped), rel=1e-6)
    assert losses[2] == pytest.approx(losses[1], rel=1e-9)


def test_dipoles_need_charges(tmp_path):
    frames = [labelled([0, 0, 1.0])] * 30
    with pytest.raises(
        TrainingError, check=told(name="loss.dipole_weight", value=10.0, remedy="charges: true")
    ):
        train(training(tmp_path, frames, model={"architecture": "tensornet"}), quiet=True)


def test_dipoles_alone_are_no_model(tmp_path):
    loss = {"dipole_weight": 1.0, "energy_weight": 0, "forces_weight": 0}
    with pytest.raises(ConfigError, check=told(name="loss", problem="energy_weight")):
        training(tmp_path, [labelled([0, 0, 1.0])] * 30, loss=loss)


def test_some_frame_needs_a_dipole(tmp_path):
    frames = [labelled(None)] * 30
    with pytest.raises(
        TrainingError, check=told(name="loss.dipole_weight", problem="20 frames", remedy=True)
    ):
        train(training(tmp_path, frames, split={"n_train": 20, "n_validation": 9, "n_test": 1}), quiet=True)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_traced_step_of_outputs_that_start_at_zero_is_compared(dynamic):
    """Without shaken weights both sides would be zero. A step that loses the charges is found out."""
    torch.manual_seed(0)
    model = Model(PHYSNET.build())
    inputs = with_ghost(AtomGraph.from_atoms(load_structure("ethanol"), model.cutoff), model.cutoff)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_training_step(model, inputs, dynamic=dynamic)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(RuntimeError, match="differ"):
        check_training_step(model, inputs, dynamic=dynamic, make_graph=_without_dipoles)


def _without_dipoles(model, weights, batch, loss, dynamic):
    """A step of a loss that charges have no part in."""
    return step_graph(model, weights, batch, loss.model_copy(update={"dipole_weight": 0.0}), dynamic)

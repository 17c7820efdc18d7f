"""Errors by group of frames, beside predictors whose errors are counted by hand."""

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.errors import DatasetError, TrainingError
from asecalc_ml.potentials.datasets import dataset
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.baselines import mean_errors, table, zero_errors
from asecalc_ml.potentials.training.evaluate import evaluate_model

SMALL = {"architecture": "tensornet", "hidden_channels": 8, "n_layers": 1, "n_rbf": 8, "cutoff_A": 4.0}


def labelled(name: str, energy: float, force: float, group: str = "") -> Atoms:
    atoms = molecule(name)
    atoms.info["group"] = group
    forces = np.full((len(atoms), 3), force)
    forces[0] *= 2
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def test_the_mean_is_that_of_each_atom_where_frames_list_the_same_atoms():
    training = [labelled("H2O", -10.0, 0.1), labelled("H2O", -14.0, 0.3)]
    per_atom, forces = mean_errors(training, [labelled("H2O", -15.0, 0.5)])
    assert per_atom.tolist() == pytest.approx([3.0 / 3])
    assert forces.reshape(3, 3)[:, 0].tolist() == pytest.approx([0.4 - 1.0, 0.2 - 0.5, 0.2 - 0.5])


def test_the_mean_is_that_of_each_element_otherwise():
    """Hydrogen: 0.1 twice from water, and 0.3 four times from methane, on average 7/30."""
    training = [labelled("H2O", -6.0, 0.1), labelled("CH4", -9.0, 0.3)]
    _, forces = mean_errors(training, [labelled("H2O", -6.0, 0.0), labelled("NH3", 0.0, 0.0)])
    expected = [0.2, 7 / 30, 7 / 30, 0.0, 7 / 30, 7 / 30, 7 / 30]  # nitrogen was never seen
    assert forces.reshape(-1, 3)[:, 1].tolist() == pytest.approx(expected)


def test_zero_has_the_errors_of_the_labels_themselves():
    per_atom, forces = zero_errors([labelled("H2O", -6.0, 0.1)])
    assert len(per_atom) == 0
    assert np.abs(forces).mean() == pytest.approx((2 + 1 + 1) * 0.1 / 3)


def test_a_table_shows_thousandths_and_leaves_out_what_is_not_there():
    lines = table({"all": {"zero forces": (np.empty(0), np.array([0.003, -0.004]))}}, {"all": "7"})
    assert lines[1].split() == ["all", "zero", "forces", "7", "3.50", "3.54", "-", "-"]
    assert len(table({"all": {"zero forces": (np.empty(0), np.empty(0))}}, {"all": "7"})) == 1


@pytest.fixture
def options(tmp_path):
    """Water, quiet and hot, held out in proportion."""
    random, frames = np.random.default_rng(0), []
    for k in range(30):
        group = ("quiet", "hot")[k % 3 == 0]
        frames.append(labelled("H2O", -6.0 + 0.01 * k, 0.1 if group == "quiet" else 1.0, group))
        frames[-1].positions += random.normal(scale=0.03, size=(3, 3))
        frames[-1].calc.atoms = frames[-1].copy()
    write(tmp_path / "frames.traj", frames)
    return TrainOptions(
        name="water",
        data={"format": "ase", "path": str(tmp_path / "frames.traj")},
        split={"n_train": 18, "n_validation": 3, "n_test": 9, "stratify_by": "group"},
        model=SMALL,
        max_epochs=1,
        directory=tmp_path / "training",
    )


def test_energies_of_another_composition_are_relative_to_their_mean(options, tmp_path):
    """The model has seen water alone; the others' energies are off by a constant for each formula."""
    train(options, quiet=True)
    model = MLCalculator("water", compile="never")
    frames = []
    for name, offset in (("H2O", 0.0), ("H2O2", 3.0), ("H2", -40.0)):
        for seed in range(4):
            atoms = molecule(name)
            atoms.rattle(0.02, seed=seed)
            error = (-1) ** seed * 0.01
            energy, forces = model.get_potential_energy(atoms) - offset - error, model.get_forces(atoms)
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            frames.append(atoms)
    for by in (None, "kind"):
        for k, atoms in enumerate(frames):
            atoms.info["kind"] = str(k // 2 % 2)
        write(tmp_path / "others.xyz", frames, format="extxyz")
        data = dataset({"format": "ase", "path": str(tmp_path / "others.xyz")})
        found = evaluate_model("water", data, by)
        assert found.metrics.energy_mae_meV == pytest.approx(10, abs=0.01)
        assert found.relative == {"H2O2": 4, "H2": 4}
        assert "energies of H2 are relative to their mean over 4 frames" in str(found)


def test_held_out_frames_are_measured_again_by_group(options):
    """Without a file: the card's options give the same frames, and the same errors as in the card."""
    card = train(options, quiet=True).card
    found = evaluate_model("water")
    measured, stated = (
        metrics.model_dump(exclude_none=True, exclude={"quantities"})
        for metrics in (found.metrics, card.metrics)
    )
    assert measured == pytest.approx(stated, rel=1e-5)
    assert {name: len(errors["model"][0]) for name, errors in found.groups.items()} == {
        "all": 9,
        "hot": 3,
        "quiet": 6,
    }
    assert np.abs(found.groups["hot"]["zero forces"][1]).mean() == pytest.approx(4 / 3)
    text = str(found)
    assert "(card:" in text
    assert sum("training mean" in line for line in text.splitlines()) == 3


def test_any_key_may_tell_groups_apart(options):
    train(options, quiet=True)
    assert set(evaluate_model("water", by="charge").groups) == {"all", "0"}
    with pytest.raises(TrainingError, check=told(name="kind", value="kind")):
        evaluate_model("water", by="kind")


def test_held_out_frames_of_other_data_are_not_guessed(options):
    train(options, quiet=True)
    other = [labelled("H2O", -7.0, 0.5, ("quiet", "hot")[k % 2]) for k in range(30)]
    write(options.data["path"], other)
    with pytest.raises(DatasetError, check=told(name=options.data["path"], remedy="eval water")):
        evaluate_model("water")
    found = evaluate_model("water", dataset(options.data))
    assert set(found.groups["hot"]) == {"model", "zero forces"}  # the training frames are gone


def test_energies_alone_have_a_table_too(options, tmp_path):
    train(options, quiet=True)
    with h5py.File(tmp_path / "ani.h5", "w") as file:
        for k in range(2):
            group = file.create_group(f"set/s01-{k}")
            group["coordinates"], group["energies"] = molecule("H2O").positions[None], [-6 / units.Hartree]
            group["species"], group["smiles"] = np.array(["O", "H", "H"], "S"), np.array(["O"], "S")
    found = evaluate_model("water", dataset({"format": "ani1", "path": str(tmp_path / "ani.h5")}), "molecule")
    assert found.metrics.forces_mae_meV_A is None
    line = next(line for line in str(found).splitlines() if "s01-1  model" in line)
    assert line.split()[2:5] == ["1", "-", "-"]

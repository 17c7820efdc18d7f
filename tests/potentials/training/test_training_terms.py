"""What is learned beside analytic terms, and charges that an architecture cannot learn from."""

import json

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.errors import TrainingError
from asecalc_ml.potentials.datasets import dataset
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.evaluate import evaluate_model
from asecalc_ml.potentials.training.frames.training_data import less_terms

ZBL = {"zbl": {"reach": 1.5}}  # wide enough to reach bonded atoms
MODELS = {
    "equivariant-transformer": {"hidden_channels": 16, "n_layers": 1, "n_rbf": 8, "n_heads": 2},
    "tensornet": {"hidden_channels": 8, "n_layers": 1, "n_rbf": 8},
}


def frames(charges=(0,)) -> list:
    """Rattled methanol, in one charge after the other, with EMT's energies and forces."""
    random, found = np.random.default_rng(0), []
    for k in range(24):
        atoms = molecule("CH3OH")
        atoms.info["charge"] = charges[k % len(charges)]
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        found.append(atoms)
    return found


def options(folder, architecture="equivariant-transformer", charges=(0,), **changes) -> TrainOptions:
    write(folder / "frames.xyz", frames(charges), format="extxyz")
    return TrainOptions(
        name="methanol",
        data={"format": "ase", "path": str(folder / "frames.xyz")},
        split={"n_train": 12, "n_validation": 4, "n_test": 8},
        model={"architecture": architecture, **MODELS[architecture]},
        optimizer={"warmup_steps": 5, "ema_decay": 0.9},
        max_epochs=2,
        directory=folder / "training",
        **changes,
    )


def test_labels_less_the_terms():
    atoms = frames()[0]
    before = dict(atoms.calc.results)
    (less,) = less_terms([atoms], ["zbl"])
    (far_less,) = less_terms([atoms], [ZBL])
    assert less.get_potential_energy() == before["energy"]  # the core does not reach bonded atoms
    assert far_less.get_potential_energy() < before["energy"] - 1.0
    assert atoms.calc.results["energy"] == before["energy"]


def test_a_model_on_top_of_terms_is_measured_and_run_with_them(tmp_path):
    """Errors in the card, of `eval` and of the calculator are those of network and terms together."""
    given = options(tmp_path, corrections=[ZBL])
    entry = train(given, quiet=True)
    stated = entry.card.metrics.forces_mae_meV_A
    assert entry.card.corrections == [ZBL]
    test = [frames()[k] for k in json.loads((tmp_path / "training" / "split.json").read_text())["test"]]
    calculator = MLCalculator("methanol")
    errors = [np.abs(calculator.get_forces(atoms) - atoms.calc.results["forces"]) for atoms in test]
    assert 1000 * np.mean(errors) == pytest.approx(stated, rel=1e-4)
    write(tmp_path / "test.xyz", test, format="extxyz")
    again = evaluate_model("methanol", dataset({"format": "ase", "path": str(tmp_path / "test.xyz")}))
    assert again.metrics.forces_mae_meV_A == pytest.approx(stated, rel=1e-4)


def test_charges_that_the_architecture_does_not_see_are_refused(tmp_path):
    check = told(name="charge", value=[-1, 1], remedy="tensornet")
    with pytest.raises(TrainingError, match="CH4O", check=check):
        train(options(tmp_path, charges=(-1, 1)), quiet=True)
    assert not (tmp_path / "training").exists()


def test_charges_that_it_sees_are_learned_from(tmp_path):
    card = train(options(tmp_path, "tensornet", charges=(-1, 1)), quiet=True).card
    assert card.charges == [-1, 1]

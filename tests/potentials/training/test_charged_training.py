"""A model that takes the total charge learns what it does, and uses it."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.optimize import BFGS
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.errors import StructureError
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.store.card import ModelCard

NITRITE, NITRONIUM = -1, 1  # bent and linear, both without unpaired electrons


def nitrogen_dioxide(charge: int, lengths=(1.2, 1.2), angle: float = 140.0) -> Atoms:
    first, second = lengths
    turned = second * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle)), 0])
    return Atoms("NO2", [[0, 0, 0], [first, 0, 0], turned], info={"charge": charge})


def labelled(n_frames: int) -> list[Atoms]:
    """Both ions in turn, stretched and bent at random, with GFN2-xTB's energies and forces."""
    random, gfn2, frames = np.random.default_rng(0), make_calculator("gfn2-xtb"), []
    for k in range(n_frames):
        charge = (NITRITE, NITRONIUM)[k % 2]
        atoms = nitrogen_dioxide(charge, random.uniform(1.08, 1.35, 2), random.uniform(95, 180))
        forces, energy = gfn2.get_forces(atoms), gfn2.get_potential_energy(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


def trained(folder: Path, n_train: int, n_epochs: int) -> ModelCard:
    """The card of a TensorNet that was trained on both ions, registered as "ions"."""
    pytest.importorskip("tblite", reason="needs tblite: pip install 'asecalc-ml[reference]'")
    write(folder / "ions.xyz", labelled(n_train + 40), format="extxyz")
    options = TrainOptions(
        name="ions",
        data={"format": "ase", "path": str(folder / "ions.xyz"), "level_of_theory": "GFN2-xTB"},
        split={"n_train": n_train, "n_validation": 10, "n_test": 30},
        model={"architecture": "tensornet", "hidden_channels": 16, "n_layers": 1, "n_rbf": 12, "cutoff_A": 4},
        optimizer={"warmup_steps": 20, "ema_decay": 0.9, "learning_rate": 3e-3},
        loss={"energy_weight": 1.0},
        batch_size=10,
        max_epochs=n_epochs,
        precision="float64",
        directory=folder / "training",
    )
    return train(options, quiet=True).card


def energies(calculator) -> np.ndarray:
    """Of one geometry as nitrite and as nitronium, eV; one and the same Atoms."""
    atoms, found = nitrogen_dioxide(NITRITE), []
    atoms.calc = calculator
    for charge in (NITRITE, NITRONIUM):
        atoms.info["charge"] = charge
        found.append(atoms.get_potential_energy())
    return np.array(found)


def relaxed_angle(charge: int, calculator: str) -> float:
    atoms = nitrogen_dioxide(charge)
    atoms.calc = make_calculator(calculator)
    assert BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=0.05, steps=200)
    return atoms.get_angle(1, 0, 2)


def test_the_card_lists_the_charges_and_the_calculator_uses_them(tmp_path):
    assert trained(tmp_path, n_train=10, n_epochs=2).charges == [NITRITE, NITRONIUM]
    calculator = MLCalculator("ions")
    nitrite, nitronium = energies(calculator)
    assert nitrite != nitronium
    with pytest.raises(StructureError, check=told(name="charge", value=0, allowed=[-1, 1], remedy=True)):
        calculator.get_potential_energy(nitrogen_dioxide(0))


@pytest.mark.slow
def test_one_model_bends_an_ion_and_straightens_the_other(tmp_path):
    """GFN2-xTB gives nitrite an angle of 117°, makes nitronium linear, and puts 21 eV between them."""
    trained(tmp_path, n_train=200, n_epochs=40)
    assert energies(MLCalculator("ions")) == pytest.approx(energies(make_calculator("gfn2-xtb")), abs=0.5)
    for charge in (NITRITE, NITRONIUM):
        assert relaxed_angle(charge, "ions") == pytest.approx(relaxed_angle(charge, "gfn2-xtb"), abs=5)

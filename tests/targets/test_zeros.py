"""Zeros of energies: stated by readers, kept by cards, and never mixed without a word."""

import re
import warnings

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from asecalc_ml.calculators import make_calculator
from asecalc_ml.errors import DatasetError, ModelError, TrainingError
from asecalc_ml.potentials.datasets import QM9, AseFile
from asecalc_ml.potentials.datasets.packed.frames import concatenated, from_arrays, to_arrays
from asecalc_ml.potentials.datasets.readers.qm9.molecules import ATOMS
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.evaluate import evaluate_model
from asecalc_ml.store.card import DatasetCard
from asecalc_ml.store.model_file import read_model, save_model
from asecalc_ml.store.registry import Registry
from asecalc_ml.targets.zeros import ATOMISATION, TOTAL, check_zeros

NAMES = ("CH4", "H2O", "NH3", "CH3OH", "C2H6", "CO2", "HCN", "C2H4", "H2CO", "CH3CHO")
RELATIVE = re.compile("zero of|relative to")
MODEL = {"architecture": "schnet", "n_atom_basis": 8, "n_interactions": 1, "n_rbf": 8}


@pytest.fixture
def molecules(tmp_path):
    """A file in QM9's names and units; totals are 0.1 Hartree an atom below those of free atoms."""
    random, frames = np.random.default_rng(0), []
    for k in range(30):
        atoms = molecule(NAMES[k % len(NAMES)])
        atoms.positions += random.normal(scale=0.03, size=atoms.positions.shape)
        total = sum(ATOMS["u0"][number] - 0.1 for number in atoms.numbers) + random.normal(scale=1e-4)
        atoms.info = {"index": k + 1, "U0": total, "epsHOMO": -0.3}
        frames.append(atoms)
    write(tmp_path / "molecules.xyz", frames, format="extxyz")
    return tmp_path / "molecules.xyz"


@pytest.fixture
def trained(molecules, tmp_path):
    """A function that trains for one epoch on energies with a zero."""

    def fit(name, energies="total", **changes):
        given = {
            "name": name,
            "target": "u0",
            "data": {"format": "qm9", "path": str(molecules), "energies": energies},
            "split": {"n_train": 16, "n_validation": 4, "n_test": 4},
            "model": MODEL,
            "max_epochs": 1,
            "directory": tmp_path / name,
        }
        return train(TrainOptions(**{**given, **changes}), quiet=True)

    return fit


def told_of_zeros(action):
    """What an action warns of zeros, and what it returns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = action()
    return [text for warning in caught if RELATIVE.search(text := str(warning.message))], result


def test_the_reader_states_what_its_energies_are_relative_to(molecules):
    total, atomisation = (QM9(path=molecules, energies=energies) for energies in ("total", "atomisation"))
    assert total.read().zeros["u0"] == total.zero_of("u0") == total.zero_of("energy") == TOTAL
    assert atomisation.read().zeros["g298"] == atomisation.zero_of("u0") == ATOMISATION
    assert "homo" not in total.read().zeros
    # 0.1 Hartree below the free atoms, for each atom
    frames = atomisation.read()
    assert frames.values("u0") == pytest.approx(-0.1 * 27.211386024 * frames.n_atoms, abs=0.02)
    assert from_arrays(to_arrays(frames)).zeros == frames.zeros
    assert concatenated([frames, frames]).zeros == frames.zeros
    with pytest.raises(DatasetError, match="have different zeros"):
        concatenated([frames, total.read()])


def test_a_card_keeps_the_zero_and_what_mixes_zeros_is_refused(trained, molecules):
    total, atomisation = trained("total"), trained("atomisation", "atomisation", seed=1)
    trained("other", seed=2)
    assert total.card.zeros == {"u0": TOTAL}
    assert atomisation.card.zeros == {"u0": ATOMISATION}
    with pytest.raises(ModelError, match=f"'total': {TOTAL}; 'atomisation': {ATOMISATION}"):
        make_calculator({"committee": {"members": ["total", "atomisation"]}})
    assert told_of_zeros(lambda: make_calculator({"committee": {"members": ["total", "other"]}}))[0] == []
    with pytest.raises(DatasetError, match="u0 have different zeros"):
        evaluate_model("total", QM9(path=molecules, energies="atomisation"))
    assert told_of_zeros(lambda: evaluate_model("total", QM9(path=molecules)))[0] == []
    with pytest.raises(TrainingError, match=r"`data`: .*`test_data`: "):
        trained("mixed", test_data={"format": "qm9", "path": str(molecules), "energies": "atomisation"})


def test_a_training_from_a_model_with_another_zero_says_so(trained):
    trained("total")
    notes, entry = told_of_zeros(lambda: trained("fine", "atomisation", init_from="total"))
    assert entry.card.ancestors[0].zeros == {"u0": TOTAL}
    sentence = f"whose u0 is relative to {TOTAL}; here it is relative to {ATOMISATION}"
    assert sentence in notes[0]
    assert sentence in " ".join(entry.card.notes)


def test_an_older_card_has_an_unknown_zero(trained):
    entry, new = trained("older"), trained("new", seed=1)
    stored = entry.card.dataset.model_dump(exclude={"zeros"})  # as earlier versions wrote it
    assert DatasetCard(**stored).zeros == {}
    model, card = read_model(entry.path)
    save_model(entry.path, model, card.model_copy(update={"dataset": DatasetCard(**stored)}))
    assert Registry().find("older").card.zeros == {}
    notes, _ = told_of_zeros(lambda: make_calculator({"committee": {"members": ["older", new.name]}}))
    assert len(notes) == 1
    assert f"the zero of u0 is not known of 'older' ('new': {TOTAL})" in notes[0]


def test_plain_files_state_a_zero_as_an_option(tmp_path):
    atoms = molecule("H2O")
    atoms.info["u0"] = -10.0
    write(tmp_path / "water.xyz", atoms, format="extxyz")
    source = {"unit": "eV", "zero": ATOMISATION}
    reader = AseFile(path=tmp_path / "water.xyz", properties={"u0": source, "homo": {"unit": "eV"}})
    assert reader.zeros_of(["u0", "homo", "energy"]) == {"u0": ATOMISATION}


@pytest.mark.parametrize(
    ("name", "warned"), [("u0", True), ("g298", True), ("homo", False), ("energy", False), ("mine", False)]
)
def test_only_quantities_with_a_zero_are_warned_of(name, warned):
    assert bool(told_of_zeros(lambda: check_zeros({"a": {}, "b": {}}, [name]))[0]) is warned
    # one that is stated makes the other worth a word
    assert told_of_zeros(lambda: check_zeros({"a": {name: TOTAL}, "b": {}}, [name]))[0]

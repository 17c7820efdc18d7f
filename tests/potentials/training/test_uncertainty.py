"""Uncertainty of trained models, `calibrate` and `eval`, from the files to the tables."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write
from raising import told
from small_training import SMALL, changed, labelled, small_options
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.cli.ml import app
from asecalc_ml.errors import ConfigError, ModelError, RunError
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.model.heads.build import build_heads
from asecalc_ml.model.heads.last_layer import LastLayerUncertainty
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.datasets import AseFile
from asecalc_ml.potentials.schnetpack import SchNet
from asecalc_ml.potentials.training import finish, train
from asecalc_ml.potentials.training.calibration.calibrate import calibrate
from asecalc_ml.potentials.training.calibration.committee import evaluate_committee
from asecalc_ml.potentials.training.evaluate import evaluate_model
from asecalc_ml.potentials.training.frames.training_data import read_data
from asecalc_ml.runs import COMMITTEE_DEVIATION, ENERGY_STD, RunReader
from asecalc_ml.store.model_file import contents_hash, read_model, read_uncertainty, save_model
from asecalc_ml.store.registry import Registry
from asecalc_ml.targets import parse_targets
from asecalc_ml.testing.models import untrained_card

SHORT = {
    "structure": "CH3OH", "relax": False, "equilibration_ps": 0, "temperature_K": 300, "timestep_fs": 0.2,
    "steps": 20, "write_every": 5, "thermo_every": 5, "checkpoint_every": 10,
}  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def options_of(folder: Path, **changes):
    folder.mkdir(exist_ok=True)
    split = {"n_train": 20, "n_validation": 12, "n_test": 8}
    return changed(small_options(folder), **{"split": split, "max_epochs": 8, **changes})


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model that was trained once for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASECALC_ML_HOME", str(folder / "models"))
        return train(options_of(folder / "data"), quiet=True).path


@pytest.fixture
def trained(model_file):
    return Registry().add(model_file)


# ------------------------------------------------------------------------------------------- at the end


def test_a_training_ends_with_an_uncertainty(trained):
    stated = trained.card.uncertainty["energy"]
    assert (stated.n_train, stated.n_validation) == (20, 12)
    assert stated.n_features == SMALL["hidden_channels"] // 2 + 1
    assert len(read_uncertainty(trained.path).factors["energy"]) == stated.n_features
    assert 0 <= stated.miscalibration_area < 0.3
    calculator = MLCalculator("methanol")
    inside = [calculator.get_property("energy_std", atoms) for atoms in labelled(n_frames=20, seed=7)]
    broken = molecule("CH3OH")
    broken.set_distance(0, 1, 3.0, fix=0)
    assert calculator.get_property("energy_std", broken) > np.median(inside)


def test_too_few_validation_frames_leave_it_out(tmp_path):
    entry = train(
        options_of(tmp_path / "data", split={"n_train": 20, "n_validation": 8, "n_test": 8}), quiet=True
    )
    assert entry.card.uncertainty == {}
    assert read_uncertainty(entry.path) is None


def test_a_fit_that_fails_costs_no_training(tmp_path, monkeypatch):
    def fails(*args):
        raise ModelError("features are not finite", remedy="look at them")

    monkeypatch.setattr(finish, "fit_uncertainty", fails)
    with pytest.warns(UserWarning, match="no uncertainty: features are not finite"):
        entry = train(options_of(tmp_path / "data"), quiet=True)
    assert entry.card.uncertainty == {}
    assert MLCalculator(entry.name).implemented_properties


# -------------------------------------------------------------------------------------------- calibrate


def test_calibrate_gives_what_the_training_gave(trained, tmp_path):
    factor = read_uncertainty(trained.path).factors["energy"]
    energy = MLCalculator("methanol").get_potential_energy(molecule("CH3OH"))
    before = trained.card
    assert run("calibrate", "methanol").exit_code == 0
    again = Registry().find("methanol")
    assert read_uncertainty(again.path).factors["energy"] == pytest.approx(factor, rel=1e-6, abs=1e-9)
    assert again.card.model_copy(update={"uncertainty": before.uncertainty}) == before
    assert MLCalculator("methanol").get_potential_energy(molecule("CH3OH")) == energy
    # other structures, under another name
    frames = labelled(n_frames=30, seed=3)
    write(tmp_path / "new.xyz", frames[:15] + labelled(n_frames=2), format="extxyz")
    write(tmp_path / "old.xyz", labelled(n_frames=40), format="extxyz")
    result = run(
        "calibrate", "methanol", "--training", tmp_path / "old.xyz", "--validation", tmp_path / "new.xyz",
        "--as", "other",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "other (" in result.stdout
    assert "energy_std: alpha" in result.stdout
    other = Registry().find("other")
    assert other.card.name == "other"
    assert (other.card.uncertainty["energy"].n_train, other.card.uncertainty["energy"].n_validation) == (
        40,
        15,
    )
    assert contents_hash(other.path) != contents_hash(again.path)


def test_validation_structures_that_trained_are_left_out(trained, tmp_path):
    write(tmp_path / "new.xyz", labelled(n_frames=12, seed=3) + labelled(), format="extxyz")
    write(tmp_path / "old.xyz", labelled(), format="extxyz")
    old, new = (AseFile(path=tmp_path / name) for name in ("old.xyz", "new.xyz"))
    with pytest.warns(UserWarning, match="40 of the 52 validation structures"):
        entry = calibrate("methanol", old, new)
    assert entry.card.uncertainty["energy"].n_validation == 12


def test_what_cannot_be_calibrated_is_one_paragraph(trained, model_file, tmp_path):
    write(tmp_path / "few.xyz", labelled(n_frames=5, seed=3), format="extxyz")
    write(tmp_path / "old.xyz", labelled(), format="extxyz")
    (tmp_path / "ethanol.xyz").write_text("3\n\nO 0 0 0\n")
    few, old = ("--validation", tmp_path / "few.xyz"), ("--training", tmp_path / "old.xyz")
    content = trained.path.read_bytes()
    for arguments, problem in (
        (["torchmdnet-ethanol"], "ships with the package"),
        (["methanol", *few], "one of --training and --validation is missing"),
        (["methanol", *old, *few], "5 validation structures of few"),
        (["methanol", *old, "--validation", tmp_path / "ethanol.xyz"], "ethanol.xyz"),
        (["methanol", "--as", "methanol"], "exists"),
        (["methano"], "no model named 'methano'"),
        (["methanol", "--energy-unit", "eV"], "option of a dataset's reader"),
        (["methanol", "--as", "a/b"], "cannot be a model's name"),
        ([model_file], "is not in the registry"),
    ):
        result = run("calibrate", *arguments)
        assert (result.exit_code, problem in result.stderr) == (2, True), (arguments, result.stderr)
        assert "Traceback" not in result.stderr
    assert trained.path.read_bytes() == content


def test_labels_with_another_zero_are_noticed(trained, tmp_path):
    """Shifted energies give a warning, and compositions that were not trained on are left out."""
    shifted = labelled(n_frames=15, seed=3)
    for atoms in shifted:
        atoms.calc.results["energy"] += 1000.0
    write(tmp_path / "old.xyz", labelled(n_frames=20), format="extxyz")
    write(tmp_path / "shifted.xyz", shifted, format="extxyz")
    write(tmp_path / "ethanol.xyz", labelled("CH3CH2OH", 15, seed=3), format="extxyz")
    command = ["calibrate", "methanol", "--as", "other", "--training", tmp_path / "old.xyz", "--validation"]
    with pytest.warns(UserWarning, match="mostly one constant, -999"):
        assert run(*command, tmp_path / "shifted.xyz").exit_code == 0
    with pytest.warns(UserWarning, match="15 of the 15 validation structures"):
        result = run(*command, tmp_path / "ethanol.xyz", "--replace")
    assert (result.exit_code, "too few" in result.stderr) == (2, True), result.stderr


def test_a_model_of_vectors_has_no_scalar_to_calibrate(tmp_path):
    options = SchNet(n_atom_basis=8, n_interactions=1, n_rbf=8)
    torch.manual_seed(0)
    potential = options.build()
    model = Model(potential, heads=build_heads([parse_targets("dipole")[0].as_quantity()], potential))
    Registry().add_model(model, untrained_card("vector", options, model, molecule("CH3OH")))
    with pytest.raises(ModelError, check=told(name="vector", remedy="committee")):
        calibrate("vector")


@pytest.mark.parametrize("held", [{}, {"energy": np.eye(4)}, {"forces": np.eye(9)}])
def test_an_uncertainty_that_its_card_does_not_state_is_damage(trained, tmp_path, held):
    """A file that another program has written: its checksum is right."""
    model, card = read_model(trained.path)
    save_model(tmp_path / "strange.safetensors", model, card, uncertainty=LastLayerUncertainty(held))
    with pytest.raises(ModelError, match="and its card states", check=told(remedy="damaged")):
        MLCalculator(tmp_path / "strange.safetensors").get_property("energy_std", molecule("CH3OH"))


# ----------------------------------------------------------------------------------------------- eval


def test_eval_shows_the_calibration_and_draws_it(trained, tmp_path):
    result = run("eval", "methanol", "--directory", tmp_path / "figures")
    assert result.exit_code == 0, result.stderr
    assert "miscalibration" in result.stdout
    assert (tmp_path / "figures/calibration.png").read_bytes()[:4] == b"\x89PNG"
    (measured,) = evaluate_model("methanol").calibrations
    assert (measured.quantity, measured.n_values) == ("energy", 8)
    result = run("eval", "torchmdnet-ethanol", *ethanol_frames(tmp_path), "--directory", tmp_path / "none")
    assert (result.exit_code, "nothing to draw" in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "none").exists()


def ethanol_frames(folder):
    write(folder / "ethanol.xyz", labelled("CH3CH2OH", 3), format="extxyz")
    return [folder / "ethanol.xyz"]


def test_a_committee_is_scaled_on_validation_frames(tmp_path):
    """Two seeds on one split: the factor is that of the frames that trained no member."""
    first = options_of(tmp_path / "data", name="m0")
    train(first, quiet=True)
    split = {"file": str(first.training_directory / "split.json")}
    train(changed(first, name="m1", seed=1, split=split, directory=tmp_path / "other"), quiet=True)
    spec = {"committee": {"members": ["m0", "m1"]}}
    evaluation = evaluate_committee(spec)
    assert [one.quantity for one in evaluation.calibrations] == ["energy", "forces"]
    assert evaluation.calibrations[0].n_values == 8
    assert evaluation.scales["energy"].n_structures == 12
    committee, frames = Committee(["m0", "m1"]), _validation(first)
    errors = [committee.get_potential_energy(atoms) - atoms.get_potential_energy() for atoms in frames]
    stds = [committee.get_property("energy_std", atoms) for atoms in frames]
    factor = np.sqrt(np.mean((np.array(errors) / stds) ** 2))
    assert evaluation.scales["energy"].factor == pytest.approx(factor, rel=1e-3)
    result = run("eval", "{committee: {members: [m0, m1]}}", "--directory", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert f"std × {factor:.3g}" in result.stdout
    assert "cannot be relied on: of 2 members" in result.stdout
    assert (tmp_path / "calibration.png").read_bytes()[:4] == b"\x89PNG"
    # its members' own uncertainties are not mixed in
    assert committee.get_property("energy_std", frames[0]) == pytest.approx(
        np.std([MLCalculator(name).get_potential_energy(frames[0]) for name in ("m0", "m1")], ddof=1),
        rel=1e-3,
    )
    result = run("eval", "{committee: {members: [m0, m1]}}", "--by", "group")
    assert result.exit_code == 2


def _validation(options):
    return read_data(options, None).validation


def test_members_that_are_the_same_come_out_uncalibrated(trained, tmp_path):
    Registry().add(trained.path, "same")
    Registry().note("same", "A copy.")
    evaluation = evaluate_committee({"committee": {"members": ["methanol", "same"]}})
    energy = evaluation.calibrations[0]
    assert (energy.stds == 0).all()
    assert (energy.miscalibration_area, energy.fitted_scale, evaluation.scales) == (0.5, None, {})
    assert "8 of 8 standard deviations are zero, and no factor calibrates them" in str(evaluation)


def test_only_committees_are_given_as_mappings(trained):
    with pytest.raises(ConfigError, check=told(name="name", remedy="committee")):
        evaluate_committee({"methanol": {"dtype": "float64"}})


# --------------------------------------------------------------------------------------------- dynamics


def test_dynamics_stop_flag_and_record(trained, tmp_path):
    """The same for a model alone and a committee: rows hold what the calculator states."""
    plain = NVE(calculator="methanol", **SHORT).run(directory=tmp_path / "plain", quiet=True)
    assert ENERGY_STD not in plain.read_thermo()
    flagged = NVE(calculator="methanol", **SHORT, flag={"energy_std_eV": 1e-6, "interval_fs": 1.0})
    recorded = flagged.run(directory=tmp_path / "flagged", quiet=True)
    expected = [MLCalculator("methanol").get_property("energy_std", atoms) for atoms in recorded.frames()]
    assert recorded.read_thermo()[ENERGY_STD] == pytest.approx(expected, rel=1e-3)
    assert recorded.read_thermo()["potential_eV"] == pytest.approx(plain.read_thermo()["potential_eV"], abs=0)
    assert recorded.count_flagged() == 5
    with pytest.raises(RunError, check=told(value="standard deviation of the energy is")):
        NVE(calculator="methanol", **SHORT, stop={"energy_std_eV": 1e-6}).run(
            directory=tmp_path / "stopped", quiet=True
        )
    assert RunReader(tmp_path / "stopped").count_flagged() == 1


def test_dynamics_of_a_committee_knows_its_energy(trained, tmp_path):
    train(options_of(tmp_path / "data", name="second", seed=1, directory=tmp_path / "2"), quiet=True)
    spec = {"committee": {"members": ["methanol", "second"]}}
    options = NVE(calculator=spec, **SHORT, flag={"energy_std_eV": 1e-9})
    rows = options.run(directory=tmp_path / "run", quiet=True).read_thermo()
    assert (rows[ENERGY_STD] > 0).all()
    assert (rows[COMMITTEE_DEVIATION] > 0).all()


def test_dynamics_without_an_uncertainty_is_refused_before_it_begins(tmp_path):
    options = NVE(
        **{**SHORT, "structure": "ethanol"}, calculator="torchmdnet-ethanol", stop={"energy_std_eV": 0.1}
    )
    with pytest.raises(ConfigError, check=told(name="energy_std_eV", remedy="calibrate torchmdnet-ethanol")):
        options.run(directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()

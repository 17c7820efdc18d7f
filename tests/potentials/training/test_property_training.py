"""Trainings on other targets than the energy: from options to cards, `eval`, and refusals."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read, write
from pydantic import ValidationError
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml.analysis.comparing.parity import Parity
from asecalc_ml.calculators.ml_calculator import check_trained
from asecalc_ml.cli.ml import app
from asecalc_ml.errors import ConfigError, DatasetError, ModelError, StructureError, TrainingError
from asecalc_ml.potentials.datasets import AseFile
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.evaluate import evaluate_model
from asecalc_ml.potentials.training.frames.batches import StoredFrames
from asecalc_ml.potentials.training.frames.labelled_graphs import LabelledGraph
from asecalc_ml.potentials.training.losses import total_loss
from asecalc_ml.potentials.training.optimization.agreement import check_step
from asecalc_ml.potentials.training.optimization.eager import eager_step, energies_alone
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.whole_step import step_graph, step_of
from asecalc_ml.potentials.training.run import check
from asecalc_ml.potentials.training.targets.evaluate import standardized_errors
from asecalc_ml.potentials.training.targets.scaling import fit_target_scaling
from asecalc_ml.potentials.training.trainer import build_model
from asecalc_ml.store.card import QuantityErrors
from asecalc_ml.store.model_file import read_card, read_model
from asecalc_ml.targets import parse_targets

NAMES = ("CH4", "H2O", "NH3", "CH3OH", "C2H6", "CO2", "HCN", "C2H4", "H2CO", "CH3CHO")
SMALL = {"architecture": "schnet", "n_atom_basis": 16, "n_interactions": 1, "n_rbf": 8}
PAINN = {**SMALL, "architecture": "painn"}


def point_charges(atoms):
    """Dipole (e Å) and polarizability (arbitrary) of a simple rule, which turn with the molecule."""
    charge = np.where(atoms.numbers == 1, 0.2, 0.0)
    heavy = np.flatnonzero(atoms.numbers > 1)
    charge[heavy] = -charge.sum() / len(heavy)
    centred = atoms.positions - atoms.positions.mean(axis=0)
    return charge @ atoms.positions, np.eye(3) * len(atoms) + 0.1 * centred.T @ centred


def labelled(n_frames=40, seed=0):
    """Rattled molecules with a made-up homo (eV), zpve (Hartree in the file), dipole and polarizability."""
    random, frames = np.random.default_rng(seed), []
    for k in range(n_frames):
        atoms = molecule(NAMES[k % len(NAMES)])
        atoms.positions += random.normal(scale=0.03, size=atoms.positions.shape)
        distances = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
        dipole, polarizability = point_charges(atoms)
        atoms.info = {
            "epsHOMO": -8.0 + np.exp(-distances).mean(),
            "zpve": 0.01 * len(atoms) + 1e-3 * np.exp(-distances).sum(),
            "mu_vector": dipole,
            "alpha_tensor": polarizability.ravel(),
        }
        frames.append(atoms)
    return frames


def options(tmp_path, frames=None, **changes):
    write(tmp_path / "frames.xyz", labelled() if frames is None else frames, format="extxyz")
    given = {
        "name": "small",
        "data": {
            "format": "ase",
            "path": str(tmp_path / "frames.xyz"),
            "level_of_theory": "made up",
            "properties": {
                "homo": {"key": "epsHOMO", "unit": "eV"},
                "zpve": {"unit": "Hartree"},
                "polarizability": {"key": "alpha_tensor", "unit": "Bohr^3"},
            },
            "dipole_key": "mu_vector",
        },
        "target": "homo",
        "split": {"n_train": 24, "n_validation": 8, "n_test": 8},
        "model": SMALL,
        "optimizer": {"warmup_steps": 2, "ema_decay": 0.9, "learning_rate": 0.01},
        "max_epochs": 4,
        "directory": tmp_path / "training",
    }
    return TrainOptions(**{**given, **changes})


@pytest.mark.smoke
def test_a_training_on_homo_gives_a_model_of_homo(tmp_path):
    entry = train(options(tmp_path, max_epochs=30), quiet=True)
    card = entry.card
    assert [str(one) for one in card.quantities] == ["homo (eV)"]
    assert (card.quantities[0].kind, card.quantities[0].pooling) == ("intensive scalar", "mean")
    assert card.fitted == ["homo"]
    assert card.domain.energy_eV is None
    assert set(card.domain.values) == {"homo"}
    assert len({card.dataset.hash, card.dataset.validation_hash, card.dataset.test_hash}) == 3
    errors = card.metrics.quantities["homo"]
    assert errors.unit == "eV"
    assert errors.n_labelled == 8
    assert errors.mae < 0.8 * errors.spread
    # what the calculator gives is what the card was measured with
    calculator = MLCalculator(entry.name)
    data = AseFile(path=tmp_path / "frames.xyz", properties={"homo": {"key": "epsHOMO", "unit": "eV"}})
    frames = data.read_free(())
    test = json.loads((tmp_path / "training" / "split.json").read_text())["test"]
    held_out = [list(frames.values())[k] for k in test]
    off = [calculator.get_property("homo", atoms) - atoms.info["homo"] for atoms in held_out]
    assert np.abs(off).mean() == pytest.approx(errors.mae, rel=1e-4)
    measured = evaluate_model(entry.name)
    assert measured.metrics.quantities["homo"].mae == pytest.approx(errors.mae, rel=1e-4)
    assert "homo: MAE" in str(measured)


def test_a_model_of_homo_has_no_energy(tmp_path):
    entry = train(options(tmp_path, max_epochs=1), quiet=True)
    atoms, calculator = molecule("CH3OH"), MLCalculator(entry.name)
    atoms.calc = calculator
    assert calculator.implemented_properties == ["homo"]
    for ask in (atoms.get_potential_energy, atoms.get_forces, atoms.get_stress):
        with pytest.raises(PropertyNotImplementedError, match="'small' predicts homo, not energies"):
            ask()
    with pytest.raises(PropertyNotImplementedError, match="not energies"):
        calculator.get_hessian(atoms)
    with pytest.raises(ModelError, match="not energies"):
        calculator.prepare(atoms)
    from asecalc_ml.md_protocols.nve import NVE
    from asecalc_ml.md_protocols.relax import Relax

    for protocol in (NVE(steps=1), Relax()):
        with pytest.raises(ModelError, match=r"predicts homo, not energies.*needs energies and forces"):
            protocol.run(atoms, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_units_are_converted_once_and_references_are_fitted(tmp_path):
    """ZPVE in Hartree becomes eV; sums of elements explain most of it."""
    frames = labelled()
    entry = train(options(tmp_path, frames, target="zpve", max_epochs=2), quiet=True)
    low, high = entry.card.domain.values["zpve"]
    everything = np.array([atoms.info["zpve"] for atoms in frames]) * 27.211386
    assert everything.min() - 1e-6 <= low < high <= everything.max() + 1e-6
    model, _ = read_model(entry.path)
    assert model.pooling == "sum"
    counts = np.array([[(atoms.numbers == z).sum() for z in (1, 6, 7, 8)] for atoms in frames])
    predicted = counts @ model.shift[[1, 6, 7, 8]].numpy()
    assert np.abs(predicted - everything).mean() < 0.1 * everything.std()


def test_given_references_are_used(tmp_path):
    values = {"H": 0.1, "C": 0.2, "N": 0.3, "O": 0.4}
    start = check_start(options(tmp_path, target={"zpve": {"references": values}}))
    assert start.model.shift[[1, 6, 7, 8]].tolist() == list(values.values())
    with pytest.raises(TrainingError, match="references of zpve has no entry for N"):
        check_start(options(tmp_path, target={"zpve": {"references": {"H": 0.1, "C": 0.2, "O": 0.4}}}))


def check_start(given):
    from asecalc_ml.potentials.training import TrainingRequest

    return check(TrainingRequest(given, quiet=True))


def test_several_targets_share_a_body(tmp_path):
    targets = ["homo", "zpve", "dipole", "polarizability"]
    entry = train(options(tmp_path, target=targets, model=PAINN, max_epochs=60), quiet=True)
    errors = entry.card.metrics.quantities
    assert list(errors) == targets
    assert errors["dipole"].mae < 0.3 * errors["dipole"].spread
    assert errors["polarizability"].mae < 0.1 * errors["polarizability"].spread
    atoms = molecule("CH3OH")
    expected, _ = point_charges(atoms)
    found = MLCalculator(entry.name).calculate_many([atoms])[0]
    assert found["polarizability"].shape == (3, 3)
    assert found["dipole"] == pytest.approx(expected, abs=0.1)
    header = (tmp_path / "training" / "metrics.csv").read_text().splitlines()[0]
    assert all(f"val_{name}_mae" in header for name in targets)


def test_resumed_is_uninterrupted(tmp_path):
    """Checkpoints hold the heads, too."""
    targets = ["homo", {"gap": {"pooling": "softmax"}}]
    frames = labelled()
    for atoms in frames:
        atoms.info["gap"] = -atoms.info["epsHOMO"]
    properties = {"homo": {"key": "epsHOMO", "unit": "eV"}, "gap": {"unit": "eV"}}
    data = {"format": "ase", "path": str(tmp_path / "frames.xyz"), "properties": properties}
    schedule = {
        "schedule": "one-cycle",
        "cycle_epochs": 2,
        "learning_rate": 0.01,
        "minimum_learning_rate": 1e-3,
        "final_learning_rate": 1e-4,
    }
    given = {"target": targets, "data": data, "optimizer": schedule}
    whole = train(options(tmp_path, frames, directory=tmp_path / "one", max_epochs=4, **given), quiet=True)
    train(options(tmp_path, frames, name="half", max_epochs=2, **given), quiet=True)
    more = options(tmp_path, frames, name="half", max_epochs=4, **given)
    resumed = train(more, resume=True, replace=True, quiet=True)
    for name, tensor in read_model(whole.path)[0].state_dict().items():
        assert torch.equal(tensor, read_model(resumed.path)[0].state_dict()[name]), name


def test_fine_tuning_starts_from_body_and_heads(tmp_path):
    targets = ["homo", "zpve"]
    first = train(options(tmp_path, target=targets, max_epochs=1), quiet=True)
    again = options(tmp_path, name="again", target=targets, init_from="small", directory=tmp_path / "again")
    before, after = read_model(first.path)[0], check_start(again).model
    for name, weights in before.state_dict().items():
        if not name.startswith(("scale", "shift")):
            assert torch.equal(weights, after.state_dict()[name]), name
    other = options(tmp_path, name="other", init_from="small", directory=tmp_path / "other")
    assert [quantity.name for quantity in check_start(other).model.quantities] == ["homo"]


def test_labels_that_are_missing_are_left_out_and_counted(tmp_path):
    frames = labelled()
    for atoms in frames[::2]:
        del atoms.info["epsHOMO"]
    with pytest.warns(UserWarning, match="not all of the 32 frames .* have every label: homo 1"):
        entry = train(options(tmp_path, frames, target=["homo", "zpve"], max_epochs=1), quiet=True)
    test = json.loads((tmp_path / "training" / "split.json").read_text())["test"]
    errors = entry.card.metrics.quantities
    assert errors["homo"].n_labelled == sum(number % 2 for number in test) < 8
    assert errors["zpve"].n_labelled == 8


def test_a_value_under_the_target_s_name_is_none_of_the_key(tmp_path):
    """Where some frames have `homo` of one method and `epsHOMO` of another, labels are of one method."""
    frames = labelled(n_frames=4)
    for atoms in frames:
        atoms.info["homo"] = -1.0
    del frames[1].info["epsHOMO"]
    write(tmp_path / "mixed.xyz", frames, format="extxyz")
    source = {"homo": {"key": "epsHOMO", "unit": "eV"}}
    read_again = list(AseFile(path=tmp_path / "mixed.xyz", properties=source).read_free(()).values())
    assert [atoms.info.get("homo") for atoms in read_again] == [
        pytest.approx(atoms.info["epsHOMO"]) if "epsHOMO" in atoms.info else None for atoms in frames
    ]


def batch_of(given, frames, targets):
    """A batch with all frames, and the model and loss of a training."""
    scaling = fit_target_scaling(frames, parse_targets(targets))
    model = build_model(given, scaling).set_dtype(torch.float64)
    names = [quantity.name for quantity in model.quantities]
    graphs = [LabelledGraph.from_atoms(atoms, model.cutoff, (), names) for atoms in frames]
    pairs = list(zip(model.quantities, scaling.spreads, strict=True))
    stored = StoredFrames(graphs, model.cutoff, (), targets=pairs)
    return model, next(stored.batches(np.arange(len(frames)), len(frames))), scaling


def in_memory(n_frames=5):
    frames = labelled(n_frames)
    for atoms in frames:
        atoms.info = {
            "homo": atoms.info["epsHOMO"],
            "polarizability": atoms.info["alpha_tensor"].reshape(3, 3),
        }
    return frames


def test_the_loss_is_the_mean_over_labels_in_units_of_the_spread(tmp_path):
    frames = in_memory()
    del frames[1].info["homo"]
    targets = ["homo", "polarizability"]
    given = options(tmp_path, target=targets, loss={"target_weights": {"homo": 2.0}})
    model, batch, scaling = batch_of(given, frames, targets)
    predicted = energies_alone(model, batch.inputs)
    values = model.by_name(predicted.systems[:-1].detach())
    homo = [values["homo"][k] - frames[k].info["homo"] for k in (0, 2, 3, 4)]
    alpha = [values["polarizability"][k].numpy() - frames[k].info["polarizability"] for k in range(5)]
    expected = 2 * np.mean(np.square(homo)) / scaling.spreads[0] ** 2
    expected += np.mean(np.square(alpha)) / scaling.spreads[1] ** 2
    assert total_loss(predicted, batch, given.loss).item() == pytest.approx(expected, rel=1e-9)


def test_a_traced_step_is_the_eager_one(tmp_path):
    targets = ["homo", "polarizability"]
    given = options(tmp_path, target=targets, model=PAINN)
    model, batch, _ = batch_of(given, in_memory(), targets)
    weights = FlatWeights(model)
    step = step_of(step_graph(model, weights, batch, given.loss))
    check_step(step, model, weights, [batch], given.loss)
    value, gradient = eager_step(model, weights, given.loss)(weights.values, batch)
    assert value > 0
    assert all(
        part.abs().max() > 0
        for name, part in zip(weights.names, weights.views(gradient), strict=True)
        if name.startswith("heads")
    )
    weights.release()


def test_the_best_of_the_composition_is_reported(tmp_path):
    """A model that has learned nothing of the structure gets a note in its card."""
    random, frames = np.random.default_rng(0), labelled()
    for atoms in frames:
        atoms.info["epsHOMO"] = random.normal()
    with pytest.warns(UserWarning, match="learned nothing of homo"):
        entry = train(options(tmp_path, frames, max_epochs=3), quiet=True)
    assert any("composition alone" in note for note in entry.card.notes)


# ------------------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"target": "homoo"}, "did you mean 'homo'"),
        ({"target": ["homo", "homo"]}, "each comes once"),
        ({"target": ["energy", "homo"]}, "trained with its forces"),
        ({"target": {"homo": {"poling": "softmax"}}}, "poling"),
        ({"target": {"scalar": {"name": "CO2"}}}, "CO2"),
        ({"loss": {"forces_weight": 1.0}}, "weight of a label of energies"),
        ({"loss": {"target_weights": {"lumo": 1.0}}}, "names lumo"),
        ({"loss": {"target_weights": {"homo": 0.0}}}, "above 0"),
        ({"target": "energy", "loss": {"target_weights": {"homo": 1.0}}}, "other targets than the energy"),
        ({"reference_energies_eV": {"H": -13.6}}, "is for energies"),
        ({"corrections": ["zbl"]}, "is for energies"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, changes, problem):
    with pytest.raises(ValidationError, match=problem):
        options(tmp_path, **changes)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"homo": {"key": "epsHOMO", "unit": "Debye"}}, "unknown unit of energy 'Debye'"),
        ({"dipole": {"key": "mu_vector"}}, "dipole_key"),
        ({"uptake": {"unit": "mol/kg"}}, "no registered target"),
    ],
)
def test_units_that_do_not_fit_are_refused(tmp_path, source, problem):
    with pytest.raises((ValidationError, ConfigError), match=problem):
        AseFile(path=tmp_path / "x.xyz", properties=source)


def test_labels_that_are_not_there_or_have_no_unit_are_refused(tmp_path):
    given = options(tmp_path, target="lumo")
    with pytest.raises(DatasetError, match=r"no frame has lumo.*epsHOMO"):
        check_start(given)
    frames = labelled()
    for atoms in frames:
        atoms.info["hommo"] = atoms.info["epsHOMO"]
    with pytest.raises(DatasetError, match="Did you mean 'hommo'"):
        check_start(options(tmp_path, frames, data={"format": "ase", "path": str(tmp_path / "frames.xyz")}))
    without_unit = options(tmp_path, frames, target="zpve")
    source = {**without_unit.data, "properties": {}}
    with pytest.raises(DatasetError, match=r"its unit is not known.*zpve: {key: NAME, unit: eV}"):
        check_start(options(tmp_path, frames, data=source, target="zpve"))


@pytest.mark.parametrize(
    ("value", "problem"),
    [(np.nan, "not finite"), ("low", "is not numbers"), ([1.0, 2.0], "shape"), (True, "is not numbers")],
)
def test_labels_that_would_poison_a_training_are_refused(tmp_path, value, problem):
    frames = labelled()
    frames[3].info["epsHOMO"] = value
    with pytest.raises(DatasetError, match=f"frame 3: .*{problem}"):
        check_start(options(tmp_path, frames))


def test_tensors_that_are_not_symmetric_are_refused(tmp_path):
    frames = labelled()
    frames[2].info["alpha_tensor"] = np.arange(9.0)
    with pytest.raises(DatasetError, match="frame 2: polarizability is not symmetric"):
        check_start(options(tmp_path, frames, target="polarizability", model=PAINN))


def test_dipoles_of_ions_are_refused(tmp_path):
    frames = labelled()
    frames[1].info["charge"] = 1
    frames[1].info["spin"] = 1
    with pytest.raises(TrainingError, match=r"frame 1 has charge.*origin"):
        check_start(options(tmp_path, frames, target="dipole", model=PAINN))


def test_a_scalar_of_any_name_and_unit(tmp_path):
    frames = labelled()
    for atoms in frames:
        atoms.info["co2_uptake"] = len(atoms) / 10
    data = {"format": "ase", "path": str(tmp_path / "frames.xyz")}
    target = {"scalar": {"name": "co2_uptake", "unit": "mol/kg", "extensive": True}}
    entry = train(options(tmp_path, frames, data=data, target=target, max_epochs=1), quiet=True)
    assert [str(one) for one in read_card(entry.path).quantities] == ["co2_uptake (mol/kg)"]
    assert MLCalculator(entry.name).get_property("co2_uptake", molecule("H2O")) == pytest.approx(
        0.3, abs=0.05
    )


def test_the_same_split_of_other_labels_is_another(tmp_path):
    """Hashes cover the labels of targets."""
    frames = labelled()
    first = check_start(options(tmp_path, frames)).data.split.data_hash
    frames[0].info["epsHOMO"] += 1e-3
    assert check_start(options(tmp_path, frames)).data.split.data_hash != first


@pytest.mark.slow
def test_a_compiled_training_is_the_eager_one(tmp_path):
    """Several targets in one compiled step; no warning says that it cannot be compiled."""
    given = {"target": ["homo", "polarizability"], "model": PAINN, "max_epochs": 2}
    eager = train(options(tmp_path, name="eager", directory=tmp_path / "eager", **given), quiet=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*cannot be compiled")
        compiled = train(options(tmp_path, compile=True, **given), quiet=True)
    for name, errors in eager.card.metrics.quantities.items():
        assert compiled.card.metrics.quantities[name].mae == pytest.approx(errors.mae, rel=1e-2)


@pytest.mark.slow
def test_water_has_its_dipole_polarizability_and_hyperpolarizability(tmp_path, shared_data):
    """1,000 H2O in many orientations: see the data's PROVENANCE; errors relative to a component's size."""
    frames = read(shared_data / "water_response/water_monomers_1k_with_energies_and_gradients.xyz", ":")
    for atoms in frames:
        atoms.pbc, atoms.calc = False, None
    write(tmp_path / "water.xyz", frames, format="extxyz")
    data = {
        "format": "ase",
        "path": str(tmp_path / "water.xyz"),
        "dipole_key": "mu",
        "dipole_unit": "e Bohr",
        "properties": {
            "polarizability": {"key": "alpha", "unit": "Bohr^3"},
            "hyperpolarizability": {"key": "beta", "unit": "e^3 Bohr^3/Hartree^2"},
        },
    }
    given = options(
        tmp_path,
        data=data,
        target=["dipole", "polarizability", "hyperpolarizability"],
        model={**PAINN, "n_atom_basis": 32, "n_interactions": 2, "n_rbf": 20},
        split={"n_train": 400, "n_validation": 50, "n_test": 200},
        batch_size=16,
        max_epochs=20,
        optimizer={"warmup_steps": 20, "ema_decay": 0.95, "learning_rate": 0.003},
    )
    errors = train(given, quiet=True).card.metrics.quantities
    for name, most in (("dipole", 0.03), ("polarizability", 0.01), ("hyperpolarizability", 0.05)):
        assert errors[name].mae < most * errors[name].spread, name


def test_a_scalar_does_not_take_the_name_of_another_target(tmp_path):
    """Readers convert the values of a registered target into its unit."""
    for name in ("homo", "energy"):
        with pytest.raises(ValidationError, match=f"{name} is a target of its own"):
            options(tmp_path, target={"scalar": {"name": name, "unit": "kcal"}})


def test_periodic_structures_have_no_dipole(tmp_path):
    frames = labelled()
    for atoms in frames:
        atoms.info["mu"] = 1.0
        atoms.set_cell([9, 9, 9])
        atoms.pbc = True
    given = options(tmp_path, frames, target="mu", model=PAINN)
    given.data["properties"]["mu"] = {"unit": "Debye"}
    with pytest.raises(TrainingError, match="is periodic, and has no mu"):
        check_start(given)
    card = SimpleNamespace(name="any", quantities=[target.as_quantity() for target in parse_targets("mu")])
    with pytest.raises(StructureError, match="predicts mu, which a periodic structure does not have"):
        check_trained(frames[0], card)


def test_measures_over_several_targets_are_the_published_ones():
    """DimeNet's and SchNet's rows on QM9 with the spreads of its 130,831 molecules, arXiv:2003.03123."""
    spreads = dict(
        mu=1.5035, alpha=8.1738, homo=0.5977, lumo=1.2749, gap=1.2842, r2=280.4771, zpve=0.9017, u0=10.3237,
        u298=10.4151, h298=10.4892, g298=9.4983, cv=4.0676,
    )  # fmt: skip
    published = {
        (1.05, -5.57): (0.0286, 0.0469, 0.0278, 0.0197, 0.0348, 0.331, 0.00129, 0.00802, 0.00789, 0.00811,
                        0.00898, 0.0249),
        (1.76, -5.17): (0.033, 0.235, 0.041, 0.034, 0.063, 0.073, 0.0017, 0.014, 0.019, 0.014, 0.014, 0.033),
    }  # fmt: skip
    for (std_mae, log_mae), errors in published.items():
        quantities = {
            name: QuantityErrors(unit="", n_labelled=1, mae=mae, rmse=mae, spread=spread)
            for (name, spread), mae in zip(spreads.items(), errors, strict=True)
        }
        measured = standardized_errors(quantities)
        assert 100 * measured[0] == pytest.approx(std_mae, abs=0.005)
        assert measured[1] == pytest.approx(log_mae, abs=0.005)


def test_eval_draws_predicted_against_labelled_values(tmp_path, monkeypatch):
    """Of the held-out frames, in the order of the split; with the measures over several targets."""
    monkeypatch.chdir(tmp_path)
    entry = train(options(tmp_path, target=["homo", "zpve"]), quiet=True)
    done = CliRunner().invoke(app, ["eval", entry.name, "--directory", "figures"])
    assert done.exit_code == 0, done.output
    assert "mean over 2 targets: std. MAE" in done.output
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == [
        "parity-homo.png",
        "parity-zpve.png",
        "parity.json",
        "parity_homo.csv",
        "parity_zpve.csv",
    ]
    result = Parity.model_validate(json.loads((tmp_path / "figures" / "parity.json").read_text()))
    for quantity in result.quantities:
        assert quantity.mae == pytest.approx(entry.card.metrics.quantities[quantity.name].mae, rel=1e-4)
    test = json.loads((tmp_path / "training" / "split.json").read_text())["test"]
    assert [int(place.rsplit(" ", 1)[1]) for place in result.quantities[0].structures] == test


def test_eval_draws_those_of_a_committee(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = options(tmp_path, max_epochs=1)
    train(first, quiet=True)
    split = {"file": str(first.training_directory / "split.json")}
    again = options(tmp_path, max_epochs=1, name="second", seed=1, split=split, directory=tmp_path / "again")
    train(again, quiet=True)
    spec = "{committee: {members: [small, second]}}"
    done = CliRunner().invoke(app, ["eval", spec, "--directory", "figures"])
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["calibration.png", "parity-homo.png", "parity.json", "parity_homo.csv"]
    (homo,) = Parity.model_validate(json.loads((tmp_path / "figures" / "parity.json").read_text())).quantities
    calculators = [MLCalculator(name) for name in ("small", "second")]
    atoms = read(tmp_path / "frames.xyz", int(homo.structures[0].rsplit(" ", 1)[1]))
    mean = np.mean([calculator.get_property("homo", atoms) for calculator in calculators])
    assert homo.predicted[0] == pytest.approx(mean, abs=1e-5)


def test_parity_of_energies_is_refused_before_anything_is_computed(tmp_path, tiny_model_file):
    done = CliRunner().invoke(app, ["eval", str(tiny_model_file), "--directory", str(tmp_path / "figures")])
    assert done.exit_code == 2
    assert "nothing to draw" in " ".join(done.output.split())
    assert not (tmp_path / "figures").exists()

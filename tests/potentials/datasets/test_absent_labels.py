"""Frames that lack a label: it has weight 0 there, in losses, errors, scales and files."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from raising import told
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml.analysis.report.report import model_rows
from asecalc_ml.cli.ml import app
from asecalc_ml.errors import DatasetError, TrainingError
from asecalc_ml.model.derivative import forces as forces_of
from asecalc_ml.model.derivative import virials
from asecalc_ml.potentials.datasets import AseFile
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.baselines import mean_errors
from asecalc_ml.potentials.training.evaluate import evaluate, evaluate_model
from asecalc_ml.potentials.training.frames.batches import (
    EpochBatches,
    LabelledGraph,
    StoredFrames,
    loader,
)
from asecalc_ml.potentials.training.frames.scaling import fit_scaling
from asecalc_ml.potentials.training.losses import total_loss
from asecalc_ml.potentials.training.optimization.eager import eager_forward
from asecalc_ml.potentials.training.options import LossOptions
from asecalc_ml.potentials.training.task import EnergyForcesTask
from asecalc_ml.potentials.training.trainer import build_model
from asecalc_ml.structure.loading import load_structure

SMALL = {"architecture": "tensornet", "hidden_channels": 8, "n_layers": 1, "n_rbf": 8, "cutoff_A": 4.0}
ALL = ("energy", "forces", "stress")
CUTOFF = 4.0


def without(atoms: Atoms, *labels: str) -> Atoms:
    copy = atoms.copy()
    left = {
        label: value for label, value in atoms.calc.results.items() if label in ALL and label not in labels
    }
    copy.calc = SinglePointCalculator(copy, **left)
    return copy


def crystals(n_frames: int) -> list[Atoms]:
    """Copper of 4 and 8 atoms, rattled and strained, with EMT's energy, forces and stress."""
    random, found = np.random.default_rng(0), []
    for k in range(n_frames):
        atoms = bulk("Cu", cubic=True) * (1 + k % 2, 1, 1)
        atoms.set_cell(atoms.cell.array * random.normal(1, 0.02), scale_atoms=True)
        atoms.positions += random.normal(scale=0.08, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_stress()
        found.append(without(atoms))
    return found


def molecules(n_frames: int) -> list[Atoms]:
    random, found = np.random.default_rng(0), []
    for k in range(n_frames):
        atoms = molecule(("CH4", "H2O")[k % 2])
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        found.append(without(atoms))
    return found


def isolated_atom() -> Atoms:
    atom = Atoms("Cu")
    atom.calc = SinglePointCalculator(atom, energy=3.5)
    return atom


def mixed() -> list[Atoms]:
    """Six frames, of which each lacks something else."""
    frames = crystals(6)
    lacking = ((), ("forces",), ("stress",), ("energy",), ("forces", "stress"), ALL)
    return [without(atoms, *labels) for atoms, labels in zip(frames, lacking, strict=True)]


def options(folder, frames, **changes) -> TrainOptions:
    write(folder / "frames.traj", frames)
    given = {
        "name": "small",
        "data": {"format": "ase", "path": str(folder / "frames.traj")},
        "split": {"n_train": 20, "n_validation": 5, "n_test": 5},
        "model": SMALL,
        "optimizer": {"warmup_steps": 5, "ema_decay": 0.5, "learning_rate": 5e-3},
        "batch_size": 4,
        "max_epochs": 2,
        "directory": folder / "training",
    }
    return TrainOptions(**given | changes)


def small_model(frames, tmp_path):
    return build_model(options(tmp_path, frames), fit_scaling(frames, None)).set_dtype(torch.float64)


# ------------------------------------------------------------------------------------------------ the loss


def loss_by_hand(model, frames, weights: LossOptions) -> torch.Tensor:
    """Sums over the labels that exist over their number, one frame at a time."""
    sums = {label: [] for label in ALL}
    for atoms in frames:
        (batch,) = loader([LabelledGraph.from_atoms(atoms, CUTOFF, ())], CUTOFF, 1)
        inputs, labels = batch.inputs, atoms.calc.results
        predicted = eager_forward(model)(inputs)
        gradient, n_atoms = predicted.gradient, len(atoms)
        if "energy" in labels:
            sums["energy"].append((predicted.systems[:1] - labels["energy"]) ** 2 / n_atoms)
        if "forces" in labels:
            found = forces_of(gradient, inputs.edge_index, inputs.n_atoms)[:-1]
            sums["forces"].append((found - torch.tensor(labels["forces"])).flatten() ** 2)
        if "stress" in labels:
            virial = virials(gradient, inputs.edge_vectors, inputs.edge_index, inputs.batch, inputs.n_systems)
            label = torch.tensor(atoms.get_stress(voigt=False)) * atoms.get_volume()
            sums["stress"].append(((virial[0] - label) / n_atoms).flatten() ** 2)
    terms = [
        getattr(weights, f"{label}_weight") * torch.cat(parts).sum() / torch.cat(parts).numel()
        for label, parts in sums.items()
    ]
    return sum(terms)


def gradient_of(loss: torch.Tensor, model) -> torch.Tensor:
    parameters = [one for one in model.parameters() if one.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([one.flatten() for one in found])


def half_without_forces() -> list[Atoms]:
    return [without(atoms, "forces") if k % 2 else atoms for k, atoms in enumerate(crystals(4))]


@pytest.mark.parametrize("frames", [mixed, half_without_forces])
def test_loss_and_gradient_are_those_by_hand(frames, tmp_path):
    frames = frames()
    model, weights = small_model(frames, tmp_path), LossOptions(energy_weight=0.3, stress_weight=2.0)
    labelled = [LabelledGraph.from_atoms(atoms, CUTOFF, ALL) for atoms in frames]
    (batch,) = loader(labelled, CUTOFF, len(frames))
    loss, expected = (
        total_loss(eager_forward(model)(batch.inputs), batch, weights),
        loss_by_hand(model, frames, weights),
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-7)  # √N is float32
    found, by_hand = gradient_of(loss, model), gradient_of(expected, model)
    torch.testing.assert_close(found, by_hand, rtol=1e-6, atol=1e-7 * float(by_hand.abs().max()))


@pytest.mark.parametrize("frames", [mixed, half_without_forces])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_the_validation_loss_does_not_depend_on_the_batches(frames, batch_size, tmp_path):
    frames = frames()
    model, weights = small_model(frames, tmp_path), LossOptions(energy_weight=0.3, stress_weight=2.0)
    stored = StoredFrames([LabelledGraph.from_atoms(atoms, CUTOFF, ALL) for atoms in frames], CUTOFF, ALL)
    batches = EpochBatches(stored, batch_size, of_all=True)
    errors = EnergyForcesTask(model, weights).validation_errors(batches)
    assert errors["val_loss"] == pytest.approx(loss_by_hand(model, frames, weights).item(), rel=1e-7)


def test_the_gradient_with_absent_labels_is_that_of_finite_differences(tmp_path):
    frames = mixed()
    model, weights = small_model(frames, tmp_path), LossOptions(stress_weight=1.0)
    (batch,) = loader([LabelledGraph.from_atoms(atoms, CUTOFF, ALL) for atoms in frames], CUTOFF, len(frames))
    forward = eager_forward(model)
    total_loss(forward(batch.inputs), batch, weights).backward()
    weight = max(
        (one for one in model.parameters() if one.grad is not None), key=lambda one: one.grad.abs().max()
    )
    place = tuple(int(k) for k in np.unravel_index(int(weight.grad.abs().argmax()), weight.shape))
    expected, step, losses = weight.grad[place].item(), 1e-5, []
    for shift in (step, -2 * step):
        with torch.no_grad():
            weight[place] += shift
        losses.append(total_loss(forward(batch.inputs), batch, weights).item())
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(expected, rel=1e-6)


def test_a_batch_without_any_label_has_no_gradient(tmp_path):
    frames = crystals(2)
    model = small_model(frames, tmp_path)
    labelled = [LabelledGraph.from_atoms(without(atoms, *ALL), CUTOFF, ALL) for atoms in frames]
    (batch,) = loader(labelled, CUTOFF, 2)
    loss = total_loss(eager_forward(model)(batch.inputs), batch, LossOptions(stress_weight=1.0))
    assert loss.item() == 0
    assert not gradient_of(loss, model).any()


def test_a_label_of_weight_zero_does_not_count(tmp_path):
    """Forces that are there and forces that are not make the same batch for a loss on energies."""
    frames = crystals(2)
    model = small_model(frames, tmp_path)
    losses = []
    for given in (frames, [without(atoms, "forces") for atoms in frames]):
        (batch,) = loader([LabelledGraph.from_atoms(atoms, CUTOFF, ["energy"]) for atoms in given], CUTOFF, 2)
        losses.append(
            total_loss(eager_forward(model)(batch.inputs), batch, LossOptions(forces_weight=0)).item()
        )
    assert losses[0] == losses[1]


# -------------------------------------------------------------------------------------- scale, means, errors


def test_scale_and_shifts_come_from_the_labels_that_exist():
    frames = molecules(6)
    partly = [without(atoms, "forces") if k < 2 else atoms for k, atoms in enumerate(frames)]
    forces = np.concatenate([atoms.get_forces() for atoms in frames[2:]])
    found = fit_scaling(partly, None)
    assert float(found.scale[1]) == pytest.approx(np.sqrt((forces**2).mean()))
    torch.testing.assert_close(found.shift, fit_scaling(frames, None).shift)
    no_energy = [without(atoms, "energy") if k < 2 else atoms for k, atoms in enumerate(frames)]
    torch.testing.assert_close(fit_scaling(no_energy, None).shift, fit_scaling(frames[2:], None).shift)


def test_an_element_without_energies_leaves_energies_without_zero():
    water = [atoms for atoms in molecules(12) if "O" in atoms.symbols]
    hydrogen = molecule("H2")
    hydrogen.calc = SinglePointCalculator(hydrogen, energy=-1.0)
    helium = Atoms("He")
    helium.calc = SinglePointCalculator(helium, forces=np.zeros((1, 3)))
    assert not fit_scaling([*water, hydrogen], None).degenerate
    assert fit_scaling([*water, hydrogen, helium], None).degenerate


def test_the_training_mean_is_over_the_labels_that_exist():
    training, test = molecules(6), molecules(8)[6:]
    partly = [*training, without(test[0], "forces"), without(test[1], "energy")]
    found = mean_errors(partly, test)
    assert found[1] == pytest.approx(mean_errors([*training, without(test[1], "energy")], test)[1])
    assert found[0] == pytest.approx(mean_errors([*training, test[0]], test)[0])
    assert [len(part) for part in mean_errors(training, partly[-2:])] == [1, 3 * len(test[1])]


def test_errors_are_means_over_the_labels_that_exist(tmp_path):
    frames = crystals(6)
    model = small_model(frames, tmp_path)
    lacking = (("energy",), ("forces",), ("stress",), (), ("energy", "stress"), ALL)
    partly = [without(atoms, *labels) for atoms, labels in zip(frames, lacking, strict=True)]
    found, single = evaluate(model, partly).metrics(), [evaluate(model, [atoms]) for atoms in frames]
    assert found.labelled == {"energy": 3, "forces": 4, "stress": 3}
    assert found.n_frames == 6
    kept = {
        label: [one for one, gone in zip(single, lacking, strict=True) if label not in gone] for label in ALL
    }
    per_atom = [1000 * one.energy / one.n_atoms for one in kept["energy"]]
    assert found.energy_mae_meV_atom == pytest.approx(np.abs(np.concatenate(per_atom)).mean())
    forces = np.concatenate([one.forces for one in kept["forces"]])
    assert found.forces_rmse_meV_A == pytest.approx(1000 * np.sqrt((forces**2).mean()))
    assert evaluate(model, [without(atoms, "energy") for atoms in frames]).metrics().energy_mae_meV is None
    assert evaluate(model, frames).metrics().labelled is None


# ---------------------------------------------------------------------------------------- whole trainings


def test_half_of_the_frames_lack_forces(tmp_path):
    """Batches of which some have no forces at all; counts are told once, and are in the card."""
    frames = [without(atoms, "forces") if k % 2 else atoms for k, atoms in enumerate(molecules(30))]
    given = options(tmp_path, frames, batch_size=1)
    with pytest.warns(UserWarning, match="have every label: forces") as told:
        card = train(given, quiet=True).card
    assert sum("every label" in str(one.message) for one in told) == 1
    assert 0 < card.metrics.labelled["forces"] < 5
    assert card.metrics.labelled["energy"] == 5
    found = evaluate_model("small")
    n_labelled = card.metrics.labelled["forces"]
    assert f"Errors are means over the frames that have the label: forces {n_labelled}." in str(found)
    assert found.metrics.forces_mae_meV_A == pytest.approx(card.metrics.forces_mae_meV_A, rel=1e-4)


def test_isolated_atoms_among_crystals_with_stress(tmp_path):
    frames = [*crystals(27), *(isolated_atom() for _ in range(3))]
    given = options(tmp_path, frames, loss={"stress_weight": 1.0})
    with pytest.warns(UserWarning, match="forces 2[3-5], stress 2[3-5]"):
        card = train(given, quiet=True).card
    assert card.metrics.stress_mae_GPa > 0
    assert np.isfinite(MLCalculator("small").get_potential_energy(Atoms("Cu")))


def test_energies_alone_train_from_a_file_without_forces(tmp_path):
    frames = [without(atoms, "forces") for atoms in molecules(30)]
    card = train(options(tmp_path, frames, loss={"forces_weight": 0.0}), quiet=True).card
    assert card.metrics.forces_mae_meV_A is None
    assert card.metrics.labelled is None


def test_forces_alone_train_where_few_frames_have_an_energy(tmp_path):
    frames = [atoms if k < 15 else without(atoms, "energy") for k, atoms in enumerate(molecules(30))]
    card = train(options(tmp_path, frames, loss={"energy_weight": 0.0}), quiet=True).card
    assert card.domain.energy_eV[0] == min(atoms.get_potential_energy() for atoms in frames[:15])
    nothing = [without(atoms, "energy") for atoms in frames]
    with pytest.raises(TrainingError, check=told(name="frames.traj", remedy="at least one energy")):
        train(options(tmp_path, nothing, loss={"energy_weight": 0.0}), quiet=True, replace=True)


def test_a_misnamed_label_is_named_with_its_remedy(tmp_path):
    frames = [without(atoms, "forces") for atoms in molecules(30)]
    for atoms in frames:
        atoms.info["dft_forces"] = 0
    with (
        pytest.raises(
            TrainingError, match="dft_forces", check=told(name="loss.forces_weight", remedy="`forces_key`")
        ),
        pytest.warns(),
    ):
        train(options(tmp_path, frames), quiet=True)


def test_a_validation_without_the_label_is_refused(tmp_path):
    frames = molecules(30)
    first = options(tmp_path, frames)
    train(first, quiet=True)
    held = json.loads((first.directory / "split.json").read_text())["validation"]
    partly = [without(atoms, "forces") if k in held else atoms for k, atoms in enumerate(frames)]
    check = told(name="loss.forces_weight", remedy="split")
    with pytest.raises(TrainingError, match=r"5 frames .* validate", check=check):
        train(options(tmp_path, partly), quiet=True, replace=True)


def test_data_without_labels(tmp_path):
    frames = [without(atoms, *ALL) for atoms in molecules(3)]
    with pytest.raises(DatasetError, check=told(name="frames.traj", allowed=ALL, remedy=True)):
        train(options(tmp_path, frames), quiet=True)


# ----------------------------------------------------------------------------------------- commands, report


class RunOf:
    """What the report asks of a run."""

    def __init__(self, card):
        self._card = card.model_dump(mode="json")

    def read_model_cards(self):
        return [self._card]


def test_the_report_of_a_model_without_errors_of_forces(tmp_path):
    frames = [without(atoms, "forces") for atoms in molecules(30)]
    card = train(options(tmp_path, frames, loss={"forces_weight": 0.0}), quiet=True).card
    rows = {row.name: row.value for row in model_rows(RunOf(card))}
    assert f"{card.metrics.energy_mae_meV:.3g} meV" in rows["error of an energy"]
    assert "error of a force component" not in rows
    for command in (
        ["models", "list"],
        ["models", "show", "small"],
        ["models", "cite", "small"],
        ["eval", "small"],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output


def test_the_report_counts_the_frames_of_each_label(tmp_path):
    card = train(options(tmp_path, crystals(30), loss={"stress_weight": 1.0}), quiet=True).card
    partly = card.metrics.model_copy(update={"labelled": {"energy": 5, "forces": 3, "stress": 2}})
    rows = {row.name: row.value for row in model_rows(RunOf(card.model_copy(update={"metrics": partly})))}
    assert "on 3 frames" in rows["error of a force component"]
    assert "on 2 frames" in rows["error of a stress component"]


# ----------------------------------------------------------------------- commands with labels of other names


@pytest.fixture
def atomic_units(tmp_path):
    """Ethanol in Å with a model's energies in Hartree and forces in Hartree/Bohr; two of six lack forces."""
    calculator = MLCalculator("torchmdnet-ethanol", compile="never")
    frames = []
    for seed in range(6):
        atoms = load_structure("ethanol")
        atoms.rattle(0.03, seed=seed)
        atoms.info["REF_energy"] = calculator.get_potential_energy(atoms) / units.Hartree
        if seed > 1:
            atoms.arrays["REF_forces"] = calculator.get_forces(atoms) / (units.Hartree / units.Bohr)
        frames.append(atoms)
    for name, part in (("a", frames[:3]), ("b", frames[3:])):
        write(tmp_path / f"{name}.xyz", part, format="extxyz")
    keys = ["--energy-key", "REF_energy", "--forces-key", "REF_forces"]
    return str(tmp_path / "?.xyz"), [*keys, "--energy-unit", "Hartree", "--forces-unit", "Hartree/Bohr"]


def test_eval_and_convert_take_names_units_and_patterns(atomic_units, tmp_path):
    pattern, further = atomic_units
    text = invoke(["eval", "torchmdnet-ethanol", pattern, *further])
    assert "6 frames" in text
    assert "label: forces 4." in text
    assert " 0.00 " in next(line for line in text.splitlines() if "absolute error of a force" in line)
    invoke(["data", "convert", pattern, str(tmp_path / "out.extxyz"), *further])
    found = evaluate_model("torchmdnet-ethanol", AseFile(path=tmp_path / "out.extxyz")).metrics
    assert found.labelled == {"energy": 6, "forces": 4}
    assert found.forces_rmse_meV_A < 0.01
    assert found.energy_rmse_meV < 0.01


def test_map_takes_names_and_units(atomic_units, tmp_path):
    pattern, further = atomic_units
    invoke(
        [
            "map",
            "torchmdnet-ethanol",
            pattern,
            *further,
            "--directory",
            str(tmp_path / "map"),
            "--bootstraps",
            "0",
        ]
    )
    found = {
        one["name"]: one["values"]
        for one in json.loads((tmp_path / "map" / "map.json").read_text())["quantities"]
    }
    assert max(found["energy-error"]) < 0.01
    assert found["force-error"][:2] == [None, None]
    assert max(found["force-error"][2:]) < 0.01


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--energy-kye", "REF_energy"], "unknown key 'energy_kye'; did you mean 'energy_key'"),
        (["--projection", "pca"], "unknown key 'projection'; did you mean 'projections'"),
        (["--energy-key", "REF"], "no frame has 'REF', which `energy_key` names"),
    ],
)
def test_map_told_wrongly(atomic_units, arguments, said):
    result = CliRunner().invoke(app, ["map", "torchmdnet-ethanol", atomic_units[0], *arguments])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def invoke(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output

"""Penalties, schedules, and trainings on energies alone and on forces alone."""

import json
import math
from typing import get_args

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError, PluginError, TrainingError
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training import task as task_module
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.losses import Penalty, log_cosh
from asecalc_ml.potentials.training.optimization import eager
from asecalc_ml.potentials.training.optimization.schedules import SCHEDULES
from asecalc_ml.potentials.training.options import LossOptions, OptimizerOptions

SMALL = {"architecture": "tensornet", "hidden_channels": 8, "n_layers": 1, "n_rbf": 8, "cutoff_A": 4.0}
JAT = {
    "schedule": "one-cycle",
    "learning_rate": 3e-3,
    "minimum_learning_rate": 5e-4,
    "final_learning_rate": 5e-6,
}


def frames(with_forces: bool = True, n_frames: int = 30) -> list[Atoms]:
    """Rattled methane and water with EMT's energies, far from zero, and forces where asked for."""
    random, found = np.random.default_rng(0), []
    for k in range(n_frames):
        atoms = molecule(("CH4", "H2O")[k % 2])
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy() - 100 * len(atoms), "forces": atoms.get_forces()}
        if not with_forces:
            del labels["forces"]
        atoms.calc = SinglePointCalculator(atoms, **labels)
        found.append(atoms)
    return found


def write_ani1(path, frames: list[Atoms]) -> None:
    """Methane and water as ANI-1 stores them: no forces."""
    with h5py.File(path, "w") as file:
        for k, smiles in enumerate(("C", "O")):
            part, group = frames[k::2], file.create_group(f"set/set-{k}")
            group["coordinates"] = np.array([atoms.positions for atoms in part])
            group["energies"] = [atoms.get_potential_energy() / units.Hartree for atoms in part]
            group["species"] = np.array(part[0].get_chemical_symbols(), "S")
            group["smiles"] = np.array([smiles], "S")


def options(folder, with_forces: bool = True, **changes) -> TrainOptions:
    path = folder / ("frames.traj" if with_forces else "frames.h5")
    write(path, frames()) if with_forces else write_ani1(path, frames())
    given = {
        "name": "small",
        "data": {"format": "ase" if with_forces else "ani1", "path": str(path)},
        "split": {"n_train": 20, "n_validation": 5, "n_test": 5},
        "model": SMALL,
        "optimizer": {"warmup_steps": 5, "ema_decay": 0.5, "learning_rate": 5e-3},
        "max_epochs": 3,
        "directory": folder / "training",
    }
    return TrainOptions(**given | changes)


def columns(given: TrainOptions) -> list[str]:
    return (given.directory / "metrics.csv").read_text().splitlines()[0].split(",")


# --------------------------------------------------------------------------------------------- penalties


@pytest.mark.parametrize("scale", [0.02, 0.1, 10.0])
def test_log_cosh_is_that_of_its_definition(scale):
    errors = torch.linspace(-20, 20, 41, dtype=torch.float64) * scale
    expected = [scale * math.log(math.cosh(error / scale)) for error in errors.tolist()]
    torch.testing.assert_close(log_cosh(errors, scale), torch.tensor(expected, dtype=torch.float64))


def test_log_cosh_is_quadratic_for_small_errors_and_linear_for_large_ones():
    scale, small, large = 0.1, torch.tensor(1e-4, dtype=torch.float64), torch.tensor(1e6)
    assert log_cosh(small, scale).item() == pytest.approx(1e-8 / (2 * scale), rel=1e-5)
    assert log_cosh(large, scale).item() == pytest.approx(1e6, rel=1e-6)  # where cosh is infinite


@pytest.mark.parametrize("error", [0.0, 1e-3, 1e5, -1e5])
def test_the_slope_of_log_cosh_is_a_hyperbolic_tangent(error):
    """Finite everywhere, zero at zero: no outlier pulls harder than any other."""
    errors = torch.tensor(error, requires_grad=True)
    log_cosh(errors, 0.1).backward()
    assert errors.grad.item() == pytest.approx(math.tanh(error / 0.1), abs=1e-6)


def test_options_name_what_the_table_holds():
    assert set(get_args(OptimizerOptions.model_fields["schedule"].annotation)) == set(SCHEDULES)


def test_an_unknown_loss_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, check=told(name="function", value="cubic", allowed="log-cosh, squared")):
        parse_options({"function": "cubic"}, LossOptions)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda errors, scale: 1 / 0, {"problem": "ZeroDivisionError"}),
        (lambda errors: errors, {"problem": "TypeError"}),
        (lambda errors, scale: (errors**2).sum(), {"value": "a Tensor", "allowed": "shape", "remedy": True}),
        (lambda errors, scale: 1.0, {"value": "a float", "allowed": "a tensor", "remedy": True}),
    ],
)
def test_a_penalty_that_is_none_ends_in_a_sentence(function, expected):
    with pytest.raises(PluginError, check=told(name="of a loss", **expected)):
        Penalty(function, 1.0)(torch.ones(3), 0.1)


def test_energies_are_compared_per_atom_and_forces_by_component(tmp_path):
    """The log-cosh loss of two frames, by hand."""
    from asecalc_ml.potentials.training.frames.batches import LabelledGraph, loader
    from asecalc_ml.potentials.training.frames.scaling import fit_scaling
    from asecalc_ml.potentials.training.losses import energy_errors, forces_errors, total_loss
    from asecalc_ml.potentials.training.optimization.eager import eager_forward
    from asecalc_ml.potentials.training.trainer import build_model

    given = options(tmp_path, loss={"function": "log-cosh", "energy_weight": 2.0, "forces_weight": 3.0})
    model = build_model(given, fit_scaling(frames(), None)).set_dtype(torch.float64)
    labelled = [LabelledGraph.from_atoms(atoms, 4.0) for atoms in frames(n_frames=2)]
    (batch,) = loader(labelled, 4.0, 2)
    predicted = eager_forward(model)(batch.inputs)
    d_energy, d_forces = energy_errors(predicted, batch).tolist(), forces_errors(predicted, batch)
    d_energy, d_forces = d_energy[:-1], d_forces[:-1]  # the last is the ghost's
    energy = np.mean([0.02 * np.log(np.cosh(d / n / 0.02)) for d, n in zip(d_energy, (5, 3), strict=True)])
    forces = np.mean(0.1 * np.log(np.cosh(d_forces.detach().numpy() / 0.1)))
    assert total_loss(predicted, batch, given.loss).item() == pytest.approx(2 * energy + 3 * forces)


def test_a_loss_without_weights_is_refused():
    with pytest.raises(ConfigError, match="every weight is 0"):
        parse_options({"energy_weight": 0, "forces_weight": 0}, LossOptions)


# --------------------------------------------------------------------------------------------- schedules


def test_one_cycle_passes_through_the_rates_of_the_source():
    """JAT: 5e-4 up to 3e-3 at 45 % of an epoch, back at 90 %, and down to 5e-6."""
    factor = SCHEDULES["one-cycle"](OptimizerOptions(**JAT, cycle_epochs=1), 200, 100)
    rates = [3e-3 * factor(step) for step in range(200)]
    assert [rates[k] for k in (0, 45, 90, 95)] == pytest.approx([5e-4, 3e-3, 5e-4, (5e-4 + 5e-6) / 2])
    assert max(rates) == rates[45]
    assert rates[100:] == rates[:100]


def test_one_cycle_may_span_the_whole_training():
    factor = SCHEDULES["one-cycle"](OptimizerOptions(**JAT), 1000, 100)
    assert factor(450) == 1.0
    assert 3e-3 * factor(1000 - 1) < 1e-5


@pytest.mark.parametrize("changes", [{"final_learning_rate": None}, {"minimum_learning_rate": 1.0}])
def test_rates_of_one_cycle_have_an_order(changes):
    with pytest.raises(ConfigError, match=r"final_learning_rate .* < minimum_learning_rate"):
        parse_options(JAT | changes, OptimizerOptions)


def test_a_training_follows_the_cycle(tmp_path, monkeypatch):
    """Rate of the last step of each epoch of two steps: the second and the fourth of a cycle of four."""
    rates = []
    end_epoch = TrainingLoop.end_epoch

    def with_rate(loop, metrics):
        rates.append(loop.optimizer.learning_rate)
        end_epoch(loop, metrics)

    monkeypatch.setattr(TrainingLoop, "end_epoch", with_rate)
    cycle = JAT | {"cycle_epochs": 2, "ema_decay": 0.5}
    train(options(tmp_path, optimizer=cycle, batch_size=10, max_epochs=4), quiet=True)
    assert rates == pytest.approx([5e-4 + (0.25 / 0.45) * 2.5e-3, 3e-3 - (0.3 / 0.45) * 2.5e-3] * 2, rel=1e-6)


# ------------------------------------------------------------------------------------------ energies alone


def test_energies_alone_need_no_forces_and_no_derivative(tmp_path, monkeypatch):
    def no_derivative(*arguments, **options):
        raise AssertionError("a derivative was taken")

    with monkeypatch.context() as patch:
        patch.setattr(task_module, "edge_derivative", no_derivative)
        patch.setattr(eager, "edge_derivative", no_derivative)
        given = options(tmp_path, with_forces=False, loss={"forces_weight": 0.0}, max_epochs=40)
        card = train(given, quiet=True).card
    assert columns(given) == ["epoch", "train_loss", "val_loss", "val_energy_mae_meV", "cpu_s"]
    assert card.metrics.forces_mae_meV_A is None
    assert card.domain.largest_force_eV_A is None
    assert card.fitted == ["energy"]
    energies = [atoms.get_potential_energy() / len(atoms) for atoms in frames()]
    assert card.metrics.energy_rmse_meV_atom < 200 * np.std(energies)
    assert np.isfinite(MLCalculator("small").get_forces(molecule("CH4"))).all()


def test_forces_that_are_there_are_tested_even_if_they_were_not_fitted(tmp_path):
    card = train(options(tmp_path, loss={"forces_weight": 0.0}), quiet=True).card
    assert card.metrics.forces_mae_meV_A > 0


def test_a_traced_step_of_energies_has_the_gradients_of_the_eager_one(tmp_path):
    from asecalc_ml.potentials.training.frames.batches import LabelledGraph, loader
    from asecalc_ml.potentials.training.frames.scaling import fit_scaling
    from asecalc_ml.potentials.training.optimization.agreement import check_step
    from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
    from asecalc_ml.potentials.training.optimization.whole_step import step_graph, step_of
    from asecalc_ml.potentials.training.trainer import build_model

    given = options(tmp_path, with_forces=False, loss={"forces_weight": 0.0})
    model = build_model(given, fit_scaling(frames(with_forces=False), None)).set_dtype(torch.float64)
    labelled = [LabelledGraph.from_atoms(atoms, 4.0, ["energy"]) for atoms in frames(False, 4)]
    (batch,) = loader(labelled, 4.0, 4)
    weights = FlatWeights(model)
    step = step_of(step_graph(model, weights, batch, given.loss))
    check_step(step, model, weights, [batch], given.loss)
    longer = batch._replace(inputs=batch.inputs._replace(edge_vectors=1.1 * batch.inputs.edge_vectors))
    with pytest.raises(RuntimeError, match="differ by"):
        check_step(lambda values, _: step(values, longer), model, weights, [batch], given.loss)


def test_data_without_forces_cannot_be_fitted_to_forces(tmp_path):
    with pytest.raises(
        TrainingError, match="20", check=told(name="loss.forces_weight", remedy="_weight to 0")
    ):
        train(options(tmp_path, with_forces=False), quiet=True)


# -------------------------------------------------------------------------------------------- forces alone


def test_forces_alone_leave_a_constant_that_is_fitted_at_the_end(tmp_path):
    """Energies some -400 eV away come out right on average, composition by composition."""
    given = options(tmp_path, loss={"energy_weight": 0.0}, reference_energies_eV={"H": 5, "C": 7, "O": 9})
    card = train(given, quiet=True).card
    assert card.fitted == ["forces"]
    assert "val_energy_mae_meV" not in columns(given)
    split = json.loads((given.directory / "split.json").read_text())
    calculator, errors = MLCalculator("small", dtype="float64"), {"CH4": [], "H2O": []}
    for k in split["train"]:
        atoms = frames()[k]
        errors[str(atoms.symbols).replace("OH2", "H2O")].append(
            calculator.get_potential_energy(atoms.copy()) - atoms.get_potential_energy()
        )
    assert [np.mean(part) for part in errors.values()] == pytest.approx([0, 0], abs=1e-5)


# ---------------------------------------------------------------------------------------------- bad input


def test_a_cutoff_below_the_shortest_bond_is_refused_before_training(tmp_path):
    short = options(tmp_path, model=SMALL | {"cutoff_A": 0.7})
    check = told(name="model.cutoff_A", value=0.7, allowed="above 0.", remedy="Raise model.cutoff_A")
    with pytest.raises(TrainingError, match=r" 0\.[89]", check=check):
        train(short, quiet=True)
    assert not short.directory.exists()


# ------------------------------------------------------------------------------------------ processor time


def test_processor_time_grows_from_epoch_to_epoch_and_over_a_resume(tmp_path):
    rates = {"minimum_learning_rate": 5e-4, "final_learning_rate": 5e-6, "cycle_epochs": 1}
    given = options(tmp_path, optimizer={"schedule": "one-cycle", **rates})
    train(given, quiet=True)
    longer = given.model_copy(update={"max_epochs": 5})
    entry = train(longer, resume=True, replace=True, quiet=True)
    used = [line.split(",")[-1] for line in (given.directory / "metrics.csv").read_text().splitlines()]
    assert used[0] == "cpu_s"
    seconds = [float(value) for value in used[1:]]
    assert len(seconds) == 5
    assert all(np.diff([0.0, *seconds]) > 0)
    assert entry.card.training_cpu_h == pytest.approx(seconds[-1] / 3600)

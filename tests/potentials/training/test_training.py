"""Training on frames that the tests label themselves: what is learned, stored, resumed and registered."""

import json
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from raising import told
from small_training import SMALL, changed, interrupted, labelled, small_options, weights

from asecalc_ml import MLCalculator
from asecalc_ml.errors import DatasetError, ModelError, TrainingError
from asecalc_ml.potentials.training import train, trainer
from asecalc_ml.potentials.training.frames.batches import LabelledGraph, loader
from asecalc_ml.potentials.training.frames.labelled_graphs import epoch_order
from asecalc_ml.potentials.training.frames.scaling import fit_scaling
from asecalc_ml.potentials.training.frames.split import Split
from asecalc_ml.potentials.training.losses import energy_errors, forces_errors, total_loss
from asecalc_ml.potentials.training.optimization import whole_step
from asecalc_ml.potentials.training.optimization.agreement import DeviationError
from asecalc_ml.potentials.training.optimization.eager import eager_forward, eager_step
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.schedules import SCHEDULES
from asecalc_ml.potentials.training.options import OptimizerOptions, SplitOptions
from asecalc_ml.potentials.training.trainer import build_model
from asecalc_ml.store.registry import Registry


@pytest.fixture
def options(tmp_path):
    return small_options(tmp_path)


@pytest.mark.smoke
def test_a_training_registers_a_model_that_learned(options):
    before = build_model(options, fit_scaling(labelled(), None))
    entry = train(changed(options, max_epochs=30), quiet=True)
    atoms = labelled(n_frames=1, seed=1)[0]
    reference = atoms.get_forces()
    atoms.calc = MLCalculator("methanol")
    assert entry.card.metrics.forces_mae_meV_A < 0.6 * 1000 * np.abs(reference).mean()
    assert entry.card.n_parameters == sum(p.numel() for p in before.parameters())
    assert np.abs(atoms.get_forces() - reference).mean() < np.abs(reference).mean()


def test_the_card_says_what_was_done(options):
    card = train(options, quiet=True).card
    assert card.dataset.level_of_theory == "EMT"
    assert (card.dataset.n_train, card.metrics.n_frames) == (24, 8)
    assert card.energies_degenerate  # one composition cannot tell three elements apart
    assert card.compositions == ["CH4O"]
    assert sum(card.domain.distances["C-O bonded"].counts) == 24
    assert sum(card.domain.angles["H-C-H"].counts) == 3 * 24
    assert card.elements == ["C", "H", "O"]


def test_energies_have_a_zero_for_the_compositions_of_the_data(options):
    water, methanol = [8, 1, 1], [6, 8, 1, 1, 1, 1]
    card = train(changed(options, max_epochs=1), quiet=True).card
    assert card.knows_energies_of(methanol)
    assert not card.knows_energies_of(water)
    assert card.model_copy(update={"compositions": ["CH4O", "H2O"]}).knows_energies_of(water)
    before = card.model_copy(update={"compositions": []})  # of a card that does not say
    assert before.knows_energies_of(methanol)
    assert not before.knows_energies_of(water)


def test_the_stored_split_has_disjoint_parts(options):
    train(options, quiet=True)
    split = json.loads((options.directory / "split.json").read_text())
    parts = [set(split[name]) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [24, 8, 8]
    assert len(set.union(*parts)) == 40


def test_a_split_that_is_too_large_names_the_sizes():
    with pytest.raises(
        TrainingError, check=told(name="split", value=40, allowed="39", remedy="split.n_test")
    ):
        Split.draw([Atoms()] * 39, SplitOptions(n_train=24, n_validation=8, n_test=8), seed=0)


def test_a_taken_name_is_refused_before_training(options):
    train(options, quiet=True)
    first = Registry().find("methanol").hash
    with pytest.raises(ModelError, check=told(name="methanol", remedy="--replace")):
        train(changed(options, seed=1), quiet=True)
    assert Registry().find("methanol").hash == first
    train(changed(options, seed=1), replace=True, quiet=True)
    assert Registry().find("methanol").hash != first


def test_the_same_seed_gives_the_same_weights_and_another_does_not(options):
    runs = [train(changed(options, name=f"m{k}", seed=k // 2), quiet=True) for k in range(3)]
    first, same, other = (
        weights(entry)["potential.output_model.output_network.0.vec1_proj.weight"] for entry in runs
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_resumed_training_ends_at_the_same_weights(options, monkeypatch):
    uninterrupted = weights(
        train(changed(options, name="whole", directory=options.directory / "whole"), quiet=True)
    )
    interrupted(options, monkeypatch)
    resumed = weights(train(options, resume=True, quiet=True))
    for name, tensor in uninterrupted.items():
        assert torch.equal(tensor, resumed[name]), name


def test_metrics_of_a_resumed_training_are_those_of_all_epochs(options, monkeypatch):
    interrupted(options, monkeypatch)
    train(options, resume=True, quiet=True)
    lines = (options.directory / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3", "4"]


def test_an_interrupted_training_is_not_lost_by_a_forgotten_flag(options, monkeypatch):
    interrupted(options, monkeypatch)
    before = (options.directory / "last.ckpt").read_bytes()
    with pytest.raises(TrainingError, check=told(name=str(options.directory), remedy="--resume")):
        train(options, quiet=True)
    assert (options.directory / "last.ckpt").read_bytes() == before


def test_a_wrong_path_loses_no_former_training(options):
    train(options, quiet=True)
    before = {path: path.read_bytes() for path in options.directory.iterdir() if path.is_file()}
    with pytest.raises(DatasetError, check=told(name="mistyped.xyz", remedy="`path`")):
        train(changed(options, data={"format": "ase", "path": "mistyped.xyz"}), replace=True, quiet=True)
    assert {path: path.read_bytes() for path in options.directory.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_a_schedule_over_all_epochs_has_the_number_that_it_began_with(options, schedule, monkeypatch):
    rates = {"minimum_learning_rate": 5e-4, "final_learning_rate": 5e-6}
    given = changed(options, optimizer={"schedule": schedule, **rates})
    for finished in (False, True):
        train(given, resume=True, quiet=True) if finished else interrupted(given, monkeypatch)
        before = {path: path.read_bytes() for path in options.directory.iterdir()}
        for n_epochs in (3, 6):
            check = told(name="max_epochs", value=n_epochs, allowed=[4], remedy="init_from")
            with pytest.raises(TrainingError, check=check):
                train(changed(given, max_epochs=n_epochs), resume=True, replace=True, quiet=True)
        assert {path: path.read_bytes() for path in options.directory.iterdir()} == before


def test_a_finished_training_in_cycles_has_more_epochs_as_if_in_one_go(options):
    rates = {"minimum_learning_rate": 5e-4, "final_learning_rate": 5e-6, "cycle_epochs": 1}
    given = changed(options, optimizer={"schedule": "one-cycle", "ema_decay": 0.9, **rates})
    whole = train(
        changed(given, name="whole", max_epochs=6, directory=options.directory / "whole"), quiet=True
    )
    train(given, quiet=True)
    longer = train(changed(given, max_epochs=6), resume=True, replace=True, quiet=True)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(longer)[name]), name
    with pytest.raises(TrainingError, check=told(name=str(given.directory), remedy="--replace")):
        train(changed(given, max_epochs=6), resume=True, quiet=True)


def test_other_options_are_not_resumed(options, monkeypatch):
    interrupted(options, monkeypatch)
    with pytest.raises(TrainingError, check=told(name="seed", remedy="`directory`")):
        train(changed(options, seed=5), resume=True, quiet=True)


def test_other_data_are_not_resumed(options, monkeypatch, tmp_path):
    interrupted(options, monkeypatch)
    write(tmp_path / "frames.xyz", labelled(seed=1), format="extxyz")
    with pytest.raises(TrainingError, check=told(name="split.json", remedy="data")):
        train(options, resume=True, quiet=True)


def test_the_card_has_every_hyperparameter(options):
    from asecalc_ml.potentials.torchmdnet import EquivariantTransformer

    card = train(changed(options, max_epochs=1), quiet=True).card
    assert set(card.hyperparameters) == set(EquivariantTransformer.model_fields)


def test_an_element_without_room_is_named(options):
    with pytest.raises(
        TrainingError, check=told(name="O", value=8, allowed="6", remedy="model.max_atomic_number")
    ):
        train(changed(options, model=SMALL | {"max_atomic_number": 6}), quiet=True)


def test_a_step_that_cannot_be_compiled_runs_eagerly(options, monkeypatch):
    def no_compiler(*arguments):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(trainer, "checked_step", no_compiler)
    with pytest.warns(UserWarning, match="runs slower: no C"):
        train(changed(options, compile=True, max_epochs=1), quiet=True)


def test_warnings_of_the_future_of_torch_are_not_printed_while_compiling(options, monkeypatch):
    def warns(*arguments):
        warnings.warn_explicit("old", FutureWarning, "lowering.py", 1, module="torch._inductor.lowering")
        return compiled_step

    def compiled_step(values, batch):
        raise RuntimeError("the compiled step is used")

    monkeypatch.setattr(trainer, "checked_step", warns)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with pytest.raises(RuntimeError, match="compiled step is used"):
            train(changed(options, compile=True, max_epochs=1), quiet=True)
    assert not [warning for warning in shown if warning.category is FutureWarning]


@pytest.mark.parametrize(
    ("wrong", "taken"),
    [
        ([], ("arrays", None)),
        ([("arrays", None)], ("arrays", whole_step.INDUCTOR_OPTIONS[1])),
        ([("arrays",)], ("edge list", None)),  # the trace itself: nothing is compiled of it
        ([("arrays", options) for options in whole_step.INDUCTOR_OPTIONS], ("edge list", None)),
    ],
)
def test_a_way_of_compiling_that_deviates_is_not_taken(monkeypatch, wrong, taken):
    def check_step(way, *_):
        if way in wrong:
            raise DeviationError

    names = {True: ("arrays",), False: ("edge list",)}
    monkeypatch.setattr(whole_step, "step_graph", lambda *arguments: names[arguments[-1]])
    monkeypatch.setattr(whole_step, "step_of", lambda run: run)
    monkeypatch.setattr(whole_step, "compiled", lambda graph, arguments, dynamic, options: (*graph, options))
    monkeypatch.setattr(whole_step, "check_step", check_step)
    weights, batch = SimpleNamespace(values=torch.ones(1)), SimpleNamespace(tensors=[])
    given = None, weights, [batch], None
    assert whole_step.checked_step(*given, dynamic=False, all_pairs=True) == taken
    assert whole_step.checked_step(*given, dynamic=False) == ("edge list", None)
    wrong.append(("edge list",))
    with pytest.raises(DeviationError):
        whole_step.checked_step(*given, dynamic=False)


def test_nothing_to_resume_says_so(options):
    with pytest.raises(TrainingError, check=told(name="last.ckpt", remedy="without --resume")):
        train(options, resume=True, quiet=True)


def test_metrics_are_written_as_csv(options):
    train(options, quiet=True)
    header = (options.directory / "metrics.csv").read_text().splitlines()[0]
    assert {"epoch", "train_loss", "val_forces_mae_meV_A", "val_energy_mae_meV"} <= set(header.split(","))


def test_wandb_offline_writes_a_run_and_needs_no_network(options, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(changed(options, wandb={"mode": "offline"}, max_epochs=1), quiet=True)
    assert list(options.directory.glob("wandb/offline-run-*/*.wandb"))


def test_patience_ends_a_training_that_does_not_improve(options):
    stuck = {**options.optimizer.model_dump(), "learning_rate": 1e-30}
    train(changed(options, optimizer=stuck, max_epochs=50, patience_epochs=2), quiet=True)
    lines = (options.directory / "metrics.csv").read_text().splitlines()
    assert len(lines) < 20


def test_fine_tuning_starts_from_the_named_model(options):
    train(changed(options, name="start", max_epochs=20), quiet=True)
    tuned = changed(options, name="tuned", init_from="start", max_epochs=1)
    scratch = train(changed(options, name="scratch", max_epochs=1), quiet=True)
    assert train(tuned, quiet=True).card.metrics.forces_mae_meV_A < scratch.card.metrics.forces_mae_meV_A


def test_fine_tuning_another_architecture_is_refused(options):
    train(changed(options, name="start", max_epochs=1), quiet=True)
    wider = {**SMALL, "hidden_channels": 32}
    with pytest.raises(TrainingError, check=told(name="init_from", value="start", remedy="`model`")):
        train(changed(options, model=wider, init_from="start"), quiet=True)


def test_a_diverging_training_is_stopped_with_a_remedy(options):
    wild = {**options.optimizer.model_dump(), "learning_rate": 10, "gradient_clip": 1e30, "warmup_steps": 0}
    with pytest.raises(TrainingError, check=told(name="loss", remedy="lower optimizer.learning_rate")):
        train(changed(options, optimizer=wild), quiet=True)


def test_threads_and_random_state_are_left_as_found(options):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    n_threads = torch.get_num_threads()
    train(changed(options, threads=2, max_epochs=1), quiet=True)
    assert torch.get_num_threads() == n_threads
    assert torch.equal(torch.rand(1), expected)


def test_reference_energies_become_the_shifts():
    energies = {"H": -1.0, "C": -10.0, "O": -20.0}
    scaling = fit_scaling(labelled(n_frames=2), energies)
    assert [float(scaling.shift[z]) for z in (1, 6, 8)] == [-1.0, -10.0, -20.0]
    assert not scaling.degenerate
    with pytest.raises(TrainingError, match="O", check=told(name="reference_energies_eV", remedy=True)):
        fit_scaling(labelled(n_frames=2), {"H": -1.0, "C": -10.0})


def test_least_squares_finds_atomic_energies_where_compositions_differ():
    frames = [*labelled("CH4", 3), *labelled("C2H6", 3), *labelled("H2O", 3), *labelled("CH3OH", 3)]
    for atoms in frames:
        h, c, o = (list(atoms.symbols).count(symbol) for symbol in "HCO")
        atoms.calc.results["energy"] = -1.5 * h - 9.0 * c - 15.0 * o
    scaling = fit_scaling(frames, None)
    assert not scaling.degenerate
    assert [float(scaling.shift[z]) for z in (1, 6, 8)] == pytest.approx([-1.5, -9.0, -15.0])


def test_shuffling_depends_on_seed_and_epoch_alone():
    first = epoch_order(10, seed=0, epoch=0)
    assert np.array_equal(first, epoch_order(10, seed=0, epoch=0))
    assert not np.array_equal(first, epoch_order(10, seed=0, epoch=1))
    assert sorted(first) == list(range(10))


def test_learning_rate_rises_then_falls_to_zero():
    factor = SCHEDULES["cosine"](OptimizerOptions(warmup_steps=10), 110, 10)
    factors = [factor(step) for step in range(111)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[10] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0.0, abs=1e-15)


def batch_and_model(options):
    frames = [LabelledGraph.from_atoms(atoms, 5.0) for atoms in labelled(n_frames=4)]
    model = build_model(options, fit_scaling(labelled(n_frames=4), None)).set_dtype(torch.float64)
    return next(iter(loader(frames, 5.0, 4))), model


def test_the_loss_is_the_weighted_sum_of_its_parts(options):
    batch, model = batch_and_model(options)
    loss = changed(options, loss={"energy_weight": 2.0, "forces_weight": 3.0}).loss
    derivative = eager_forward(model)(batch.inputs)
    d_energy, d_forces = energy_errors(derivative, batch), forces_errors(derivative, batch)
    by_hand = 2.0 * (d_energy**2).sum().item() / (4 * 6) + 3.0 * (d_forces**2).sum().item() / (4 * 6 * 3)
    assert total_loss(derivative, batch, loss).item() == pytest.approx(by_hand)
    assert math.isfinite(by_hand)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("architecture", ["equivariant-transformer", "tensornet", "graph-network"])
def test_a_traced_step_has_the_gradients_of_the_eager_one(options, compiled, architecture):
    small = {key: value for key, value in SMALL.items() if key != "n_heads"} | {"architecture": architecture}
    options = changed(options, model=small)
    batch, model = batch_and_model(options)
    weights = FlatWeights(model)
    values = weights.values.detach()
    run = whole_step.step_graph(model, weights, batch, options.loss)
    if compiled:
        run = whole_step.compiled(run, [values, *batch.tensors])
    step = whole_step.step_of(run)
    expected, found = (f(values, batch) for f in (eager_step(model, weights, options.loss), step))
    assert sum(part.any() for part in weights.views(expected[1])) > 5
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)

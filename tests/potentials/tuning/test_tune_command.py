"""The command `asecalc-ml tune` with trainings of a second, its objectives, and what it refuses."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from small_training import SMALL, labelled
from typer.testing import CliRunner

from asecalc_ml import __version__, plugins
from asecalc_ml.analysis.checks.energy_drift import EnergyDrift
from asecalc_ml.cli.ml import app
from asecalc_ml.cli.process import job_outcome
from asecalc_ml.cli.tune.worker import work
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.files.folder_lock import FolderLock
from asecalc_ml.objectives import TrainedModel
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.metrics_file import read_metrics
from asecalc_ml.potentials.tuning import TuneOptions, read_search
from asecalc_ml.potentials.tuning.early_stopping import asha, best_so_far, is_rung, median_rule
from asecalc_ml.potentials.tuning.trial import lease
from asecalc_ml.runs import RunReader
from asecalc_ml.store.registry import Registry

RATE = {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASECALC_ML_HOME", str(tmp_path / "home"))
    write("frames.xyz", labelled(), format="extxyz")


def given(**search) -> dict:
    return {
        "name": "methanol",
        "data": {"format": "ase", "path": "frames.xyz", "level_of_theory": "EMT"},
        "split": {"n_train": 24, "n_validation": 8, "n_test": 8},
        "model": SMALL,
        "optimizer": {"warmup_steps": 5, "ema_decay": 0.9},
        "max_epochs": 4,
        "search": {"space": RATE, "trials": 2, "workers": 1, **search},
    }


def command(options: dict, *arguments: str):
    Path("tune.yaml").write_text(dump_yaml(options))
    return CliRunner().invoke(app, ["tune", "tune.yaml", *arguments])


def said(result) -> str:
    return " ".join(result.output.split())


def message(number: int = 1, values: dict | None = None, **search) -> dict:
    """What the process of a trial is told."""
    options = TuneOptions(**given(**search))
    directory = Path.cwd() / "tuning" / "methanol" / "trials" / f"{number:04d}"
    lease(directory, "token")
    return {
        "version": __version__,
        "token": "token",
        "directory": str(directory),
        "options": options.trial(values or {}, directory),
        "search": options.search.model_dump(mode="json"),
    }


def outcome(told: dict) -> tuple[str, str, dict]:
    return job_outcome(work, json.loads(json.dumps(told)))


def test_a_search_from_its_file(tmp_path):
    result = command(given(), "--resume-or-start")
    assert result.exit_code == 0, result.output
    assert "2 of 2 trials (2 done)" in said(result)
    assert "The 2 best trials" in result.output
    rows = list(csv.DictReader(Path("tuning/methanol/results.csv").read_text().splitlines()))
    for row in rows:
        columns = read_metrics(Path(f"tuning/methanol/trials/000{row['trial']}/metrics.csv"))
        best = int(np.argmin(columns["val_forces_mae_meV_A"]))
        assert float(row["val_loss"]) == columns["val_loss"][best]
        assert (row["state"], row["epochs"]) == ("done", "4")
    assert not list((tmp_path / "home").rglob("*.safetensors"))  # trials are not registered
    assert "2 of 2 trials (2 done)" in said(command(given(), "--status"))
    assert "Report: tuning/methanol/report/search.html" in said(result)
    page = Path("tuning/methanol/report/search.html")
    assert (
        f"The best is trial {min(rows, key=lambda row: float(row['val_loss']))['trial']}" in page.read_text()
    )
    page.unlink()
    assert command(given(), "--report").exit_code == 0
    assert "2 done" in page.read_text()
    finished = command(given(), "--resume-or-start")
    assert (finished.exit_code, "2 of 2 trials (2 done)" in said(finished)) == (0, True)
    both = command(given(), "--resume-or-start", "--resume")
    assert (both.exit_code, "--resume-or-start and --resume contradict" in said(both)) == (2, True)
    again = command(given())
    assert again.exit_code == 2
    assert "holds a search that has begun: continue with --resume" in said(again)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (
            {"space": {"optimizer.learning_rat": {"uniform": [0.1, 1]}}},
            "unknown key 'optimizer.learning_rat'; did you mean 'optimizer.learning_rate'?",
        ),
        ({"space": {"batch_size": {"integer": [0, 4]}}}, "'batch_size' is 0, but should be greater"),
        ({"space": {"batch_size": {"uniform": [1, 4]}}}, "should be a valid integer"),
        ({"space": {"model.n_head": {"integer": [1, 4]}}}, "did you mean 'model.n_heads'?"),
        ({"space": {"model.architecture": {"categorical": ["painn", "scnet"]}}}, "did you mean 'schnet'?"),
        ({"space": {"batch_size.a": {"integer": [1, 4]}}}, "search.space"),
        ({"space": {"split.n_train": {"integer": [8, 20]}}}, "could not be compared"),
        ({"space": {"seed": {"integer": [0, 9]}}}, "give split.file"),
        ({"space": {"num_nodes": {"integer": [1, 2]}}}, "a trial runs on one machine: leave out num_nodes"),
        ({"space": {"loss.energy_weight": {"uniform": [0, 1]}}}, "no two trials have the same loss"),
        ({"objectives": {"validation": {"metric": "val_homo_mae"}}}, "which the training does not give"),
        ({"objectives": {"validatoin": None}}, "did you mean 'validation'?"),
        ({"objectives": {"drift": {"steps": 3}}}, "unknown key 'search.objectives.drift.steps'"),
        (
            {"objectives": {"validation": None, "drift": None}, "early_stopping": "asha"},
            "early_stopping asha compares one objective",
        ),
        ({"space": {"batch_size": {"integer": [4, 1]}}}, "lowest value 4 is above the highest, 1"),
        ({"space": {"max_epochs": {"log_integer": [0, 3]}}}, "a logarithm needs a lowest value above 0"),
    ],
)
def test_what_is_refused_before_anything_starts(search, words):
    result = command(given(**search))
    assert result.exit_code == 2, result.output
    assert words in said(result)
    assert "tune.yaml" in said(result)
    assert not Path("tuning").exists()


def test_a_report_runs_nothing_and_needs_a_trial_that_has_ended():
    result = command(given(), "--report")
    assert (result.exit_code, "tuning/methanol holds no search" in said(result)) == (2, True)
    begun = {"kind": "begun", "time": 0.0, "version": __version__}
    values = {"optimizer.learning_rate": 1e-3}
    submitted = {"kind": "submitted", "time": 1.0, "trial": 1, "values": values}
    failed = {"kind": "ended", "time": 5.0, "trial": 1, "state": "failed", "reason": "no memory"}
    failed |= {"objectives": {}, "numbers": {}}
    folder = Path("tuning/methanol")
    folder.mkdir(parents=True)
    (folder / "tune.yaml").write_text(dump_yaml(given()))
    (folder / "journal.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in (begun, submitted)))
    assert "tuning/methanol: 1 of 2 trials (1 waiting)" in said(command(given(), "--status"))
    result = command(given(), "--report")
    assert (result.exit_code, "no trial of the search methanol has ended" in said(result)) == (2, True)
    with (folder / "journal.jsonl").open("a") as file:
        file.write(f"{json.dumps(failed)}\n" + '{"kind": "ende')  # a line that is being written
    result = command(given(), "--report", "--status")
    assert result.exit_code == 0, result.output
    assert "1 of 2 trials (1 failed) in 0:00:05" in said(result)
    assert "no memory" in (folder / "report" / "search.html").read_text()
    assert not (folder / "trials").exists()


def test_a_page_that_cannot_be_drawn_is_a_warning_and_loses_nothing(monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("no such line")

    monkeypatch.setattr("asecalc_ml.analysis.search.page.render", broken)
    monkeypatch.setattr("asecalc_ml.potentials.tuning.scheduler.SearchScheduler.run", lambda *arguments: None)
    with pytest.warns(UserWarning, match="could not be written: no trial of the search methanol has ended"):
        result = command(given())
    assert (result.exit_code, "no trial of tuning/methanol has a result;" in said(result)) == (2, True)
    journal = Path("tuning/methanol/journal.jsonl")
    with journal.open("a") as file:
        for event in (
            {"kind": "submitted", "trial": 1, "values": {"optimizer.learning_rate": 1e-3}},
            {"kind": "ended", "trial": 1, "state": "failed", "reason": "luck"},
        ):
            others = {"time": 1e10, "objectives": {}, "numbers": {}}
            file.write(f"{json.dumps(event | others)}\n")
    words = "could not be written: no such line. The results are whole; `asecalc-ml tune tune.yaml --report`"
    with pytest.warns(UserWarning, match=words):
        result = command(given(), "--resume")
    assert "1 failed" in said(result)
    words = "no trial of tuning/methanol has a result (luck); results.csv has the reason of each"
    assert (result.exit_code, words in said(result)) == (2, True)
    assert Path("tuning/methanol/results.csv").is_file()


def test_missing_data_are_refused_before_anything_starts():
    options = given()
    options["data"] = options["data"] | {"path": "nowhere.xyz"}
    result = command(options)
    assert result.exit_code == 2
    assert "nowhere.xyz" in said(result)
    assert not Path("tuning").exists()


def test_a_search_is_validated_and_not_trained():
    Path("tune.yaml").write_text(dump_yaml(given()))
    result = CliRunner().invoke(app, ["validate", "tune.yaml"])
    assert result.exit_code == 0
    assert "optimizer.learning_rate (log_uniform)" in said(result)
    assert "budget: 2 trials" in said(result)
    assert not Path("tuning").exists()
    result = CliRunner().invoke(app, ["train", "tune.yaml"])
    assert result.exit_code == 2
    assert "`asecalc-ml tune tune.yaml` runs it" in said(result)


# ---------------------------------------------------------------------------------- a trial in its process


def test_a_trial_is_continued_from_its_checkpoint_bit_for_bit(monkeypatch):
    expected = outcome(message(1))
    step = TrainingLoop.train_step

    def killed(loop, *batches):
        if loop.progress.n_epochs == 2:
            raise MemoryError("killed")
        return step(loop, *batches)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "train_step", killed)
        state, text, _ = outcome(message(2))
        assert (state, text) == ("failed", "MemoryError: killed")
    state, _, values = outcome(message(2))
    assert (state, values["objectives"]) == (expected[0], expected[2]["objectives"])
    epochs = read_metrics(Path("tuning/methanol/trials/0002/metrics.csv"))["epoch"]
    assert epochs == [1, 2, 3, 4]


def test_a_diverged_trial_fails_with_its_reason():
    state, text, _ = outcome(
        message(
            1,
            {
                "optimizer.learning_rate": 10.0,
                "optimizer.algorithm": "sgd",
                "optimizer.gradient_clip": 1e9,
                "optimizer.warmup_steps": 0,
            },
        )
    )
    assert state == "failed"
    assert "the loss is not finite" in text


def test_options_that_do_not_fit_together_fail_with_their_reason():
    state, text, _ = outcome(message(1, {"model.n_heads": 3}))
    assert (state, "must be even and a multiple of n_heads (3)" in text) == ("failed", True)


def test_a_trial_of_another_version_is_refused():
    state, text, _ = outcome(message(1) | {"version": "0.0.9"})
    assert (state, f"a worker has version {__version__}" in text) == ("refused", True)


def test_a_trial_has_one_writer():
    told = message(1)
    lock = FolderLock(Path(told["directory"]) / ".trial.lock", "running this trial")
    try:
        assert outcome(told)[0] == "busy"
    finally:
        lock.close()
    assert outcome(told)[0] == "done"


def test_a_trial_whose_lease_was_given_to_another_process_ends(monkeypatch):
    told = message(1)
    step = TrainingLoop.train_step

    def given_away(loop, *batches):
        if loop.progress.n_epochs == 1:
            lease(Path(told["directory"]), "another")
        return step(loop, *batches)

    monkeypatch.setattr(TrainingLoop, "train_step", given_away)
    state, text, _ = outcome(told)
    assert (state, "another process continues this trial" in text) == ("busy", True)
    assert read_metrics(Path(told["directory"]) / "metrics.csv")["epoch"] == [1, 2]


def test_a_full_disk_is_no_failure_of_a_trial(monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TrainingLoop, "write", full)
    state, text, _ = outcome(message(1))
    assert (state, "No space left" in text) == ("refused", True)


def test_the_speed_is_that_of_the_trial_s_model():
    state, text, values = outcome(message(1, objectives={"speed": {"calls": 5}, "validation": None}))
    assert state == "done", text
    columns = read_metrics(Path("tuning/methanol/trials/0001/metrics.csv"))
    assert values["objectives"]["val_loss"] in columns["val_loss"]
    assert 0.1 < values["objectives"]["call_ms"] < 1000


DYNAMICS = {"duration_ps": 0.05, "equilibration_ps": 0.02, "timestep_fs": 0.25, "temperature_K": 300}


def test_dynamics_of_a_model_that_has_learned_nothing_break():
    state, _, values = outcome(message(1, objectives={"stability": DYNAMICS}))
    assert (state, values["objectives"]["stability_ps"] < 0.05) == ("done", True)
    state, text, _ = outcome(message(2, objectives={"drift": DYNAMICS}))
    assert (state, "the dynamics stopped before their end, and have no drift" in text) == ("failed", True)


def test_dynamics_of_a_shipped_model_are_stable_and_conserve_the_energy(tmp_path):
    """The drift is that of the run's own analysis."""
    model = Registry().find("torchmdnet-ethanol").path
    stability = plugins.get("objectives", "stability")(**DYNAMICS)
    drift = plugins.get("objectives", "drift")(**DYNAMICS)
    trained = TrainedModel(tmp_path, {}, model)
    assert stability.measure(trained) == 0.05
    value = drift.measure(trained)
    analysed = EnergyDrift().run(RunReader(tmp_path / "drift"))
    assert value == pytest.approx(abs(analysed.slope_meV_atom_ps), rel=1e-6)
    assert value < 1.0
    assert drift.measure(trained) == value  # measured anew after an interruption


def test_a_bound_keeps_fast_and_wrong_models_out():
    state, text, _ = outcome(message(1, objectives={"speed": {"at_most": {"val_forces_mae_meV_A": 0.1}}}))
    assert (state, "val_forces_mae_meV_A is" in text, "0.1 at most" in text) == ("failed", True, True)


# --------------------------------------------------------------------------------------- early stopping


def test_asha_continues_one_of_three_at_each_rung():
    assert [epoch for epoch in range(1, 60) if is_rung(epoch, 2, 3)] == [2, 6, 18, 54]
    others = [[5.0, 4.0], [5.0, 1.0], [9.0, 2.0], [3.0]]
    assert not asha([9.0], others, 2, 3)  # no rung
    assert not asha([9.0, 0.5], others, 2, 3)
    assert asha([0.1, 1.5], others, 2, 3)  # four at the rung: one continues
    assert not asha([1.0, 2.0], [], 2, 3)  # alone
    assert asha([1.0, float("nan")], others, 2, 3)


def test_the_median_rule_ends_the_worse_half():
    others = [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0]]
    assert not median_rule([9.0], others, min_epochs=2, min_competing=3)
    assert not median_rule([9.0, 9.0], others, min_epochs=2, min_competing=4)  # three have come as far
    assert median_rule([9.0, 2.5], others, min_epochs=2, min_competing=3)
    assert not median_rule([9.0, 1.5], others, min_epochs=2, min_competing=3)


def test_a_curve_has_the_value_of_the_epoch_that_was_best():
    nan = float("nan")
    assert best_so_far([5.0, 6.0, 4.0], [2.0, 1.0, 3.0]) == [5.0, 6.0, 6.0]
    assert best_so_far([5.0, 6.0, 4.0], [nan, 1.0, nan]) == [5.0, 6.0, 6.0]
    assert best_so_far([], []) == []


def test_a_trial_that_does_worse_is_stopped_and_stays_so_when_it_is_continued():
    stopping = {"early_stopping": "asha", "min_epochs": 1, "reduction_factor": 2}
    for number, rate in ((1, 1e-2), (2, 5e-3)):
        outcome(message(number, {"optimizer.learning_rate": rate}, **stopping))
    told = message(3, {"optimizer.learning_rate": 1e-6}, **stopping)
    state, text, values = outcome(told)
    assert (state, text) == ("stopped", "by asha after epoch 1")
    assert values["numbers"]["epochs"] == 1
    assert outcome(told)[2]["objectives"] == values["objectives"]


@pytest.mark.slow
def test_a_stopped_trial_is_in_the_results():
    result = command(given(trials=4, early_stopping="asha", reduction_factor=2, seed=1, method="random"))
    assert result.exit_code == 0, result.output
    states = [trial.state for trial in read_search("tuning/methanol").trials]
    assert "stopped" in states

"""A model from a trial of a search: the training that it was, and what its card says of the search."""

from pathlib import Path

import pytest
from ase.io import write
from small_training import SMALL, labelled
from typer.testing import CliRunner

from asecalc_ml.cli.ml import app
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.errors import TuningError
from asecalc_ml.potentials.training.metrics_file import read_metrics
from asecalc_ml.potentials.tuning import TuneOptions, read_search, retrain, tune
from asecalc_ml.potentials.tuning.journal import BEGUN, ENDED, STARTED, SUBMITTED, Journal
from asecalc_ml.potentials.tuning.results import OPTIONS
from asecalc_ml.potentials.tuning.retraining import choose_trial
from asecalc_ml.store.registry import Registry

SPACE = {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASECALC_ML_HOME", str(tmp_path / "home"))
    write("frames.xyz", labelled(), format="extxyz")


def options(**search) -> TuneOptions:
    return TuneOptions(
        name="methanol",
        data={"format": "ase", "path": "frames.xyz", "level_of_theory": "EMT"},
        split={"n_train": 24, "n_validation": 8, "n_test": 8},
        model=SMALL,
        optimizer={"warmup_steps": 5, "ema_decay": 0.9},
        max_epochs=3,
        search={"space": SPACE, "trials": 2, "workers": 1, **search},
    )


def journal(*trials: tuple[str, dict[str, float]], **search) -> Path:
    """A search with these states and results of its trials; its folder."""
    directory = Path("tuning/methanol")
    directory.mkdir(parents=True)
    (directory / OPTIONS).write_text(dump_yaml(options(**search).model_dump(mode="json", exclude_unset=True)))
    written = Journal(directory)
    written.append(BEGUN, version="1")
    for number, (state, objectives) in enumerate(trials, 1):
        written.append(SUBMITTED, trial=number, values={"optimizer.learning_rate": 1e-3})
        written.append(STARTED, trial=number, token="token")
        if state != "running":
            numbers = {"cpu_seconds": 1.0} if objectives else {}
            results = {"objectives": objectives, "numbers": numbers}
            written.append(ENDED, trial=number, state=state, reason="no luck", **results)
    written.close()
    return directory


def command(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_the_best_trial_is_trained_anew_and_registered():
    best = tune(options()).best[0]
    result = command("retrain", "tuning/methanol", "--name", "tuned")
    assert result.exit_code == 0, result.output
    assert "Registered tuned" in result.output
    trial, anew = (
        read_metrics(path / "metrics.csv")
        for path in (Path(f"tuning/methanol/trials/{best.name}"), Path("training/tuned"))
    )
    assert anew["val_forces_mae_meV_A"] == trial["val_forces_mae_meV_A"]  # the same training
    card = Registry().find("tuned").card
    assert card.search.model_dump() == {
        "name": "methanol",
        "method": "bayesian (gaussian-process, upper-confidence-bound)",
        "trials": 2,
        "trial": best.number,
        "objectives": best.objectives,
        "values": best.values,
    }
    assert card.options["optimizer"]["learning_rate"] == best.values["optimizer.learning_rate"]
    assert card.metrics.n_frames == 8

    # A retraining that was interrupted continues as any training does, and the card knows the search.
    Path("training/tuned/tuned.safetensors").unlink()
    Registry().remove("tuned")
    result = command("train", "training/tuned/train.yaml", "--resume", "--quiet")
    assert result.exit_code == 0, result.output
    assert Registry().find("tuned").card.search == card.search

    # Another training in the same directory has no search.
    result = command("train", "training/tuned/train.yaml", "--replace", "--quiet")
    assert result.exit_code == 0, result.output
    assert Registry().find("tuned").card.search is None


def test_another_trial_with_other_options():
    directory = journal(("done", {"val_loss": 1.0}), ("stopped", {"val_loss": 2.0}))
    entry = retrain(directory, 2, {"max_epochs": 1, "model.n_layers": 1, "name": "second"}, quiet=True)
    assert entry.card.search.trial == 2
    assert entry.card.options["max_epochs"] == 1
    assert entry.card.hyperparameters["n_layers"] == 1


@pytest.mark.parametrize(
    ("trials", "number", "words"),
    [
        ([], None, "no trial of tuning/methanol has a result yet"),
        ([("failed", {})], None, "no trial of tuning/methanol has a result yet"),
        ([("done", {"val_loss": 1.0})], 2, "there is no trial 2 in tuning/methanol, which holds 1; the best"),
        (
            [("done", {"val_loss": 1.0}), ("failed", {}), ("done", {"val_loss": 0.5})],
            2,
            r"trial 2 of tuning/methanol has no result, its state is failed \(no luck\); the best are 3, 1",
        ),
        ([("running", {})], 1, "its state is running"),
    ],
)
def test_trials_that_cannot_be_retrained(trials, number, words):
    with pytest.raises(TuningError, match=words):
        choose_trial(read_search(journal(*trials)), number)


def test_of_two_objectives_a_trial_has_to_be_chosen():
    both = {"validation": {"metric": "val_loss"}, "speed": None}
    directory = journal(
        ("done", {"val_loss": 1.0, "call_ms": 3.0}),
        ("done", {"val_loss": 2.0, "call_ms": 4.0}),
        ("done", {"val_loss": 3.0, "call_ms": 2.0}),
        objectives=both,
    )
    result = command("retrain", str(directory))
    assert result.exit_code == 2
    assert "none of its trials is the best in both; choose one of the Pareto front, --trial 1 or 3" in (
        " ".join(result.output.split())
    )
    assert choose_trial(read_search(directory), 3).number == 3


def test_what_the_command_refuses():
    directory = str(journal(("done", {"val_loss": 1.0})))
    for arguments, words in (
        (["tuning/other"], "tuning/other holds no search"),
        ([directory, "--max_epoch", "1"], "unknown key 'max_epoch'; did you mean 'max_epochs'?"),
        ([directory, "--model.n_layer", "1"], "did you mean 'n_layers'?"),
        ([directory, "--resume", "--resume-or-start"], "contradict each other"),
        (
            [directory, "--replace", "--directory", f"{directory}/trials/0001"],
            "directory is tuning/methanol/trials/0001, a folder of the search itself",
        ),
        ([directory, "--resume"], "nothing to resume: training/methanol/last.ckpt does not exist"),
    ):
        result = command("retrain", *arguments)
        assert result.exit_code == 2, result.output
        assert words in " ".join(result.output.split())

"""Ctrl-C and a lack of memory: the command that ends is named, and how it continues where it can."""

import pytest
from ase.io import write
from small_training import changed, labelled, small_options
from typer.testing import CliRunner

from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.config import dump_yaml
from asecalc_ml.potentials.training import evaluate
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.task import EnergyForcesTask


def ends(app, *arguments, status=130) -> str:
    """What a command prints that Ctrl-C, or a lack of memory, ends."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == status, result.output
    return " ".join(result.stderr.split())


def stopped(error):
    def stop(*arguments, **options):
        raise error

    return stop


@pytest.fixture
def training(tmp_path):
    return changed(small_options(tmp_path), max_epochs=2)


def train_file(options, tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text(dump_yaml(options))
    return file


def test_a_command_that_cannot_continue_names_itself_alone(monkeypatch):
    monkeypatch.setattr(evaluate, "evaluate_model", stopped(KeyboardInterrupt()))
    text = ends(ml, "eval", "some-model")
    assert "eval was interrupted" in text
    assert "give the command again" in text
    assert not {"train", "resume", "label"} & set(text.replace("`", " ").split())


def test_a_training_without_a_finished_epoch_is_not_resumed(training, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingLoop, "train_step", stopped(KeyboardInterrupt()))
    text = ends(ml, "train", train_file(training, tmp_path), "--quiet")
    assert "train was interrupted. No epoch is finished: start again" in text
    assert "--resume" not in text


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (MemoryError, 2)])
def test_a_training_continues_after_its_last_epoch(error, status, training, tmp_path, monkeypatch):
    validate, calls = EnergyForcesTask.validation_errors, []

    def second_stops(self, batches):
        calls.append(None)
        if len(calls) > 1:
            raise error
        return validate(self, batches)

    file = train_file(training, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(EnergyForcesTask, "validation_errors", second_stops)
        text = ends(ml, "train", file, "--quiet", status=status)
    stored = training.training_directory / "train.yaml"
    assert f"continue with `asecalc-ml train {stored} --resume`" in text
    assert CliRunner().invoke(ml, ["train", str(stored), "--resume", "--quiet"]).exit_code == 0


def test_labelling_continues_with_the_same_command(tmp_path, monkeypatch):
    write(tmp_path / "in.extxyz", labelled())
    monkeypatch.setenv("TOY_BREAKS_AT", "3")
    arguments = ["--reference", "toy_calculators:KilledSprings", "--quiet"]
    text = ends(ml, "data", "label", tmp_path / "in.extxyz", *arguments)
    assert "data label was interrupted. Labels of" in text
    assert "the same command continues from there" in text


def test_a_run_continues_in_its_directory(tmp_path, monkeypatch):
    file = tmp_path / "nve.yaml"
    file.write_text(
        "protocol: nve\nstructure: ethanol\ncalculator: toy_calculators:KilledSprings\nrelax: false\n"
        "equilibration_ps: 0\nsteps: 20\n"
    )
    monkeypatch.setenv("TOY_BREAKS_AT", "9")
    text = ends(md, "run", file, "--directory", tmp_path / "run", "--quiet")
    assert f"run was interrupted. Continue the run with `asecalc-md resume {tmp_path / 'run'}`" in text

"""One command for the first start and every restart, and SIGTERM at any moment between."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from ase.build import molecule
from ase.io import write
from raising import told
from safetensors.torch import load_file
from small_training import changed, small_options
from typer.testing import CliRunner

from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.config import dump_yaml
from asecalc_ml.errors import ConfigError, RunBusyError, RunError, RunPausedError, TrainingError
from asecalc_ml.files.folder_lock import FolderLock
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.potentials.training import TrainingRequest, TrainOptions, train
from asecalc_ml.potentials.training.frames import batches
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.task import EnergyForcesTask
from asecalc_ml.store.registry import Registry
from asecalc_ml.terminal.signals import Terminated, on_sigterm, terminated_by_sigterm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is POSIX's")


def command(app, *arguments):
    """Exit status of a command, and what it printed in one line."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


def terminating(function, number):
    """The function, which gets SIGTERM in its call of this number."""
    calls = []

    def called(*arguments, **options):
        calls.append(None)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **options)

    return called


# ------------------------------------------------------------------------------------------ signals


def test_a_signal_outside_of_the_block_is_not_answered():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), terminated_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_forked_child_ends_at_the_signal():
    """Pools end their workers with it; no handler of the parent may keep them."""
    answered = []
    with on_sigterm(lambda: answered.append(os.getpid())):
        ready, is_ready = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(is_ready, b".")  # Python drops what a child gets before it has begun
            for _ in range(500):
                time.sleep(0.02)
            os._exit(0)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert not answered


# ------------------------------------------------------------------------------------------ trainings


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights and metrics of a training that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASECALC_ML_HOME", str(folder / "models"))
        train(small_options(folder), quiet=True)
    return folder / "training"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(dump_yaml(small_options(tmp_path)))
    return path


def is_same(directory, whole) -> None:
    weights, expected = (load_file(folder / "methanol.safetensors") for folder in (directory, whole))
    for name, tensor in expected.items():
        assert torch.equal(tensor, weights[name]), name
    tables = [(folder / "metrics.csv").read_text().splitlines() for folder in (directory, whole)]
    first, second = ([line.rpartition(",")[0] for line in table] for table in tables)
    assert first == second  # but for the last column, a time


#: What gets the signal, and in which of its calls: 3 steps and 1 batch of validation are an epoch of 4.
MOMENTS = {
    "first step": (TrainingLoop, "train_step", 1),
    "second step": (TrainingLoop, "train_step", 2),
    "end of an epoch": (TrainingLoop, "train_step", 3),
    "third epoch": (TrainingLoop, "train_step", 8),
    "first validation": (EnergyForcesTask, "validation_step", 1),
    "end of the first epoch": (TrainingLoop, "end_epoch", 1),
    "last validation": (EnergyForcesTask, "validation_step", 4),
    "last checkpoint": (TrainingLoop, "end_epoch", 4),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_training_that_gets_the_signal_ends_with_75_and_then_as_a_whole(
    moment, file, whole, tmp_path, monkeypatch
):
    owner, name, number = MOMENTS[moment]
    monkeypatch.setattr(batches, "BATCHES_AT_ONCE", 2)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, terminating(getattr(owner, name), number))
        status, said = command(ml, "train", file, "--resume-or-start", "--quiet")
    assert status == 75, said
    assert "the system asked the training to end (SIGTERM)" in said
    assert "--resume" in said
    assert not Registry().list() or "methanol" not in {entry.name for entry in Registry().list()}
    assert command(ml, "train", file, "--resume-or-start", "--quiet") == (0, "")
    is_same(tmp_path / "training", whole)


def test_a_training_paused_after_every_step_is_that_of_one_go(file, whole, tmp_path, monkeypatch):
    step = TrainingLoop.train_step
    monkeypatch.setattr(TrainingLoop, "train_step", _terminating_always(step))
    statuses = [command(ml, "train", file, "--resume-or-start", "--quiet")[0] for _ in range(13)]
    assert statuses == [75] * 12 + [0]
    is_same(tmp_path / "training", whole)


def _terminating_always(function):
    def called(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments)

    return called


def _terminating_now(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_training_that_gets_the_signal_before_its_first_step_begins_again(
    file, whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(
            "asecalc_ml.potentials.training.run.read_data",
            _terminating_now,
        )
        status, said = command(ml, "train", file, "--resume-or-start", "--quiet")
    assert (status, "train to end (SIGTERM)" in said) == (75, True)
    assert command(ml, "train", file, "--resume-or-start", "--quiet") == (0, "")
    is_same(tmp_path / "training", whole)


def test_a_training_that_ran_out_of_patience_is_not_continued(tmp_path, monkeypatch):
    """The signal comes after its last epoch, before the model is registered."""
    options = changed(small_options(tmp_path), patience_epochs=1, max_epochs=50)
    path = tmp_path / "train.yaml"
    path.write_text(dump_yaml(options))
    monkeypatch.setattr(
        EnergyForcesTask, "validation_errors", _never_better(EnergyForcesTask.validation_errors)
    )
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "end_epoch", terminating(TrainingLoop.end_epoch, 2))
        assert command(ml, "train", path, "--resume-or-start", "--quiet")[0] == 75
    assert command(ml, "train", path, "--resume-or-start", "--quiet")[0] == 0
    assert len((tmp_path / "training" / "metrics.csv").read_text().splitlines()) == 3


def _never_better(validation_errors):
    def errors(task, given):
        return validation_errors(task, given) | {"val_forces_mae_meV_A": 1.0}

    return errors


def test_a_finished_training_is_not_repeated(file, whole, tmp_path):
    assert command(ml, "train", file, "--resume-or-start", "--quiet")[0] == 0
    before = (tmp_path / "training" / "metrics.csv").stat().st_mtime_ns
    status, said = command(ml, "train", file, "--resume-or-start")
    assert status == 0
    assert "Registered methanol" in said
    assert (tmp_path / "training" / "metrics.csv").stat().st_mtime_ns == before


def test_a_name_that_another_training_took_is_refused(file, tmp_path):
    assert command(ml, "train", file, "--resume-or-start", "--quiet")[0] == 0
    status, said = command(ml, "train", file, "--resume-or-start", "--directory", tmp_path / "other")
    assert (status, "exists" in said) == (2, True)


@pytest.mark.parametrize("finished", [False, True])
def test_the_difference_from_another_training_is_named(finished, file, tmp_path, monkeypatch):
    options = small_options(tmp_path)
    if not finished:
        monkeypatch.setattr(TrainingLoop, "train_step", terminating(TrainingLoop.train_step, 4))
    assert command(ml, "train", file, "--resume-or-start", "--quiet")[0] == (0 if finished else 75)
    other = changed(options, optimizer=options.optimizer.model_dump() | {"learning_rate": 0.002}, seed=3)
    difference = "optimizer.learning_rate: 0.001 there, 0.002 now"
    is_named = told(name="optimizer.learning_rate", value=difference, remedy="directory")
    with pytest.raises(TrainingError, check=is_named):
        train(other, resume_or_start=True, quiet=True)


@pytest.mark.parametrize("switch", ["--resume", "--replace"])
def test_switches_of_a_training_that_contradict_each_other(switch, file, tmp_path):
    status, said = command(ml, "train", file, "--resume-or-start", switch)
    assert status == 2
    assert f"--resume-or-start and {switch} contradict each other" in said
    assert not (tmp_path / "training").exists()


def test_two_processes_do_not_run_one_training(file, tmp_path):
    (tmp_path / "training").mkdir()
    lock = FolderLock(tmp_path / "training" / ".lock", "running this training")
    with pytest.raises(RunBusyError):
        train(small_options(tmp_path), resume_or_start=True, quiet=True)
    lock.close()
    assert not (tmp_path / "training" / "train.yaml").exists()


def test_a_checkpoint_without_the_state_of_an_epoch_is_read(file, whole, tmp_path, monkeypatch):
    """As earlier versions wrote them."""
    monkeypatch.setattr(TrainingLoop, "end_epoch", terminating(TrainingLoop.end_epoch, 2))
    assert command(ml, "train", file, "--resume-or-start", "--quiet")[0] == 75
    path = tmp_path / "training" / "last.ckpt"
    stored = torch.load(path)
    del stored["progress"]
    torch.save(stored, path)
    assert command(ml, "train", file, "--resume-or-start", "--quiet")[0] == 0
    is_same(tmp_path / "training", whole)


def test_a_request_knows_what_it_may_be():
    with pytest.raises(ConfigError, check=told(value="--replace")):
        TrainingRequest(TrainOptions.model_construct(), replace=True, resume_or_start=True)


# ------------------------------------------------------------------------------------------ runs

MD = {
    "structure": "H2O",
    "calculator": "toy_calculators:Springs",
    "relax": False,
    "equilibration_ps": 0.005,
    "steps": 60,
    "write_every": 5,
}


@pytest.fixture
def md_file(tmp_path):
    path = tmp_path / "nvt.yaml"
    path.write_text(json.dumps({"protocol": "nvt", "directory": str(tmp_path / "run"), **MD}))
    return path


@pytest.fixture
def straight(tmp_path):
    return NVT(**MD).run(directory=tmp_path / "straight", quiet=True).directory


@pytest.mark.parametrize("number", [2, 20, 65, 70])
def test_a_run_is_started_and_resumed_by_one_command(number, md_file, straight, tmp_path, monkeypatch):
    from toy_calculators import Springs

    with monkeypatch.context() as patch:
        patch.setattr(Springs, "calculate", terminating(Springs.calculate, number))
        assert command(md, "run", md_file, "--resume-or-start", "--quiet")[0] == 75
    assert command(md, "run", md_file, "--resume-or-start", "--quiet")[0] == 0
    for name in ("trajectory.traj", "thermo.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (straight / name).read_bytes()
    assert command(md, "run", md_file, "--resume-or-start", "--quiet")[0] == 0  # nothing is left


def test_the_signal_during_the_analysis_ends_with_75(md_file, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("asecalc_ml.cli.md.analyse", _terminating_now)
        status, said = command(md, "run", md_file, "--resume-or-start", "--quiet")
    assert (status, "run to end (SIGTERM)" in said) == (75, True)
    assert command(md, "run", md_file, "--resume-or-start", "--quiet")[0] == 0
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"structure": "NH3"}, "structure: OH2 there, NH3 now"),
        ({"timestep_fs": 0.25}, "timestep_fs: 0.5 there, 0.25 now"),
        ({"protocol": "nve"}, "protocol: nvt there, nve now"),
        ({"stop": {"temperature_above_K": 1e4}}, None),
        ({"analyses": {"temperature": None}}, None),
        ({"steps": 80}, None),
        ({"thermostat": "auto"}, None),
    ],
)
def test_a_run_of_other_options_is_refused_and_the_difference_named(options, difference, md_file, tmp_path):
    assert command(md, "run", md_file, "--resume-or-start", "--quiet")[0] == 0
    before = (tmp_path / "run" / "trajectory.traj").read_bytes()
    arguments = [f"--{name}={json.dumps(value)}" for name, value in options.items()]
    status, said = command(md, "run", md_file, "--resume-or-start", "--quiet", *arguments)
    if difference is None:
        assert status == 0, said
    else:
        assert status == 2
        assert f"holds another run ({difference}" in said
        assert (tmp_path / "run" / "trajectory.traj").read_bytes() == before


@pytest.mark.parametrize("change", ["moved", "charged", "order"])
def test_a_structure_file_that_has_changed_is_another_structure(change, tmp_path):
    atoms = molecule("H2O")
    write(tmp_path / "water.xyz", atoms)
    options = NVT(**MD | {"structure": str(tmp_path / "water.xyz")})
    options.run(directory=tmp_path / "run", quiet=True, resume_or_start=True)
    if change == "moved":
        atoms.positions[1, 2] += 0.01
    elif change == "order":
        atoms = atoms[[1, 0, 2]]
    else:
        atoms.info["charge"] = 2
    write(tmp_path / "water.xyz", atoms, format="extxyz")
    with pytest.raises(RunError, check=told(name=str(tmp_path / "run"), remedy="bring back")):
        options.run(directory=tmp_path / "run", quiet=True, resume_or_start=True)


def test_atoms_and_calculator_of_python_are_continued(tmp_path):
    from toy_calculators import Springs

    atoms = molecule("H2O")
    atoms.calc = Springs()
    options = NVT(**{name: value for name, value in MD.items() if name not in ("structure", "calculator")})
    straight = options.run(atoms, tmp_path / "straight", quiet=True)
    own = NVT(**options.model_dump() | {"stop": {"wall_time_h": 1e-9}})
    with pytest.raises(RunPausedError):
        own.run(atoms, tmp_path / "run", quiet=True, resume_or_start=True)
    run = options.run(atoms, tmp_path / "run", quiet=True, resume_or_start=True)
    assert (run.directory / "trajectory.traj").read_bytes() == (
        straight.directory / "trajectory.traj"
    ).read_bytes()


@pytest.mark.parametrize("words", [["run", "{file}", "--resume-or-start"], ["resume", "{directory}"]])
def test_a_finished_run_is_not_said_to_have_another_calculator(words, md_file, tmp_path):
    """Nothing is left to do, but what is stored about the run stays true."""
    assert command(md, "run", md_file, "--quiet")[0] == 0
    before = (tmp_path / "run" / "protocol.yaml").read_text()
    given = [word.format(file=md_file, directory=tmp_path / "run") for word in words]
    status, said = command(md, *given, "--quiet", "--calculator", "toy_calculators:SlowSprings")
    assert (status, "SlowSprings instead of toy_calculators:Springs" in said) == (2, True), said
    assert (tmp_path / "run" / "protocol.yaml").read_text() == before


def test_overwriting_contradicts_resuming(md_file, tmp_path):
    status, said = command(md, "run", md_file, "--resume-or-start", "--overwrite")
    assert (status, "contradict each other" in said) == (2, True)
    assert not (tmp_path / "run").exists()


def test_a_directory_with_something_else_is_refused(md_file, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    status, said = command(md, "run", md_file, "--resume-or-start")
    assert (status, "notes.txt" in said) == (2, True)


def test_a_campaign_takes_the_same_switch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(json.dumps({"base": {"protocol": "nvt", **MD}, "grid": {"seed": [0]}}))
    validated = subprocess.run(
        [sys.executable, "-c", "from asecalc_ml.cli.md import main; main()", "campaign", "c.yaml", "--status",
         "--resume-or-start"],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert validated.returncode == 0, validated.stderr

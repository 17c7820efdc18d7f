"""Trainings of several processes, and batches in parts, against whole batches in one process."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from raising import told
from small_training import changed
from small_training import weights as weights_of

from asecalc_ml.errors import TrainingError
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.frames.batches import LabelledGraph, Parts, StoredFrames
from asecalc_ml.potentials.training.frames.scaling import fit_scaling
from asecalc_ml.potentials.training.losses import total_loss
from asecalc_ml.potentials.training.optimization.eager import eager_forward, eager_step
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.options import LossOptions
from asecalc_ml.potentials.training.processes import launch
from asecalc_ml.potentials.training.processes.launch import _first_node, _place_in_environment
from asecalc_ml.potentials.training.processes.world import World
from asecalc_ml.potentials.training.trainer import build_model
from asecalc_ml.store.registry import Registry

CUTOFF = 4.0
#: Columns of metrics.csv: loss of the training, and errors. That of the validation is a mean over batches and
#: depends on their size where frames lack labels.
METRICS = [1, 3, 4, 5]


def crystals(n_frames=24, seed=0):
    """Cells of one to four atoms of Cu or Al; every fourth has no stress, every third no forces."""
    random, frames = np.random.default_rng(seed), []
    for number in range(n_frames):
        atoms = bulk("Cu", cubic=True, a=3.6) if number % 2 else bulk("Al", a=4.0) * (1 + number % 3, 1, 1)
        atoms.positions += random.normal(scale=0.1, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces(), atoms.get_stress()
        results = {**atoms.calc.results}
        if number % 4 == 3:
            del results["stress"]
        if number % 3 == 2:
            del results["forces"]
        atoms.calc.results = results
        frames.append(atoms)
    return frames


@pytest.fixture
def options(tmp_path):
    write(tmp_path / "crystals.xyz", crystals(), format="extxyz")
    return TrainOptions(
        name="whole",
        data={"format": "ase", "path": str(tmp_path / "crystals.xyz"), "level_of_theory": "EMT"},
        split={"n_train": 18, "n_validation": 5, "n_test": 1},
        model={"architecture": "schnet", "n_atom_basis": 8, "n_interactions": 1, "cutoff_A": CUTOFF},
        loss={"stress_weight": 1.0},
        optimizer={"warmup_steps": 5},
        batch_size=4,
        max_epochs=4,
        precision="float64",
        directory=tmp_path / "whole",
    )


def in_parts(options, name, **changes):
    return changed(options, name=name, directory=options.directory.with_name(name), **changes)


def rows(options):
    """Losses and errors of each epoch."""
    return np.loadtxt(options.directory / "metrics.csv", delimiter=",", skiprows=1)[:, METRICS]


def weights(name):
    """All weights of a registered model."""
    return np.concatenate([values.numpy().ravel() for values in weights_of(Registry().find(name)).values()])


@pytest.mark.parametrize("architecture", ["schnet", "physnet"])
@pytest.mark.parametrize("function", ["squared", "log-cosh"])
@pytest.mark.parametrize("n_parts", [2, 4])
def test_losses_and_gradients_of_parts_sum_to_those_of_the_batch(options, architecture, function, n_parts):
    """With frames of different sizes, some without forces or stress, and with PhysNet's penalty."""
    frames, loss = crystals(8), LossOptions(function=function, stress_weight=0.5)
    model = {"architecture": architecture, "cutoff_A": CUTOFF}
    model |= {"charges": False} if architecture == "physnet" else {}
    built = build_model(changed(options, model=model), fit_scaling(frames, None))
    labels = ["energy", "forces", "stress"]
    stored = StoredFrames(
        [LabelledGraph.from_atoms(atoms, CUTOFF, labels) for atoms in frames], CUTOFF, labels
    )
    order = np.random.default_rng(1).permutation(8)
    (whole,) = stored.batches(order, 8)
    parts = list(stored.batches(order, 8, parts=Parts(n_parts, range(n_parts))))
    assert [part.n_systems for part in parts] == n_parts * [8 // n_parts]
    flat = FlatWeights(built)
    with torch.no_grad():
        flat.values += 0.1 * torch.randn(flat.values.shape, dtype=flat.values.dtype)  # outputs begin at zero
    step = eager_step(built, flat, loss)
    value, gradient = step(flat.values, whole)
    values, gradients = zip(*(step(flat.values, part) for part in parts), strict=True)
    assert float(sum(values)) == pytest.approx(float(value), rel=1e-12)
    assert torch.allclose(sum(gradients), gradient, rtol=1e-9, atol=1e-11 * float(gradient.norm()))
    # a mean of the parts' own means would be another number
    own = [
        total_loss(eager_forward(built)(part.inputs), next(stored.batches(numbers, 8)), loss)
        for part, numbers in zip(parts, np.array_split(order, n_parts), strict=True)
    ]
    assert abs(float(sum(own).detach() / n_parts) / float(value) - 1) > 1e-6


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_train_as_one_does(options, compiled):
    whole = changed(options, compile=compiled)
    train(whole, quiet=True)
    both = in_parts(whole, "both", devices=2, batch_size=2, accumulated_batches=2)
    train(both, quiet=True)
    assert np.allclose(rows(both), rows(whole), rtol=1e-8)
    assert np.allclose(weights("both"), weights("whole"), rtol=1e-6, atol=1e-9)


def test_accumulated_parts_train_as_the_batch_does(options):
    train(options, quiet=True)
    parts = in_parts(options, "parts", batch_size=1, accumulated_batches=4)
    train(parts, quiet=True)
    assert np.allclose(rows(parts), rows(options), rtol=1e-8)


def test_two_processes_train_a_property_as_one_does(options, tmp_path):
    frames = crystals()
    for number, atoms in enumerate(frames):
        atoms.calc = None
        atoms.info = {"gap": 0.1 * number} if number % 5 else {}
    write(tmp_path / "gaps.xyz", frames, format="extxyz")
    data = {"format": "ase", "path": str(tmp_path / "gaps.xyz"), "properties": {"gap": {"unit": "eV"}}}
    of_gap = changed(options, data=data, target="gap", loss={})
    train(of_gap, quiet=True)
    both = in_parts(of_gap, "both", devices=2)
    train(both, quiet=True)
    columns = [np.loadtxt(one.directory / "metrics.csv", delimiter=",", skiprows=1) for one in (both, of_gap)]
    assert np.allclose(*(values[:, 1:4] for values in columns), rtol=1e-8)


COMMAND = [sys.executable, "-c", "from asecalc_ml.cli.ml import main; main()", "train"]


@pytest.fixture
def yaml(options, tmp_path):
    from asecalc_ml.config.options import dump_yaml

    long = in_parts(options, "long", devices=2, max_epochs=40)
    (tmp_path / "long.yaml").write_text(dump_yaml(long))
    return long, tmp_path / "long.yaml"


def begun(command, options, n_epochs=2, **further):
    """A training as a process of its own, once it has some epochs."""
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **further
    )
    path, deadline = options.directory / "metrics.csv", time.monotonic() + 120
    while not (path.exists() and len(path.read_text().splitlines()) > n_epochs):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def children(process):
    """Processes that another one has started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()]


@pytest.mark.slow
def test_a_lost_process_ends_the_training_which_continues_bit_for_bit(yaml):
    options, path = yaml
    process = begun([*COMMAND, path], options)
    (other,) = children(process)
    os.kill(other, signal.SIGKILL)
    assert process.wait(60) == 2
    assert "process 1 of the training ended with status -9" in process.stderr.read()
    subprocess.run([*COMMAND, path, "--resume", "--quiet"], check=True)
    train(in_parts(options, "straight"), quiet=True)
    assert np.array_equal(rows(options), rows(in_parts(options, "straight")))
    assert np.array_equal(weights("long"), weights("straight"))


@pytest.mark.slow
def test_the_others_end_when_the_first_process_is_killed(yaml):
    options, path = yaml
    process = begun([*COMMAND, path], options)
    (other,) = children(process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{other}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_all_processes_pause_after_the_same_step(yaml):
    """Of which only the first has been asked to end."""
    options, path = yaml
    process = begun([*COMMAND, path], options)
    (other,) = children(process)
    process.terminate()
    assert process.wait(60) == 75
    assert not os.path.exists(f"/proc/{other}")
    subprocess.run([*COMMAND, path, "--resume", "--quiet"], check=True)
    train(in_parts(options, "straight"), quiet=True)
    assert np.array_equal(rows(options), rows(in_parts(options, "straight")))


def test_a_process_that_cannot_begin_ends_the_training(options, monkeypatch):
    """Before the processes have joined: nobody waits for it."""
    monkeypatch.setattr(launch, "WORKER", "raise SystemExit('no licence here')")
    with pytest.raises(TrainingError, match="process 1 of the training ended with status 1: no licence here"):
        train(changed(options, devices=2), quiet=True)


@pytest.mark.slow
def test_torchrun_starts_the_processes(yaml, tmp_path):
    options, path = yaml
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
    done = subprocess.run(
        [*launcher, *COMMAND, path, "--max_epochs", "4"], check=True, capture_output=True, text=True
    )
    assert done.stdout.count("Registered long") == 1
    train(in_parts(options, "straight", max_epochs=4), quiet=True)
    assert np.allclose(rows(options), rows(in_parts(options, "straight", max_epochs=4)), rtol=1e-9)


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        (
            {"devices": 3, "compile": True},
            "batch_size",
            "4 frames of a step .* into 3 parts, which a compiled",
        ),
        ({"devices": 8}, "batch_size", "4 frames of a step cannot be divided into 8 parts"),
        ({"num_nodes": 2}, "num_nodes", "nothing in the environment says which process this is"),
    ],
)
def test_what_cannot_be_divided_is_refused(options, changes, name, words):
    with pytest.raises(TrainingError, match=words, check=told(name=name)):
        train(changed(options, **changes), quiet=True)
    assert not (options.directory / "metrics.csv").exists()


SLURM = {
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_NODELIST": "gpu[07-09,12],fat1",
}


def test_a_process_finds_its_place_in_the_environment():
    torchrun = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "5"}
    for environment, address, port in ((SLURM, "gpu07", 20017), (torchrun, "a", 5)):
        place = _place_in_environment(environment, 4)
        assert (place.world, place.address, place.port) == (World(4, 3, 1), address, port)
        with pytest.raises(TrainingError, match="4 processes were started", check=told(name="devices")):
            _place_in_environment(environment, 2)
    # a batch script of Slurm is no step of srun
    assert _place_in_environment({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "17"}, 4) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("vm", "vm"), ("a-1,a-2", "a-1"), ("n[3,5]", "n3"), ("r1n[01-16]-ib,r2n[01-02]-ib", "r1n01-ib")],
)
def test_the_first_process_is_on_the_first_node(nodes, first):
    assert _first_node(nodes) == first


@pytest.mark.parametrize("n_accumulated", [1, 3])
def test_the_parts_of_all_processes_are_those_of_the_batch(n_accumulated):
    parts = [World(4, rank).parts(n_accumulated) for rank in range(4)]
    assert {part.n for part in parts} == {4 * n_accumulated}
    assert parts[0].own.start == 0
    assert all(before.own.stop == after.own.start for before, after in pairwise(parts))
    assert parts[-1].own.stop == parts[-1].n

"""A process that dies at any moment of its writing leaves a run that ends as if nothing had happened."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ase.io.ulm
import h5py
import numpy as np
import pytest
from ase import Atoms
from places import HELPERS

import asecalc_ml
from asecalc_ml.files.writing import GrowingText
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.npt import NPT
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.md_protocols.sequence import Sequence
from asecalc_ml.runs import RunReader, trajectory_of
from asecalc_ml.runs.trajectories import extxyz_writer, h5md_writer

SAME = ("trajectory.traj", "trajectory.extxyz", "thermo.csv", "equilibration.csv")
FORMATS = ("traj", "extxyz", "h5md")
KILLED = 9

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked and dies at once")


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)


def assert_same(run: RunReader, straight: RunReader) -> None:
    for name in SAME:
        if (straight.directory / name).is_file():
            assert (run.directory / name).read_bytes() == (straight.directory / name).read_bytes(), name
    assert run.finished
    assert run.n_frames == straight.n_frames > 0
    for quantity in ("positions", "momenta", "forces", "cells"):
        ours, theirs = (list(one.chunks(quantity=quantity)) for one in (run, straight))
        assert np.array_equal(ours, theirs), quantity


def check_whole(directory: Path) -> None:
    """What a kill has left can be opened by others than us, as soon as there is a frame."""
    path = trajectory_of(directory)
    if path.suffix == ".h5md" and path.is_file() and any(path.read_bytes()[:8]):
        with h5py.File(path) as file:
            n_frames = len(file["particles/trajectory/position/value"])
            assert np.isfinite(file["particles/trajectory/force/value"]).all()
            assert file["particles/trajectory/velocity/value"].shape[0] == n_frames


# ---------------------------------------------------------------------- at every boundary of a write

SHORT = {
    "structure": "H2O",
    "calculator": "toy_calculators:Springs",
    "relax_fmax_eV_A": 1e-6,
    "equilibration_ps": 0.004,
    "timestep_fs": 0.5,
    "steps": 12,
    "write_every": 3,
    "thermo_every": 2,
    "checkpoint_every": 4,
}


class Boundaries:
    """Calls ``at`` with a number before and after everything that changes a file."""

    def __init__(self, at: Callable[[int], None]):
        self.at, self.n = at, 0

    def __enter__(self):
        self._before = [
            (owner, name, getattr(owner, name))
            for owner, name in (
                (os, "fsync"),
                (Path, "replace"),
                (Path, "unlink"),
                (GrowingText, "flush"),
                (ase.io.ulm, "writeint"),
                (ase.io.ulm.Writer, "fill"),
                (extxyz_writer, "write_at"),
                (h5md_writer, "write_at"),
            )
        ]
        wrappers = {"flush": self._half_flushed, "write_at": self._half_written}
        for owner, name, function in self._before:
            setattr(owner, name, wrappers.get(name, self._around)(function))
        return self

    def __exit__(self, *_):
        for owner, name, function in self._before:
            setattr(owner, name, function)

    def _pass(self) -> None:
        self.n += 1
        self.at(self.n)

    def _around(self, function):
        def wrapped(*args, **kwargs):
            self._pass()
            result = function(*args, **kwargs)
            self._pass()
            return result

        return wrapped

    def _half_written(self, write_at):
        """The few bytes that count the frames, at the beginning, are written at once."""

        def wrapped(file, data, place):
            self._pass()
            if place:
                write_at(file, data[: len(data) // 2], place)
                self._pass()
            write_at(file, data, place)
            self._pass()

        return wrapped

    def _half_flushed(self, flush):
        def wrapped(text):
            self._pass()
            waiting = text._waiting
            text._waiting = waiting[: len(waiting) // 2]
            flush(text)
            self._pass()
            text._waiting = waiting[len(waiting) // 2 :]
            flush(text)

        return wrapped


def dies_at(number: int, work: Callable[[], object]) -> bool:
    """Do work in a copy of this process that dies at a boundary; whether it did."""

    def die(passed: int) -> None:
        if passed == number:
            os._exit(KILLED)

    process = os.fork()
    if process == 0:
        with Boundaries(die):
            work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == KILLED


def finish(directory: Path, options) -> RunReader:
    """Resume, or begin where there is nothing to resume."""
    if (directory / "protocol.yaml").is_file():
        return resume_run(directory, quiet=True)
    return options.run(directory=directory, quiet=True)


def number_of_boundaries(options, directory: Path) -> int:
    with Boundaries(lambda number: None) as boundaries:
        options.run(directory=directory, quiet=True)
    return boundaries.n


def check_boundaries(tmp_path: Path, first: int, every: int, trajectory_format: str) -> None:
    options = NVE(**SHORT, trajectory_format=trajectory_format)
    n_boundaries = number_of_boundaries(options, tmp_path / "straight")
    straight = RunReader(tmp_path / "straight")
    assert n_boundaries > 100
    for number in range(first, n_boundaries + 1, every):
        directory = tmp_path / str(number)
        assert dies_at(number, lambda: options.run(directory=directory, quiet=True)), number  # noqa: B023
        check_whole(directory)
        assert_same(finish(directory, options), straight)


@pytest.mark.parametrize(("trajectory_format", "every"), [("traj", 11), ("extxyz", 31), ("h5md", 31)])
def test_killed_at_some_boundaries_of_its_writing(trajectory_format, every, tmp_path):
    check_boundaries(tmp_path, 3, every, trajectory_format)


@pytest.mark.slow
@pytest.mark.parametrize("trajectory_format", FORMATS)
def test_killed_at_every_boundary_of_its_writing(trajectory_format, tmp_path):
    check_boundaries(tmp_path, 1, 1, trajectory_format)


@pytest.mark.parametrize("first", [7, 40, 90])
def test_killed_while_it_is_resumed(first, tmp_path):
    options = NVE(**SHORT)
    straight = options.run(directory=tmp_path / "straight", quiet=True)
    directory = tmp_path / "run"
    assert dies_at(130, lambda: options.run(directory=directory, quiet=True))
    dies_at(first, lambda: resume_run(directory, quiet=True))
    assert_same(resume_run(directory, quiet=True), straight)


# ---------------------------------------------------------------------- kill -9, at any time

ETHANE = {
    "structure": "C2H6",
    "calculator": {"toy_calculators:SlowSprings": {"molecule_name": "C2H6", "stiffness": 2.0}},
    "relax": False,
    "equilibration_ps": 0.03,
    "write_every": 2,
    "thermo_every": 2,
    "checkpoint_every": 9,
}
CELL = {"structure": "cell.extxyz", "calculator": "toy_calculators:SlowCell"}
ENSEMBLES = {
    "nve": NVE(**ETHANE, timestep_fs=0.5, steps=100),
    "bussi": NVT(**ETHANE, thermostat="bussi", steps=100),
    "langevin": NVT(**ETHANE, thermostat="langevin", steps=100),
    "nose-hoover-chain": NVT(**ETHANE, thermostat="nose-hoover-chain", steps=100),
    "npt": NPT(**ETHANE | CELL, cell="full", steps=100),
    "extxyz": NVT(**ETHANE, steps=100, trajectory_format="extxyz"),
    "h5md": NPT(**ETHANE | CELL, cell="full", steps=100, trajectory_format="h5md"),
    "sequence": Sequence(**ETHANE, sequence=[{"ensemble": one, "steps": 50} for one in ("nvt", "nve")]),
}


def in_a_process(directory: Path, code: str, delay_s: float) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(asecalc_ml.__file__).parents[1]), str(HELPERS)])
    environment = os.environ | {"PYTHONPATH": path, "TOY_DELAY_S": str(delay_s)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=directory)


def kill_at_random(ensemble: str, tmp_path: Path, n_kills: int, rng: random.Random) -> None:
    """Kill a run again and again, each time after it has gone on for a random while; it ends as if never."""
    box = Atoms("Ar4", np.random.default_rng(0).uniform(0, 5, (4, 3)), cell=[5.0] * 3, pbc=True)
    box.write(tmp_path / "cell.extxyz")
    options, directory = ENSEMBLES[ensemble], tmp_path / "run"
    straight = options.run(directory=tmp_path / "straight", quiet=True)
    given = options.model_dump(mode="json")
    module, name = type(options).__module__, type(options).__name__
    start = f"from {module} import {name}; {name}(**{given!r}).run(directory={str(directory)!r}, quiet=True)"
    resuming = "from asecalc_ml.md_protocols.engine.resume import resume_run"
    resume = f"{resuming}; resume_run({str(directory)!r}, quiet=True)"
    killed = 0
    while killed < n_kills and not (
        (directory / "protocol.yaml").is_file() and RunReader(directory).finished
    ):
        begun = (directory / "protocol.yaml").is_file()
        before = written(directory)
        running = in_a_process(tmp_path, resume if begun else start, delay_s=0.02)
        deadline = time.monotonic() + 120
        while written(directory) == before and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 2.0 / n_kills))
        running.send_signal(signal.SIGKILL)
        running.wait()
        check_whole(directory)
        killed += 1
    assert killed >= min(n_kills, 3)
    assert_same(finish(directory, options), straight)


def written(directory: Path) -> float:
    """When something was last written."""
    moments = [0.0]
    for path in directory.glob("*.*"):
        with contextlib.suppress(FileNotFoundError):  # left by a run that never began; the next removes it
            moments.append(path.stat().st_mtime)
    return max(moments)


@pytest.mark.parametrize("ensemble", [pytest.param("npt", marks=pytest.mark.slow), "h5md"])
def test_killed_three_times(ensemble, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kill_at_random(ensemble, tmp_path, 3, random.Random(0))


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_killed_twenty_times(ensemble, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kill_at_random(ensemble, tmp_path, 20, random.Random(1))

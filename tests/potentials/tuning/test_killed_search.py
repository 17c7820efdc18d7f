"""A search in a Ray cluster whose workers and driver are killed: nothing is lost, nothing is run twice."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from ase.io import write
from small_training import SMALL, labelled

from asecalc_ml.config.options import dump_yaml
from asecalc_ml.potentials.tuning import TuneOptions, read_search
from asecalc_ml.potentials.tuning.journal import read_events

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="locks and signals are POSIX"),
]

N_TRIALS, N_EPOCHS, N_KILLS = 5, 250, 10


def search_file(folder: Path, name: str, **search) -> Path:
    write(folder / "frames.xyz", labelled(), format="extxyz")
    options = TuneOptions(
        name=name,
        data={"format": "ase", "path": "frames.xyz", "level_of_theory": "EMT"},
        split={"n_train": 24, "n_validation": 8, "n_test": 8},
        model=SMALL,
        optimizer={"warmup_steps": 5, "ema_decay": 0.9},
        max_epochs=N_EPOCHS,
        search={
            "space": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-3]}},
            "method": "random",
            "trials": N_TRIALS,
            **search,
        },
    )
    file = folder / f"{name}.yaml"
    file.write_text(dump_yaml(options.model_dump(mode="json", exclude_unset=True)))
    return file


def started(file: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "asecalc_ml.cli.ml", "tune", file.name, *arguments]
    log = (file.parent / "search.log").open("ab")
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(command, cwd=file.parent, env=variables, stdout=log, stderr=log)


def trial_processes(folder: Path) -> list[psutil.Process]:
    """Processes that train a trial of a search in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "asecalc_ml.cli.tune.worker" in words and Path(process.cwd()) == folder:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(what, timeout_s: float = 300.0):
    deadline = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return value


class EpochCounts:
    """Watches the numbers of epochs in metrics.csv of all trials, which never fall by more than one."""

    def __init__(self, directory: Path):
        self.directory, self.largest, self.losses, self.ends = directory, Counter(), [], False
        self.thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self.ends:
            for path in self.directory.glob("trials/*/metrics.csv"):
                n_epochs = path.read_bytes().count(b"\n") - 1
                if n_epochs < self.largest[path] - 1:
                    self.losses.append((path.parent.name, self.largest[path], n_epochs))
                self.largest[path] = max(n_epochs, self.largest[path])
            time.sleep(0.02)

    def __enter__(self) -> "EpochCounts":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ends = True
        self.thread.join()


@pytest.fixture
def ray_address(tmp_path):
    """A cluster of two workers that outlives every driver."""
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = Path(sys.executable).with_name("ray")
    start = [str(ray)] if ray.is_file() else [sys.executable, "-m", "ray.scripts.scripts"]
    flags = ["--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", "--block"]
    command = [*start, "start", "--head", f"--port={port}", *flags, f"--temp-dir=/tmp/ray-{port}"]
    log = (tmp_path / "ray.log").open("wb")
    cluster = subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log, start_new_session=True
    )
    wait_for(lambda: b"Ray runtime started" in (tmp_path / "ray.log").read_bytes(), 120)
    yield f"127.0.0.1:{port}"
    children = psutil.Process(cluster.pid).children(recursive=True)
    cluster.terminate()
    cluster.wait(timeout=60)
    for child in children:
        if child.is_running():
            child.kill()


def victim_of(folder: Path, dice: random.Random) -> psutil.Process | None:
    """A trial's process, or the Ray worker that has started it."""
    processes = trial_processes(folder)
    if not processes:
        return None
    trial = dice.choice(processes)
    try:
        return dice.choice([trial, trial.parent()]) or trial
    except psutil.Error:
        return None


def test_workers_and_driver_are_killed_at_ten_random_moments(tmp_path, ray_address):
    file = search_file(tmp_path, "killed", executor="ray", workers=2, retries=50)
    directory, dice = tmp_path / "tuning" / "killed", random.Random(os.environ.get("KILL_SEED", "2"))
    environment = {"RAY_ADDRESS": ray_address}
    with EpochCounts(directory) as counts:
        driver, n_killed = started(file, **environment), Counter()
        for number in range(N_KILLS):
            wait_for(lambda now=driver: trial_processes(tmp_path) or now.poll() is not None)
            time.sleep(dice.uniform(0.5, 12))
            if driver.poll() is not None:
                break  # it was done before the last kill
            worker = victim_of(tmp_path, dice)
            if number % 2 == 0 and worker is not None:
                worker.kill()
                n_killed["worker"] += 1
                continue
            driver.kill()
            driver.wait()
            n_killed["driver"] += 1
            wait_for(lambda: not trial_processes(tmp_path), 60)  # orphans end by themselves
            driver = started(file, "--resume", **environment)
        assert driver.wait(timeout=1500) == 0, (tmp_path / "search.log").read_text()
    print(n_killed, Counter(event["kind"] for event in read_events(directory)))
    assert n_killed["worker"] >= 3
    assert n_killed["driver"] >= 3
    assert counts.losses == []  # a trial in flight was continued from its checkpoint
    assert_each_once_and_as_if_undisturbed(tmp_path, directory)


def assert_each_once_and_as_if_undisturbed(folder: Path, directory: Path) -> None:
    events = read_events(directory)
    for kind in ("submitted", "ended"):
        numbers = [event["trial"] for event in events if event["kind"] == kind]
        assert sorted(numbers) == list(range(1, N_TRIALS + 1))
    n_starts = Counter(event["trial"] for event in events if event["kind"] == "started")
    assert max(n_starts.values()) > 1
    results = read_search(directory)
    assert [trial.state for trial in results.trials] == ["done"] * N_TRIALS
    for trial in results.trials:
        rows = (results.folder(trial) / "metrics.csv").read_text().splitlines()[1:]
        assert [int(row.split(",")[0]) for row in rows] == list(range(1, N_EPOCHS + 1))
    straight = started(search_file(folder, "straight", workers=2))
    assert straight.wait(timeout=900) == 0, (folder / "search.log").read_text()
    expected = read_search(folder / "tuning" / "straight").trials
    assert [trial.values for trial in results.trials] == [trial.values for trial in expected]
    assert [trial.objectives for trial in results.trials] == [trial.objectives for trial in expected]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_local_search_that_is_ended_leaves_no_orphans_and_is_continued(sent, tmp_path):
    file = search_file(tmp_path, "ended", trials=2, workers=2)
    driver = started(file)
    wait_for(lambda: len(list((tmp_path / "tuning" / "ended").glob("trials/*/last.ckpt"))) == 2)
    driver.send_signal(sent)
    assert driver.wait(timeout=60) == (130 if sent == signal.SIGINT else -sent)
    wait_for(lambda: not trial_processes(tmp_path), 60)
    again = started(file, "--resume")
    assert again.wait(timeout=600) == 0, (tmp_path / "search.log").read_text()
    assert [trial.state for trial in read_search(tmp_path / "tuning" / "ended").trials] == ["done"] * 2

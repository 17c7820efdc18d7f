"""Trackers: rows, tables and final numbers where asked for; what fails there never ends a run."""

import json
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from places import HELPERS, ROOT
from small_training import changed, small_options
from typer.testing import CliRunner

from asecalc_ml import plugins
from asecalc_ml.cli.analyse import analyse
from asecalc_ml.cli.md import app as md
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.contracts import mistake
from asecalc_ml.errors import ConfigError
from asecalc_ml.files.tables import read_table
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.scan.options import Scan
from asecalc_ml.potentials.training import train
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.runs import RunReader
from asecalc_ml.tracking import Tracker, TrackerOptions, Trackers, WandbOptions, background, tracking

SHORT = {
    "structure": "H2O",
    "calculator": "toy_calculators:KilledSprings",
    "relax": False,
    "equilibration_ps": 0.005,
    "timestep_fs": 0.5,
    "steps": 20,
    "thermo_every": 5,
    "checkpoint_every": 10,
    "wandb": {"mode": "offline"},
}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)
    monkeypatch.setenv("WANDB_MODE", "offline")


class FakeRun:
    """What the package asks of a run there."""

    def __init__(self, **given):
        self.given, self.rows, self.summary, self.finished = given, [], {}, False

    def log(self, values, step=None):
        self.rows.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """The package in memory, which keeps its runs in ``runs``."""
    fake = SimpleNamespace(runs=[], Settings=dict, Table=lambda columns, data: (columns, data))

    def init(**given):
        fake.runs.append(FakeRun(**given))
        return fake.runs[-1]

    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_options_of_earlier_versions():
    """`wandb: {...}` stands for `tracking: {wandb: {...}}`, in trainings too."""
    assert TrainOptions.model_fields["tracking"].annotation == NVE.model_fields["tracking"].annotation
    assert NVE(steps=1).tracking is None
    assert NVE(steps=1, wandb=None).tracking is None
    assert NVE(steps=1, wandb={}) == NVE(steps=1, tracking={"wandb": {}})
    given = WandbOptions(mode="online", project="mine")
    assert NVE(steps=1, wandb=given).tracking == {"wandb": given.model_dump()}
    training = {"name": "a", "data": {"format": "ase"}, "wandb": {"mode": "offline"}}
    assert TrainOptions(**training).tracking == {"wandb": {"mode": "offline"}}
    assert "wandb" not in TrainOptions(**training).model_dump()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("wandb: {mode: of}", "line 4: 'wandb.mode' is 'of'"),
        ("tracking: {wandb: {mod: offline}}", "unknown key 'tracking.wandb.mod'; did you mean"),
        ("tracking: {tensorbord: }", "no tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ("tracking: tensorboard", "line 4: 'tracking' is 'tensorboard', but should be keys and values"),
        ("tracking: {wandb: }\nwandb: {}", "former name of tracking"),
    ],
)
def test_wrong_options_of_a_file(lines, told, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(f"protocol: nve\nstructure: ethanol\ncalculator: ase.calculators.emt:EMT\n{lines}\n")
    result = CliRunner().invoke(md, ["validate", str(file)])
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_wrong_options_in_python():
    with pytest.raises(ValueError, match="did you mean 'wandb'"):
        NVE(steps=1, tracking={"wandbb": {}})
    with pytest.raises(ConfigError, match="should be 'offline' or 'online'"):
        Trackers({"wandb": {"mode": "of"}})


def test_thermo_rows_and_final_numbers(wandb, tmp_path):
    run = NVE(**SHORT).run(directory=tmp_path / "run", quiet=True)
    (first,) = wandb.runs
    assert [step for step, _ in first.rows] == [0, 5, 10, 15, 20]
    found = [values["thermo/temperature_K"] for _, values in first.rows]
    assert found == run.read_thermo()["temperature_K"].tolist()
    assert first.finished
    assert (first.given["name"], first.given["mode"]) == ("run", "offline")
    assert first.given["config"]["steps"] == 20
    analyse(run.directory)
    _, second = wandb.runs
    assert second.given["id"] == first.given["id"]
    assert second.summary["temperature.mean_K"] == pytest.approx(run.read_thermo()["temperature_K"].mean())
    assert {"bond-lengths.H-O.mean_A", "bond-lengths.H-O.error_A"} <= set(second.summary)


def test_a_resumed_run_goes_on_there(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_AT", "28")
    with pytest.raises(KeyboardInterrupt):
        NVE(**SHORT).run(directory=tmp_path / "run", quiet=True)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    resume_run(tmp_path / "run", quiet=True)
    first, second = wandb.runs
    assert first.finished
    assert first.given["id"] == second.given["id"]
    steps = [step for one in (first, second) for step, _ in one.rows]
    assert sorted(set(steps)) == [0, 5, 10, 15, 20]


def test_a_scan_is_a_table(wandb, tmp_path):
    given = {"structure": "H2O", "calculator": "toy_calculators:Springs", "coordinate": [0, 1]}
    run = Scan(**given, start=0.8, stop=1.2, points=5, wandb={}).run(directory=tmp_path / "run", quiet=True)
    analyse(run.directory)
    ((step, values),) = wandb.runs[-1].rows
    columns, data = values["scan"]
    assert step is None
    assert columns == list(run.read_scan_table())
    assert [row[columns.index("energy_eV")] for row in data] == run.read_scan_table()["energy_eV"].tolist()


@pytest.mark.parametrize("where", ["init", "log", "finish", "summary"])
def test_what_fails_there_is_told_once_and_the_run_goes_on(where, wandb, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise ConnectionError("no route to host\nand more")

    if where == "init":
        monkeypatch.setattr(wandb, "init", fails)
    elif where == "summary":
        monkeypatch.setattr(FakeRun, "__init__", lambda self, **_: setattr(self, "summary", None))
        monkeypatch.setattr(FakeRun, "log", lambda self, values, step=None: None)
    else:
        monkeypatch.setattr(FakeRun, where, fails)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = NVE(**SHORT).run(directory=tmp_path / "run", quiet=True)
        n_first = len([one for one in caught if "Weights & Biases" in str(one.message)])
        analyse(run.directory)
    said = [str(one.message) for one in caught if "Weights & Biases" in str(one.message)]
    assert run.finished
    assert n_first <= 1
    assert said
    assert "The run continues without it" in said[0]
    assert where == "summary" or "no route to host." in said[0]


def test_without_being_asked_nothing_is_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = NVE(**SHORT | {"wandb": None}).run(directory=tmp_path / "run", quiet=True)
    analyse(run.directory)
    assert not (tmp_path / "run" / "wandb").exists()


class Recorder(Tracker):
    """A record in memory."""

    def __init__(self, run):
        self.run, self.rows, self.tables, self.closed, self.threads = run, [], {}, False, set()

    def row(self, table, values, step):
        self.threads.add(threading.current_thread())
        self.rows.append((table, values, step))

    def table(self, name, columns, rows):
        self.tables[name] = [columns, *rows]

    def close(self):
        self.closed = True


class Toy(TrackerOptions):
    """A tracker of another package; what it does instead is put into ``does``."""

    does: ClassVar = staticmethod(Recorder)
    given_up: ClassVar[list] = []

    def start(self, run):
        return type(self).does(run)

    def give_up(self, is_hanging):
        self.given_up.append(is_hanging)


@pytest.fixture
def toy(monkeypatch):
    """Register :class:`Toy` as "toy"; what it starts is kept in the list that is returned."""
    started = []

    def start(run):
        started.append(Recorder(run))
        return started[-1]

    monkeypatch.setattr(Toy, "does", staticmethod(start))
    monkeypatch.setattr(Toy, "given_up", [])
    get = plugins.get
    monkeypatch.setattr(plugins, "get", lambda group, name: Toy if name == "toy" else get(group, name))
    return started


def test_a_tracker_of_another_package(toy, tmp_path):
    assert mistake("trackers", "toy", Toy) is None
    options = NVE(**SHORT | {"wandb": None}, tracking={"toy": {"group": "g"}})
    run = options.run(directory=tmp_path / "run", quiet=True)
    (record,) = toy
    assert record.closed
    assert [step for _, _, step in record.rows] == run.read_thermo()["step"].tolist()
    assert threading.main_thread() not in record.threads
    assert (record.run.name, record.run.config["steps"]) == ("run", 20)


def test_several_trackers_at_once(toy, wandb, tmp_path):
    both = {"wandb": {}, "toy": None}
    NVE(**SHORT | {"wandb": None}, tracking=both).run(directory=tmp_path / "b", quiet=True)
    assert len(wandb.runs[-1].rows) == len(toy[-1].rows) == 5


def test_runs_of_a_search(toy, wandb, tmp_path):
    """Of each trial a record, in the group of the search unless the options name another."""
    trackers = Trackers({"wandb": {"group": "mine"}, "toy": {}})
    for trial in range(2):
        config = {"learning_rate": 10.0**-trial}
        with trackers.start(
            tmp_path, name=f"trial-{trial}", group="search", began=str(trial), config=config
        ) as record:
            record.row("training", {"loss": 0.5}, step=1)
            record.summary({"objective": 0.1})
    assert [run.given["name"] for run in wandb.runs] == ["trial-0", "trial-1"]
    assert {run.given["group"] for run in wandb.runs} == {"mine"}
    assert len({run.given["id"] for run in wandb.runs}) == 2
    assert wandb.runs[0].summary == {"objective": 0.1}
    assert wandb.runs[1].given["config"] == {"learning_rate": 0.1}


def test_the_function_of_version_0_1_0(wandb, tmp_path):
    with tracking(WandbOptions(), tmp_path, "now", {}) as tracker:
        tracker.row("thermo", {"a": 1.0}, 0)
    with tracking(None, tmp_path, "now", {}) as tracker:
        tracker.row("thermo", {"a": 1.0}, 0)
    (run,) = wandb.runs
    assert run.rows == [(0, {"thermo/a": 1.0})]


def test_a_tracker_that_does_not_answer_holds_no_run_up(toy, tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(background, "CLOSING_s", 0.2)
    monkeypatch.setattr(Toy, "does", staticmethod(lambda run: release.wait(60)))
    options = NVE(**SHORT | {"wandb": None}, tracking={"toy": {}})
    with pytest.warns(
        UserWarning, match=r"Toy: it has not finished within 0 s. The run continues without it"
    ):
        run = options.run(directory=tmp_path / "run", quiet=True)
    assert run.finished
    assert Toy.given_up == [True]
    release.set()


def test_a_tracker_that_lags_behind_is_left(toy, monkeypatch, tmp_path):
    release = threading.Event()
    monkeypatch.setattr(background, "MOST_WAITING", 3)
    monkeypatch.setattr(background, "CLOSING_s", 0.2)
    monkeypatch.setattr(Toy, "does", staticmethod(lambda run: release.wait(60)))

    def log():
        with Trackers({"toy": None}).start(tmp_path) as record:
            for step in range(9):
                record.row("thermo", {"a": 1.0}, step)

    with pytest.warns(UserWarning, match="3 rows wait") as caught:
        log()
    assert len(caught) == 1
    release.set()


def test_a_missing_package_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.warns(UserWarning, match="Weights & Biases: import of wandb halted"):
        run = NVE(**SHORT).run(directory=tmp_path / "run", quiet=True)
    assert run.finished
    assert len(run.read_thermo()["step"]) == 5


# ---------------------------------------------------------------------- TensorBoard


def events_of(directory):
    """Scalars and texts of all event files of a run, read by TensorBoard itself."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(str(directory / "tensorboard"), {"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def test_tensorboard_has_every_row_and_final_number(tmp_path):
    pytest.importorskip("tensorboard")
    options = NVE(**SHORT | {"wandb": None}, tracking={"tensorboard": {"group": "waters"}})
    run = options.run(directory=tmp_path / "run", quiet=True)
    analyse(run.directory)
    events, thermo = events_of(run.directory), run.read_thermo()
    for name in set(thermo) - {"step"}:
        points = events.Scalars(f"thermo/{name}")
        assert [point.step for point in points] == thermo["step"].tolist()
        numbers = np.array([point.value for point in points])
        np.testing.assert_allclose(numbers, thermo[name], rtol=1e-6)  # TensorBoard keeps float32
    (mean,) = events.Scalars("summary/temperature.mean_K")
    assert mean.value == pytest.approx(thermo["temperature_K"].mean(), rel=1e-6)
    told = events.Tensors("run/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"group": "waters"' in told
    assert '"steps": 20' in told


def test_tensorboard_shows_each_step_of_a_resumed_run_once(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TOY_BREAKS_AT", "28")
    options = NVE(**SHORT | {"wandb": None}, tracking={"tensorboard": {}})
    with pytest.raises(KeyboardInterrupt):
        options.run(directory=tmp_path / "run", quiet=True)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    run = resume_run(tmp_path / "run", quiet=True)
    points = events_of(run.directory).Scalars("thermo/temperature_K")
    assert [point.step for point in points] == [0, 5, 10, 15, 20]
    np.testing.assert_allclose(
        [point.value for point in points], run.read_thermo()["temperature_K"], rtol=1e-6
    )


def test_tensorboard_in_a_scan_and_a_training(tmp_path):
    pytest.importorskip("tensorboard")
    given = {"structure": "H2O", "calculator": "toy_calculators:Springs", "coordinate": [0, 1]}
    scan = Scan(**given, start=0.8, stop=1.2, points=5, tracking={"tensorboard": None})
    run = scan.run(directory=tmp_path / "scan", quiet=True)
    analyse(run.directory)
    table = events_of(run.directory).Tensors("scan/text_summary")[0].tensor_proto.string_val[0].decode()
    assert len(table.splitlines()) == 2 + 5

    options = changed(small_options(tmp_path), tracking={"tensorboard": {}}, max_epochs=2)
    train(options, quiet=True)
    metrics = read_table(options.directory / "metrics.csv", needed=["train_loss"])
    events = events_of(options.directory)
    losses = [point.value for point in events.Scalars("training/train_loss")]
    np.testing.assert_allclose(losses, metrics["train_loss"], rtol=1e-6)
    assert events.Scalars("summary/epochs")[0].value == 2


def test_a_folder_that_cannot_be_written_ends_no_run(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "run").mkdir()
    record = Trackers({"tensorboard": {}}).start(tmp_path / "run")
    (tmp_path / "run" / "tensorboard").write_text("")
    record.row("thermo", {"a": 1.0}, 0)
    with pytest.warns(UserWarning, match="TensorBoard: .*(exists|directory)"):
        record.close()


def test_runs_of_a_campaign_are_a_group_and_the_table_is_a_record(tmp_path):
    pytest.importorskip("tensorboard")
    base = {
        **SHORT,
        "protocol": "nve",
        "calculator": "ase.calculators.emt:EMT",
        "wandb": None,
        "tracking": {"tensorboard": {}},
        "analyses": {"temperature": {}},
    }
    file = tmp_path / "water.yaml"
    file.write_text(dump_yaml({"base": base, "grid": {"seed": [1]}, "directory": str(tmp_path / "waters")}))
    result = CliRunner().invoke(md, ["campaign", str(file), "--quiet"])
    assert result.exit_code == 0, result.output
    told = events_of(tmp_path / "waters" / "seed=1").Tensors("run/text_summary")[0]
    assert '"group": "waters"' in told.tensor_proto.string_val[0].decode()
    (table,) = events_of(tmp_path / "waters").Tensors("results/text_summary")
    lines = table.tensor_proto.string_val[0].decode().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| seed=1"]


# ---------------------------------------------------------------------- the real package


def rows_of(file):
    """Columns of the rows in an offline file: blocks of 32 kB with checksummed parts of messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, message, columns = file.read_bytes(), 7, b"", {}
    while place + 7 <= len(data):
        if (left := 32_768 - place % 32_768) < 7:
            place += left
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        message += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record, message = Record.FromString(message), b""
            for item in record.history.item:
                columns.setdefault("".join(item.nested_key), []).append(json.loads(item.value_json))
    return columns


@pytest.mark.slow
def test_the_real_package_offline(tmp_path):
    pytest.importorskip("wandb")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run = NVE(**SHORT).run(directory=tmp_path / "run", quiet=True)
        analyse(run.directory)
    files = sorted(run.directory.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2  # the run, and what was found in it
    assert rows_of(files[0])["thermo/temperature_K"] == run.read_thermo()["temperature_K"].tolist()
    sync = [Path(sys.executable).with_name("wandb"), "sync", "--dry-run", files[0].parent]
    if sync[0].exists():
        done = subprocess.run(sync, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert files[0].name in done.stdout + done.stderr
    assert len({path.parent.name.rpartition("-")[2] for path in files}) == 1
    again = RunReader(run.directory)
    assert again.finished
    NVE(**SHORT | {"wandb": None}).run(directory=run.directory, quiet=True, overwrite=True)


@pytest.mark.slow
def test_the_real_package_keeps_two_runs_of_one_process_apart(tmp_path):
    pytest.importorskip("wandb")
    trackers = Trackers({"wandb": {}})
    for name in "ab":
        (tmp_path / name).mkdir()
    with trackers.start(tmp_path / "a") as first:
        first.row("thermo", {"energy": 0}, 0)
        while first._trackers[0]._calls:  # until it has begun
            time.sleep(0.1)
        second = trackers.start(tmp_path / "b")
        second.row("thermo", {"energy": 0}, 0)
        for step in range(1, 50):
            first.row("thermo", {"energy": step}, step)
            second.row("thermo", {"energy": -step}, step)
        second.close()
    for name, sign in (("a", 1), ("b", -1)):
        (file,) = (tmp_path / name).glob("wandb/offline-run-*/*.wandb")
        assert rows_of(file)["thermo/energy"] == [sign * step for step in range(50)]


REAL = """
import sys, time
from pathlib import Path
import psutil
from asecalc_ml.cli.process import show_messages
from asecalc_ml.tracking import Trackers, background
how, folder = sys.argv[1], Path(sys.argv[2])
show_messages(quiet=False)
background.CLOSING_s = 60 if how != "suspend" else 2
with Trackers({"wandb": {"project": "p"}}).start(folder, config={"seed": 1}) as record:
    record.row("thermo", {"a": 0}, 0)
    waiting = record._trackers[0]
    while waiting._calls and not waiting._failure:
        time.sleep(0.1)
    if how in ("kill", "suspend"):
        for child in psutil.Process().children():
            getattr(child, how)()
    for step in range(1, 300):
        record.row("thermo", {"a": step, "pad": step * "0123456789" if how == "fill" else ""}, step)
print("the run is done", flush=True)
"""


def really(how: str, folder: Path) -> subprocess.CompletedProcess:
    """Log with the real package in a process of its own, while what is named happens to it."""
    pytest.importorskip("wandb")
    environment = {
        key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"
    }  # of this process
    command = [sys.executable, "-c", REAL, how, str(folder)]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the run is done"
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "told"), [("kill", "Weights & Biases: Connection"), ("suspend", "it has not finished within 2 s")]
)
def test_the_real_package_whose_process_is_killed_or_hangs(how, told, tmp_path):
    done = really(how, tmp_path)
    assert done.stderr.count("Warning: Weights & Biases") == 1
    assert told in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fill", "full"])
def test_the_real_package_in_a_full_folder(how, tmp_path):
    folder = tmp_path / "wandb"
    folder.mkdir()
    size = "300k" if how == "fill" else "8k"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root alone")
    try:
        done = really(how, tmp_path)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert done.stderr.count("Warning: Weights & Biases: No space left on device") == 1

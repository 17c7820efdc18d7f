"""Weights & Biases: rows, tables and final numbers where asked for; what fails there never ends a run."""

import sys
import warnings
from types import SimpleNamespace

import pytest
from places import HELPERS

from asecalc_ml.cli.analyse import analyse
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.scan.options import Scan
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.runs import RunReader
from asecalc_ml.terminal.tracking import WandbOptions

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


def test_the_options_are_those_of_trainings():
    assert TrainOptions.model_fields["wandb"].annotation == NVE.model_fields["wandb"].annotation
    assert NVE(steps=1).wandb is None
    assert NVE(steps=1, wandb={}).wandb == WandbOptions(project="asecalc-ml", mode="offline")


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
    assert "The run goes on without it" in said[0]
    assert where == "summary" or "no route to host." in said[0]


def test_without_being_asked_nothing_is_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = NVE(**SHORT | {"wandb": None}).run(directory=tmp_path / "run", quiet=True)
    analyse(run.directory)
    assert not (tmp_path / "run" / "wandb").exists()


@pytest.mark.slow
def test_the_real_package_offline(tmp_path):
    pytest.importorskip("wandb")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run = NVE(**SHORT).run(directory=tmp_path / "run", quiet=True)
        analyse(run.directory)
    files = list(run.directory.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2  # the run, and what was found in it
    assert len({path.parent.name.rpartition("-")[2] for path in files}) == 1
    again = RunReader(run.directory)
    assert again.finished
    NVE(**SHORT | {"wandb": None}).run(directory=run.directory, quiet=True, overwrite=True)

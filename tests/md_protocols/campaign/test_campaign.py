"""Campaigns: a grid becomes runs; nothing is lost, nothing is run twice, whatever is killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from places import HELPERS
from raising import told
from typer.testing import CliRunner

import asecalc_ml
from asecalc_ml.cli import md
from asecalc_ml.config.options import dump_yaml, parse_options
from asecalc_ml.errors import ConfigError, RunBusyError, RunError
from asecalc_ml.md_protocols.campaign.options import Campaign, expand
from asecalc_ml.md_protocols.campaign.state import CampaignFolder, state_of, steps_of
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.runs import RunReader

ROOT = str(Path(asecalc_ml.__file__).parents[1])
BASE = {
    "protocol": "nve",
    "structure": "H2O",
    "calculator": "toy_calculators:Springs",
    "relax": False,
    "equilibration_ps": 0,
    "timestep_fs": 0.5,
    "steps": 20,
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([ROOT, str(HELPERS)]))


def points(grid: dict, base: dict = BASE):
    return expand(Campaign(base=base, grid=grid), Path("c.yaml"))


def command(file: Path, *arguments: str):
    return CliRunner().invoke(md.app, ["campaign", str(file), *arguments])


def said(result) -> str:
    return " ".join(result.stderr.split())


def campaign_file(path: Path, **options) -> Path:
    path.write_text(dump_yaml({"base": BASE, "grid": {"seed": [0, 1]}} | options))
    return path


# ---------------------------------------------------------------------- the grid


def test_every_value_with_every_other():
    grid = {"structure": ["H2O", "CH3CH2OH"], "temperature_K": [300, 500.5], "stop.wall_time_h": [1, None]}
    found = points(grid)
    assert len(found) == 8
    assert [one.name for one in found[:3]] == [
        "structure=H2O,temperature_K=300,wall_time_h=1",
        "structure=H2O,temperature_K=300,wall_time_h=none",
        "structure=H2O,temperature_K=500.5,wall_time_h=1",
    ]
    assert found[6].values == {"structure": "CH3CH2OH", "temperature_K": 500.5, "stop.wall_time_h": 1}
    options = found[6].options
    assert (options.structure, options.temperature_K, options.stop.wall_time_h) == ("CH3CH2OH", 500.5, 1.0)
    assert (options.steps, options.directory) == (20, None)


def test_a_protocol_and_calculators_with_options_can_vary_too():
    grid = {"protocol": ["nve", "nvt"], "calculator": ["emt", {"lj": {"cutoff_A": 3.5, "soft": True}}]}
    names = [one.name for one in points(grid)]
    assert names[:2] == ["protocol=nve,calculator=emt", "protocol=nve,calculator=lj-cutoff_A-3.5-soft-true"]
    assert {type(one.options).__name__ for one in points(grid)} == {"NVE", "NVT"}


def test_names_are_safe_and_distinct_where_options_are_called_alike():
    grid = {"stop.domain_margin_A": [0.1], "flag.domain_margin_A": [0.2], "structure": ["a b/c.xyz@-1"]}
    (one,) = points(grid)
    assert one.name == "stop.domain_margin_A=0.1,flag.domain_margin_A=0.2,structure=a-b-c.xyz-1"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "grid.*is empty"),
        ({"seed": []}, "seed has no values"),
        ({"seed": 3}, "should be a list"),
        ({"temperatur_K": [1]}, "unknown key 'temperatur_K'; did you mean 'temperature_K'"),
        ({"stop.wall_time": [1]}, "unknown key 'stop.wall_time'; did you mean 'stop.wall_time_h'"),
        ({"structure.name": ["a"]}, "grid: structure.name: structure is 'H2O', which has no options"),
        ({"temperature_K": [300, -5]}, "run temperature_K=-5.*greater than or equal to 0"),
        ({"seed": [1, 2, 1]}, "would both be written to seed=1"),
        ({"structure": ["a/b", "a b"]}, "structure: a b and structure: a/b would both be written to"),
        ({"temperature_K": [300, 300.0]}, "would both be written to temperature_K=300"),
        ({"structure": ["x" * 300]}, "too long"),
        ({"protocol": ["nev"]}, "nve"),
        ({"analyses": [{"angels": None}]}, "angles"),
    ],
)
def test_a_wrong_grid_is_told_before_anything_runs(grid, message, tmp_path):
    import re

    result = command(campaign_file(tmp_path / "c.yaml", grid=grid))
    assert result.exit_code == 2
    assert re.search(message, said(result)), said(result)
    assert not (tmp_path / "runs").exists()


def test_a_base_in_a_file_lies_beside_the_campaign(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "base.yaml").write_text(dump_yaml(BASE | {"directory": "elsewhere"}))
    (one,) = expand(Campaign(base="base.yaml", grid={"seed": [7]}), tmp_path / "below" / "c.yaml")
    assert (one.options.seed, one.options.steps, one.options.directory) == (7, 20, None)
    with pytest.raises(ConfigError, check=told(name="nothing.yaml", problem="no such file")):
        expand(Campaign(base="nothing.yaml", grid={"seed": [7]}), tmp_path / "c.yaml")
    (tmp_path / "date.yaml").write_text("protocol: nve\ndirectory: 2026-11-21\n")
    with pytest.raises(ConfigError, check=told(name="base", remedy="quotes")):
        expand(Campaign(base="date.yaml", grid={"seed": [7]}), tmp_path / "c.yaml")
    with pytest.raises(ConfigError, check=told(name="protocol", allowed=["nve"], remedy="protocol: nve")):
        points({"seed": [1]}, {"structure": "H2O"})


def test_the_template_is_a_campaign():
    from ruamel.yaml import YAML

    printed = CliRunner().invoke(md.app, ["template", "campaign"]).output
    filled = printed.replace("base:  #", "base: nve.yaml  #").replace("grid:  #", "grid: {seed: [0, 1]}  #")
    assert parse_options(YAML().load(filled), Campaign).workers == 1
    assert "grid" in json.loads(CliRunner().invoke(md.app, ["schema", "campaign"]).output)["properties"]


# ---------------------------------------------------------------------- where runs stand


def test_states_are_those_of_the_directories(tmp_path):
    directory, options = tmp_path / "run", NVE(**BASE)
    assert state_of(directory, options) == "waiting"
    options.run(directory=directory, quiet=True)
    assert (state_of(directory, options), steps_of(directory)) == ("to be analysed", 20)
    provenance = RunReader(directory).read_provenance()
    (directory / "provenance.json").write_text(json.dumps(provenance | {"finished": None}))
    assert state_of(directory, options) == "unfinished"
    assert state_of(directory, NVE(**BASE | {"steps": 30})) == "unfinished"  # it is made longer
    with pytest.raises(RunError, check=told(name=str(directory), value="steps: 20 there, 10 now")):
        state_of(directory, NVE(**BASE | {"steps": 10}))
    assert state_of(directory, NVE(**BASE, threads=2)) == "unfinished"  # changes no result
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(RunError, check=told(name="other", value="thesis.tex", remedy=True)):
        state_of(tmp_path / "other", options)


def test_one_campaign_at_a_time_in_a_folder(tmp_path):
    folder = CampaignFolder(tmp_path / "runs")
    with pytest.raises(RunBusyError, check=told(name=str(tmp_path / "runs"), remedy="stop")):
        CampaignFolder(tmp_path / "runs")
    CampaignFolder(tmp_path / "runs", writes=False).close()
    folder.close()
    CampaignFolder(tmp_path / "runs").close()


# ---------------------------------------------------------------------- run


@pytest.mark.slow
def test_runs_and_collects_and_skips_what_is_done(tmp_path):
    file = campaign_file(tmp_path / "c.yaml", workers=2)
    result = command(file)
    assert result.exit_code == 0, result.output
    assert "2 runs: 2 done" in result.stderr
    rows = list(csv.DictReader((tmp_path / "runs" / "c" / "results.csv").open()))
    assert [(row["run"], row["state"], row["seed"]) for row in rows] == [
        ("seed=0", "done", "0"), ("seed=1", "done", "1"),
    ]  # fmt: skip
    for row, number in zip(rows, (0, 1), strict=True):
        run = RunReader(tmp_path / "runs" / "c" / f"seed={number}")
        straight = NVE(**BASE, seed=number).run(directory=tmp_path / f"straight{number}", quiet=True)
        assert (run.directory / "trajectory.traj").read_bytes() == (
            straight.directory / "trajectory.traj"
        ).read_bytes()
        stored = json.loads((run.directory / "results" / "bond-lengths.json").read_text())
        assert float(row["bond-lengths.H-O.mean_A"]) == stored["patterns"][0]["average"]["mean"]
        assert float(row["temperature.mean_K"]) == pytest.approx(run.read_thermo()["temperature_K"].mean())
        assert (run.directory / "report.html").is_file()
    assert len(json.loads((tmp_path / "runs" / "c" / "results.json").read_text())) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*/*/*") if path.is_file()}
    again = command(file)
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "2 runs: 2 done" in " ".join(command(file, "--status").stdout.split())


@pytest.mark.slow
def test_what_fails_is_retried_and_then_told(tmp_path, monkeypatch):
    """A calculator that fails at a step fails in a run taken up again, too, where it counts anew."""
    monkeypatch.setenv("TOY_BREAKS_AT", "5")
    base = BASE | {"calculator": "toy_calculators:BreakingSprings"}
    file = campaign_file(tmp_path / "c.yaml", base=base, grid={"seed": [0]}, retries=1)
    result = command(file)
    assert result.exit_code == 2
    assert "seed=0: waiting (failed, taken up again:" in result.stderr
    assert "energy or forces are not finite" in said(result)
    assert "It failed 2 times (retries: 1)" in said(result)
    again = command(file)
    assert (again.exit_code, "running" in again.stderr) == (2, False)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    more = command(file, "--retries", "2")
    assert more.exit_code == 0, more.output
    assert RunReader(tmp_path / "runs" / "c" / "seed=0").read_thermo()["step"][-1] == 20
    assert (tmp_path / "runs" / "c" / "results.csv").read_text().count("done") == 1


def test_a_run_that_met_its_own_condition_stays_where_it_stopped(tmp_path):
    base = BASE | {"stop": {"temperature_above_K": 1}, "steps": 40}
    file = campaign_file(tmp_path / "c.yaml", base=base, grid={"seed": [0]})
    result = command(file)
    assert result.exit_code == 0, result.output
    directory = tmp_path / "runs" / "c" / "seed=0"
    thermo = (directory / "thermo.csv").read_bytes()
    assert RunReader(directory).stopped_as_asked
    assert (directory / "report.html").is_file()
    (row,) = csv.DictReader((tmp_path / "runs" / "c" / "results.csv").open())
    assert row["state"] == "stopped"
    again = command(file)
    assert (again.exit_code, "running" in again.stderr) == (0, False)
    assert (directory / "thermo.csv").read_bytes() == thermo
    assert "the temperature is" in " ".join(command(file, "--status").stdout.split())


@pytest.mark.slow
def test_a_run_that_pauses_is_gone_on_with_the_next_time(tmp_path):
    (tmp_path / "runs" / "c").mkdir(parents=True)
    file = campaign_file(
        tmp_path / "c.yaml",
        base=BASE | {"stop": {"wall_time_h": 1e-9}, "steps": 40, "write_every": 10},
        grid={"seed": [0]},
    )
    states = []
    while not states or states[-1] == 75:
        states.append(command(file).exit_code)
    assert states[0] == 75
    assert states[-1] == 0
    assert RunReader(tmp_path / "runs" / "c" / "seed=0").n_frames == 5


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = command(campaign_file(tmp_path / "c.yaml", executor="ray"))
    assert result.exit_code == 2
    assert "pip install 'asecalc-ml[distributed]'" in said(result)


# ---------------------------------------------------------------------- killed

SLOW = BASE | {
    "calculator": {"toy_calculators:Counted": {"stiffness": 25.0}},
    "steps": 60,
    "write_every": 2,
    "checkpoint_every": 10,
}
N_RUNS = 4


def started(file: Path, folder: Path) -> subprocess.Popen:
    environment = os.environ | {"TOY_DELAY_S": "0.2", "TOY_COUNTS": str(folder)}
    code = "from asecalc_ml.cli.md import main; main()"
    log = (folder / "campaign.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-c", code, "campaign", str(file)], env=environment, stdout=log, stderr=log
    )


def holders(directory: Path) -> list[int]:
    """Processes that write runs now, by the locks that they hold."""
    import fcntl

    found = []
    for path in directory.glob("*/.lock"):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                words = path.read_text().split()
                found += [int(words[0])] if words else []
    return found


def wait_for(what, timeout_s: float = 240.0):
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return found


def moving(directory: Path) -> list[int]:
    """Processes whose run has come to a checkpoint."""
    if len(list(directory.glob("*/checkpoint.npz"))) < 2:
        return []
    found = holders(directory)
    return found if len(found) >= 2 else []


def assert_nothing_lost_and_nothing_twice(folder: Path, directory: Path) -> None:
    """Every run came to its end once, as if alone; no step was computed by two processes at one time."""
    for number in range(N_RUNS):
        run = RunReader(directory / f"seed={number}")
        straight = NVE(**SLOW, seed=number).run(directory=folder / f"straight{number}", quiet=True)
        assert run.finished
        assert [event["kind"] for event in run.read_events()].count("finished") == 1
        for name in ("trajectory.traj", "thermo.csv"):
            assert (run.directory / name).read_bytes() == (straight.directory / name).read_bytes()
        calls = np.loadtxt(folder / f"calls-seed={number}.txt", ndmin=2)
        processes, first = np.unique(calls[:, 0], return_index=True)
        spans = [calls[calls[:, 0] == one, 1] for one in processes[np.argsort(first)]]
        for before, after in pairwise(spans):
            assert before[-1] <= after[0]  # one after the other
        # each process but the last is cut off at most a checkpoint's steps after its last checkpoint
        assert len(calls) <= 61 + (len(spans) - 1) * 11
    rows = list(csv.DictReader((directory / "results.csv").open()))
    assert [row["state"] for row in rows] == ["done"] * N_RUNS


def kill_one_then_the_parent(tmp_path: Path, executor: str) -> None:
    file = campaign_file(
        tmp_path / "c.yaml", base=SLOW, grid={"seed": list(range(N_RUNS))}, workers=2, executor=executor
    )
    directory = tmp_path / "runs" / "c"
    parent = started(file, tmp_path)
    try:
        running = wait_for(lambda: moving(directory))
        if executor == "ray":  # the worker itself; the run that it has begun notices, and pauses
            victim = psutil.Process(running[0]).parent()
            assert "ray::carry_out" in " ".join(victim.cmdline())
        else:
            victim = psutil.Process(running[0])
        victim.kill()
        wait_for((directory / "campaign.json").is_file)
        wait_for(lambda: set(holders(directory)) - set(running))
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not holders(directory))  # those that it left pause, and let go
    assert any(not RunReader(path.parent).finished for path in directory.glob("*/protocol.yaml"))
    again = started(file, tmp_path)
    assert again.wait(timeout=400) == 0, (tmp_path / "campaign.log").read_text()
    (failures,) = json.loads((directory / "campaign.json").read_text())["failures"].values()
    assert len(failures) == 1
    assert {"local": "SIGKILL", "ray": "its Ray worker was lost"}[executor] in failures[0]
    assert_nothing_lost_and_nothing_twice(tmp_path, directory)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="locks and signals are POSIX")
def test_a_worker_and_then_the_parent_killed(tmp_path):
    kill_one_then_the_parent(tmp_path, "local")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="locks and signals are POSIX")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_campaign_that_is_asked_to_end_lets_its_runs_pause(sent, status, tmp_path):
    file = campaign_file(tmp_path / "c.yaml", base=SLOW, grid={"seed": [0]})
    directory = tmp_path / "runs" / "c"
    parent = started(file, tmp_path)
    wait_for((directory / "seed=0" / "checkpoint.npz").is_file)
    parent.send_signal(sent)
    assert parent.wait(timeout=120) == status
    assert not holders(directory)
    last = RunReader(directory / "seed=0").read_events()[-1]
    assert (last["kind"], "SIGTERM" in last["message"]) == ("interrupted", True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="locks and signals are POSIX")
def test_a_ray_worker_and_then_the_parent_killed(tmp_path):
    pytest.importorskip("ray")
    kill_one_then_the_parent(tmp_path, "ray")

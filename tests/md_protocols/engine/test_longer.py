"""A finished run that is given more steps becomes the run that had them from the beginning, bit for bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from raising import told
from typer.testing import CliRunner

from asecalc_ml import plugins
from asecalc_ml.cli import md
from asecalc_ml.cli.campaign.worker import _carry_out
from asecalc_ml.config.options import dump_yaml, read_yaml
from asecalc_ml.errors import ConfigError, RunError
from asecalc_ml.md_protocols.campaign.state import DONE, UNFINISHED, state_of
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.runs import RunReader, RunWriter, trajectory_of

COMMON = {
    "structure": "water",
    "calculator": "toy_calculators:Springs",
    "equilibration_ps": 0.02,
    "write_every": 3,
    "thermo_every": 2,
    "checkpoint_every": 25,
}
ENSEMBLES = {
    "nve": {"protocol": "nve"},
    "bussi": {"protocol": "nvt", "thermostat": "bussi"},
    "langevin": {"protocol": "nvt", "thermostat": "langevin"},
    "nose-hoover-chain": {"protocol": "nvt", "thermostat": "nose-hoover-chain"},
    "npt": {"protocol": "npt", "calculator": "ase.calculators.emt:EMT", "structure": None},
}


def run(directory: Path, steps: int, ensemble: str = "bussi", **changed) -> RunReader:
    given = COMMON | ENSEMBLES[ensemble] | {"steps": steps} | changed
    crystal = bulk("Cu", cubic=True) if given["structure"] is None else None
    return plugins.get("protocols", given["protocol"])(**given).run(crystal, directory, quiet=True)


def assert_same(one: RunReader, other: RunReader) -> None:
    for name in (trajectory_of(one.directory).name, "thermo.csv", "equilibration.csv"):
        if not name.endswith(".h5md"):  # which lays out its chunks as they come
            assert (one.directory / name).read_bytes() == (other.directory / name).read_bytes(), name
    for quantity in ("positions", "momenta", "forces", "cells"):
        found, expected = (np.concatenate(list(run.chunks(quantity=quantity))) for run in (one, other))
        np.testing.assert_array_equal(found, expected)
    last = [np.load(directory / "checkpoint.npz") for directory in (one.directory, other.directory)]
    for name in ("positions", "momenta", "cell", "forces"):
        np.testing.assert_array_equal(last[0][name], last[1][name])
    states = [json.loads(str(arrays["values"])) for arrays in last]
    assert states[0]["rng"] == states[1]["rng"]
    ends = [
        [event["message"] for event in run.read_events() if event["kind"] == "finished"]
        for run in (one, other)
    ]
    assert one.finished
    assert ends[0] == ends[1]  # once, not at the end of the shorter run too


@pytest.mark.parametrize(
    ("ensemble", "trajectory_format"),
    [*((one, "traj") for one in ENSEMBLES), ("npt", "h5md"), ("bussi", "h5md"), ("bussi", "extxyz")],
)
def test_a_finished_run_is_extended_bit_for_bit(ensemble, trajectory_format, tmp_path):
    straight = run(tmp_path / "straight", 120, ensemble, trajectory_format=trajectory_format)
    shorter = run(tmp_path / "run", 60, ensemble, trajectory_format=trajectory_format)
    longer = resume_run(shorter.directory, quiet=True, changes={"steps": 120})
    assert_same(longer, straight)
    assert (longer.read_options()["steps"], longer.read_provenance()["options"]["steps"]) == (120, 120)


@pytest.mark.parametrize("steps", [1, 10, 50, 51, 119])
def test_wherever_the_last_checkpoint_was(steps, tmp_path):
    straight, shorter = run(tmp_path / "straight", 120), run(tmp_path / "run", steps)
    assert_same(resume_run(shorter.directory, quiet=True, changes={"steps": 120}), straight)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_a_thousand_steps_and_another_thousand(ensemble, tmp_path):
    straight = run(tmp_path / "straight", 2000, ensemble, checkpoint_every=300)
    shorter = run(tmp_path / "run", 1000, ensemble, checkpoint_every=300)
    assert_same(resume_run(shorter.directory, quiet=True, changes={"steps": 2000}), straight)


def test_in_two_steps_by_the_file_and_without_anything_before_the_production(tmp_path):
    bare = {"relax": False, "equilibration_ps": 0}
    straight = run(tmp_path / "straight", 90, **bare)
    shorter = run(tmp_path / "run", 7, **bare)
    for steps in (40, 90):
        protocol = shorter.directory / "protocol.yaml"
        text = protocol.read_text()
        protocol.write_text(text.replace(f"steps: {shorter.read_options()['steps']}\n", f"steps: {steps}\n"))
        shorter = resume_run(shorter.directory, quiet=True)
    for name in ("trajectory.traj", "thermo.csv"):
        assert (shorter.directory / name).read_bytes() == (straight.directory / name).read_bytes()
    resumed = [event["message"] for event in shorter.read_events() if event["kind"] == "resumed"]
    assert resumed[-1] == "resumed with +50 steps"


def kill(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "killed_in", ["_store", "drop_checkpoint", "cut_back", "write_json", "write_checkpoint"]
)
def test_killed_while_it_is_made_longer(killed_in, tmp_path, monkeypatch):
    straight, shorter = run(tmp_path / "straight", 130), run(tmp_path / "run", 80)

    place = "md_protocols.engine.resume." if killed_in == "_store" else "runs.RunWriter."
    for when in ("before", "after"):
        original = getattr(RunWriter, killed_in, None)

        def after(*given, original=original):
            original(*given)
            raise KeyboardInterrupt

        if when == "after" and original is None:
            continue
        monkeypatch.setattr(f"asecalc_ml.{place}{killed_in}", kill if when == "before" else after)
        with pytest.raises(KeyboardInterrupt):
            resume_run(shorter.directory, quiet=True, changes={"steps": 130})
        monkeypatch.undo()
    assert_same(resume_run(shorter.directory, quiet=True, changes={"steps": 130}), straight)


def test_a_run_that_ended_and_was_killed_before_that_was_noted_can_be_longer(tmp_path, monkeypatch):
    straight = run(tmp_path / "straight", 130)
    monkeypatch.setattr("asecalc_ml.md_protocols.engine.launch.finish", kill)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", 80)
    monkeypatch.undo()
    assert_same(resume_run(tmp_path / "run", quiet=True, changes={"steps": 130}), straight)


FINISHED = {"problem": "is finished", "remedy": "start a new run"}
OTHERS = {"remedy": "--allow-different"}
RAMPED = {"problem": "temperature goes from", "remedy": "new run"}


@pytest.mark.parametrize(
    ("given", "changes", "said"),
    [
        ({"temperature_end_K": 500.0}, {"steps": 60}, RAMPED | {"value": "steps 60 instead of 40"}),
        ({}, {"steps": 20}, FINISHED | {"value": "steps 20 instead of 40"}),
        ({}, {"temperature_K": 310.0}, FINISHED | {"value": "temperature_K 310.0 instead of 300.0"}),
        ({}, {"steps": 60, "temperature_K": 310.0}, OTHERS | {"value": "temperature_K 310.0 instead of"}),
        ({}, {"steps": 60, "seed": 1}, OTHERS | {"value": "seed 1 instead of 0"}),
        ({}, {"stepz": 60}, {"name": "stepz", "allowed": ["steps"], "remedy": "'steps'"}),
        ({}, {"steps": "many"}, {"name": "steps", "value": "many", "allowed": "integer"}),
    ],
)  # fmt: skip
def test_what_cannot_be_changed_is_refused_and_nothing_is_touched(given, changes, said, tmp_path):
    finished = run(tmp_path / "run", 40, **given)
    before = {path: path.read_bytes() for path in finished.directory.iterdir() if path.is_file()}
    kind = ConfigError if "allowed" in said else RunError
    with pytest.raises(kind, check=told(**said)):
        resume_run(finished.directory, quiet=True, changes=changes)
    assert {path: path.read_bytes() for path in finished.directory.iterdir() if path.is_file()} == before


def test_an_unfinished_ramp_keeps_its_length(tmp_path, monkeypatch):
    from toy_calculators import Springs

    calls, calculate = [], Springs.calculate

    def interrupted(self, *given):
        calls.append(1)
        if len(calls) == 120:
            raise KeyboardInterrupt
        calculate(self, *given)

    ramp = {"temperature_end_K": 500.0, "relax": False}
    monkeypatch.setattr("toy_calculators.Springs.calculate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", 200, **ramp)
    monkeypatch.undo()
    for steps in (100, 300):
        with pytest.raises(RunError, check=told(value=f"steps {steps} instead of 200", remedy=True)):
            resume_run(tmp_path / "run", quiet=True, changes={"steps": steps})
    assert resume_run(tmp_path / "run", quiet=True).read_thermo()["step"][-1] == 200


def test_a_new_run_begins_where_the_message_says(tmp_path):
    finished = run(tmp_path / "run", 40, temperature_end_K=500.0)
    with pytest.raises(RunError, check=told(remedy="A new run begins")) as error:
        resume_run(finished.directory, quiet=True, changes={"steps": 60})
    options = dict(
        part.split(": ") for part in error.value.remedy.partition(" with structure")[2].split(", ")[1:]
    )
    given = {"relax": options["relax"] == "true", "velocities": options["velocities"]}
    new = run(
        tmp_path / "new", 10, **given, equilibration_ps=float(options["equilibration_ps"]),
        structure=f"{finished.directory}/trajectory.traj@-1",
    )  # fmt: skip
    last, first = list(finished.frames())[-1], next(new.frames())
    np.testing.assert_allclose(first.positions, last.positions, atol=1e-12)


def test_other_protocols_say_why_not(tmp_path):
    parts = [{"ensemble": "nve", "steps": 12}, {"ensemble": "nvt", "steps": 12}]
    options = COMMON | {"protocol": "sequence", "sequence": parts}
    sequence = plugins.get("protocols", "sequence")(**options).run(directory=tmp_path / "s", quiet=True)
    with pytest.raises(RunError, check=told(name="steps", value=60, problem="sequence", remedy="A new run")):
        resume_run(sequence.directory, quiet=True, changes={"steps": 60})
    with pytest.raises(RunError, check=told(**FINISHED, value="sequence")):
        resume_run(sequence.directory, quiet=True, changes={"sequence.1.steps": 60})
    relax = plugins.get("protocols", "relax")(structure="water", calculator="toy_calculators:Springs")
    relaxed = relax.run(directory=tmp_path / "r", quiet=True)
    with pytest.raises(RunError, check=told(name="steps", value=60, problem="relax", remedy=None)):
        resume_run(relaxed.directory, quiet=True, changes={"steps": 60})


# ---------------------------------------------------------------------- commands


def command(*arguments) -> str:
    result = CliRunner().invoke(md.app, list(map(str, arguments)))
    assert "Traceback" not in result.output
    return f"{result.exit_code}: {' '.join(result.output.split())}"


def test_the_command_makes_a_run_longer_and_analyses_it_anew(tmp_path):
    file = tmp_path / "nve.yaml"
    file.write_text(dump_yaml(COMMON | {"protocol": "nve", "steps": 30, "analyses": {"connectivity": None}}))
    directory = tmp_path / "run"
    assert command("run", file, "--directory", directory, "-q").startswith("0:")
    assert command("resume", directory, "--steps", 60, "--stop.wall_time_h", 2).startswith("0:")
    stored = read_yaml(directory / "protocol.yaml")
    assert (stored["steps"], stored["stop"]["wall_time_h"]) == (60, 2)
    result = json.loads((directory / "results" / "connectivity.json").read_text())
    assert result["n_frames"] == 60 // COMMON["write_every"] + 1
    assert "nothing is left to do" in command("resume", directory, "--steps", 60)
    assert "nothing is left to do" in command("resume", directory, "--analyses.bond-lengths", "{}")
    assert (directory / "results" / "bond-lengths.json").is_file()
    for arguments, message in (
        (["--steps", "50"], "cannot have steps 50 instead of 60 any more"),
        (["--steps"], "--steps has no value"),
        (["--stps", "80"], "unknown key 'stps'; did you mean 'steps'?"),
        (["--timestep_fs", "2"], "cannot have timestep_fs 2.0 instead of 0.1 any more"),
    ):
        said = command("resume", directory, *arguments)
        assert said.startswith("2: Error"), said
        assert message in said


def test_a_campaign_with_more_steps_makes_its_runs_longer(tmp_path):
    base = COMMON | {"protocol": "nve"}
    shorter, longer, fewer = (plugins.get("protocols", "nve")(**base | {"steps": n}) for n in (20, 40, 30))
    straight = longer.run(directory=tmp_path / "straight", quiet=True)
    directory = tmp_path / "run"
    for options in (shorter, longer):
        _carry_out(directory, options.model_dump(mode="json"))
        assert state_of(directory, options) == DONE
        assert state_of(directory, longer) == (UNFINISHED if options is shorter else DONE)
    assert_same(RunReader(directory), straight)
    with pytest.raises(RunError, check=told(value="steps: 40 there, 30 now", remedy="bring them back")):
        state_of(directory, fewer)
    with pytest.raises(RunError, check=told(value="timestep_fs: 0.1 there, 0.2 now")):
        state_of(directory, longer.model_copy(update={"steps": 50, "timestep_fs": 0.2}))

"""A run that was killed and resumed is the run that was never interrupted, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixBondLengths
from places import HELPERS
from raising import told

import asecalc_ml
from asecalc_ml.errors import RunError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.runs import RunReader

OPTIONS = {
    "structure": "water",
    "calculator": {"toy_calculators:SlowSprings": {"stiffness": 25.0}},
    "relax_fmax_eV_A": 1e-7,
    "equilibration_ps": 0.03,
    "timestep_fs": 0.5,
    "steps": 150,
    "write_every": 3,
    "thermo_every": 2,
    "checkpoint_every": 25,
}
SAME = ("trajectory.traj", "thermo.csv", "equilibration.csv", "relaxed.traj", "start.traj")


def options(calculator: str = "SlowSprings", **changed) -> NVE:
    return NVE(**OPTIONS | {"calculator": f"toy_calculators:{calculator}"} | changed)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> RunReader:
    sys.path.insert(0, str(HELPERS))
    try:
        return NVE(**OPTIONS).run(directory=tmp_path_factory.mktemp("straight") / "run", quiet=True)
    finally:
        sys.path.remove(str(HELPERS))


def assert_same(run: RunReader, reference: RunReader) -> None:
    for name in SAME:
        assert (run.directory / name).read_bytes() == (reference.directory / name).read_bytes(), name
    assert run.finished
    story = [
        [
            (event["kind"], event["message"])
            for event in one.read_events()
            if event["kind"] in ("relaxed", "finished")
        ]
        for one in (run, reference)
    ]
    assert story[0] == story[1]


def process(code: str, delay_s: float = 0.01) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(asecalc_ml.__file__).parents[1]), str(HELPERS)])
    environment = os.environ | {"PYTHONPATH": path, "TOY_DELAY_S": str(delay_s)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=HELPERS)


def started(directory: Path) -> subprocess.Popen:
    imports = "from asecalc_ml.md_protocols.nve import NVE"
    return process(f"{imports}; NVE(**{OPTIONS!r}).run(directory={str(directory)!r}, quiet=True)")


def resumed(directory: Path) -> subprocess.Popen:
    imports = "from asecalc_ml.md_protocols.engine.resume import resume_run"
    return process(f"{imports}; resume_run({str(directory)!r}, quiet=True)")


def rows(directory: Path, table: str) -> int:
    path = directory / table
    return path.read_bytes().count(b"\n") if path.is_file() else 0


MOMENTS = {
    "before the relaxation ends": lambda run: (run / "protocol.yaml").is_file(),
    "in the equilibration": lambda run: rows(run, "equilibration.csv") > 5,
    "early in the production": lambda run: rows(run, "thermo.csv") > 2,
    "late in the production": lambda run: rows(run, "thermo.csv") > 40,
}


def kill_when(moment: str, running: subprocess.Popen, directory: Path) -> None:
    deadline = time.monotonic() + 60
    while not MOMENTS[moment](directory):
        assert running.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL


@pytest.mark.parametrize("moment", ["before the relaxation ends", "in the equilibration"])
def test_killed_and_resumed(moment, tmp_path, uninterrupted):
    kill_when(moment, started(tmp_path / "run"), tmp_path / "run")
    assert_same(resume_run(tmp_path / "run", quiet=True), uninterrupted)


@pytest.mark.smoke
def test_killed_in_every_stage_of_one_run(tmp_path, uninterrupted):
    directory = tmp_path / "run"
    kill_when("in the equilibration", started(directory), directory)
    kill_when("early in the production", resumed(directory), directory)
    kill_when("late in the production", resumed(directory), directory)
    run = resume_run(directory, quiet=True)
    assert_same(run, uninterrupted)
    assert len(run.read_provenance()["resumed"]) == 3


@pytest.mark.parametrize("calculator", ["BreakingSprings", "Remembering"])
@pytest.mark.parametrize("call", [2, 6, 30, 55, 80, 101, 141, 180, 200])
def test_resumed_after_any_call(calculator, call, tmp_path, monkeypatch):
    """Each call is a moment that a kill can hit; this one raises, and so can be put anywhere."""
    given = options(calculator)
    straight = given.run(directory=tmp_path / "straight", quiet=True)
    monkeypatch.setattr("toy_calculators.Springs.calculate", interrupted_at(call))
    with pytest.raises(KeyboardInterrupt):
        given.run(directory=tmp_path / "run", quiet=True)
    monkeypatch.undo()
    assert_same(resume_run(tmp_path / "run", quiet=True), straight)


def interrupted_at(call: int):
    from toy_calculators import Springs

    calculate = Springs.calculate

    def interrupted(self, *args, **kwargs):
        calculate(self, *args, **kwargs)
        if self.calls == call:
            raise KeyboardInterrupt

    return interrupted


@pytest.mark.parametrize("call", [8, 30, 75])
def test_resumed_with_a_registered_model(call, tmp_path, tiny_model, monkeypatch):
    """Its graph is traced at the 21st call of a run, and a resumed run has to know whether it was."""
    from asecalc_ml.calculators.ml_calculator import MLCalculator

    given = NVE(structure="ethanol", calculator=tiny_model, relax=False, equilibration_ps=0.02, steps=60,
                timestep_fs=0.2, checkpoint_every=5, temperature_K=50)  # fmt: skip
    run = resumed_as_if_never_interrupted(given, MLCalculator, call, tmp_path, monkeypatch)
    assert run.read_model_card()["name"] == "tiny"


@pytest.mark.parametrize("call", [4, 30, 75])
def test_resumed_with_gfn2_xtb(call, tmp_path, monkeypatch):
    """Each step begins with the wave function of the one before."""
    pytest.importorskip("tblite", reason="needs tblite: pip install 'asecalc-ml[reference]'")
    from asecalc_ml.calculators.xtb import GFN2

    given = NVE(structure="water", calculator="gfn2-xtb", equilibration_ps=0.02, steps=60, timestep_fs=0.5,
                checkpoint_every=9)  # fmt: skip
    resumed_as_if_never_interrupted(given, GFN2, call, tmp_path, monkeypatch)


def resumed_as_if_never_interrupted(given: NVE, kind: type, call: int, tmp_path, monkeypatch) -> RunReader:
    straight = given.run(directory=tmp_path / "straight", quiet=True)
    calculate, calls = kind.calculate, []

    def interrupted(self, *args, **kwargs):
        calculate(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kind, "calculate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            given.run(directory=tmp_path / "run", quiet=True)
    run = resume_run(tmp_path / "run", quiet=True)
    for name in ("trajectory.traj", "thermo.csv", "equilibration.csv"):
        assert (run.directory / name).read_bytes() == (straight.directory / name).read_bytes()
    return run


def test_a_memory_that_cannot_be_written_is_told_and_nothing_is_lost(tmp_path, monkeypatch):
    from toy_calculators import Remembering

    def full(self):
        raise OSError(28, "No space left on device")

    straight = options("Remembering").run(directory=tmp_path / "straight", quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(Remembering, "checkpoint_state", full)
        with pytest.raises(RunError, check=told(value="No space left", remedy="asecalc-md resume")):
            options("Remembering").run(directory=tmp_path / "run", quiet=True)
    assert_same(resume_run(tmp_path / "run", quiet=True), straight)


def test_openmp_has_as_many_threads_as_the_options_say():
    pytest.importorskip("tblite.ase", reason="brings OpenMP: pip install 'asecalc-ml[reference]'")
    from threadpoolctl import threadpool_info

    from asecalc_ml.md_protocols.engine.process import threads

    def numbers() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "openmp"]

    before = numbers()
    with threads(options().model_copy(update={"threads": 2})):
        assert set(numbers()) == {2}
    assert numbers() == before


# ---------------------------------------------------------------------- what is refused


def broken_off(directory: Path, monkeypatch, calculator: str, breaks_at: int = 150) -> None:
    monkeypatch.setattr("toy_calculators.Springs.calculate", interrupted_at(breaks_at))
    with pytest.raises(KeyboardInterrupt):
        options(calculator).run(directory=directory, quiet=True)
    monkeypatch.undo()


def test_an_interruption_is_noted_and_told(tmp_path, monkeypatch):
    from asecalc_ml.analysis.report.report import write_report

    broken_off(tmp_path / "run", monkeypatch, "Springs")
    assert RunReader(tmp_path / "run").read_events()[-1]["kind"] == "interrupted"
    assert "It was interrupted" in write_report(tmp_path / "run").read_text(encoding="utf-8")
    resume_run(tmp_path / "run", quiet=True)
    assert "The run is complete" in write_report(tmp_path / "run").read_text(encoding="utf-8")


def test_another_model_under_the_name_is_refused(tmp_path, monkeypatch):
    broken_off(tmp_path / "run", monkeypatch, "Model")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    monkeypatch.setenv("TOY_HASH", "b" * 64)
    difference = "model bbbbbbbbbbbb instead of aaaaaaaaaaaa"
    with pytest.raises(RunError, check=told(value=difference, remedy="--allow-different")):
        resume_run(tmp_path / "run", quiet=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    run = resume_run(tmp_path / "run", allow_different=True, quiet=True)
    assert "resumed with model bbbb" in next(
        e["message"] for e in run.read_events() if e["kind"] == "warning"
    )


def test_another_version_is_refused(tmp_path, monkeypatch):
    broken_off(tmp_path / "run", monkeypatch, "Springs")
    path = tmp_path / "run" / "provenance.json"
    provenance = json.loads(path.read_text())
    provenance["versions"]["ase"] = "3.0"
    path.write_text(json.dumps(provenance))
    with pytest.raises(RunError, check=told(problem="ase ", value="instead of 3.0")):
        resume_run(tmp_path / "run", quiet=True)
    assert resume_run(tmp_path / "run", allow_different=True, quiet=True).finished


def test_another_version_of_what_a_model_rests_on_is_refused(tmp_path, tiny_model, monkeypatch):
    given = NVE(structure="ethanol", calculator=tiny_model, relax=False, equilibration_ps=0, steps=5)
    monkeypatch.setattr("asecalc_ml.md_protocols.engine.engine.Engine.run", lambda *_: None)
    run = given.run(directory=tmp_path / "run", quiet=True)
    provenance = run.read_provenance() | {"finished": None}
    provenance["versions"]["torch"] = "1.0"
    (run.directory / "provenance.json").write_text(json.dumps(provenance))
    with pytest.raises(RunError, check=told(problem="torch ", value="instead of 1.0")):
        resume_run(run.directory, quiet=True)


def test_another_calculator_is_refused(tmp_path, monkeypatch):
    from ase.calculators.lj import LennardJones

    broken_off(tmp_path / "run", monkeypatch, "Springs")
    difference = "calculator ase.calculators.lj:LennardJones instead of toy_calc"
    with pytest.raises(RunError, check=told(value=difference)):
        resume_run(tmp_path / "run", quiet=True, calculator=LennardJones())


def test_other_arguments_of_a_calculator_are_refused(tmp_path):
    argon = Atoms("Ar3", [[0, 0, 0], [0, 3.8, 0], [3.8, 0, 0]])
    calculator = {"ase.calculators.lj:LennardJones": {"sigma": 3.4, "epsilon": 0.01, "rc": 9.0}}
    stopping = {"calculator": calculator, "stop": {"temperature_above_K": 1.0}}
    with pytest.raises(RunError, check=told(value="temperature_above_K")):
        NVE(**OPTIONS | stopping).run(argon, tmp_path / "run", quiet=True)
    protocol = tmp_path / "run" / "protocol.yaml"
    protocol.write_text(protocol.read_text().replace("epsilon: 0.01", "epsilon: 0.02"))
    with pytest.raises(RunError, check=told(value="epsilon 0.02 instead of 0.01")):
        resume_run(tmp_path / "run", quiet=True)


def test_other_options_are_refused_but_more_steps_are_not(tmp_path, monkeypatch):
    broken_off(tmp_path / "run", monkeypatch, "Springs")
    protocol = tmp_path / "run" / "protocol.yaml"
    text = protocol.read_text()
    before, steps = (OPTIONS[name] for name in ("timestep_fs", "steps"))
    protocol.write_text(text.replace(f"timestep_fs: {before}\n", "timestep_fs: 0.123\n", 1))
    assert protocol.read_text() != text
    with pytest.raises(RunError, check=told(value=f"timestep_fs 0.123 instead of {before}")):
        resume_run(tmp_path / "run", quiet=True)
    protocol.write_text(text.replace(f"steps: {steps}\n", f"steps: {steps + 10}\n"))
    run = resume_run(tmp_path / "run", quiet=True)
    assert (run.finished, run.read_thermo()["step"][-1]) == (True, steps + 10)


def test_bond_lengths_that_are_kept_are_kept_to_the_last_bit(tmp_path, monkeypatch):
    from toy_calculators import Springs

    given = NVE(**OPTIONS | {"calculator": None, "structure": None, "relax": False})

    def held():
        atoms = molecule("H2O")
        atoms.set_constraint(FixBondLengths([[0, 1]]))
        atoms.calc = Springs()
        return atoms

    straight = given.run(held(), tmp_path / "straight", quiet=True)
    monkeypatch.setattr("toy_calculators.Springs.calculate", interrupted_at(150))
    with pytest.raises(KeyboardInterrupt):
        given.run(held(), tmp_path / "run", quiet=True)
    monkeypatch.undo()
    resumed = resume_run(tmp_path / "run", quiet=True, calculator=Springs())
    tables, frames = (
        [read(one) for one in (resumed, straight)]
        for read in (
            lambda run: (run.directory / "thermo.csv").read_bytes(),
            lambda run: np.concatenate([frames.momenta for frames in run.frame_chunks()]),
        )
    )
    assert tables[0] == tables[1]
    assert np.array_equal(*frames)  # the files differ: ASE writes such constraints again when one is reopened


def test_a_calculator_is_told_how_long_the_run_will_be_also_when_it_begins_again(tmp_path, monkeypatch):
    broken_off(tmp_path / "run", monkeypatch, "Springs", breaks_at=3)
    told = []
    monkeypatch.setattr("toy_calculators.Springs.expect", lambda *given: told.append(given), raising=False)
    resume_run(tmp_path / "run", quiet=True)
    assert len(told) == 1


def test_another_processor_is_noted(tmp_path, monkeypatch):
    broken_off(tmp_path / "run", monkeypatch, "Springs")
    path = tmp_path / "run" / "provenance.json"
    provenance = json.loads(path.read_text())
    provenance["machine"]["cpu"] = "abacus"
    path.write_text(json.dumps(provenance))
    run = resume_run(tmp_path / "run", quiet=True)
    assert any("instead of abacus" in event["message"] for event in run.read_events())


def test_a_truncated_checkpoint_gives_way_to_the_one_before(tmp_path, monkeypatch):
    straight = options("Springs").run(directory=tmp_path / "straight", quiet=True)
    broken_off(tmp_path / "run", monkeypatch, "Springs")
    path = tmp_path / "run" / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:-100])
    run = resume_run(tmp_path / "run", quiet=True)
    assert_same(run, straight)
    assert any("checkpoint.npz is damaged" in event["message"] for event in run.read_events())


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:50], lambda data: b"x" * len(data)])
def test_both_checkpoints_damaged(tmp_path, monkeypatch, damage):
    broken_off(tmp_path / "run", monkeypatch, "Springs")
    for name in ("checkpoint.previous.npz", "checkpoint.npz"):
        path = tmp_path / "run" / name
        path.write_bytes(damage(path.read_bytes()))
    n_frames = RunReader(tmp_path / "run").n_frames
    with pytest.raises(RunError, check=told(name=str(path), remedy="--overwrite")):
        resume_run(tmp_path / "run", quiet=True)
    assert RunReader(tmp_path / "run").n_frames == n_frames


def test_killed_between_two_renames(tmp_path, monkeypatch):
    straight = options("Springs").run(directory=tmp_path / "straight", quiet=True)
    broken_off(tmp_path / "run", monkeypatch, "Springs")
    (tmp_path / "run" / "checkpoint.npz").rename(tmp_path / "run" / "checkpoint.previous.npz")
    assert_same(resume_run(tmp_path / "run", quiet=True), straight)


def test_a_trajectory_that_shrank_is_refused(tmp_path, monkeypatch):
    broken_off(tmp_path / "run", monkeypatch, "Springs")
    path = tmp_path / "run" / "trajectory.traj"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, check=told(name=str(path), value=200, remedy="--overwrite")):
        resume_run(tmp_path / "run", quiet=True)


def test_a_finished_run_says_so(tmp_path, capsys):
    run = options("Springs").run(directory=tmp_path / "run", quiet=True)
    before = {path: path.read_bytes() for path in run.directory.iterdir()}
    assert resume_run(run.directory).directory == run.directory
    assert "nothing is left to do" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.directory.iterdir()} == before


def test_nothing_to_resume(tmp_path):
    with pytest.raises(RunError, check=told(name="nowhere", problem="protocol.yaml")):
        resume_run(tmp_path / "nowhere")


def test_a_calculator_of_python_has_to_be_passed_again(tmp_path, monkeypatch):
    from toy_calculators import Springs

    atoms = molecule("H2O")
    atoms.calc = Springs()
    given = NVE(**OPTIONS | {"calculator": None, "structure": None})
    straight = given.run(atoms, tmp_path / "straight", quiet=True)
    monkeypatch.setattr("toy_calculators.Springs.calculate", interrupted_at(150))
    atoms.calc = Springs()
    with pytest.raises(KeyboardInterrupt):
        given.run(atoms, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    with pytest.raises(RunError, check=told(name="calculator", remedy="calculator=...)")):
        resume_run(tmp_path / "run", quiet=True)
    assert_same(resume_run(tmp_path / "run", quiet=True, calculator=Springs()), straight)

"""Relaxation: to the analytic minimum, and from where it was when it is resumed."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from raising import told
from typer.testing import CliRunner

from asecalc_ml import plugins
from asecalc_ml.analysis.checks.relaxation import Relaxation
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.analysis.pipeline import run_analyses
from asecalc_ml.analysis.report.report import write_report
from asecalc_ml.cli import md
from asecalc_ml.errors import AnalysisError, RunError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.relax import Relax
from asecalc_ml.runs import EVALUATIONS, RunReader

SPRING = {"toy_calculators:Springs": {"molecule_name": "N2", "stiffness": 50.0}}
FILES = ("trajectory.traj", "relaxation.csv", "relaxed.traj", EVALUATIONS)


def shaken(name: str = "H2O") -> Atoms:
    atoms = molecule(name)
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def relax(directory: Path, calculator="toy_calculators:Springs", atoms=None, **options) -> RunReader:
    given = {"calculator": calculator, "relax_fmax_eV_A": 1e-6} | options
    return Relax(**given).run(atoms or shaken(), directory, quiet=True)


@pytest.mark.smoke
def test_a_spring_comes_to_its_length(tmp_path):
    atoms = molecule("N2")
    length = atoms.get_distance(0, 1)
    atoms.positions *= 1.1
    run = relax(tmp_path / "run", SPRING, atoms)
    assert run.read_relaxed().get_distance(0, 1) == pytest.approx(length, abs=1e-7)
    assert run.read_relaxation()["energy_eV"][0] == pytest.approx(0.5 * 50 * (0.1 * length) ** 2)
    assert run.read_relaxation()["energy_eV"][-1] == pytest.approx(0, abs=1e-12)
    assert run.finished
    assert len(run.read_evaluations()) == run.n_frames == len(run.read_relaxation()["step"])


def test_steps_are_those_of_ase(tmp_path):
    from ase.optimize import BFGS

    atoms = shaken()
    run = relax(tmp_path / "run", "ase.calculators.emt:EMT", atoms, relax_fmax_eV_A=0.01)
    atoms.calc = EMT()
    optimizer = BFGS(atoms, logfile=None)
    optimizer.run(fmax=0.01)
    assert len(run.read_relaxation()["step"]) == optimizer.nsteps + 1
    assert run.read_relaxed().positions == pytest.approx(atoms.positions, abs=1e-12)


@pytest.mark.parametrize("call", [2, 6])
def test_killed_it_goes_on_where_it_was(call, tmp_path, monkeypatch):
    """Killed: an exception that no one catches leaves what kill -9 would leave."""
    straight = relax(tmp_path / "straight")
    monkeypatch.setenv("TOY_BREAKS_AT", str(call))
    with pytest.raises(KeyboardInterrupt):
        relax(tmp_path / "run", "toy_calculators:KilledSprings")
    done = len(RunReader(tmp_path / "run").read_evaluations())
    assert done == call - 1
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    run = resume_run(tmp_path / "run", quiet=True)
    for name in FILES:
        assert_same_numbers(run, straight, name)


def assert_same_numbers(run: RunReader, straight: RunReader, name: str) -> None:
    if name.endswith(".traj"):  # the name of the calculator differs
        ours, theirs = (list(one.frames()) for one in (run, straight))
        assert [a.positions.tolist() for a in ours] == [b.positions.tolist() for b in theirs]
    else:
        assert (run.directory / name).read_bytes() == (straight.directory / name).read_bytes(), name


def test_a_last_line_that_was_cut_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_AT", "6")
    with pytest.raises(KeyboardInterrupt):
        relax(tmp_path / "run", "toy_calculators:KilledSprings")
    path = tmp_path / "run" / EVALUATIONS
    path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    run = resume_run(tmp_path / "run", quiet=True)
    straight = relax(tmp_path / "straight")
    assert (run.directory / EVALUATIONS).read_bytes() == (straight.directory / EVALUATIONS).read_bytes()


def test_a_failure_stops_it_with_a_remedy_for_relaxations(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_AT", "4")
    with pytest.raises(RunError, check=told(value="not finite", remedy="strain")) as error:
        relax(tmp_path / "run", "toy_calculators:BreakingSprings")
    assert "timestep" not in str(error.value)


def test_held_atoms_stay(tmp_path):
    atoms = shaken()
    atoms.set_constraint(FixAtoms([0]))
    run = relax(tmp_path / "run", atoms=atoms)
    assert run.read_relaxed().positions[0].tolist() == atoms.positions[0].tolist()


# ---------------------------------------------------------------------- what is made of it


@pytest.mark.parametrize(
    ("analysis", "names"),
    [
        ("connectivity", {"n_frames_checked": "n_frames_formed"}),
        ("relaxation", {"largest_forces_eV_A": "forces_eV_A", "n_broken": "broken", "n_formed": "formed"}),
    ],
)
def test_results_with_names_of_before_are_read(analysis, names, tmp_path):
    found = relax(tmp_path / "run")
    kind = plugins.get("analyses", analysis)
    if analysis == "connectivity":
        found = MemoryRun(found.atoms, np.repeat(found.atoms.positions[None], 3, axis=0))
    result = kind().run(found)
    (path, *_) = result.write(tmp_path)
    data = json.loads(path.read_text())
    assert set(names) < set(data)
    old = {names.get(name, name): value for name, value in data.items() if name != "sha256"}
    old["sha256"] = hashlib.sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()
    assert kind.result.model_validate(old) == result == kind.result.model_validate(data)


def test_result_has_steps_and_bonds(tmp_path):
    run = relax(tmp_path / "run")
    (result,) = run_analyses(run.directory)
    assert result.largest_forces_eV_A[-1] <= 1e-6
    assert result.bonds == ["O0-H1", "O0-H2"]
    after = [run.read_relaxed().get_distance(0, k) for k in (1, 2)]
    assert result.lengths_after_A == pytest.approx(after)
    assert [verdict.status for verdict in result.verdicts()] == ["passed", "passed"]
    page = write_report(run.directory).read_text()
    assert "The run is complete: relaxation" in page
    assert "Calculation report" in page
    for panel in result.panels():
        assert result.plot(panel=panel.key).get_ylabel()


def test_a_relaxation_that_gave_up_fails_its_check(tmp_path):
    run = relax(tmp_path / "run", relax_steps=2)
    result = Relaxation().run(run)
    assert result.n_steps == 2
    assert result.verdicts()[0].status == "failed"


def test_time_series_analyses_refuse_a_relaxation(tmp_path):
    run = relax(tmp_path / "run")
    with pytest.raises(AnalysisError, check=told(name="relax", remedy="remove this analysis")):
        run_analyses(run.directory, {"connectivity": {}})


def test_command_line(tmp_path):
    file = tmp_path / "relax.yaml"
    file.write_text("protocol: relax\nstructure: H2O\ncalculator: ase.calculators.emt:EMT\n")
    command = ["run", str(file), "--directory", str(tmp_path / "run"), "--quiet"]
    assert CliRunner().invoke(md.app, command).exit_code == 0
    assert RunReader(tmp_path / "run").finished
    assert CliRunner().invoke(md.app, [*command, "--overwrite", "--steps", "5"]).exit_code == 2

"""Transfer tests as runs: starts, independence, kills, what is refused, what goes on."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from places import EXAMPLES, HELPERS
from pydantic import ValidationError
from raising import told
from typer.testing import CliRunner
from write_boundaries import dies_at, number_of_boundaries

import asecalc_ml
from asecalc_ml.analysis.comparing.compare import compare
from asecalc_ml.analysis.pipeline import run_analyses
from asecalc_ml.analysis.report.report import write_report
from asecalc_ml.cli import md
from asecalc_ml.config.options import read_yaml
from asecalc_ml.errors import ConfigError, RunBusyError, RunError, RunPausedError, StructureError
from asecalc_ml.files.folder_lock import FolderLock
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.integrators.degrees_of_freedom import kinetic_energy
from asecalc_ml.md_protocols.transfer.options import Transfer
from asecalc_ml.runs import RunReader

TOY = "transfer_calculators:Molecules"
SHORT = {
    "structure": "H2O",
    "transfer_to": ["CH4"],
    "calculator": {TOY: {"stiffness": 28.0}},
    "reference": TOY,
    "runs": 2,
    "reference_runs": 3,
    "steps": 12,
    "timestep_fs": 0.5,
    "equilibration_ps": 0.01,
    "write_every": 3,
    "thermo_every": 2,
    "checkpoint_every": 5,
    "distributions": ["H-O", "C-H", "H-C-H"],
}
SAME = ("trajectory.traj", "thermo.csv", "equilibration.csv", "relaxed.traj")


def test_of(directory: Path, **options) -> RunReader:
    return Transfer(**SHORT | options).run(directory=directory, quiet=True)


test_of.__test__ = False


def contents(run: RunReader) -> dict[str, bytes]:
    """Everything that must be the same, by part and file."""
    return {
        f"{part.relative_to(run.directory)}/{name}": (part / name).read_bytes()
        for part in run.parts
        for name in SAME
        if (part / name).is_file()
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> RunReader:
    """A test that nothing interrupted."""
    return test_of(tmp_path_factory.mktemp("straight") / "run")


# ---------------------------------------------------------------------- runs


@pytest.mark.smoke
def test_every_part_is_an_ordinary_run(straight, tmp_path):
    names = [str(part.relative_to(straight.directory)) for part in straight.parts]
    of_one = ["reference-1", "reference-2", "reference-3", "model-1", "model-2"]
    assert names == [f"{name}/{one}" for name in ("H2O", "CH4") for one in of_one]
    for part in straight.parts:
        run = RunReader(part)
        assert run.finished
        assert run.n_frames == 5
        assert run.read_options()["protocol"] == "nve"
    assert run_analyses(straight.parts[3])
    assert write_report(straight.parts[3]).is_file()
    both = compare([straight.parts[0], straight.parts[3]], ["H-O"])
    assert len(both.patterns[0].curves) == 2
    assert straight.finished


def test_the_model_starts_where_the_reference_does(straight):
    """Positions to the last bit, momenta to rounding; potential energies are those of the calculators."""
    for name in ("H2O", "CH4"):
        for k in (1, 2):
            reference, model = (
                next(RunReader(straight.directory / name / f"{role}-{k}").frames())
                for role in ("reference", "model")
            )
            assert (model.positions == reference.positions).all()
            assert model.get_momenta() == pytest.approx(reference.get_momenta(), abs=1e-12)
            energies = [kinetic_energy(one.get_momenta(), one.get_masses()) for one in (reference, model)]
            assert energies[0] == pytest.approx(energies[1], rel=1e-12)
            ratio = model.get_potential_energy() / reference.get_potential_energy()
            assert ratio == pytest.approx(28 / 30, rel=1e-9)


def test_a_model_that_is_the_reference_makes_its_run(tmp_path):
    run = test_of(tmp_path / "run", calculator=TOY)
    for k in (1, 2):
        ends = [
            list(RunReader(run.directory / f"CH4/{role}-{k}").frames())[-1] for role in ("reference", "model")
        ]
        assert ends[0].positions == pytest.approx(ends[1].positions, abs=1e-10)


def test_runs_of_the_reference_are_independent(straight, tmp_path):
    starts = [next(RunReader(part).frames()).get_momenta() for part in straight.parts[:3]]
    correlations = np.corrcoef([start.ravel() for start in starts])[np.triu_indices(3, 1)]
    assert (np.abs(correlations) < 0.95).all()  # of nine numbers of which three are free
    seeds = [RunReader(part).read_options()["seed"] for part in straight.parts]
    assert len({seed for part, seed in zip(straight.parts, seeds, strict=True) if "ref" in part.name}) == 6
    others = test_of(tmp_path / "other", seed=1)
    assert not set(seeds) & {RunReader(part).read_options()["seed"] for part in others.parts}


def test_a_linear_molecule_is_one_at_every_start(tmp_path):
    """Bent by its vibrations it would lose one of 3N - 5 degrees of freedom, and a part of its momenta."""
    run = test_of(tmp_path / "run", transfer_to=["CO2"], temperature_K=600, distributions=["C-O"])
    for part in run.parts[5:]:
        event = next(one for one in RunReader(part).read_events() if one["kind"] == "finished")
        assert event["degrees_of_freedom"] == 4, part


def test_atoms_and_calculator_of_python(tmp_path):
    from transfer_calculators import Molecules

    atoms = molecule("H2O")
    atoms.calc = Molecules(stiffness=28.0)
    options = {key: value for key, value in SHORT.items() if key not in ("structure", "calculator")}
    run = Transfer(**options).run(atoms, tmp_path / "run", quiet=True)
    assert run.finished
    assert "H2O/model-1" in run.read_transfer()["runs"]
    straight = test_of(tmp_path / "by-name")
    assert contents(run)["H2O/model-2/thermo.csv"] == contents(straight)["H2O/model-2/thermo.csv"]


def test_few_runs_are_told(straight):
    said = [event["message"] for event in straight.read_events() if event["kind"] == "warning"]
    assert any(text.startswith("runs is 2, and a verdict needs 5") for text in said)
    assert any(text.startswith("reference_runs is 3, and a verdict needs 8") for text in said)


def test_a_report_of_the_whole(straight):
    (result,) = run_analyses(straight.directory)
    assert [one.status for one in result.verdicts()] == ["undecided", "undecided"]
    assert [one.pattern for one in result["H2O"].distributions] == ["H-O"]
    assert [one.pattern for one in result["CH4"].distributions] == ["C-H", "H-C-H"]
    page = write_report(straight.directory).read_text()
    assert "? undecided" in page
    assert "The run is complete: 10 runs of H2O, CH4." in page
    assert "0 ps" not in page.split("<main>")[0]


def test_without_distributions_all_bonds_and_angles_are_judged(tmp_path):
    given = {"transfer_to": ["CH3CH2OH"], "distributions": None, "runs": 1, "reference_runs": 1}
    emt = {"calculator": "ase.calculators.emt:EMT", "reference": "ase.calculators.emt:EMT"}
    run = test_of(tmp_path / "run", **given, **emt)
    (result,) = run_analyses(run.directory)
    assert [one.pattern for one in result["CH3CH2OH"].distributions] == ["C-C", "C-O", "C-C-O"]


# ---------------------------------------------------------------------- interrupted


def finish(directory: Path, options: Transfer) -> RunReader:
    if (directory / "protocol.yaml").is_file():
        return resume_run(directory, quiet=True)
    return options.run(directory=directory, quiet=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked and dies at once")
def test_killed_while_writing_it_ends_as_if_nothing_had_happened(straight, tmp_path):
    """At some of the boundaries of writing, each in a directory of its own."""
    options = Transfer(**SHORT)
    n_boundaries = number_of_boundaries(options, tmp_path / "all")
    assert contents(RunReader(tmp_path / "all")) == contents(straight)
    for number in np.random.default_rng(0).choice(n_boundaries, 6, replace=False):
        directory = tmp_path / f"run-{number}"
        died = dies_at(number, lambda: options.run(directory=directory, quiet=True))  # noqa: B023
        assert died or number == 0
        over = {part: part.stat().st_mtime_ns for part in done(directory)}
        run = finish(directory, options)
        assert contents(run) == contents(straight), number
        assert run.finished
        assert {part: part.stat().st_mtime_ns for part in over} == over, "a finished run was touched"


def done(directory: Path) -> list[Path]:
    """Trajectories of the parts that are over."""
    if not (directory / "transfer.json").is_file():
        return []
    begun = [part for part in RunReader(directory).parts if (part / "protocol.yaml").is_file()]
    return [part / "trajectory.traj" for part in begun if RunReader(part).finished]


@pytest.mark.parametrize("at", [8, 30])  # calls of one calculator: in the relaxation, in the equilibration
@pytest.mark.parametrize("who", ["reference", "calculator"])
def test_asked_to_end_it_pauses_and_goes_on(straight, tmp_path, monkeypatch, at, who):
    own = {"stiffness": 28.0} if who == "calculator" else {}
    given = {who: {TOY: own | {"fails": True}}}
    if who == "calculator" and at > 12:
        at = 9
    monkeypatch.setenv("TRANSFER_DOES", "sigterm")
    monkeypatch.setenv("TRANSFER_AT", str(at))
    is_said = told(name=str(tmp_path / "run"), value="SIGTERM", remedy="resume")
    with pytest.raises(RunPausedError, check=is_said) as paused:
        test_of(tmp_path / "run", **given)
    assert re.search(r"after step \d+ of H2O/(reference|model)-1, \w+", str(paused.value))
    assert f"asecalc-md resume {tmp_path / 'run'}`" in str(paused.value)
    monkeypatch.setenv("TRANSFER_AT", "-1")
    run = resume_run(tmp_path / "run", quiet=True)
    assert contents(run) == contents(straight)


@pytest.mark.parametrize(("what", "message"), [("disk", "No space left"), ("memory", "CUDA out of memory")])
def test_a_full_disk_or_memory_is_no_verdict(what, message, straight, tmp_path, monkeypatch):
    """The run in which it happened goes on; it has not ended early."""
    monkeypatch.setenv("TRANSFER_DOES", what)
    monkeypatch.setenv("TRANSFER_AT", "7")
    with pytest.raises(RunError, match=message):
        test_of(tmp_path / "run", calculator={TOY: {"stiffness": 28.0, "fails": True}})
    monkeypatch.setenv("TRANSFER_AT", "-1")
    assert contents(resume_run(tmp_path / "run", quiet=True)) == contents(straight)


def test_a_run_that_fails_is_told_and_the_test_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFER_DOES", "fail")
    monkeypatch.setenv("TRANSFER_AT", "7")
    run = test_of(tmp_path / "run", calculator={TOY: {"stiffness": 28.0, "fails": True}})
    assert run.finished
    early = [part.name for part in run.parts if not RunReader(part).finished]
    assert early == ["model-1", "model-2"] * 2
    said = [event["message"] for event in run.read_events() if event["kind"] == "warning"]
    assert "H2O/model-1 ended early: the calculator failed: no convergence; the test goes on" in said
    (result,) = run_analyses(run.directory)
    assert result.verdicts()[0].status == "failed"
    assert result["H2O"].model_runs[0].state == "ended early"


def test_a_reference_that_fails_leaves_its_model_without_a_start(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFER_DOES", "fail")
    monkeypatch.setenv("TRANSFER_AT", "12")
    run = test_of(tmp_path / "run", reference={TOY: {"fails": True}})
    said = [event["message"] for event in run.read_events() if event["kind"] == "warning"]
    assert (
        "H2O/model-1 has no start, since H2O/reference-1 ended before its production; the test goes on"
        in said
    )
    (result,) = run_analyses(run.directory)
    assert [one.status for one in result.verdicts()] == ["undecided", "undecided"]
    write_report(run.directory)


def test_wall_time_is_that_of_the_whole(tmp_path, straight):
    with pytest.raises(RunPausedError, check=told(value="wall time", remedy="resume")):
        test_of(tmp_path / "run", stop={"wall_time_h": 1e-9})
    assert len(RunReader(tmp_path / "run").parts) == 10
    for part in straight.parts:
        assert RunReader(part).read_options()["stop"]["wall_time_h"] is None


def _without_limit(directory: Path) -> None:
    options = directory / "protocol.yaml"
    options.write_text(options.read_text().replace("wall_time_h: 1e-09", "wall_time_h:"))


def test_another_reference_is_refused_when_resumed(tmp_path, monkeypatch):
    with pytest.raises(RunPausedError):
        test_of(tmp_path / "run", calculator="ase.calculators.emt:EMT", stop={"wall_time_h": 1e-9})
    monkeypatch.setenv("TRANSFER_HASH", "b" * 64)
    with pytest.raises(RunError, check=told(name="the reference molecules", remedy=True)):
        resume_run(tmp_path / "run", quiet=True)
    _without_limit(tmp_path / "run")
    run = resume_run(tmp_path / "run", allow_different=True, quiet=True)
    assert run.finished
    assert any(
        "the reference molecules is not what the run" in event["message"] for event in run.read_events()
    )


def test_other_arguments_of_the_reference_are_refused_when_resumed(tmp_path):
    emt = "ase.calculators.emt:EMT"
    with pytest.raises(RunPausedError):
        test_of(tmp_path / "run", reference={emt: {"asap_cutoff": False}}, stop={"wall_time_h": 1e-9})
    protocol = tmp_path / "run" / "protocol.yaml"
    protocol.write_text(protocol.read_text().replace("asap_cutoff: false", "asap_cutoff: true"))
    with pytest.raises(RunError, check=told(name="reference", value="asap_cutoff True instead of False")):
        resume_run(tmp_path / "run", quiet=True)


def test_a_run_that_another_process_makes_is_told_where_nobody_helps(tmp_path):
    with pytest.raises(RunPausedError):
        test_of(tmp_path / "run", stop={"wall_time_h": 1e-9})
    reference = tmp_path / "run" / "H2O" / "reference-1"
    reference.mkdir(parents=True)
    lock = FolderLock(reference / ".lock", "writing this run")
    _without_limit(tmp_path / "run")
    with pytest.raises(RunBusyError, check=told(name=str(reference), remedy="wait")):
        resume_run(tmp_path / "run", quiet=True)
    lock.close()


def test_overwriting_takes_all_parts_and_nothing_else(tmp_path, straight):
    run = test_of(tmp_path / "run", runs=3)
    kept = tmp_path / "run" / "CH4" / "model-3" / "notes.txt"
    kept.write_text("mine")
    with pytest.raises(RunError, check=told(name="run", remedy="asecalc-md resume")):
        test_of(tmp_path / "run")
    run = Transfer(**SHORT).run(directory=tmp_path / "run", overwrite=True, quiet=True)
    assert contents(run) == contents(straight)
    assert kept.read_text() == "mine"
    assert not (kept.parent / "protocol.yaml").exists()
    assert not (tmp_path / "run" / "H2O" / "model-3").exists()


# ---------------------------------------------------------------------- several at the same time


@pytest.fixture
def met(tmp_path, monkeypatch):
    """Has the first process wait for another, so that neither makes all runs; toys are there for both."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(HELPERS), str(Path(asecalc_ml.__file__).parents[1])])
    )
    monkeypatch.setenv("TRANSFER_MAIN", str(os.getpid()))
    monkeypatch.setenv("TRANSFER_MET", str(tmp_path / "met"))
    monkeypatch.setenv("TRANSFER_AT", "7")
    return tmp_path / "met"


MEETING = {"reference": {TOY: {"fails": True}}}


@pytest.mark.parametrize("does", [pytest.param("nothing", marks=pytest.mark.slow), "kill"])
def test_several_workers_make_the_same_runs(does, straight, tmp_path, met, monkeypatch):
    """One that is killed leaves its run to the others."""
    monkeypatch.setenv("TRANSFER_DOES", does)
    run = test_of(tmp_path / "run", workers=2, **MEETING)
    assert met.exists()
    assert contents(run) == contents(straight)
    assert run.finished
    n_processes = len({(part / ".lock").read_text() for part in run.parts})
    assert n_processes == (1 if does == "kill" else 2)


def test_workers_pause_with_the_test(straight, tmp_path, met, monkeypatch):
    monkeypatch.setenv("TRANSFER_DOES", "sigterm")
    is_said = told(value="SIGTERM", problem="H2O/reference-1", remedy="resume")
    with pytest.raises(RunPausedError, check=is_said):
        test_of(tmp_path / "run", workers=2, **MEETING)
    for lock in (tmp_path / "run").glob("*/*/.lock"):
        FolderLock(lock, "looking").close()  # nobody writes any more
    monkeypatch.setenv("TRANSFER_AT", "-1")
    assert contents(resume_run(tmp_path / "run", quiet=True)) == contents(straight)


def test_what_workers_meet_is_told_once(tmp_path, met, monkeypatch):
    monkeypatch.setenv("TRANSFER_DOES", "fail")
    run = test_of(tmp_path / "run", workers=2, calculator={TOY: {"stiffness": 28.0, "fails": True}})
    said = [event["message"] for event in run.read_events() if event["kind"] == "warning"]
    lost = [text for text in said if text.endswith("; the test goes on")]
    models = [f"{name}/model-{k}" for name in ("CH4", "H2O") for k in (1, 2)]
    assert sorted(text.partition(" ")[0] for text in lost) == models


def test_without_locks_one_process_makes_all_runs(straight, tmp_path, monkeypatch):
    """Two could make the same run and mix its files."""
    fcntl = pytest.importorskip("fcntl", reason="this system has no locks anyway")

    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    run = test_of(tmp_path / "run", workers=2)
    assert contents(run) == contents(straight)
    said = [event["message"] for event in run.read_events() if event["kind"] == "warning"]
    assert any(text.startswith("this file system has no locks") for text in said)


def test_a_calculator_of_python_has_one_worker(tmp_path):
    from transfer_calculators import Molecules

    atoms = molecule("H2O")
    atoms.calc = Molecules()
    options = {key: value for key, value in SHORT.items() if key not in ("structure", "calculator")}
    with pytest.raises(ConfigError, check=told(name="workers", value=2, remedy="`calculator`")):
        Transfer(**options, workers=2).run(atoms, tmp_path / "run", quiet=True)


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"runs": 4}, "must not be more than reference_runs"),
        ({"transfer_to": ["H2O"]}, "H2O is there twice"),
        ({"transfer_to": []}, "at least 1 item"),
        ({"distributions": ["0-1"]}, "not numbers of atoms"),
        ({"distributions": ["C-O-C-C-C"]}, "expected two atoms"),
        ({"velocities": "structure"}, "thermal"),
    ],
)
def test_options_that_mean_nothing(options, text):
    with pytest.raises(ValidationError, match=text):
        Transfer(**SHORT | options)


def test_a_molecule_the_model_does_not_know(tmp_path, tiny_model):
    with pytest.raises(StructureError) as refused:
        test_of(tmp_path / "run", structure="ethanol", transfer_to=["1-propanol", "uracil"],
                calculator=tiny_model, reference="ase.calculators.emt:EMT", distributions=None)  # fmt: skip
    assert str(refused.value).startswith(
        "uracil: the model tiny cannot compute it: model 'tiny' was not trained on N, only on C, H, O"
    )
    assert "Leave uracil out of the test, or take another model" in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_molecule_the_reference_cannot_do(tmp_path):
    is_said = told(name="CH4", value="molecules", problem="no parameters", remedy="another reference")
    with pytest.raises(StructureError, check=is_said):
        test_of(tmp_path / "run", reference={TOY: {"refuses": "CH4"}})
    assert not (tmp_path / "run").exists()


def test_a_pattern_that_is_nowhere(tmp_path):
    with pytest.raises(StructureError, check=told(name="distributions", value="C-O", remedy=True)):
        test_of(tmp_path / "run", distributions=["C-O"])


def test_a_structure_that_is_not_there(tmp_path):
    with pytest.raises(
        StructureError, check=told(name="3-propanol", allowed=["2-propanol"], remedy="2-propanol")
    ):
        test_of(tmp_path / "run", transfer_to=["3-propanol"])


def test_a_reference_whose_energy_jumps(tmp_path):
    springs = {"toy_calculators:Jumping": {"molecule_name": "H2O"}}
    with pytest.raises((ConfigError, StructureError), check=told(name="H2O", remedy="another reference")):
        test_of(tmp_path / "run", reference=springs)


def test_files_of_one_name_have_folders_of_their_own(tmp_path):
    for folder, name in (("a", "H2O"), ("b", "CH4")):
        (tmp_path / folder).mkdir()
        molecule(name).write(tmp_path / folder / "start.xyz")
    files = [str(tmp_path / folder / "start.xyz") for folder in "ab"]
    run = test_of(tmp_path / "run", structure=files[0], transfer_to=files[1:], runs=1, reference_runs=1)
    assert [one["name"] for one in run.read_transfer()["molecules"]] == ["start-1", "start-2"]


# ---------------------------------------------------------------------- the command line


def test_by_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = SHORT | {"runs": 1, "reference_runs": 2, "protocol": "transfer"}
    Path("toy.yaml").write_text("\n".join(f"{key}: {value}" for key, value in given.items()))
    found = CliRunner().invoke(md.app, ["run", "toy.yaml", "--quiet"])
    assert found.exit_code == 0, found.output
    assert (tmp_path / "runs" / "toy" / "report.html").is_file()
    assert (tmp_path / "runs" / "toy" / "results" / "transfer_checks.csv").is_file()
    refused = CliRunner().invoke(md.app, ["run", "toy.yaml", "--transfer-to=[C6H6]", "--overwrite"])
    assert refused.exit_code == 2
    assert "nothing in H2O, C6H6 matches 'H-C-H'" in " ".join(refused.output.split())
    assert "Traceback" not in refused.output


def test_template_and_example():
    text = CliRunner().invoke(md.app, ["template", "transfer"]).output
    assert "reference:  # required, such as gfn2-xtb" in text
    assert "transfer_to:  # required, such as [1-propanol, 2-propanol]" in text
    example = read_yaml(EXAMPLES / "transfer_ethanol.yaml")
    assert Transfer(**example).steps == 100_000

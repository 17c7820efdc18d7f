"""Analyses of a third party that break anywhere: the others' results, the report and the exit status."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from places import HELPERS
from raising import told
from typer.testing import CliRunner

from asecalc_ml import plugins
from asecalc_ml.analysis.pipeline import read_results, run_analyses
from asecalc_ml.analysis.report.report import write_report
from asecalc_ml.cli import md
from asecalc_ml.config.options import dump_yaml, parse_options, read_yaml
from asecalc_ml.errors import AnalysisError, AsecalcError, PluginError, RunError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.runs import ANALYSIS_LOG, FURTHER, PROTOCOL, THERMO, RunReader, RunWriter
from asecalc_ml.structure.topology.bonds import find_bonds

WATER = {
    "structure": "H2O",
    "calculator": "toy_calculators:Springs",
    "relax": False,
    "equilibration_ps": 0,
    "timestep_fs": 0.5,
    "thermo_every": 2,
    "write_every": 2,
}


@pytest.fixture(autouse=True)
def theirs(tmp_path, monkeypatch) -> Path:
    """The third party's package, and toy calculators."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(HELPERS)
    from third_party import install

    monkeypatch.syspath_prepend(install(folder))
    return folder


def run(directory: Path, protocol: str = "nve", overwrite: bool = False, atoms=None, **options) -> RunReader:
    given = WATER | {"protocol": protocol, "steps": 20} | options
    protocol_options = parse_options(given, plugins.get("protocols", protocol))
    return protocol_options.run(atoms, directory=directory, overwrite=overwrite, quiet=True)


def asked(where: str) -> dict:
    return {"temperature": {}, "fragile": {"where": where}, "bond-lengths": {}}


def report(directory: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return " ".join(write_report(directory).read_text().split())


#: Errors of other kinds than Broken; one that writes into frames would spoil the others' numbers.
SAID = {
    "prepare": "Fragile.prepare() raised Broken: in prepare",
    "memory": "MemoryError",
    "exit": "SystemExit: 3",
    "writes": "ValueError: assignment destination is read-only",
}

# ---------------------------------------------------------------------- each fails alone


@pytest.mark.parametrize("where", ["prepare", "frames", "conclude", "memory", "exit", "writes", "tables"])
def test_an_error_of_any_kind_loses_no_other_result(tmp_path, where):
    directory = run(tmp_path / "run").directory
    with pytest.raises(AsecalcError) as caught:
        run_analyses(directory, asked(where))
    said = SAID.get(where, f"Broken: in {where}")
    assert f"analysis fragile: {said}" in str(caught.value)
    assert "their_analyses.py, line " in str(caught.value)
    assert {one.analysis for one in read_results(directory)} >= {"temperature", "bond-lengths"}
    page = report(directory)
    assert "the analysis fragile worked" in page
    assert said in page
    assert "the temperature was that asked for" in page
    if where != "prepare":  # whose message names the place
        assert "Traceback (most recent call last)" in (directory / ANALYSIS_LOG).read_text()


def test_an_analysis_that_changes_the_structure_changes_no_other_result(tmp_path):
    directory = run(tmp_path / "run").directory
    alone = run_analyses(directory, {"bond-lengths": {}})
    assert run_analyses(directory, asked("moves"))[2:] == alone


@pytest.mark.parametrize("where", ["verdicts", "no verdict", "panels", "plot"])
def test_a_result_that_cannot_be_shown_leaves_the_rest_of_the_report(tmp_path, where):
    directory = run(tmp_path / "run").directory
    assert len(run_analyses(directory, asked(where))) == 3
    with pytest.warns(UserWarning, match="analysis fragile: "):
        page = " ".join(write_report(directory).read_text().split())
    assert "the analysis fragile worked" in page
    assert "the temperature was that asked for" in page
    assert "Fragile table" in page  # what of it can be shown is
    assert "their_analyses.py" in page or where == "no verdict"


def test_a_result_is_kept_whose_tables_break(tmp_path):
    directory = run(tmp_path / "run").directory
    with pytest.raises(AnalysisError):
        run_analyses(directory, asked("tables"))
    assert json.loads((directory / "results" / "fragile.json").read_text())["value"] == 1.0


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("name", {"value": "brittle", "allowed": ["fragile"], "remedy": 'Literal["fragile"]'}),
        ("nothing", {"value": "NoneType", "allowed": "Result"}),
        ("other class", {"name": "fragile.json", "remedy": "`result`"}),
    ],
)
def test_an_authors_mistake_is_told_in_a_sentence(tmp_path, where, expected):
    directory = run(tmp_path / "run").directory
    with pytest.raises(PluginError, check=told(problem="analysis fragile: ", **expected)):
        run_analyses(directory, asked(where))
    assert not (directory / "results" / "brittle.json").exists()
    assert not (directory / ANALYSIS_LOG).exists()  # nothing that a traceback would explain
    assert "the analysis fragile worked" in report(directory)


@pytest.mark.parametrize("where", ["conclude", "plot", "name"])
def test_the_command_ends_with_a_message_and_status_2_after_everything_else(tmp_path, where):
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml(WATER | {"protocol": "nve", "steps": 20, "analyses": asked(where)}))
    directory = tmp_path / "run"
    begin = ["run", str(file), "--directory", str(directory), "-q"]
    for command in (begin, ["report", str(directory), "-q"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ended = CliRunner().invoke(md.app, command)
        assert ended.exit_code == 2, ended.output
        said = " ".join(ended.stderr.split())
        assert "analysis fragile: " in said
        assert "report.html" in said
        assert "Traceback (" not in ended.output
        page = (directory / "report.html").read_text()
        assert "the analysis fragile worked" in page
        assert "the temperature was that asked for" in page


def test_the_report_of_one_run_does_not_keep_that_of_another(tmp_path):
    first = run(tmp_path / "first", analyses=asked("conclude")).directory
    second = run(tmp_path / "second", analyses={"temperature": {}}).directory
    ended = CliRunner().invoke(md.app, ["report", str(first), str(second), "-q"])
    assert ended.exit_code == 2
    assert (second / "report.html").is_file()


def test_what_failed_before_is_forgotten_when_it_works(tmp_path):
    directory = run(tmp_path / "run").directory
    with pytest.raises(AnalysisError):
        run_analyses(directory, asked("conclude"))
    assert len(run_analyses(directory, asked("nowhere"))) == 3
    assert "the analysis fragile worked" not in report(directory)
    assert not (directory / ANALYSIS_LOG).exists()


def test_ctrl_c_ends_it_and_keeps_what_was_there(tmp_path, monkeypatch):
    directory = run(tmp_path / "run").directory
    with pytest.raises(AnalysisError):
        run_analyses(directory, asked("conclude"))
    before = {path.name: path.read_bytes() for path in (directory / "results").iterdir()}
    import their_analyses

    def interrupted(self, frames):
        raise KeyboardInterrupt

    monkeypatch.setattr(their_analyses.Measurement, "frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_analyses(directory, asked("nowhere"))
    assert {path.name: path.read_bytes() for path in (directory / "results").iterdir()} == before


def test_a_frame_that_is_damaged_leaves_what_needs_no_frames(tmp_path):
    directory = run(tmp_path / "run").directory
    path = directory / "trajectory.traj"
    content = bytearray(path.read_bytes())
    place = content.find(np.float64(molecule("H2O").positions[0, 2]).tobytes())
    content[place : place + 8] = np.float64(np.nan).tobytes()
    path.write_bytes(bytes(content))
    with pytest.raises(
        RunError,
        check=told(value=0, name="trajectory.traj", problem="analyses connectivity, bond-lengths, angles"),
    ):
        run_analyses(directory)
    assert {one.analysis for one in read_results(directory)} == {"energy-drift", "temperature"}


# ---------------------------------------------------------------------- not installed any more


def test_results_of_an_analysis_that_is_gone_are_named(tmp_path, theirs):
    directory = run(tmp_path / "run", analyses=asked("nowhere")).directory
    run_analyses(directory, asked("nowhere"))
    (directory / "results" / "mine.json").write_text('{"a": 1}')
    without(theirs)
    page = report(directory)
    assert "results/fragile.json is of an analysis that is not installed" in page
    assert "mine.json" not in page
    with pytest.raises(PluginError, check=told(name="fragile", remedy="pip install -e")):
        run_analyses(directory, RunReader(directory).read_options()["analyses"])
    assert {one.analysis for one in read_results(directory)} == {"temperature", "bond-lengths"}


def without(theirs: Path) -> None:
    """Uninstall the third party's package."""
    for path in theirs.rglob("*.txt"):
        path.write_text("")
    plugins._installed.cache_clear()
    plugins._found.cache_clear()


def test_a_module_that_cannot_be_imported_loses_no_other_result(tmp_path, theirs, monkeypatch):
    import sys

    directory = run(tmp_path / "run").directory
    monkeypatch.delitem(sys.modules, "their_analyses", raising=False)
    (theirs / "their_analyses.py").write_text("def broken(:\n")
    with pytest.raises(
        PluginError,
        check=told(name="fragile", problem="SyntaxError: invalid syntax", remedy="pip install -e"),
    ):
        run_analyses(directory, asked("nowhere"))
    assert {one.analysis for one in read_results(directory)} == {"temperature", "bond-lengths"}


# ---------------------------------------------------------------------- campaigns


def test_a_campaign_does_not_take_a_run_for_done_whose_analysis_failed(tmp_path):
    base = WATER | {"protocol": "nve", "steps": 20, "analyses": asked("conclude")}
    file = tmp_path / "grid.yaml"
    grid = {"base": base, "grid": {"seed": [0]}, "directory": str(tmp_path / "runs"), "retries": 0}
    file.write_text(dump_yaml(grid))
    from asecalc_ml.cli.analyse import analyse
    from asecalc_ml.cli.campaign.command import check_campaign
    from asecalc_ml.cli.campaign.table import write_tables
    from asecalc_ml.md_protocols.campaign.scheduler import Status
    from asecalc_ml.md_protocols.campaign.state import DONE, UNANALYSED, state_of

    (point,) = check_campaign(read_yaml(file), file)[1]
    directory = point.options.run(directory=tmp_path / "runs" / point.name, quiet=True).directory
    with pytest.raises(AnalysisError):
        analyse(directory)
    assert (directory / "report.html").is_file()
    assert state_of(directory, point.options) == UNANALYSED
    paths = write_tables(tmp_path, [Status(point, directory, DONE)])
    (row,) = json.loads(paths[1].read_text())
    assert "the analysis fragile worked" in row["failed checks"]
    assert row["temperature.mean_K"] > 0


# ---------------------------------------------------------------------- files of stages of a third party


def listed(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_overwriting_removes_what_a_third_party_wrote_and_nothing_else(tmp_path):
    directory = run(tmp_path / "run", "count").directory
    run_analyses(directory, asked("nowhere"))
    written = listed(directory)
    assert {"colvars.csv", "bias/grid.dat", "undeclared.dat", "plain.txt", "results/fragile.json"} <= written
    mine = {"notes.txt", "results/my_fit.csv", "results/mine.json", "bias/mine.dat"}
    for name in mine:
        (directory / name).write_text("{}")
    RunWriter.create(directory, overwrite=True).close()
    assert listed(directory) == mine | {".lock"}


def test_ours_need_no_note(tmp_path):
    directory = run(tmp_path / "run").directory
    assert not (directory / FURTHER).exists()
    (directory / "trajectory").write_text("mine")
    RunWriter.create(directory, overwrite=True).close()
    assert listed(directory) == {"trajectory", ".lock"}


def test_a_new_run_does_not_go_on_in_the_tables_of_the_old_one(tmp_path):
    run(tmp_path / "run", "count", rows=7)
    made = run(tmp_path / "run", "count", overwrite=True, rows=2)
    assert (made.directory / "colvars.csv").read_text().split() == ["step,value", "0,0.5", "1,0.5"]


def test_results_of_an_analysis_that_is_gone_are_removed_with_the_run(tmp_path, theirs):
    directory = run(tmp_path / "run").directory
    run_analyses(directory, asked("nowhere"))
    without(theirs)
    RunWriter.create(directory, overwrite=True).close()
    assert listed(directory) == {".lock"}


def test_a_table_of_a_third_party_is_cut_back_with_the_others(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", "count", fails=True)
    path = tmp_path / "run" / PROTOCOL
    path.write_text(dump_yaml(read_yaml(path) | {"fails": False}))
    made = resume_run(tmp_path / "run", quiet=True, allow_different=True)
    assert len((made.directory / "colvars.csv").read_text().split()) == 4  # its first line and three rows


@pytest.mark.parametrize("name", ["colvars.csv", "bias/grid.dat", "plain.txt"])
def test_a_users_file_of_that_name_is_never_written_to(tmp_path, name):
    directory = run(tmp_path / "run").directory
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_text("mine")
    with pytest.raises(RunError, check=told(name=name, remedy=True)):
        run(directory, "count", overwrite=True)
    assert (directory / name).read_text() == "mine"
    assert (directory / THERMO).is_file()  # refused before anything was removed


@pytest.mark.parametrize("name", ["../mine.txt", "/tmp/mine.txt", ".", ""])
def test_no_file_outside_is_noted_or_removed(tmp_path, name):
    directory = run(tmp_path / "run").directory
    (tmp_path / "mine.txt").write_text("mine")
    writer = RunWriter.open(directory)
    with pytest.raises(PluginError, check=told(name=name)):
        writer.declare([name])
    writer.close()
    (directory / FURTHER).write_text(json.dumps({"other": [name]}))
    with pytest.raises(AsecalcError, check=told(name=FURTHER, value=repr(name), remedy=True)):
        RunWriter.create(directory, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_analysis_of_a_third_partys_file_can_name_it(tmp_path):
    plan = parse_options(WATER | {"protocol": "count"}, plugins.get("protocols", "count")).plan()
    plan.check_written("colvars.csv")
    with pytest.raises(
        AnalysisError, check=told(value="other.csv", allowed=["colvars.csv"], remedy="other.csv")
    ):
        plan.check_written("other.csv")


# ---------------------------------------------------------------------- relaxing after dynamics


@pytest.mark.parametrize("on_record", [False, True])
def test_a_relaxation_starts_where_the_dynamics_ended(tmp_path, on_record, monkeypatch):
    from asecalc_ml.md_protocols.stages import relax

    starts, chosen = [], relax.optimizer_for

    def noting(atoms):
        starts.append(atoms.get_positions())
        return chosen(atoms)

    monkeypatch.setattr(relax, "optimizer_for", noting)
    made = run(tmp_path / "run", "quench", on_record=on_record)
    last = list(made.chunks())[-1][-1]
    assert np.array_equal(starts[0], last)
    assert not np.allclose(last, made.atoms.positions, atol=1e-3)
    assert np.linalg.norm(
        made.read_relaxed().positions[0] - made.read_relaxed().positions[1]
    ) == pytest.approx(molecule("H2O").get_distance(0, 1), abs=1e-6)


@pytest.mark.parametrize("on_record", [False, True])
def test_a_relaxation_that_fails_leaves_the_structure_it_began_with(tmp_path, on_record, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_AT", "24")
    monkeypatch.setenv("TOY_BREAKS_BY", "error")
    own = {"calculator": "toy_calculators:BreakingSprings", "on_record": on_record}
    with pytest.raises(RunError, match="relaxation failed"):
        run(tmp_path / "run", "quench", **own)
    made = RunReader(tmp_path / "run")
    last = list(made.chunks())[-1][-1]
    with np.load(made.directory / "checkpoint.npz") as checkpoint:
        assert np.array_equal(checkpoint["positions"], last)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    if on_record:  # the failure is on record, too
        table = (made.directory / "relaxation.csv").read_bytes()
        with pytest.raises(RunError, match="relaxation failed"):
            resume_run(made.directory, quiet=True)
        assert (made.directory / "relaxation.csv").read_bytes() == table
        return
    resumed = resume_run(made.directory, quiet=True)
    straight = run(tmp_path / "straight", "quench", **own)
    assert np.array_equal(resumed.read_relaxed().positions, straight.read_relaxed().positions)


def test_two_relaxations_on_record_have_all_their_rows(tmp_path, monkeypatch):
    from their_protocols import Quench

    from asecalc_ml.md_protocols.stages.relax_on_record import RelaxOnRecord

    stages = Quench.stages
    first = RelaxOnRecord(0.1, 100)
    monkeypatch.setattr(Quench, "stages", lambda self: [*stages(self)[:-1], first, RelaxOnRecord(1e-6, 100)])
    steps = run(tmp_path / "run", "quench").read_relaxation()["step"]
    again = int(np.flatnonzero(steps == 0)[1])
    assert steps[:again].tolist() == list(range(again))
    assert steps[again:].tolist() == list(range(len(steps) - again))


def test_bonds_are_compared_with_the_structure_that_was_relaxed(tmp_path):
    """An atom that dynamics took away is back after relaxing: a bond that formed, though the start had it."""
    atoms = molecule("H2O")
    atoms.set_momenta([[0, 0, 0], [0, 8.0, 0], [0, -8.0, 0]])
    weak = {"toy_calculators:Springs": {"stiffness": 0.5}}
    own = {"velocities": "structure", "steps": 60, "calculator": weak}
    made = run(tmp_path / "run", "quench", atoms=atoms, **own)
    last = made.atoms.copy()
    last.positions = list(made.chunks())[-1][-1]
    n_last = len(find_bonds(last))
    assert n_last < len(made.bonds)
    said = [event["message"] for event in made.read_events() if "relaxing broke" in event["message"]]
    assert said == [
        f"relaxing broke 0 bonds of the structure and formed {len(made.bonds) - n_last}; the analyses take "
        "the bonds of the structure as it was given"
    ]


# ---------------------------------------------------------------------- the error that names all


def test_failures_of_one_message_are_one_error_and_keep_their_attributes(tmp_path):
    from asecalc_ml.analysis.failures import Failures

    failures = Failures(tmp_path)
    for name in ("temperature", "angles"):
        failures.note(name, RunError("frame 3 is damaged", name="frame 3", value=3, remedy="copy it again"))
    with failures.alone("mine"):
        raise ZeroDivisionError("division by zero")
    error = failures.error()
    assert told(name="frame 3", value=3, remedy="copy it again", problem="temperature, angles")(error)
    (other,) = error.others
    assert told(problem="mine", remedy=ANALYSIS_LOG)(other)

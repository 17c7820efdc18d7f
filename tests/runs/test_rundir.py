"""The run directory: whole files, growing files cut back to the byte, one writer at a time."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import told

import asecalc_ml
from asecalc_ml import runs
from asecalc_ml.errors import RunBusyError, RunError
from asecalc_ml.files.writing import write_whole
from asecalc_ml.runs import RESULTS, START, THERMO, THERMO_COLUMNS, RunReader, RunWriter, layout
from asecalc_ml.runs.contents import CardFile
from asecalc_ml.runs.marks import cut_back, mark
from asecalc_ml.runs.reader import FORMER
from asecalc_ml.runs.trajectories.traj_writer import TrajWriter
from asecalc_ml.runs.trajectories.writer import Moment, Origin
from asecalc_ml.store.card import Metrics, QuantityErrors

TRAJECTORY = "trajectory.traj"
ROW = dict(zip(THERMO_COLUMNS, (0, 0.0, 1.0, 2.0, 3.0, 300.0), strict=True))


def frame(k: int):
    atoms = molecule("H2O")
    atoms.positions[:, 0] += k
    atoms.set_momenta(np.full((3, 3), 0.1 * k))
    return atoms


def append(writer: RunWriter, k: int) -> None:
    writer.row(THERMO, ROW | {"step": k})
    writer.frame(frame(k), float(k), np.full((3, 3), float(k)))


def finished_setup(directory: Path) -> RunWriter:
    writer = RunWriter.create(directory)
    writer.write_structure(START, frame(0))
    writer.write_json("provenance.json", {"frame_interval_fs": 2.5, "finished": None})
    writer.write("protocol.yaml", "protocol: nve\nsteps: 10\n")
    return writer


# ---------------------------------------------------------------------- reading what was written


@pytest.mark.smoke
def test_what_is_written_is_read(tmp_path):
    writer = finished_setup(tmp_path / "run")
    for k in range(5):
        append(writer, k)
    writer.event("warning", "too hot", step=3)
    writer.close()
    run = RunReader(tmp_path / "run")
    assert run.read_options() == {"protocol": "nve", "steps": 10}
    assert (run.n_frames, run.frame_interval_fs, run.finished) == (5, 2.5, False)
    assert run.read_thermo()["step"].tolist() == [0, 1, 2, 3, 4]
    assert [event["message"] for event in run.read_events()] == ["too hot"]
    assert np.concatenate(list(run.chunks(2)))[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert next(run.chunks(quantity="forces"))[3].tolist() == [[3.0] * 3] * 3
    assert next(run.chunks(quantity="momenta"))[2] == pytest.approx(0.2)
    assert [one.get_potential_energy() for one in run.frames()] == [0, 1, 2, 3, 4]
    assert len(read(tmp_path / "run" / TRAJECTORY, ":")) == 5  # ASE reads it too


def test_structure_keeps_every_bit_charge_and_momenta(tmp_path):
    atoms = frame(1)
    atoms.positions += 1 / 3
    atoms.info.update(charge=-1, spin=2)
    writer = finished_setup(tmp_path / "run")
    writer.write_structure(START, atoms)
    writer.close()
    found = RunReader(tmp_path / "run").atoms
    assert np.array_equal(found.positions, atoms.positions)
    assert np.array_equal(found.get_momenta(), atoms.get_momenta())
    assert (found.info["charge"], found.info["spin"]) == (-1, 2)


def test_numbers_keep_every_bit(tmp_path):
    values = (7, 0.1 + 0.2, -4209.612345678901234, 1e-300, np.pi, float(np.nextafter(300, 301)))
    writer = finished_setup(tmp_path / "run")
    writer.row(THERMO, dict(zip(ROW, values, strict=True)))
    writer.close()
    assert tuple(column[0] for column in RunReader(tmp_path / "run").read_thermo().values()) == values


def test_a_line_cut_by_a_kill_is_left_out(tmp_path):
    finished_setup(tmp_path / "run").close()
    (tmp_path / "run" / THERMO).write_text("step,time_fs\n0,0.0\n1,0.")
    (tmp_path / "run" / "events.jsonl").write_text('{"kind": "a"}\n{"kin')
    run = RunReader(tmp_path / "run")
    assert run.read_thermo()["step"].tolist() == [0]
    assert run.read_events() == [{"kind": "a"}]


@pytest.mark.parametrize("content", ["", '{"kin'])
def test_files_without_a_whole_line_are_empty(tmp_path, content):
    finished_setup(tmp_path / "run").close()
    for name in ("events.jsonl", THERMO):
        (tmp_path / "run" / name).write_text(content)
    run = RunReader(tmp_path / "run")
    assert run.read_events() == []
    assert run.read_thermo()["step"].shape == (0,)


def test_numpy_scalars_are_written_as_plain_numbers(tmp_path):
    writer = finished_setup(tmp_path / "run")
    writer.row(THERMO, {name: np.float64(value) for name, value in ROW.items()})
    writer.row(THERMO, ROW | {"step": np.int64(1), "time_fs": np.float32(0.5)})
    writer.close()
    lines = (tmp_path / "run" / THERMO).read_text().splitlines()[1:]
    assert lines == ["0.0,0.0,1.0,2.0,3.0,300.0", "1,0.5,1.0,2.0,3.0,300.0"]


def test_before_the_first_frame_there_is_nothing(tmp_path):
    finished_setup(tmp_path / "run").close()
    run = RunReader(tmp_path / "run")
    assert (run.n_frames, list(run.chunks()), list(run.frames()), run.read_events()) == (0, [], [], [])
    assert run.read_thermo()["temperature_K"].shape == (0,)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("provenance.json", "{"),
        (START, "x"),
        (THERMO, "step,time_fs\n0,zero\n"),
        ("events.jsonl", "{]\n"),
        (TRAJECTORY, "no trajectory"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content):
    finished_setup(tmp_path / "run").close()
    (tmp_path / "run" / name).write_text(content)
    run = RunReader(tmp_path / "run")
    with pytest.raises(RunError, check=told(name=name, remedy="copy it again")):
        [run.read_provenance(), run.atoms, run.read_thermo(), run.read_events(), list(run.chunks())]


def test_no_run_no_reader(tmp_path):
    with pytest.raises(RunError, match=r"protocol\.yaml", check=told(name=str(tmp_path))):
        RunReader(tmp_path)
    with pytest.raises(RunError, check=told(name="nowhere")):
        RunReader(tmp_path / "nowhere")


# ---------------------------------------------------------------------- a reader is a snapshot


def opened(directory: Path, look: Callable[[], object]) -> Counter:
    """How often each file of a directory is opened."""
    names, is_looking = Counter(), [True]

    def count(event: str, args: tuple) -> None:
        if event == "open" and is_looking and str(args[0]).startswith(f"{directory}{os.sep}"):
            names[Path(args[0]).name] += 1

    sys.addaudithook(count)  # which cannot be removed
    look()
    is_looking.clear()
    return names


def test_a_file_is_read_once(tmp_path):
    finished_setup(tmp_path / "run").close()
    run = RunReader(tmp_path / "run")

    def look():
        for _ in range(3):
            for name in ("options", "provenance", "thermo", "events"):
                getattr(run, f"read_{name}")()
            for fact in (
                "atoms",
                "cell",
                "pbc",
                "bonds",
                "finished",
                "ended_early",
                "planned_steps",
                "n_frames",
            ):
                getattr(run, fact)
            assert (run.frame_interval_fs, run.count_flagged(), run.n_lost_frames) == (2.5, 0, 0)

    assert set(opened(tmp_path / "run", look).values()) == {1}


def test_a_snapshot_stays_while_the_run_grows(tmp_path):
    writer = finished_setup(tmp_path / "run")
    append(writer, 0)
    writer.event("stage", "begun")
    writer.flush()
    run = RunReader(tmp_path / "run")
    before = (len(run.read_thermo()["step"]), len(run.read_events()), run.n_frames, run.finished)
    append(writer, 1)
    writer.event("finished", "done")
    writer.write_json("provenance.json", {"frame_interval_fs": 2.5, "finished": "now"})
    writer.close()
    assert (len(run.read_thermo()["step"]), len(run.read_events()), run.n_frames, run.finished) == before
    assert before == (1, 1, 1, False)
    assert len(list(run.frames())) == len(np.concatenate(list(run.chunks()))) == 1
    now = run.reread()
    assert (len(now.read_thermo()["step"]), len(now.read_events()), now.n_frames, now.finished) == (
        2,
        2,
        2,
        True,
    )
    assert len(list(now.frames())) == len(np.concatenate(list(now.chunks()))) == 2


def test_what_is_shared_cannot_be_changed_unnoticed(tmp_path):
    writer = finished_setup(tmp_path / "run")
    append(writer, 0)
    writer.close()
    run = RunReader(tmp_path / "run")
    with pytest.raises(ValueError, match="read-only"):
        run.read_thermo()["step"][0] = 7
    run.atoms.positions += 1
    assert np.array_equal(run.atoms.positions, frame(0).positions)


@pytest.mark.parametrize("name", FORMER)
def test_former_attributes_read_the_same(tmp_path, name):
    finished_setup(tmp_path / "run").close()
    run = RunReader(tmp_path / "run")
    with pytest.warns(DeprecationWarning, match=rf"RunReader\.{name} is now {FORMER[name]}\(\)"):
        former = getattr(run, name)
    now = getattr(run, FORMER[name])()
    assert type(former) is type(now)
    assert str(former) == str(now)


def test_former_attributes_follow_a_run_that_grows_and_may_be_changed(tmp_path):
    writer = finished_setup(tmp_path / "run")
    run = RunReader(tmp_path / "run")
    for k in range(3):
        append(writer, k)
        writer.flush()
        with pytest.warns(DeprecationWarning, match="read_thermo"):
            thermo = run.thermo
        thermo["step"] += 7
        assert thermo["step"].tolist() == [7 + step for step in range(k + 1)]
    writer.close()


@pytest.mark.parametrize("name", layout._FORMER)
def test_former_names_of_the_layout(name):
    assert getattr(layout, name) is getattr(runs, name)


# ---------------------------------------------------------------------- cutting back


@settings(max_examples=25)
@given(st.integers(0, 60), st.integers(0, 60))
def test_cut_back_and_gone_on_is_the_same_to_the_byte(tmp_path_factory, kept, lost):
    """The index of ASE's format moves at 1 and 42 frames; the mark may lie on either side."""
    folder = tmp_path_factory.mktemp("cut")
    straight, cut = folder / "straight.traj", folder / "cut.traj"
    for path in (straight, cut):
        trajectory = TrajWriter(path, Origin("toy"))
        for k in range(kept):
            trajectory.append(frame(k), Moment(float(k), np.zeros((3, 3)), k, 0.0))
        trajectory.close()
    there = mark(cut, TrajWriter.head_bytes)
    trajectory = TrajWriter(cut, Origin("toy"))
    for k in range(lost):
        trajectory.append(frame(100 + k), Moment(0.0, np.ones((3, 3)), k, 0.0))
    trajectory.close()
    cut_back(cut, there)
    for path in (straight, cut):
        trajectory = TrajWriter(path, Origin("toy"))
        for k in range(50):
            trajectory.append(frame(k), Moment(float(k), np.zeros((3, 3)), k, 0.0))
        trajectory.close()
    x = [[atoms.positions[0, 0] for atoms in read(path, ":")] for path in (straight, cut)]
    assert x[0] == x[1] == [*range(kept), *range(50)]


def test_all_growing_files_go_back_together(tmp_path):
    writer = finished_setup(tmp_path / "run")
    for k in range(3):
        append(writer, k)
    writer.event("early", "kept")
    marks = writer.sync()
    for k in range(3, 50):
        append(writer, k)
    writer.event("late", "forgotten")
    writer.close()
    writer = RunWriter.open(tmp_path / "run")
    writer.cut_back(marks)
    append(writer, 3)
    assert writer.sync().keys() == marks.keys()
    writer.close()
    run = RunReader(tmp_path / "run")
    assert run.read_thermo()["step"].tolist() == [0, 1, 2, 3]
    assert (run.n_frames, [event["kind"] for event in run.read_events()]) == (4, ["early"])


def test_files_begun_after_the_mark_go(tmp_path):
    writer = finished_setup(tmp_path / "run")
    marks = writer.sync()
    append(writer, 0)
    writer.close()
    writer = RunWriter.open(tmp_path / "run")
    writer.cut_back(marks)
    writer.close()
    assert not (tmp_path / "run" / THERMO).exists()
    assert not (tmp_path / "run" / TRAJECTORY).exists()


def test_a_file_shorter_than_its_mark_was_damaged(tmp_path):
    path = tmp_path / "thermo.csv"
    path.write_text("0123456789")
    with pytest.raises(
        RunError, check=told(name="thermo.csv", value=10, allowed="11 bytes", remedy="--overwrite")
    ):
        cut_back(path, {"bytes": 11})
    assert path.read_text() == "0123456789"


# ---------------------------------------------------------------------- whole or not at all


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "old")
    monkeypatch.setattr(
        Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_checkpoint_before_is_kept(tmp_path):
    writer = finished_setup(tmp_path / "run")
    for content in (b"1", b"2", b"3"):
        writer.write_checkpoint(content)
    writer.close()
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == b"3"
    assert (tmp_path / "run" / "checkpoint.previous.npz").read_bytes() == b"2"


# ---------------------------------------------------------------------- which directories


def test_an_empty_directory_is_taken(tmp_path):
    finished_setup(tmp_path).close()
    assert RunReader(tmp_path).read_options()["steps"] == 10


def test_a_run_is_not_overwritten_unasked(tmp_path):
    finished_setup(tmp_path / "run").close()
    with pytest.raises(RunError, check=told(name=str(tmp_path / "run"), remedy="--overwrite")):
        RunWriter.create(tmp_path / "run")
    assert RunReader(tmp_path / "run").read_options()["steps"] == 10


def test_what_a_kill_leaves_before_there_is_a_run_is_replaced(tmp_path):
    directory = tmp_path / "run"
    writer = RunWriter.create(directory)
    writer.write_structure(START, frame(3))
    (directory / ".provenance.json.4711.part").write_text("{")
    (directory / RESULTS).mkdir()
    writer.close()
    with pytest.raises(RunError, check=told(name=str(directory))):
        RunReader(directory)
    RunWriter.create(directory).close()
    assert {path.name for path in directory.iterdir()} == {".lock", RESULTS}


def test_frames_without_their_protocol_are_not_thrown_away(tmp_path):
    writer = finished_setup(tmp_path / "run")
    append(writer, 0)
    writer.close()
    (tmp_path / "run" / "protocol.yaml").unlink()
    with pytest.raises(RunError, check=told(name="run", value="thermo.csv", remedy="directory")):
        RunWriter.create(tmp_path / "run", overwrite=True)


def test_overwriting_removes_the_run_and_nothing_else(tmp_path):
    writer = finished_setup(tmp_path)
    append(writer, 0)
    writer.close()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / RESULTS).mkdir()
    for name in ("angles.json", "relevance.extxyz"):
        (tmp_path / RESULTS / name).write_text("{}")
    RunWriter.create(tmp_path, overwrite=True).close()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"notes.txt", RESULTS, ".lock"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_of_something_else_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, check=told(name=str(tmp_path), value="thesis.tex", remedy="directory")):
        RunWriter.create(tmp_path, overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, check=told(name=str(tmp_path / "run"), remedy="directory")):
        RunWriter.create(tmp_path / "run")
    with pytest.raises(RunError, check=told(name="below", remedy="permissions")):
        RunWriter.create(tmp_path / "run" / "below")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a place where nobody can write")
def test_no_permission(tmp_path):
    with pytest.raises(RunError, check=told(name="/proc/run", remedy="choose another directory")):
        RunWriter.create("/proc/run")


@pytest.mark.skipif(sys.platform == "win32", reason="locks are POSIX")
def test_one_writer_at_a_time(tmp_path):
    writer = finished_setup(tmp_path / "run")
    code = f"from asecalc_ml.runs import RunWriter; RunWriter.open({str(tmp_path / 'run')!r})"
    environment = os.environ | {"PYTHONPATH": str(Path(asecalc_ml.__file__).parents[1])}

    def other() -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert "another process is writing this run" in other().stderr
    with pytest.raises(RunError, check=told(name="run", remedy=True)):
        RunWriter.open(tmp_path / "run")  # nor a second writer of this one
    writer.close()
    assert other().returncode == 0
    RunWriter.open(tmp_path / "run").close()


def test_events_are_there_at_once(tmp_path):
    writer = finished_setup(tmp_path / "run")
    writer.event("stopped", "why")
    line = (tmp_path / "run" / "events.jsonl").read_text()
    assert json.loads(line)["message"] == "why"
    writer.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="two processes want the same directories")
def test_of_two_that_claim_a_directory_one_is_told_that_it_is_busy(tmp_path):
    """Whatever the other is writing just then."""
    process = os.fork()
    if process == 0:
        os._exit(claim_all(tmp_path))
    n_problems = claim_all(tmp_path)
    assert n_problems + os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def claim_all(folder: Path) -> int:
    """Take many directories, each with a run that ends at once; how often another error than "busy" came."""
    n_problems = 0
    for number in range(300):
        try:
            writer = RunWriter.claim(folder / str(number))
        except RunBusyError:
            continue
        except RunError:
            n_problems += 1
            continue
        for name in ("provenance.json", "protocol.yaml"):
            writer.write(name, "{}")
        writer.close()
    return n_problems


def test_every_card_that_is_written_is_read():
    """Also errors of parts of the frames, and of quantities other than the energy."""
    metrics = Metrics(
        n_frames=4,
        labelled={"energy": 4, "forces": 2},
        energy_mae_meV=1.0,
        quantities={"homo": QuantityErrors(unit="eV", n_labelled=4, mae=0.1, rmse=0.2, spread=0.5)},
    )
    card = CardFile.model_validate_json(json.dumps({"name": "any", "metrics": metrics.model_dump()}))
    assert card.metrics == metrics.model_dump()

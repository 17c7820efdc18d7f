"""Trajectories read straight from the file, beside ASE's own reader; cut ones, and frames of other atoms."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.io.trajectory import Trajectory
from raising import told
from typer.testing import CliRunner

from asecalc_ml import plugins
from asecalc_ml.analysis.base import Analysis
from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.analysis.pipeline import run_analyses
from asecalc_ml.cli.md import app
from asecalc_ml.errors import AnalysisError, RunError, StructureError
from asecalc_ml.runs import START, TRAJECTORY_SUFFIXES, RunReader, RunWriter
from asecalc_ml.runs.frames import chunk_starts
from asecalc_ml.runs.trajectories.traj_reader import TrajFile

RNG = np.random.default_rng(0)


def written(path, atoms, n_frames=60, momenta=True):
    """Frames with all that a run writes, in a cell that changes."""
    with Trajectory(path, "w") as trajectory:
        for k in range(n_frames):
            one = atoms.copy()
            one.set_cell(atoms.cell * (1 + 0.001 * k))
            one.positions += RNG.normal(scale=0.1, size=one.positions.shape)
            if momenta:
                one.set_momenta(RNG.normal(size=one.positions.shape))
                forces = RNG.normal(size=one.positions.shape)
                one.calc = SinglePointCalculator(one, energy=float(k), forces=forces)
            trajectory.write(one)
    return path


def chunks(path, atoms, size=None):
    return TrajFile(path).chunks(atoms.numbers, atoms.get_masses(), size)


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), bulk("NaCl", "rocksalt", 5.6)], ids=str)
def test_every_bit_is_what_ase_reads(tmp_path, atoms):
    path = written(tmp_path / "a.traj", atoms)  # 60 frames: the index of the file has grown twice
    theirs = read(path, ":")
    ours = list(chunks(path, atoms, 7))
    assert [(one.start, len(one)) for one in ours] == list(chunk_starts(60, len(atoms), 7))
    for name, get in [
        ("positions", lambda one: one.positions),
        ("momenta", lambda one: one.get_momenta()),
        ("velocities", lambda one: one.get_velocities()),
        ("forces", lambda one: one.get_forces()),
        ("cells", lambda one: one.cell.array),
    ]:
        found = np.concatenate([getattr(one, name) for one in ours])
        assert np.array_equal(found, [get(one) for one in theirs]), name


def test_what_is_not_looked_at_is_not_read(tmp_path, monkeypatch):
    path = written(tmp_path / "a.traj", molecule("H2O"), 3)
    asked = []
    doubles = TrajFile.doubles
    monkeypatch.setattr(TrajFile, "doubles", lambda *given: asked.append(given[2]) or doubles(*given))
    (frames,) = chunks(path, molecule("H2O"))
    assert asked == []
    assert frames.positions is frames.positions
    assert asked == [9]


def test_other_types_of_numbers_are_read_too(tmp_path):
    """ASE writes what it is given; integers and single precision take the way through the JSON text."""
    atoms = molecule("H2O")
    path = tmp_path / "a.traj"
    with Trajectory(path, "w") as trajectory:
        for _ in range(3):
            atoms.arrays["positions"] = np.arange(9, dtype=np.float32).reshape(3, 3)
            trajectory.write(atoms)
    (frames,) = chunks(path, atoms)
    assert frames.positions.dtype == float
    assert frames.positions.tolist() == [np.arange(9).reshape(3, 3).tolist()] * 3


def test_frames_without_momenta(tmp_path):
    path = written(tmp_path / "a.traj", molecule("H2O"), 3, momenta=False)
    (frames,) = chunks(path, molecule("H2O"))
    assert frames.positions.shape == (3, 3, 3)
    for name in ("momenta", "velocities", "forces"):
        expected = told(name="momenta" if name == "velocities" else name, remedy="write them")
        with pytest.raises(AnalysisError, check=expected):
            getattr(frames, name)


def test_missing_and_empty_files_hold_no_frames(tmp_path):
    assert TrajFile(tmp_path / "nothing.traj").n_frames == 0
    (tmp_path / "empty.traj").touch()
    assert TrajFile(tmp_path / "empty.traj").n_frames == 0


def test_cut_anywhere_the_whole_frames_are_read(tmp_path):
    atoms = molecule("H2O")
    path = written(tmp_path / "a.traj", atoms)
    content, theirs = path.read_bytes(), [one.positions for one in read(path, ":")]
    counts = []
    for size in np.linspace(500, len(content), 97).astype(int):
        path.write_bytes(content[:size])
        file = TrajFile(path)
        counts.append(file.n_frames)
        assert file.n_frames + file.n_lost == 60
        found = [one for frames in chunks(path, atoms) for one in frames.positions]
        assert np.array_equal(np.reshape(found, (-1, 3, 3)), np.reshape(theirs[: len(found)], (-1, 3, 3)))
    assert counts == sorted(counts)
    assert counts[-1] == 60
    assert counts[48] > 20  # half of the file, half of the frames


@pytest.mark.parametrize("content", [b"no trajectory", b"- of UlmASE-Trajectory  ", b"- of UlmElse    " * 9])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "a.traj").write_bytes(content)
    with pytest.raises(RunError, match="first bytes", check=told(name="a.traj", remedy="copy it again")):
        TrajFile(tmp_path / "a.traj")


def test_a_damaged_frame_is_named(tmp_path):
    path = written(tmp_path / "a.traj", molecule("H2O"), 5)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"energy": 3.0', b'"energy": 3..'))
    (frames,) = chunks(path, molecule("H2O"))
    with pytest.raises(RunError, match="frame 3", check=told(name="a.traj", remedy="copy it again")):
        _ = frames.cells
    path.write_bytes(
        content.replace(
            b'"positions.": {"ndarray": [[3, 3], "float64", 1',
            b'"positions.": {"ndarray": [[3, 3], "float64", 9',
        )
    )
    (frames,) = chunks(path, molecule("H2O"))
    with pytest.raises(RunError, match="beyond the end", check=told(name="a.traj", remedy="copy it again")):
        _ = frames.positions


@pytest.mark.parametrize(
    ("other", "formula", "place"),
    [
        (molecule("CO2"), "CO2", "CO2 in place of H2O"),
        (molecule("H2O")[[1, 0, 2]], "H2O", "order"),
        (molecule("NH3"), "H3N", "H3N in place of H2O"),
    ],
)
def test_frames_of_other_atoms_are_refused(tmp_path, other, formula, place):
    water = molecule("H2O")
    with Trajectory(tmp_path / "a.traj", "w") as trajectory:
        for one in (water, water, other, water):
            trajectory.write(one)
    (frames,) = chunks(tmp_path / "a.traj", water)
    expected = told(name="frame 2", value=formula, allowed="H2O", remedy=True)
    with pytest.raises(RunError, match=place, check=expected):
        _ = frames.positions


def test_first_frame_must_be_of_the_same_atoms_too(tmp_path):
    path = written(tmp_path / "a.traj", molecule("CO2"), 2)
    with pytest.raises(RunError, check=told(name="frame 0", value="CO2", allowed="H2O")):
        _ = next(chunks(path, molecule("H2O"))).cells


def test_large_structures_come_in_small_chunks():
    assert list(chunk_starts(3, 2_000_000)) == [(0, 1), (1, 1), (2, 1)]
    assert next(chunk_starts(10_000, 9)) == (0, 1000)


# ------------------------------------------------------------------------------------- not finite


def run_directory(path, trajectory_format, quantity):
    """A run whose frame 17 holds a number that is not finite."""
    writer, atoms = RunWriter.create(path, trajectory_format=trajectory_format), molecule("CH3CH2OH")
    writer.write_structure(START, atoms)
    writer.write_json("provenance.json", {"frame_interval_fs": 1.0})
    writer.write("protocol.yaml", "protocol: nve\n")
    for k in range(40):
        one, velocities = atoms.copy(), RNG.normal(scale=0.02, size=atoms.positions.shape)
        if k == 17:
            (one.positions if quantity == "positions" else velocities)[3, 1] = np.nan
        one.set_velocities(velocities)
        writer.frame(one, -1.0, np.zeros(atoms.positions.shape), k, float(k))
    writer.close()
    return path


CHUNKED = sorted(
    name for name in plugins.names("analyses") if plugins.get("analyses", name).run is Analysis.run
)


@pytest.mark.parametrize("trajectory_format", TRAJECTORY_SUFFIXES)
@pytest.mark.parametrize("name", CHUNKED)
def test_every_analysis_refuses_a_frame_that_is_not_finite(tmp_path, name, trajectory_format):
    quantity = "momenta" if name == "vibrational-density" else "positions"
    run = RunReader(run_directory(tmp_path / "run", trajectory_format, quantity))
    options = {"resolution_per_cm": 4000} if name == "vibrational-density" else {}
    expected = told(name=f"run/trajectory.{trajectory_format}", value=17, remedy="':17'")
    with pytest.raises(RunError, match=quantity, check=expected):
        plugins.get("analyses", name)(**options).run(run)


def test_a_report_of_a_frame_that_is_not_finite_ends_with_a_message(tmp_path):
    directory = run_directory(tmp_path / "run", "traj", "positions")
    with pytest.raises(RunError, check=told(name="trajectory.traj", value=17, remedy=True)):
        run_analyses(directory)
    ended = CliRunner().invoke(app, ["report", str(directory)])
    assert ended.exit_code == 2
    assert "frame 17" in ended.stderr
    assert "Traceback" not in ended.output


def test_frames_in_memory_that_are_not_finite():
    frames = [molecule("H2O") for _ in range(5)]
    frames[2].positions[1, 0] = np.inf
    with pytest.raises(RunError, check=told(name="the trajectory", value=2, remedy=True)):
        BondLengths().run(MemoryRun.from_frames(frames, 1.0))
    with pytest.raises(
        StructureError, check=told(name="positions of atom 1")
    ):  # the start has no bonds to follow
        BondLengths().run(MemoryRun.from_frames(frames[2:], 1.0))
    assert BondLengths().run(MemoryRun.from_frames(frames[:2], 1.0))["H-O"].n_frames == 2


def test_analyses_of_run_directories_find_nothing_in_memory():
    run = MemoryRun.from_frames([molecule("H2O")] * 2, 1.0)
    for name in ("normal-modes", "relaxation", "scan", "transfer"):
        with pytest.raises(AnalysisError, check=told(remedy=True)):
            plugins.get("analyses", name)().run(run)

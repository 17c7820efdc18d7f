"""Formats of trajectories: every bit that goes in, whole at every moment, and what others read of them."""

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st
from places import HELPERS
from raising import told

import asecalc_ml
from asecalc_ml.errors import RunError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.npt import NPT
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.options import ProtocolOptions
from asecalc_ml.runs import TRAJECTORY_SUFFIXES, RunReader
from asecalc_ml.runs.marks import cut_back, mark
from asecalc_ml.runs.trajectories import FORMATS, hdf5, head_bytes, make_writer, open_trajectory
from asecalc_ml.runs.trajectories.h5md_writer import H5MDWriter
from asecalc_ml.runs.trajectories.writer import Moment, Origin

ROOT = str(Path(asecalc_ml.__file__).parents[1])
OURS = ("extxyz", "h5md")
ATOMS = {
    "molecule": molecule("CH3CH2OH"),
    "crystal": bulk("NaCl", "rocksalt", 5.6),
    "slab": Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[3, 4, 5], pbc=[True, True, False]),
}
WATER = {
    "structure": "H2O",
    "calculator": "toy_calculators:Springs",
    "relax": False,
    "equilibration_ps": 0,
    "timestep_fs": 0.5,
}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)


@pytest.fixture
def small_blocks(monkeypatch):
    """So few frames in a chunk that many chunks come together."""
    monkeypatch.setattr("asecalc_ml.runs.trajectories.h5md_writer.BLOCK_BYTES", 1000)


def frames(atoms: Atoms, n: int) -> list[tuple[Atoms, Moment]]:
    """Frames whose numbers have all their digits, in a cell that changes."""
    rng, found = np.random.default_rng(n), []
    for k in range(n):
        one = atoms.copy()
        one.set_cell(atoms.cell * (1 + 0.001 * k))
        one.positions += rng.normal(scale=0.1, size=one.positions.shape)
        one.set_momenta(rng.normal(size=one.positions.shape))
        found.append((one, Moment(rng.normal(), rng.normal(size=one.positions.shape), 3 * k, 1.5 * k)))
    return found


def written(path: Path, given: list[tuple[Atoms, Moment]]) -> Path:
    writer = make_writer(path, Origin())
    for atoms, moment in given:
        writer.append(atoms, moment)
    writer.close()
    return path


def arrays(path: Path, atoms: Atoms, size: int | None = None) -> dict[str, np.ndarray]:
    chunks = list(open_trajectory(path).chunks(atoms.numbers, atoms.get_masses(), size))
    names = ("positions", "cells", "energies", "momenta", "forces")
    return {name: np.concatenate([getattr(one, name) for one in chunks]) for name in names}


def expected(given: list[tuple[Atoms, Moment]]) -> dict[str, np.ndarray]:
    return {
        "positions": np.array([atoms.positions for atoms, _ in given]),
        "cells": np.array([atoms.cell.array for atoms, _ in given]),
        "energies": np.array([moment.energy for _, moment in given]),
        "momenta": np.array([atoms.get_momenta() for atoms, _ in given]),
        "forces": np.array([moment.forces for _, moment in given]),
    }


# ---------------------------------------------------------------------- what goes in comes out


def test_every_format_of_the_options_has_a_writer_and_a_place():
    allowed = NVE.model_json_schema()["properties"]["trajectory_format"]["enum"]
    assert allowed == list(TRAJECTORY_SUFFIXES)
    assert list(TRAJECTORY_SUFFIXES.values()) == list(FORMATS)
    assert NVE(steps=1).trajectory_format == NVE(steps=1).frame_format == "traj"
    assert ProtocolOptions(protocol="other").frame_format == "traj"


@pytest.mark.parametrize("suffix", [".extxyz", ".h5md"])
@pytest.mark.parametrize("name", ATOMS)
def test_every_bit_comes_back(suffix, name, tmp_path, small_blocks):
    given = frames(ATOMS[name], 40)
    path = written(tmp_path / f"a{suffix}", given)
    for size in (None, 7):
        found = arrays(path, ATOMS[name], size)
        for quantity, values in expected(given).items():
            if suffix == ".h5md" and quantity in ("momenta", "forces"):  # in another unit there
                assert found[quantity] == pytest.approx(values, rel=1e-15, abs=0), quantity
            else:
                assert np.array_equal(found[quantity], values), quantity


@pytest.mark.parametrize("name", ["molecule", "crystal", "slab"])
@pytest.mark.parametrize("suffix", [".extxyz", ".h5md"])
def test_ase_reads_it_too(suffix, name, tmp_path):
    given = frames(ATOMS[name], 12)
    path = written(tmp_path / f"a{suffix}", given)
    for index, chosen in ((":", given), ("3::4", given[3::4]), ("::-2", given[::-2]), ("-2:", given[-2:])):
        found = read(path, index)
        assert len(found) == len(chosen)
        for one, (atoms, moment) in zip(found, chosen, strict=True):
            assert np.array_equal(one.positions, atoms.positions)
            assert one.get_chemical_formula() == atoms.get_chemical_formula()
            assert np.array_equal(one.cell.array, atoms.cell.array)
            assert one.pbc.tolist() == atoms.pbc.tolist()
            assert one.get_potential_energy() == moment.energy
            assert one.get_momenta() == pytest.approx(atoms.get_momenta(), rel=1e-15)
            assert one.get_forces() == pytest.approx(moment.forces, rel=1e-15)
    assert np.array_equal(read(path).positions, given[-1][0].positions)
    assert np.array_equal(read(path, 2).positions, given[2][0].positions)


@pytest.mark.parametrize("suffix", [".extxyz", ".h5md"])
def test_missing_and_empty_files_hold_no_frames(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    assert open_trajectory(path).n_frames == 0
    path.touch()
    assert open_trajectory(path).n_frames == 0
    path.write_bytes(bytes(50))
    assert suffix == ".extxyz" or open_trajectory(path).n_frames == 0


@pytest.mark.parametrize("suffix", [".extxyz", ".h5md"])
def test_frames_of_other_atoms_are_refused(suffix, tmp_path):
    path = written(tmp_path / f"a{suffix}", frames(molecule("H2O"), 3))
    with pytest.raises(RunError, check=told(name="frame 0", value="H2O", allowed="CO2", remedy=True)):
        arrays(path, molecule("CO2"))
    with pytest.raises(RunError, match="order", check=told(value="H2O", allowed="H2O")):
        arrays(path, molecule("H2O")[[1, 0, 2]])


@pytest.mark.parametrize(
    ("suffix", "content"),
    [(".extxyz", b"no trajectory\n"), (".h5md", b"no trajectory"), (".extxyz", b"1\n\nH 0 0 0\n")],
)
def test_another_file_is_refused(suffix, content, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(RunError, check=told(name=str(path), remedy="copy it again")):
        arrays(path, molecule("H2O"))


# ---------------------------------------------------------------------- H5MD as others know it


def test_the_file_is_h5md(tmp_path, small_blocks):
    """By the specification, version 1.1, and with the units that it names."""
    given = frames(ATOMS["slab"], 20)
    with h5py.File(written(tmp_path / "a.h5md", given)) as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/author"].attrs["name"] == getpass.getuser()
        assert file["h5md/creator"].attrs["name"] == "asecalc-ml"
        group = file["particles/trajectory"]
        assert group["box"].attrs["dimension"] == 3
        assert group["box"].attrs["boundary"].tolist() == ["periodic", "periodic", "none"]
        assert group["species"][:].tolist() == [1, 1]
        assert group["mass"][:].tolist() == ATOMS["slab"].get_masses().tolist()
        for name, unit in (
            ("position", "Angstrom"),
            ("velocity", "Angstrom ps-1"),
            ("force", "kJ mol-1 Angstrom-1"),
            ("box/edges", "Angstrom"),
        ):
            element = group[name]
            assert element["value"].attrs["unit"] == unit
            assert element["step"][:].tolist() == [3 * k for k in range(20)]
            assert element["time"][:].tolist() == [1.5 * k for k in range(20)]
            assert element["time"].attrs["unit"] == "fs"
            assert element["step"] == group["position/step"]  # one dataset with several names
            assert h5py.h5o.get_info(element["step"].id).rc == 5
            assert element["value"].maxshape[0] is None
        speed = given[4][0].get_velocities() * 1000 * units.fs
        assert group["velocity/value"][4] == pytest.approx(speed, rel=1e-15)
        force = given[4][1].forces / (units.kJ / units.mol)
        assert group["force/value"][4] == pytest.approx(force, rel=1e-15)


def test_mdanalysis_opens_it_by_itself(tmp_path, small_blocks):
    mda = pytest.importorskip("MDAnalysis")
    given = frames(ATOMS["slab"], 20)
    universe = mda.Universe(str(written(tmp_path / "a.h5md", given)))
    assert len(universe.trajectory) == 20
    step = universe.trajectory[7]
    assert step.time == pytest.approx(0.0105)  # ps
    assert step.data["step"] == 21
    assert step.positions == pytest.approx(given[7][0].positions, abs=1e-6)
    assert step.velocities == pytest.approx(given[7][0].get_velocities() * 1000 * units.fs, rel=1e-5)
    assert step.forces == pytest.approx(given[7][1].forces / (units.kJ / units.mol), rel=1e-5)
    assert step.dimensions == pytest.approx([*given[7][0].cell.lengths(), 90, 90, 90])
    assert step.data["potential_energy"] == given[7][1].energy


def test_a_file_of_many_chunks_is_read_by_the_library(tmp_path, monkeypatch):
    """1500 chunks, an index of three levels; frames come one by one, in pieces, and after a resumption."""
    monkeypatch.setattr("asecalc_ml.runs.trajectories.h5md_writer.BLOCK_BYTES", 1)
    atoms, forces = Atoms("H", [[0, 0, 0]]), np.zeros((1, 3))
    path, rng, k = tmp_path / "a.h5md", np.random.default_rng(0), 0
    for n in (1, 15, 1, 16, 200, 1, 30, 1236):
        writer = make_writer(path, Origin())
        for _ in range(n):
            atoms.positions[:] = k
            writer.append(atoms, Moment(0.0, forces, k, 0.0))
            k += 1
        writer.close()
        with h5py.File(path) as file:
            values = file["particles/trajectory/position/value"]
            assert values.chunks == (1, 1, 3)
            assert values[:, 0, 0].tolist() == list(range(k))
            chosen = np.sort(rng.integers(0, k, 3))
            assert [values[one, 0, 2] for one in chosen] == chosen.tolist()
            assert values.id.get_num_chunks() == k


def test_another_program_can_copy_it(tmp_path, small_blocks):
    """h5py copies objects through the library's own reading of every header."""
    path = written(tmp_path / "a.h5md", frames(ATOMS["crystal"], 30))
    with h5py.File(path) as file, h5py.File(tmp_path / "b.h5md", "w") as copy:
        for name in file:
            file.copy(name, copy)
    with h5py.File(path) as file, h5py.File(tmp_path / "b.h5md") as copy:
        for name in ("position", "velocity", "force", "box/edges"):
            where = f"particles/trajectory/{name}/value"
            assert np.array_equal(file[where], copy[where])
            assert copy[where].attrs["unit"] == file[where].attrs["unit"]


# ---------------------------------------------------------------------- while it is written


@pytest.mark.parametrize("suffix", FORMATS)
def test_readable_while_it_is_written(suffix, tmp_path, small_blocks):
    """By us, and by those for whom the format is made."""
    atoms, given = ATOMS["crystal"], frames(ATOMS["crystal"], 30)
    path = tmp_path / f"a{suffix}"
    writer = make_writer(path, Origin())
    for k, one in enumerate(given):
        writer.append(*one)
        writer.flush()
        assert np.array_equal(arrays(path, atoms)["positions"], expected(given[: k + 1])["positions"])
        if k % 10 == 7:
            assert len(read(path, ":")) == k + 1
    writer.close()


def test_who_has_opened_it_keeps_what_was_there(tmp_path, small_blocks):
    given = frames(ATOMS["crystal"], 30)
    path = written(tmp_path / "a.h5md", given[:6])
    with h5py.File(path, locking=False) as opened:
        written(path, given[6:])
        values = opened["particles/trajectory/position/value"]
        assert np.array_equal(values, expected(given[:6])["positions"])
    with h5py.File(path) as opened:
        assert len(opened["particles/trajectory/position/value"]) == 30


class Killed(BaseException):
    pass


@pytest.mark.parametrize("size", [1, 300])
def test_whole_after_a_kill_at_every_write(size, tmp_path, monkeypatch):
    """Dead before, after, or in the middle of any write, the file holds what was flushed before.

    What counts the frames, the first 100 bytes, is written at once or not at all.
    """
    from asecalc_ml.runs.trajectories import h5md_writer

    monkeypatch.setattr(h5md_writer, "BLOCK_BYTES", size)
    given, write_at = frames(ATOMS["crystal"], 24), h5md_writer.write_at
    path, number, left = tmp_path / "a.h5md", 0, {"writes": 0}

    def dying(file, data, place):
        for part in (data[: len(data) // 2], data) if place else (data,):
            left["writes"] -= 1
            if left["writes"] == 0:
                raise Killed
            write_at(file, part, place)

    monkeypatch.setattr(h5md_writer, "write_at", dying)
    while True:
        number += 23
        left["writes"], flushed = number, 0
        path.unlink(missing_ok=True)
        writer = make_writer(path, Origin())
        try:
            for k, one in enumerate(given):
                writer.append(*one)
                if k % 4 == 3:
                    writer.flush()
                    flushed = k + 1
        except Killed:
            n_frames = open_trajectory(path).n_frames
            assert flushed <= n_frames <= len(given)
            if n_frames:
                with h5py.File(path) as file:
                    assert len(file["particles/trajectory/force/value"]) == n_frames
                found = arrays(path, ATOMS["crystal"])["positions"]
                assert np.array_equal(found, expected(given[:n_frames])["positions"])
        else:
            break
    assert number > 200


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=15)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 20), st.booleans())
def test_cut_back_and_gone_on(suffix, tmp_path_factory, kept, lost, more, flushes):
    """A checkpoint may come in the middle of a chunk; what was written after it is forgotten."""
    atoms, path = molecule("H2O"), tmp_path_factory.mktemp("cut") / f"a{suffix}"
    given = frames(atoms, kept + more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asecalc_ml.runs.trajectories.h5md_writer.BLOCK_BYTES", 5000)
        written(path, given[:kept])
        there = mark(path, head_bytes(path))
        writer = make_writer(path, Origin())
        for one in frames(atoms, lost):
            writer.append(*one)
            if flushes:
                writer.flush()
        writer.close()
        cut_back(path, there)
        assert path.stat().st_size == there["bytes"]
        assert np.array_equal(arrays(path, atoms)["positions"], expected(given[:kept])["positions"])
        written(path, given[kept:])
    assert np.array_equal(arrays(path, atoms)["positions"], expected(given)["positions"])


def test_a_frame_that_was_cut_off_is_left_out(tmp_path):
    given, path = frames(molecule("H2O"), 5), tmp_path / "a.extxyz"
    content = written(path, given).read_bytes()
    ends = [end for end in range(1, len(content) + 1) if content[:end].count(b"\n") % 5 == 0]
    ends = [end for end in ends if content[end - 1 : end] == b"\n"]
    assert len(ends) == 5
    for size in range(0, len(content) + 1, 7):
        path.write_bytes(content[:size])
        whole = open_trajectory(path).n_frames
        assert whole == sum(end <= size for end in ends)
        if whole:
            found = arrays(path, molecule("H2O"))["positions"]
            assert np.array_equal(found, expected(given[:whole])["positions"])


# ---------------------------------------------------------------------- runs


@pytest.mark.parametrize("trajectory_format", OURS)
def test_a_full_disk_loses_nothing(trajectory_format, tmp_path):
    """The process may write files of 40 kB and no more; the trajectory does not fit."""
    given = WATER | {"steps": 240, "write_every": 1, "checkpoint_every": 40}
    given |= {"trajectory_format": trajectory_format}
    straight = NVE(**given).run(directory=tmp_path / "straight", quiet=True)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        "from asecalc_ml.runs.trajectories import h5md_writer; h5md_writer.BLOCK_BYTES = 10_000;"
        "from asecalc_ml.md_protocols.nve import NVE;"
        f"NVE(**{given!r}).run(directory={str(tmp_path / 'run')!r}, quiet=True)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([ROOT, str(HELPERS)])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HELPERS, check=False)
    assert "RunError: cannot write to" in done.stderr.strip().splitlines()[-1]
    assert "asecalc-md resume" in done.stderr
    run = RunReader(tmp_path / "run")
    assert 10 < run.n_frames < 241
    (path,) = (tmp_path / "run").glob("trajectory.*")
    assert len(read(path, ":")) == run.n_frames  # whole for others as well
    resumed = resume_run(tmp_path / "run", quiet=True)
    assert_same_frames(resumed, straight)


def assert_same_frames(run: RunReader, straight: RunReader) -> None:
    assert run.n_frames == straight.n_frames
    for quantity in ("positions", "momenta", "forces", "cells"):
        one, other = (np.concatenate(list(each.chunks(quantity=quantity))) for each in (run, straight))
        assert np.array_equal(one, other), quantity


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """The same run of ethanol in every format."""
    folder = tmp_path_factory.mktemp("three")
    given = {
        "structure": "ethanol",
        "calculator": {"toy_calculators:Springs": {"molecule_name": "CH3CH2OH", "stiffness": 3.0}},
        "relax": False,
        "equilibration_ps": 0,
        "timestep_fs": 0.5,
        "steps": 300,
        "write_every": 1,
    }
    sys.path.insert(0, str(HELPERS))
    try:
        return {
            name: NVE(**given, trajectory_format=name).run(directory=folder / name, quiet=True)
            for name in TRAJECTORY_SUFFIXES
        }
    finally:
        sys.path.remove(str(HELPERS))


ANALYSES = {
    "bond-lengths": {"patterns": ["*-*"]},
    "angles": {"patterns": ["*-*-*"]},
    "dihedrals": None,
    "connectivity": None,
    "temperature": None,
}


@pytest.mark.parametrize("name", OURS)
def test_all_analyses_of_positions_are_the_same_to_the_bit(name, three):
    from asecalc_ml.analysis.pipeline import run_analyses

    found, reference = (run_analyses(three[each].directory, ANALYSES) for each in (name, "traj"))
    for one, other in zip(found, reference, strict=True):
        numbers = [without_errors(json.loads(each.model_dump_json())) for each in (one, other)]
        assert numbers[0] == numbers[1], one.analysis


def without_errors(data):
    """A result without its errors, which follow from velocities, too: H5MD keeps them in another unit."""
    if isinstance(data, dict):
        return {key: without_errors(value) for key, value in data.items() if key not in ("error", "exchange")}
    return [without_errors(value) for value in data] if isinstance(data, list) else data


@pytest.mark.parametrize("name", OURS)
def test_velocities_give_the_same_spectrum(name, three):
    from asecalc_ml.analysis.pipeline import run_analyses

    asked = {"vibrational-density": {"resolution_per_cm": 400}}
    (one,), (other,) = (run_analyses(three[each].directory, asked) for each in (name, "traj"))
    numbers = [json.loads(each.model_dump_json()) for each in (one, other)]
    for key, value in numbers[1].items():
        if isinstance(value, float) or (isinstance(value, list) and value and isinstance(value[0], float)):
            assert numbers[0][key] == pytest.approx(value, rel=1e-9, abs=1e-12), key


@pytest.mark.parametrize("name", OURS)
def test_a_run_is_the_same_to_compare_explain_universe_and_label(name, three, tmp_path):
    from asecalc_ml.analysis.report.report import write_report
    from asecalc_ml.cli.structures import read_structures
    from asecalc_ml.potentials.datasets.generation.label import label_file
    from asecalc_ml.structure.loading import load_structure

    run, straight = three[name], three["traj"]
    energies = [[one.get_potential_energy() for one in each.frames()] for each in (run, straight)]
    assert energies[0] == energies[1]
    ours, theirs = (read_structures(str(each.directory)) for each in (run, straight))
    assert all(
        np.array_equal(one.positions, other.positions) for one, other in zip(ours, theirs, strict=True)
    )
    assert np.array_equal(run.universe().trajectory[5].positions, straight.universe().trajectory[5].positions)
    path = run.directory / f"trajectory.{name}"
    assert np.array_equal(load_structure(f"{path}@7").positions, theirs[7].positions)
    springs = {"toy_calculators:Springs": {"molecule_name": "CH3CH2OH"}}
    assert label_file(path, springs, tmp_path / "labelled.xyz", quiet=True) == 301
    assert "300" in write_report(run.directory).read_text(encoding="utf-8")


def test_a_periodic_run_at_constant_pressure_keeps_its_cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    box = Atoms("Ar4", np.random.default_rng(0).uniform(0, 5, (4, 3)), cell=[5.0] * 3, pbc=True)
    box.write(tmp_path / "cell.extxyz")
    given = {"structure": "cell.extxyz", "calculator": "toy_calculators:ElasticCell", "relax": False}
    given |= {"equilibration_ps": 0, "steps": 30, "write_every": 1, "cell": "full", "pressure_GPa": 0.0}
    runs = [
        NPT(**given, trajectory_format=name).run(directory=tmp_path / name, quiet=True)
        for name in TRAJECTORY_SUFFIXES
    ]
    for run in runs[1:]:
        for quantity in ("positions", "cells"):
            one, other = (np.concatenate(list(each.chunks(quantity=quantity))) for each in (run, runs[0]))
            assert np.array_equal(one, other)
    assert np.ptp(one[:, 0, 0]) > 0


def test_hdf5_numbers_are_those_of_the_library():
    """The datatypes are encoded as h5py encodes them, but for the byte that marks the encoding itself."""
    for ours, theirs in ((hdf5.FLOAT64, h5py.h5t.IEEE_F64LE), (hdf5.INT64, h5py.h5t.STD_I64LE)):
        assert ours in theirs.encode()


def test_a_writer_gone_on_with_fills_its_block(tmp_path):
    given = frames(molecule("H2O"), 10)
    path = written(tmp_path / "a.h5md", given[:4])
    size = path.stat().st_size
    written(path, given[4:])
    assert path.stat().st_size - size < 20_000  # tables alone, no second block
    assert isinstance(make_writer(path, Origin()), H5MDWriter)

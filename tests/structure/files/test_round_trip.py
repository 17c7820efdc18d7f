"""Everything that a structure has comes back: from every format, by every writer and every reader."""

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import (
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixCom,
    FixConstraint,
    FixedLine,
    FixedPlane,
    FixInternals,
    FixLinearTriatomic,
    FixScaled,
    Hookean,
)
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st
from places import HELPERS
from raising import told

from asecalc_ml.errors import RunError, StructureError
from asecalc_ml.md_protocols.engine.checkpoint import State, load
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.relax import Relax
from asecalc_ml.potentials.datasets import AseFile
from asecalc_ml.potentials.datasets.extxyz import convert, write_extxyz
from asecalc_ml.potentials.datasets.generation.label import label_file
from asecalc_ml.potentials.datasets.generation.sampling import starting_structure
from asecalc_ml.runs import RunWriter
from asecalc_ml.runs.trajectories import FORMATS, make_writer, open_trajectory
from asecalc_ml.runs.trajectories.writer import Moment, Origin
from asecalc_ml.structure.files.extended_xyz import readable_info
from asecalc_ml.structure.files.stored_constraints import encode_constraints, is_storable, movable
from asecalc_ml.structure.files.structure_file import open_structures
from asecalc_ml.structure.loading import load_structure

DEUTERIUM = 2.01410177811
INFO = {
    "charge": -2,
    "spin": 1,
    "smiles": "[O-]/C=C\\C(=O)[O-]",
    "text": 'it\'s "T"\nand more',
    "T": "T",
    "number": "12",
    "empty": "",
    "flag": True,
    "value": 0.1,
    "list": [1.5, 2.5],
    "vector": np.array([0.1]),
    "nested": {"a": [1, "b"]},
    "weight": np.float64(2.5),
}


def everything(**changes) -> Atoms:
    """A structure with all that ASE's atoms have."""
    rng = np.random.default_rng(1)
    atoms = Atoms(
        "OHHC", rng.uniform(0, 3, (4, 3)), cell=rng.normal(size=(3, 3)) + 5 * np.eye(3), pbc=[1, 0, 1]
    )
    atoms.set_masses([None, DEUTERIUM, 3.01604927791, 13.00335483507])
    atoms.set_momenta(rng.normal(size=(4, 3)))
    atoms.set_initial_charges([-0.5, 0.25, 1 / 3, 0])
    atoms.set_initial_magnetic_moments([0, 1, 0, -0.5])
    atoms.set_tags([0, 1, 2, 3])
    atoms.set_constraint(FixAtoms([1, 2]))
    atoms.info = dict(INFO)
    for name, value in changes.items():
        if name == "constraint":
            atoms.set_constraint(value)
        else:
            atoms.set_array(name, None)
            atoms.set_array(name, value)
    return atoms


def as_columns(constraints: list, n_atoms: int) -> tuple[str, list | None]:
    """Directions that are held, and all other constraints."""
    free = movable(Atoms(n_atoms * "H", constraint=constraints))
    others = [one for one in constraints if not isinstance(one, FixAtoms | FixCartesian)]
    return encode_constraints(others), None if free is None else free.tolist()


def assert_same(found: Atoms, given: Atoms, without: tuple[str, ...] = (), rel: float = 0) -> None:
    """Compare all that a structure has; ``rel`` is that of numbers whose unit the format changes."""
    assert found.numbers.tolist() == given.numbers.tolist()
    assert found.pbc.tolist() == given.pbc.tolist()
    assert found.cell.array == pytest.approx(given.cell.array, rel=rel, abs=0)
    assert found.positions == pytest.approx(given.positions, rel=rel, abs=rel)
    assert found.get_masses() == pytest.approx(given.get_masses(), rel=rel, abs=0)
    assert found.get_tags().tolist() == given.get_tags().tolist()
    assert found.get_initial_charges() == pytest.approx(given.get_initial_charges(), rel=rel, abs=rel)
    moments = given.get_initial_magnetic_moments()
    assert found.get_initial_magnetic_moments() == pytest.approx(moments, rel=rel, abs=rel)
    if "momenta" not in without:
        assert found.get_momenta() == pytest.approx(given.get_momenta(), rel=max(rel, 1e-15), abs=rel)
    if "constraints" not in without:
        assert as_columns(found.constraints, len(given)) == as_columns(given.constraints, len(given))
    for key, value in given.info.items():
        assert key in found.info, key
        assert type(found.info[key]) is type(value) or not isinstance(value, str | bool), key
        assert np.array_equal(found.info[key], value), key


CHANGES = {
    "all": {},
    "vectors of moments": {"initial_magmoms": np.arange(12.0).reshape(4, 3) / 7},
    "cartesian": {
        "constraint": [FixAtoms([0]), FixCartesian([1, 2], (True, False, True)), FixCartesian([3])]
    },
    "one direction": {"constraint": FixCartesian([3], (False, False, True))},
    "free": {"constraint": None},
}
OTHERS = [
    FixCom(),
    FixBondLengths([[0, 1]]),
    FixedLine([1], [0, 0, 1]),
    FixedPlane([1], [0, 0, 1]),
    Hookean(0, 1, 5.0, 1.0),
    Hookean(0, (0, 0, 1, -7), 5.0),
    FixLinearTriatomic([[0, 1, 2]]),
    FixScaled([1], (True, False, False)),
    FixInternals(bonds=[[1.0, [0, 1]]]),
]


def moments(atoms: Atoms, n: int) -> list[tuple[Atoms, Moment]]:
    rng, found = np.random.default_rng(n), []
    for k in range(n):
        one = atoms.copy()
        one.set_positions(
            atoms.positions + rng.normal(scale=0.01, size=(len(one), 3)), apply_constraint=False
        )
        one.set_momenta(rng.normal(size=(len(one), 3)), apply_constraint=False)
        found.append((one, Moment(rng.normal(), rng.normal(size=(len(one), 3)), k, 0.5 * k)))
    return found


def written(path: Path, frames: list[tuple[Atoms, Moment]]) -> Path:
    writer = make_writer(path, Origin())
    for atoms, moment in frames:
        writer.append(atoms, moment)
    writer.close()
    return path


# ------------------------------------------------------------------------------------ trajectories


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_reader_of_every_format(suffix, change, tmp_path):
    frames = moments(everything(**CHANGES[change]), 3)
    path = written(tmp_path / f"a{suffix}", frames)
    start = frames[0][0]
    for found in (read(path, ":"), open_structures(path), list(open_trajectory(path).structures(start))):
        assert len(found) == 3
        for one, (atoms, moment) in zip(found, frames, strict=True):
            assert_same(one, atoms)
            assert one.get_potential_energy() == moment.energy
            forces = one.get_forces(apply_constraint=False)
            assert forces == pytest.approx(moment.forces, rel=1e-15, abs=0)
    assert_same(load_structure(f"{path}@1"), frames[1][0])


@pytest.mark.parametrize("constraint", OTHERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("suffix", [".traj", ".h5md"])
def test_constraints_that_extended_xyz_cannot_express(suffix, constraint, tmp_path):
    frames = moments(everything(constraint=[FixAtoms([3]), constraint]), 2)
    path = written(tmp_path / f"a{suffix}", frames)
    assert_same(read(path), frames[-1][0])
    assert_same(load_structure(path), frames[-1][0])


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_has_nothing_of_this_is_written_as_before(suffix, tmp_path):
    """Columns of defaults would make every file larger."""
    atoms = molecule("H2O")
    atoms.set_masses(atoms.get_masses())
    atoms.set_tags(np.zeros(3, int))
    path = written(tmp_path / f"a{suffix}", moments(atoms, 1))
    if suffix == ".extxyz":
        comment = path.read_text().splitlines()[1]
        assert comment.startswith("Properties=species:S:1:pos:R:3:momenta:R:3:forces:R:3 energy=")
        assert comment.endswith(' step=0 time_fs=0.0 pbc="F F F"')
    if suffix == ".h5md":
        import h5py

        with h5py.File(path) as file:
            assert sorted(file) == ["h5md", "observables", "particles"]
            names = ["box", "force", "mass", "position", "species", "velocity"]
            assert sorted(file["particles/trajectory"]) == names


def test_files_of_before_are_read(tmp_path):
    """A frame as earlier versions wrote it, of a molecule with masses that they lost."""
    path = tmp_path / "trajectory.extxyz"
    path.write_text(
        '2\nLattice="5.0 0.0 0.0 0.0 5.0 0.0 0.0 0.0 5.0" '
        "Properties=species:S:1:pos:R:3:momenta:R:3:forces:R:3 "
        'energy=-1.5 step=3 time_fs=1.5 charge=-1 spin=2 pbc="T T F"\n'
        "O 0.0 0.0 0.1 0.0 0.0 0.2 0.0 0.0 0.3\nH 0.0 0.0 1.1 0.0 0.0 -0.2 0.0 0.0 -0.3\n"
    )
    start = Atoms("OH", masses=[16, DEUTERIUM])
    (frame,) = open_trajectory(path).structures(start)
    assert frame.get_masses().tolist() == [16, DEUTERIUM]
    assert frame.get_momenta()[1, 2] == -0.2
    assert load_structure(path).info == {"charge": -1, "spin": 2, "step": 3, "time_fs": 1.5}
    writer = make_writer(path, Origin())  # a run of an earlier version, resumed
    frame.set_constraint(FixAtoms([0]))
    writer.append(frame, Moment(-2.0, np.ones((2, 3)), 4, 2.0))
    writer.close()
    old, new = open_trajectory(path).structures(start)
    assert new.positions.tolist() == old.positions.tolist()
    assert load_structure(path).get_masses().tolist() == [16, DEUTERIUM]


def test_a_frame_whose_rows_are_shifted_is_refused(tmp_path):
    atoms = molecule("H2O")
    path = written(tmp_path / "a.extxyz", moments(atoms, 4))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:5], "\n", *lines[5:]]))
    with pytest.raises(RunError, check=told(name="a.extxyz", remedy="copy it again")):
        list(open_trajectory(path).structures(atoms))


@pytest.mark.parametrize("suffix", [".extxyz", ".h5md"])
def test_mdanalysis_reads_them_all_the_same(suffix, tmp_path):
    mda = pytest.importorskip("MDAnalysis")
    frames = moments(everything(), 3)
    path = str(written(tmp_path / f"a{suffix}", frames))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = mda.Universe(path, format="XYZ") if suffix == ".extxyz" else mda.Universe(path)
        positions = [step.positions.copy() for step in universe.trajectory]
    assert np.array(positions) == pytest.approx(np.array([one.positions for one, _ in frames]), abs=1e-5)


# --------------------------------------------------------------------------------------------- runs

WATER = {
    "calculator": "toy_calculators:Springs",
    "relax": False,
    "equilibration_ps": 0,
    "timestep_fs": 0.2,
    "steps": 20,
    "write_every": 5,
    "velocities": "structure",
}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)


def heavy_water() -> Atoms:
    atoms = molecule("H2O")
    atoms.set_masses([None, DEUTERIUM, DEUTERIUM])
    rng = np.random.default_rng(5)
    atoms.set_momenta(rng.normal(size=(3, 3)) * np.sqrt(atoms.get_masses()[:, None] * units.kB * 300))
    atoms.set_tags([1, 2, 3])
    atoms.set_initial_magnetic_moments([0, 1, 1])
    atoms.info = dict(INFO) | {"spin": 2}
    return atoms


@pytest.mark.parametrize("trajectory_format", ["traj", "extxyz", "h5md"])
def test_a_run_and_all_that_reads_it(trajectory_format, tmp_path):
    """Isotopes keep their kinetic energy; the last frame starts a run as hot as the first one ended."""
    given, options = heavy_water(), WATER | {"trajectory_format": trajectory_format}
    run = NVE(**options).run(atoms=given, directory=tmp_path / "run", quiet=True)
    assert_same(run.atoms, given)
    path = run.directory / f"trajectory.{trajectory_format}"
    frames, kinetic = list(run.frames()), run.read_thermo()["kinetic_eV"]
    last = load_structure(f"{path}@-1")
    assert_same(last, frames[-1])
    for one in (last, frames[-1], read(path)):
        assert one.get_kinetic_energy() == pytest.approx(kinetic[-1], rel=1e-12)
        assert_same(one, _moved(given, one))
    again = NVE(**options, structure=f"{path}@-1").run(directory=tmp_path / "again", quiet=True)
    assert again.read_thermo()["temperature_K"][0] == pytest.approx(
        run.read_thermo()["temperature_K"][-1], rel=1e-12
    )


def _moved(given: Atoms, one: Atoms) -> Atoms:
    atoms = given.copy()
    atoms.positions, atoms.arrays["momenta"] = one.positions, one.get_momenta()
    return atoms


@pytest.mark.parametrize("trajectory_format", ["traj", "extxyz", "h5md"])
def test_labels_conversion_and_data_sets_of_a_run(trajectory_format, tmp_path):
    given = heavy_water()
    given.set_constraint(FixAtoms([1]))
    options = WATER | {"trajectory_format": trajectory_format}
    run = NVE(**options).run(atoms=given, directory=tmp_path / "run", quiet=True)
    path, frames = run.directory / f"trajectory.{trajectory_format}", list(run.frames())
    data = AseFile(path=path).read()
    assert label_file(path, "toy_calculators:Springs", tmp_path / "labels.extxyz", quiet=True) == len(frames)
    convert(AseFile(path=path), tmp_path / "converted.extxyz")
    for source in ("labels.extxyz", "converted.extxyz"):
        for one, other in zip(open_structures(tmp_path / source), frames, strict=True):
            assert_same(one, other, rel=1e-8)
            assert one.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-9)
            forces = (each.get_forces(apply_constraint=False) for each in (one, other))
            assert next(forces) == pytest.approx(next(forces), abs=1e-8)
    for one, other in zip(data, frames, strict=True):
        assert_same(one, other, without=("constraints",))
        assert not one.constraints  # forces of every atom are labels
        forces = other.get_forces(apply_constraint=False)
        assert one.get_forces() == pytest.approx(forces, rel=1e-15, abs=0)


def test_frames_kept_for_labelling(tmp_path):
    given = everything()
    writer = RunWriter.create(tmp_path / "run")
    for step in (3, 7):
        writer.flag(given, {"step": step, "reason": "a bond is long: 2.0 Å"})
    writer.close()
    found = list(open_structures(tmp_path / "run" / "flagged.extxyz"))
    for one, step in zip(found, (3, 7), strict=True):
        assert_same(one, given)
        assert (one.info["step"], one.info["reason"]) == (step, "a bond is long: 2.0 Å")
        assert one.calc is None


@pytest.mark.parametrize("constraint", [FixAtoms([1]), *OTHERS], ids=lambda one: type(one).__name__)
def test_the_start_of_a_run(constraint, tmp_path):
    given = everything(constraint=constraint)
    writer = RunWriter.create(tmp_path / "run")
    writer.write_structure("start.traj", given)
    writer.close()
    assert_same(read(tmp_path / "run" / "start.traj"), given)


def test_a_checkpoint_with_the_start_is_the_whole_state(tmp_path):
    given = heavy_water()
    given.set_constraint(FixAtoms([1]))
    run = NVE(**WATER).run(atoms=given, directory=tmp_path / "run", quiet=True)
    state = State(run.atoms.copy(), np.random.default_rng())
    load(run.directory)[0].restore(state)
    assert_same(state.atoms, list(run.frames())[-1])


# ---------------------------------------------------------------------------- what cannot be kept


class OfAnotherPackage(FixConstraint):
    """Holds nothing."""

    def get_removed_dof(self, atoms):
        return 0

    def adjust_positions(self, atoms, new):
        pass

    def adjust_forces(self, atoms, forces):
        pass


def test_constraints_that_come_back():
    assert all(is_storable(one) for one in [FixAtoms([0]), FixCartesian([0]), *OTHERS])
    assert not is_storable(OfAnotherPackage())
    named = OfAnotherPackage()
    named.todict = lambda: {"name": "OfAnotherPackage", "kwargs": {}}
    assert not is_storable(named)  # ASE could not read a trajectory with it


def test_a_format_that_loses_constraints_says_so_when_the_run_begins(tmp_path, capsys):
    given = heavy_water()
    given.set_constraint([FixAtoms([1]), Hookean(0, 2, 1.0, 3.0)])
    options = WATER | {"trajectory_format": "extxyz"}
    run = NVE(**options).run(atoms=given, directory=tmp_path / "run", quiet=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "Warning: Hookean: trajectory_format extxyz does not keep" in said
    assert "Formats traj and h5md keep them" in said
    assert next(event["kind"] for event in run.read_events()) == "warning"
    assert [type(one).__name__ for one in run.atoms.constraints] == ["FixAtoms", "Hookean"]
    NVE(**options | {"trajectory_format": "h5md"}).run(atoms=given, directory=tmp_path / "b", quiet=True)
    assert "Warning" not in capsys.readouterr().err


def test_a_constraint_that_no_file_keeps(tmp_path, capsys):
    """Dynamics refuses it by name; a relaxation keeps the others, and is not resumed without it."""
    given = heavy_water()
    given.set_constraint([FixAtoms([1]), OfAnotherPackage()])
    with pytest.raises(StructureError, check=told(value=["OfAnotherPackage"])):
        NVE(**WATER).run(atoms=given, directory=tmp_path / "nve", quiet=True)
    run = Relax(calculator=WATER["calculator"]).run(atoms=given, directory=tmp_path / "run", quiet=True)
    assert "OfAnotherPackage: no file keeps" in " ".join(capsys.readouterr().err.split())
    for one in (
        run.atoms,
        next(run.frames()),
        load_structure(f"{run.directory}/trajectory.traj"),
    ):
        assert [type(each).__name__ for each in one.constraints] == ["FixAtoms"]
    (run.directory / "provenance.json").write_text(json.dumps(run.read_provenance() | {"finished": None}))
    with pytest.raises(
        RunError, check=told(value="constraints ['FixAtoms'] instead of ['FixAtoms', 'OfAnotherPackage']")
    ):
        resume_run(run.directory, quiet=True)


def test_a_data_set_that_loses_constraints_warns(tmp_path):
    atoms = molecule("H2O")
    atoms.set_constraint(FixBondLengths([[0, 1]]))
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((3, 3)))
    with pytest.warns(UserWarning, match="does not keep constraints FixBondLengths"):
        write_extxyz(tmp_path / "a.xyz", [atoms])


# ------------------------------------------------------------------------------------ other writers


def test_labels_that_are_in_info_too(tmp_path):
    """As a .traj has them that was made from another program's extended XYZ."""
    atoms = molecule("H2O")
    atoms.info["energy"] = -3.0
    atoms.set_array("forces", np.ones((3, 3)))
    write(tmp_path / "a.json", atoms)
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.ones((3, 3)))
    write_extxyz(tmp_path / "a.xyz", [atoms])
    found = AseFile(path=tmp_path / "a.xyz").read()[0]
    assert found.get_potential_energy() == -3.0
    assert found.get_forces().tolist() == np.ones((3, 3)).tolist()


def test_isotopes_are_sampled_as_such():
    pytest.importorskip("rdkit")
    from asecalc_ml.potentials.datasets.generation.generate import GenerateOptions

    options = GenerateOptions(structure="smiles:[2H]OC", output="x.xyz")
    assert sorted(starting_structure(options).get_masses())[3] == pytest.approx(DEUTERIUM, abs=1e-6)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize("empty", [np.array([]), np.zeros((0, 3)), [], "", {}])
def test_an_empty_value_takes_in_no_other_key(empty, tmp_path):
    atoms = Atoms("H", info={"neighbours": empty, "charge": -1})
    write_extxyz(tmp_path / "a.xyz", [atoms])
    assert open_structures(tmp_path / "a.xyz")[0].info["charge"] == -1


@settings(max_examples=200)
@given(st.dictionaries(st.text(min_size=1, max_size=6), VALUES, max_size=4))
def test_info_comes_back_or_is_left_out(info):
    """Never as something else, and never so that the file cannot be read."""
    atoms = Atoms("H", info=readable_info(info))
    text = io.StringIO()
    write(text, atoms, format="extxyz")
    text.seek(0)
    found = read(text, format="extxyz").info
    assert set(found) <= set(info)
    for key, value in found.items():
        if isinstance(value, str | bool | dict):
            assert value == info[key]
        else:
            assert np.array_equal(np.asarray(value, dtype=object), np.asarray(info[key], dtype=object))
    simple = {
        key for key, value in info.items() if isinstance(value, str) and key.isascii() and key.isalpha()
    }
    assert simple - {"uid", "Properties", "Lattice", "pbc"} <= set(found)

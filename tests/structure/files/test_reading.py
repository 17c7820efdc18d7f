"""Files of structures: every frame is read, or an error names the line where one would be lost."""

import bz2
import gzip
import json
import lzma
import re
import subprocess
import sys
import warnings

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import told
from typer.testing import CliRunner

from asecalc_ml.cli import ml
from asecalc_ml.cli.structures import read_structures, select_frames
from asecalc_ml.errors import ConfigError, DatasetError, StructureError, StructureFileError
from asecalc_ml.potentials.datasets import RMD17, AseFile, DatasetOptions, Mlearn, NeuralILJson
from asecalc_ml.potentials.datasets.extxyz import convert
from asecalc_ml.potentials.datasets.generation.label import label_file
from asecalc_ml.potentials.datasets.options import make_frame
from asecalc_ml.structure.element_checks import check_elements
from asecalc_ml.structure.files.structure_file import open_structures
from asecalc_ml.structure.loading import check_structure, load_structure

EMT_NAME = "ase.calculators.emt:EMT"


def labelled(n: int, atoms: Atoms | None = None, first: int = 0) -> list[Atoms]:
    """Frames whose energy is their number."""
    found = []
    for k in range(first, first + n):
        one = (atoms or molecule("H2O")).copy()
        one.rattle(0.02, seed=k)
        one.calc = SinglePointCalculator(one, energy=float(k), forces=np.full((len(one), 3), 0.01 * k))
        found.append(one)
    return found


def text_of(frames: list[Atoms], tmp_path) -> str:
    write(tmp_path / "some.xyz", frames, format="extxyz")
    return (tmp_path / "some.xyz").read_text()


@pytest.fixture
def joined(tmp_path):
    """`cat a.xyz b.xyz`, where a ends with an empty line: 10 and 30 frames."""
    path = tmp_path / "joined.xyz"
    path.write_text(text_of(labelled(10), tmp_path) + "\n" + text_of(labelled(30, first=10), tmp_path))
    return path


def energies(frames) -> list[float]:
    return [atoms.get_potential_energy() for atoms in frames]


# ------------------------------------------------------------------ files put one behind the other


def test_no_reader_stops_at_an_empty_line(joined, tmp_path):
    assert len(read(joined, ":", format="extxyz")) == 10  # what ASE does
    assert energies(AseFile(path=joined).read()) == list(range(40))
    assert energies(AseFile(path=joined, frames="8:12").read()) == [8, 9, 10, 11]
    assert energies(read_structures(str(joined))) == list(range(40))  # explain and map
    assert np.array_equal(load_structure(joined).positions, AseFile(path=joined).read()[-1].positions)
    assert np.array_equal(load_structure(f"{joined}@17").positions, AseFile(path=joined).read()[17].positions)
    assert label_file(joined, EMT_NAME, tmp_path / "labels.xyz", quiet=True) == 40
    assert convert(AseFile(path=joined), tmp_path / "converted.xyz") == 40


def test_the_command_line_counts_all_frames(joined, tmp_path):
    done = CliRunner().invoke(ml.app, ["data", "convert", str(joined), str(tmp_path / "all.xyz")])
    assert "40 structures" in done.output


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=8), st.data())
@settings(max_examples=50)
def test_empty_lines_between_frames_never_lose_one(tmp_path_factory, parts, data):
    """Of frames of any size, with ends of lines of any system."""
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    blank = data.draw(st.sampled_from(["", " ", "\t"]))
    comment = data.draw(st.sampled_from(["", "free text", 'a="1 2" energy=-1.5', "it's water", "[Cu(NH3)4"]))
    path, lines = tmp_path_factory.mktemp("parts") / "a.xyz", []
    for k, (n_atoms, n_blank) in enumerate(parts):
        rows = [f"He {k} {row} 0.5" for row in range(n_atoms)]
        lines += [f" {n_atoms}", comment, *rows, *[blank] * n_blank]
    path.write_bytes(end.join([*lines, ""]).encode())
    frames = open_structures(path)
    assert [len(atoms) for atoms in frames] == [n_atoms for n_atoms, _ in parts]
    assert [atoms.positions[0, 0] for atoms in frames] == list(range(len(parts)))
    assert [len(atoms) for atoms in open_structures(path, "xyz")] == [len(atoms) for atoms in frames]


@given(st.data())
@settings(max_examples=100)
def test_lines_that_are_lost_or_doubled_are_noticed(tmp_path_factory, data):
    """Whichever line of a file is taken out or comes twice: an error, or the frames that were there."""
    folder = tmp_path_factory.mktemp("lines")
    frames = labelled(2) + labelled(2, molecule("CO2"), first=2)
    lines = text_of(frames, folder).splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    doubled = data.draw(st.booleans())
    lines[place : place + 1] = [lines[place]] * 2 if doubled else []
    (folder / "a.xyz").write_text("\n".join([*lines, ""]))
    with pytest.raises(StructureFileError, match=r"line \d+: ", check=told(name="a.xyz")):
        list(open_structures(folder / "a.xyz"))


@pytest.mark.parametrize(
    ("change", "line", "expected"),
    [
        (lambda text: text.replace("3\n", "2\n", 1), 5, {"value": "H ", "remedy": "atoms in line 1"}),
        (lambda text: text.replace("3\n", "4\n", 1), 7, {"value": "Prop", "remedy": "atoms in line 1"}),
        (lambda text: text + "garbage\n", 11, {"value": "garbage", "remedy": "atoms in line 6"}),
        (lambda text: text + "3\n", 11, {"value": 0, "allowed": "3 rows", "remedy": "Copy it again"}),
        (lambda text: text[: text.rstrip().rfind("\n") + 1], 6, {"value": 2, "allowed": "3 rows"}),
        (lambda text: text[:-40], 10, {"allowed": "7 columns", "remedy": "line 6"}),
        (lambda text: text.replace("Properties=", "properties="), 2, {"allowed": ["Properties"]}),
        (lambda text: text.replace("energy=", 'from="a run energy=', 1), 2, {"value": 'from="a run energy='}),
        (lambda text: text.replace("forces:R:3", "forces:R:2", 1), 3, {"value": 7, "allowed": "6 columns"}),
        (lambda text: text.replace("3\n", "3.0\n", 1), 1, {"value": "3.0"}),
        (lambda text: text.replace("3\n", "-3\n", 1), 1, {"value": "-3"}),
        (lambda text: text.replace("3\n", "0\n", 1), 1, {"value": "0"}),
    ],
)
def test_what_is_wrong_with_a_line(change, line, expected, tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text(change(text_of(labelled(2), tmp_path)))
    with pytest.raises(StructureFileError, match=f"line {line}: ", check=told(name="a.xyz", **expected)):
        list(open_structures(path))
    with pytest.raises(DatasetError, match=rf"line {line}: "):
        AseFile(path=path).read()
    done = CliRunner().invoke(ml.app, ["data", "convert", str(path), str(tmp_path / "b.xyz")])
    assert done.exit_code == 2
    assert f"line {line}" in " ".join(done.output.split())
    assert not (tmp_path / "b.xyz").exists()


def test_a_file_of_windows_with_a_byte_order_mark(tmp_path):
    text = text_of(labelled(2), tmp_path)
    (tmp_path / "a.xyz").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert energies(AseFile(path=tmp_path / "a.xyz").read()) == [0, 1]
    (tmp_path / "b.xyz").write_bytes(text.encode("utf-16"))
    with pytest.raises(StructureFileError, match="line 1: ", check=told(name="b.xyz", remedy="UTF-8")):
        open_structures(tmp_path / "b.xyz")


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_compressed(suffix, joined, tmp_path):
    pack = {"gz": gzip, "bz2": bz2, "xz": lzma}[suffix].compress
    path = tmp_path / f"a.XYZ.{suffix}"
    path.write_bytes(pack(joined.read_bytes()))
    assert energies(open_structures(path)) == list(range(40))
    path.write_bytes(pack(joined.read_bytes())[:-20])
    with pytest.raises(StructureFileError, check=told(name=str(path), remedy="complete")):
        open_structures(path)


def test_a_cell_among_the_rows(tmp_path):
    """As ADF writes it, below the atoms."""
    (tmp_path / "a.xyz").write_text(2 * "1\n\nHe 0 0 0\nVEC1 5 0 0\nVEC2 0 6 0\nVEC3 0 0 7\n\n")
    assert [atoms.cell.lengths().tolist() for atoms in open_structures(tmp_path / "a.xyz")] == 2 * [[5, 6, 7]]


def test_a_cell_among_the_rows_leaves_the_keys_of_the_comment(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text("1\nenergy=-1.5 charge=-1\nHe 0 0 0\nVEC1 5 0 0\nVEC2 0 6 0\n")
    (atoms,) = AseFile(path=path).read()
    assert (atoms.get_potential_energy(), atoms.info["charge"]) == (-1.5, -1)
    assert atoms.cell.lengths().tolist() == [5, 6, 0]
    assert atoms.pbc.tolist() == [True, True, False]
    for rows, place, value, allowed in (
        ("VEC1 5 0\n", "line 4: ", "VEC1 5 0", "VEC1 with three numbers"),
        ("VEC1 5 0 0\nVEC3 0 0 1\n", "line 5: ", "VEC3 0 0 1", "VEC2 with three numbers"),
    ):
        path.write_text(f"1\n\nHe 0 0 0\n{rows}")
        with pytest.raises(StructureFileError, match=place, check=told(value=value, allowed=allowed)):
            list(open_structures(path))


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("energy=T", "frame 0: 'energy' is True, not numbers.*`energy_key`"),
        ("energy -76.4 unit=eV", "frame 0: 'energy' is True, not numbers.*write `energy=-1.5`"),
        ("energy=-7.64D+01", "'energy' is not numbers: '-7.64D.01': write exponents as E"),
        ('energy=1 stress="1 2 3 4 5 6 7 8 9"', "line 2: `stress` is not symmetric"),
        ('energy=1 virial="1 2 3 4 5 6"', "line 2: `virial` has 6 components.*`virial_key`"),
        ("energy=1 water, charge 0", r"'charge'\] is True, as a word without a value in a comment line"),
    ],
)
def test_values_of_a_comment_that_mean_something_else(comment, said, tmp_path):
    (tmp_path / "a.xyz").write_text(f"1\n{comment}\nHe 0 0 0\n")
    with pytest.raises(DatasetError, match=said):
        AseFile(path=tmp_path / "a.xyz").read()


def test_a_comment_without_a_value_is_free_text(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nenergy -76.4, total charge 0, optimised\nHe 0 0 0\n")
    (atoms,) = open_structures(tmp_path / "a.xyz")
    assert (atoms.calc, atoms.info) == (None, {})


@pytest.mark.parametrize("row", [0, 1, 2])
def test_an_exponent_of_fortran_names_its_row(row, tmp_path):
    rows = ["He 0 0 0", "He 0 0 1", "He 0 0 2"]
    rows[row] += "D+00"
    (tmp_path / "a.xyz").write_text("\n".join(["3", "", *rows, ""]))
    with pytest.raises(StructureFileError, match=f"line {row + 3}: ", check=told(remedy="exponents as E")):
        list(open_structures(tmp_path / "a.xyz"))


def test_a_link_is_the_same_file(tmp_path):
    write(tmp_path / "a.traj", labelled(2))
    (tmp_path / "hard.traj").hardlink_to(tmp_path / "a.traj")
    (tmp_path / "soft.traj").symlink_to(tmp_path / "a.traj")
    for name in ("hard.traj", "soft.traj"):
        with pytest.raises(DatasetError, check=told(name=name, remedy=True)):
            AseFile(path=[tmp_path / "a.traj", tmp_path / name]).read()


def test_a_name_with_an_at_sign(tmp_path):
    write(tmp_path / "a@300K.traj", labelled(2))
    write(tmp_path / "a@300K.cif", bulk("Cu"))
    assert energies(AseFile(path=tmp_path / "a@300K.traj").read()) == [0, 1]
    assert len(open_structures(tmp_path / "a@300K.cif")) == 1


# ---------------------------------------------------------------------------------- other formats


@pytest.mark.parametrize("name", ["a.traj", "a.db", "a.json"])
def test_formats_that_know_their_number_of_frames(name, tmp_path):
    write(tmp_path / name, labelled(5))
    assert energies(open_structures(tmp_path / name)) == list(range(5))
    assert energies(AseFile(path=tmp_path / name, frames="-2:").read()) == [3, 4]


def test_a_trajectory_that_was_cut_or_put_behind_another(tmp_path):
    write(tmp_path / "a.traj", labelled(60))
    content = (tmp_path / "a.traj").read_bytes()
    for part in (0.2, 0.6, 0.95):
        (tmp_path / "cut.traj").write_bytes(content[: int(part * len(content))])
        with pytest.raises(StructureFileError, check=told(name="cut.traj", remedy="Copy")) as error:
            open_structures(tmp_path / "cut.traj")
        assert 0 < error.value.value < 60
    (tmp_path / "two.traj").write_bytes(2 * content)
    assert len(read(tmp_path / "two.traj", ":")) == 60  # what ASE does
    expected = told(name="two.traj", value=len(content), remedy="ase convert")
    with pytest.raises(StructureFileError, check=expected):
        load_structure(tmp_path / "two.traj")
    with pytest.raises(DatasetError, check=expected):
        AseFile(path=tmp_path / "two.traj").read()


def test_archives_put_one_behind_the_other(tmp_path):
    one = {"nuclear_charges": [2], "coords": np.zeros((3, 1, 3)), "forces": np.zeros((3, 1, 3))}
    np.savez(tmp_path / "a.npz", energies=np.zeros(3), **one)
    content = (tmp_path / "a.npz").read_bytes()
    assert len(RMD17(path=tmp_path / "a.npz").read()) == 3
    for both in (2 * content, content + b"more", b"more" + content):
        (tmp_path / "b.npz").write_bytes(both)
        with pytest.raises(DatasetError, check=told(name="b.npz", remedy="one by one")):
            RMD17(path=tmp_path / "b.npz").read()


XDATCAR = """helium
1.0
5 0 0
0 5 0
0 0 5
He
1
Direct configuration=     1
0.1 0 0
{}Direct configuration=     2
0.2 0 0
"""


def test_a_format_of_which_ase_reads_fewer_frames(tmp_path):
    path = tmp_path / "XDATCAR"
    path.write_text(XDATCAR.format(""))
    assert len(open_structures(path)) == 2
    path.write_text(XDATCAR.format("\n"))
    assert len(read(path, ":")) == 1  # what ASE does
    expected = told(name="XDATCAR", value=11, remedy="extended XYZ")
    with pytest.raises(StructureFileError, match=r"2 frames.* 1 of them", check=expected):
        open_structures(path)


def test_an_output_whose_last_step_is_incomplete_warns(tmp_path, monkeypatch):
    (tmp_path / "OUTCAR").write_text(3 * "\n POSITION   TOTAL-FORCE (eV/Angst)\n")
    monkeypatch.setattr("ase.io.read", lambda *args, **kwargs: labelled(2))
    with pytest.warns(UserWarning, match="has 3 frames, and ASE reads 2 of them, not the one at line 6"):
        assert len(open_structures(tmp_path / "OUTCAR")) == 2


JOINED = ["vasp", "gen", "xsf", "mol", "sdf", "gromacs", "res", "turbomole", "castep-cell", "gromos"]
JOINED += [
    "struct",
    "crystal",
    "abinit-in",
    "dmol-car",
    "dmol-incoor",
    "jsv",
    "magres",
    "nwchem-in",
    "onetep-in",
]


@pytest.mark.parametrize("file_format", JOINED)
@pytest.mark.parametrize("names", [["H2O", "H2O"], ["H2O", "CH3OH", "O2"], ["O2", "C6H6"]])
def test_formats_of_one_structure_that_are_put_one_behind_the_other(file_format, names, tmp_path):
    """ASE reads the first of them, the last, or all as one structure."""
    parts = []
    for k, name in enumerate(names):
        atoms = molecule(name, vacuum=4 + k, pbc=True)
        write(tmp_path / "one", atoms, format=file_format)
        assert len(open_structures(tmp_path / "one", file_format)) == 1
        parts.append((tmp_path / "one").read_text())
    for between in ("", "\n"):
        (tmp_path / "all").write_text(between.join(parts))
        with pytest.raises(StructureFileError, check=told(name="all", remedy=True)):
            open_structures(tmp_path / "all", file_format)


CONTCAR = """helium
1.0
5 0 0
0 5 0
0 0 5
He
2
Direct
0.1 0 0
0.5 0 0

1.0 0 0
0 1.0 0

1
0.5
0.1 0.2 0.3 0.4
0.1 0 0
0.5 0 0
0.1 0 0
0.5 0 0
"""


def test_velocities_of_a_contcar_are_no_further_structure(tmp_path):
    (tmp_path / "CONTCAR").write_text(CONTCAR)
    assert len(open_structures(tmp_path / "CONTCAR")) == 1
    (tmp_path / "CONTCAR.gz").write_bytes(gzip.compress(2 * CONTCAR.encode()))
    expected = told(name="CONTCAR.gz", value=22, remedy="`ase convert FIRST SECOND")
    with pytest.raises(StructureFileError, check=expected):
        open_structures(tmp_path / "CONTCAR.gz")


@pytest.mark.parametrize("n_lines", range(1, 4))
def test_a_geometry_whose_lines_are_alike_is_one(n_lines, tmp_path):
    (tmp_path / "geometry.in").write_text("".join(f"atom {k} 0 0 He\n" for k in range(n_lines)))
    assert [len(atoms) for atoms in open_structures(tmp_path / "geometry.in")] == [n_lines]


@pytest.mark.parametrize("suffix", ["traj.gz", "db"])
def test_archives_of_frames_put_one_behind_the_other(suffix, tmp_path):
    write(tmp_path / f"a.{suffix}", labelled(2))
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert energies(open_structures(tmp_path / f"a.{suffix}")) == [0, 1]
    (tmp_path / f"b.{suffix}").write_bytes(2 * content)
    with pytest.raises(StructureFileError, check=told(name=f"b.{suffix}", remedy="ase convert")):
        open_structures(tmp_path / f"b.{suffix}")


DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 5
0 5
0 5
ITEM: ATOMS id type {}x y z
1 1 {}0 0 0
2 2 {}0 0 1
"""
DATA = """
2 atoms
2 atom types
0 5 xlo xhi
0 5 ylo yhi
0 5 zlo zhi

{}Atoms # atomic

1 1 0 0 0
2 2 0 0 1
"""


@pytest.mark.parametrize(
    ("file_format", "without", "named"),
    [
        ("lammps-dump-text", DUMP.format("", "", ""), DUMP.format("element ", "O ", "C ")),
        ("lammps-data", DATA.format(""), DATA.format("Masses\n\n1 15.999\n2 12.011\n\n")),
    ],
)
def test_types_of_lammps_are_no_elements(file_format, without, named, tmp_path):
    path = tmp_path / "a.lammps"
    path.write_text(without)
    assert read(path, format=file_format).get_chemical_symbols() == ["H", "He"]  # what ASE does
    with pytest.raises(StructureFileError, check=told(name="a.lammps", remedy="add")):
        open_structures(path, file_format)
    path.write_text(named)
    (atoms,) = open_structures(path, file_format)
    assert atoms.get_chemical_symbols() == ["O", "C"]


def test_h5md_put_behind_another(tmp_path):
    with h5py.File(tmp_path / "a.h5md", "w") as file:
        file["a"] = 1
    (tmp_path / "b.h5md").write_bytes(2 * (tmp_path / "a.h5md").read_bytes())
    with pytest.raises(StructureFileError, check=told(name="b.h5md", remedy="ase convert")):
        open_structures(tmp_path / "b.h5md")


def test_lines_of_json_are_counted_with_the_empty_ones(tmp_path):
    (tmp_path / "a.json").write_text("\n\n{}\n")
    with pytest.raises(DatasetError, check=told(name="a.json", problem="line 3: KeyError", remedy=True)):
        NeuralILJson(path=tmp_path / "a.json").read()


# ------------------------------------------------------------------------------- which frames


class Counted(DatasetOptions):
    """A reader of another package that knows nothing of `frames`."""

    format: str = "counted"

    def _read(self) -> list[Atoms]:
        frames = [Atoms("He", [[k, 0, 0]]) for k in range(10)]
        return [make_frame(atoms, float(k), np.zeros((1, 3))) for k, atoms in enumerate(frames)]


class Choosing(Counted):
    """One that selects frames itself."""

    def _read(self) -> list[Atoms]:
        first, last = (int(end) for end in (self.frames or "0:10").split(":"))
        return super()._read()[first:last]


@pytest.mark.parametrize("reader", [Counted, Choosing])
def test_a_reader_of_another_package_need_not_select_frames(reader):
    assert energies(reader(path="x", frames="4:6").read()) == [4, 5]
    assert energies(reader(path="x").read()) == list(range(10))


def test_a_slice_beyond_the_end_is_told(tmp_path):
    write(tmp_path / "a.traj", labelled(5))
    with pytest.warns(UserWarning, match=r"frames 0:950 reach beyond the 5 frames of .*a\.traj: 5 are read"):
        assert len(AseFile(path=tmp_path / "a.traj", frames="0:950").read()) == 5
    with pytest.warns(UserWarning, match="frames -7:2 reach beyond the 5 frames"):
        assert len(AseFile(path=tmp_path / "a.traj", frames="-7:2").read()) == 2
    with pytest.raises(
        DatasetError, check=told(name="a.traj", value="5:9", problem="5 in all", remedy="`frames`")
    ):
        AseFile(path=tmp_path / "a.traj", frames="5:9").read()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text, n_frames in (("0:5", 5), ("-5:", 5), ("::10", 1), (":", 5), ("::-1", 5)):
            assert len(AseFile(path=tmp_path / "a.traj", frames=text).read()) == n_frames


def test_a_fault_names_the_number_that_the_frame_has_in_the_file(tmp_path):
    frames = labelled(6)
    frames[4].calc.results["forces"][0] = np.nan
    write(tmp_path / "a.traj", frames)
    with pytest.raises(DatasetError, check=told(name="forces", problem="a.traj, frame 4", remedy="`frames`")):
        AseFile(path=tmp_path / "a.traj", frames="3:6").read()


def test_only_selected_frames_are_made(tmp_path):
    """What is wrong with the numbers of another frame is none of theirs."""
    text = text_of(labelled(3), tmp_path)
    (tmp_path / "a.xyz").write_text(re.sub(r"H +\S+", "H nonsense", text, count=1))
    assert energies(AseFile(path=tmp_path / "a.xyz", frames="1:").read()) == [1, 2]
    with pytest.raises(DatasetError, match=r"line 4: frame 0 .*nonsense", check=told(name="a.xyz")):
        AseFile(path=tmp_path / "a.xyz").read()


def test_constraints_of_any_reader_do_not_hide_forces(tmp_path):
    frames = labelled(2, first=1)
    for atoms in frames:
        atoms.set_constraint(FixAtoms([0]))
    write(tmp_path / "a.traj", frames)
    assert all(atoms.get_forces().all() for atoms in AseFile(path=tmp_path / "a.traj").read())
    convert(AseFile(path=tmp_path / "a.traj"), tmp_path / "a.xyz")
    assert read(tmp_path / "a.xyz").constraints[0].index.tolist() == [0]


# ------------------------------------------------------------------------------ atoms that are none


def test_deuterium_is_hydrogen_with_another_mass(tmp_path):
    (tmp_path / "a.xyz").write_text("3\nheavy water\nO 0 0 0\nD 0.76 0.59 0\n D -0.76 0.59 0\n")
    atoms = load_structure(tmp_path / "a.xyz")
    assert atoms.get_chemical_symbols() == ["O", "H", "H"]
    assert atoms.get_masses() == pytest.approx([15.999, 2.0141018, 2.0141018], abs=1e-7)
    (tmp_path / "b.xyz").write_text("1\nProperties=species:S:1:pos:R:3:masses:R:1\nT 0 0 0 3.5\n")
    assert read_structures(str(tmp_path / "b.xyz"))[0].get_masses() == [3.5]
    (tmp_path / "POSCAR").write_text("heavy\n1.0\n5 0 0\n0 5 0\n0 0 5\nD\n1\nDirect\n0 0 0\n")
    with pytest.raises(
        StructureError, match="'D'", check=told(name="POSCAR", remedy="write H there, and its mass")
    ):
        load_structure(tmp_path / "POSCAR")


def test_isotopes_of_a_smiles():
    pytest.importorskip("rdkit")
    masses = load_structure("smiles:[2H]OC").get_masses()
    assert sorted(masses)[-3:] == pytest.approx([2.0141, 12.011, 15.999], abs=1e-3)
    assert not load_structure("smiles:CO").has("masses")


@pytest.mark.parametrize(
    ("symbol", "name", "value"), [("X", "atom 1", "X"), ("Du", "a.xyz", "Du"), ("6", "a.xyz", "6")]
)
def test_symbols_of_no_element(symbol, name, value, tmp_path):
    (tmp_path / "a.xyz").write_text(f"2\n\nH 0 0 0\n{symbol} 0 0 0.7\n")
    for load in (load_structure, read_structures):
        with pytest.raises(StructureError, match=r"a\.xyz", check=told(name=name, value=value)):
            load(str(tmp_path / "a.xyz"))


def test_a_dummy_atom_in_python():
    with pytest.raises(StructureError, check=told(name="atom 1", value="X", remedy=True)):
        check_structure(Atoms("HX", [[0, 0, 0], [0, 0, 1]]))


CIF = """data_alloy
_cell_length_a 3.7
_cell_length_b 3.7
_cell_length_c 3.7
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ("Au1 Au 0 0 0 0.25\nCu1 Cu 0 0 0 0.75\n", "(Au 0.25, Cu 0.75)"),
        ("Cu1 Cu 0 0 0 0.5\n", "(Cu 0.5)"),
        ("Cu1 Cu 0 0 0 1.0\n", None),
    ],
)
def test_sites_that_are_occupied_in_part(sites, said, tmp_path):
    (tmp_path / "a.cif").write_text(CIF + sites)
    if said is None:
        assert load_structure(tmp_path / "a.cif").get_chemical_symbols() == ["Cu"]
        return
    expected = told(name="site 0", value=said, remedy="ordered")
    with pytest.raises(StructureError, match=r"a\.cif", check=expected):
        load_structure(tmp_path / "a.cif")
    for name in ("a.traj", "a.extxyz"):
        write(tmp_path / name, read(tmp_path / "a.cif"))
        with pytest.raises(StructureError, match=name, check=expected):
            load_structure(tmp_path / name)


def test_occupancies_of_a_protein(tmp_path):
    atoms = molecule("H2O")
    for values, is_whole in (([0.0] * 3, True), ([1.0] * 3, True), ([1.0, 0.5, 0.5], False)):
        atoms.set_array("occupancy", np.array(values))
        if is_whole:
            check_elements(atoms)
        else:
            with pytest.raises(StructureError, check=told(name="atom 1 (H)", value="0.5")):
                check_elements(atoms)


def test_a_site_of_mlearn_that_elements_share(tmp_path):
    species = [{"element": "Ni", "occu": 0.5}, {"element": "Mo", "occu": 0.5}]
    structure = {"sites": [{"species": species, "xyz": [0, 0, 0]}], "lattice": {"matrix": np.eye(3).tolist()}}
    (tmp_path / "a.json").write_text(json.dumps([{"structure": structure, "outputs": {}}]))
    with pytest.raises(DatasetError, check=told(name="a.json", problem="record 0", remedy=True)):
        Mlearn(path=tmp_path / "a.json").read()


@pytest.mark.parametrize(
    ("frames", "numbers"), [("1:3", [1, 2]), ("-1", [4]), ("2", [2]), ("::-2", [4, 2, 0])]
)
def test_frames_of_a_command(frames, numbers):
    assert select_frames(list(range(5)), frames) == numbers


@pytest.mark.parametrize(
    ("frames", "expected"),
    [("7", {"allowed": "0 to 4"}), ("a", {"remedy": "a slice"}), ("::0", {"remedy": "a slice"})],
)
def test_frames_of_a_command_that_are_none(frames, expected):
    with pytest.raises(ConfigError, check=told(name="frames", value=frames, **expected)):
        select_frames(list(range(5)), frames)


def test_a_warning_of_a_command_is_one_line(tmp_path):
    write(tmp_path / "a.traj", labelled(5))
    code = "from asecalc_ml.cli.ml import main; main()"
    command = [sys.executable, "-c", code, "data", "convert", "a.traj", "b.xyz", "--frames", "0:950"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("Warning: frames 0:950 reach beyond the 5 frames of a.traj")
    assert "Wrote b.xyz: 5 structures" in done.stdout

"""The reader of crystals with a table of properties, on files that are made here and on the real ones."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from ase.spacegroup import crystal
from property_data import NAMES, P1, archive_of_crystals, cif, crystals_in, structures
from raising import told

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets import CifCsv, dataset


@pytest.fixture
def folder(tmp_path):
    return crystals_in(tmp_path / "mofs")


@pytest.mark.parametrize("symmetry", [P1, "_symmetry_space_group_name_H-M 'P 1'\n", ""])
def test_a_folder_of_cgcnn(tmp_path, symmetry):
    frames = CifCsv(path=crystals_in(tmp_path / "mofs", symmetry=symmetry)).read()
    assert frames.values("value").tolist() == [1.5, 2.5, -3.0]
    for number, (name, atoms) in enumerate(zip(NAMES, structures(), strict=True)):
        frame = frames[number]
        assert frame.info["name"] == name
        assert frame.info["value"] == frames.values("value")[number]
        assert frame.pbc.all()
        assert frame.cell.cellpar() == pytest.approx(atoms.cell.cellpar())
        assert frame.positions == pytest.approx(atoms.positions, abs=1e-6)
        assert frame.calc.results == {}
    assert frames.left_out == {}


def test_symmetry_makes_all_atoms_of_the_cell(folder):
    """ASE's own crystal of diamond, of whose eight atoms the file has one."""
    whole = crystal("C", [(0, 0, 0)], spacegroup=227, cellpar=[3.57] * 3 + [90] * 3)
    file = folder / "NaCl.cif"
    one = Atoms("C", [[0, 0, 0]], cell=whole.cell, pbc=True)
    file.write_text(cif(one, symmetry="_space_group_IT_number 227\n"))
    frame = CifCsv(path=folder).read()[1]
    assert len(frame) == 8
    assert np.sort(frame.get_all_distances(mic=True)[0])[1] == pytest.approx(3.57 * np.sqrt(3) / 4)


def test_a_table_with_a_header_gives_every_column_of_numbers(tmp_path):
    table = "name,uptake [mol/kg],metal,pore\nSi-1.cif,1.0,Zn,4\nNaCl,,Cu,5\nCuAu,3e-1,Zn,6\n"
    frames = CifCsv(path=crystals_in(tmp_path / "mofs", table), units={"pore": "Angstrom"}).read()
    assert list(frames.properties) == ["uptake [mol/kg]", "pore"]
    assert frames.counts() == {"uptake [mol/kg]": 2, "pore": 3}
    assert "uptake [mol/kg]" not in frames[1].info
    assert frames[2].info["uptake [mol/kg]"] == 0.3
    assert frames.units == {"pore": "Angstrom"}


def test_several_values_without_a_header(tmp_path):
    frames = CifCsv(path=crystals_in(tmp_path / "mofs", "Si-1,1,2\nNaCl,3,4\nCuAu,5,6\n")).read()
    assert frames.values("value2").tolist() == [2, 4, 6]


def test_properties_are_columns_or_differences_of_two(tmp_path):
    table = "id,co2_0.1bar,co2_2.5bar\nSi-1,1,4\nNaCl,2,\nCuAu,3,3\n"
    frames = CifCsv(
        path=crystals_in(tmp_path / "mofs", table),
        properties={"capacity": "co2_2.5bar - co2_0.1bar", "low": "co2_0.1bar"},
        units={"capacity": "mol/kg"},
    ).read()
    np.testing.assert_array_equal(frames.values("capacity"), [3, np.nan, 0])
    assert list(frames.properties) == ["capacity", "low"]
    assert frames.units == {"capacity": "mol/kg"}


def test_frames_come_in_the_order_of_the_table(tmp_path):
    frames = CifCsv(path=crystals_in(tmp_path / "mofs", "CuAu,3\nSi-1,1\nNaCl,2\n")).read()
    assert [atoms.info["name"] for atoms in frames] == ["CuAu", "Si-1", "NaCl"]
    assert frames.values("value").tolist() == [3, 1, 2]


def test_large_structures_are_left_out(tmp_path):
    """Among the frames that are selected, with the place that each has in the file."""
    folder = crystals_in(tmp_path / "mofs")
    sizes = CifCsv(path=folder).read().n_atoms.tolist()
    limit = sorted(sizes)[1]
    small = CifCsv(path=folder, max_atoms=limit).read_free()
    kept = [number for number, size in enumerate(sizes) if size <= limit]
    assert 0 < len(kept) < len(sizes)
    assert [int(place.rsplit(" ", 1)[1]) for place in small] == kept
    assert len(CifCsv(path=folder, max_atoms=limit, frames="1:").read()) == len([k for k in kept if k >= 1])
    with pytest.raises(DatasetError, match="no frames of at most 1 atoms; it has 3 in all"):
        CifCsv(path=folder, max_atoms=1).read()


def test_an_archive_beside_its_table(folder, tmp_path):
    archive = archive_of_crystals(tmp_path / "mofs.tar.xz", folder)
    (folder / "id_prop.csv").rename(tmp_path / "mofs.csv")
    frames = CifCsv(path=archive).read()
    assert [atoms.info["name"] for atoms in frames] == list(NAMES)
    assert frames.left_out == {}


def test_structures_are_left_out_counted_and_listed(folder, capsys):
    atoms = structures()[1]
    (folder / "NaCl.cif").write_text(cif(atoms, occupancy=0.5))
    atoms.positions[1] = atoms.positions[0] + [0, 0, 0.2]
    (folder / "overlapping.cif").write_text(cif(atoms))
    (folder / "text.cif").write_text("no crystal")
    (folder / "unlabelled.cif").write_text(cif(structures()[0]))
    with (folder / "id_prop.csv").open("a") as file:
        file.write("overlapping,1\ntext,2\nabsent,3\n")
    frames = CifCsv(path=folder).read()
    assert [atoms.info["name"] for atoms in frames] == ["Si-1", "CuAu"]
    reasons = {name: why.partition(":")[0] for name, why in frames.left_out.items()}
    assert reasons == {
        "NaCl": "partial occupancy",
        "overlapping": "impossible geometry",
        "text": "unreadable",
        "unlabelled": "no row in the table",
        "absent": "no CIF file",
    }
    assert "0.2" in frames.left_out["overlapping"]
    assert "2 structures are read, 5 are left out: 1 partial occupancy" in capsys.readouterr().err


@pytest.mark.parametrize("occupancy", [1.0, 0.9999])
def test_whole_atoms_may_state_an_occupancy(tmp_path, occupancy):
    assert len(CifCsv(path=crystals_in(tmp_path / "mofs", occupancy=occupancy)).read()) == 3


# --------------------------------------------------------------------------------------------- bad input


def test_an_unknown_property_gets_the_nearest(folder):
    table = folder / "id_prop.csv"
    table.write_text("id,AV_VF,PLD,metal\nSi-1,0.1,2,Zn\nNaCl,0.2,3,Cu\nCuAu,0.3,x,Cu\n")
    for options in ({"properties": {"void": "AV_VFF"}}, {"units": {"AV_VFF": ""}}):
        check = told(name="AV_VFF", allowed=["AV_VF"], remedy="'AV_VF'")
        with pytest.raises(DatasetError, match=str(table), check=check):
            CifCsv(path=folder, **options).read()
    with pytest.raises(DatasetError, match="line 4 has 'x'", check=told(name="PLD")):
        CifCsv(path=folder, properties={"pore": "PLD"}).read()
    with pytest.raises(DatasetError, match="line 4 has 'x'", check=told(name="PLD")):
        CifCsv(path=folder).read().values("PLD")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("Si-1,1\nNaCl,2\nSi-1.cif,3\n", {"value": "Si-1", "remedy": "one row"}),
        ("Si-1,1\nNaCl,two\nCuAu,3\n", {"value": "line 2 has 'two'", "remedy": "a number"}),
        ("Si-1,1\nNaCl,inf\nCuAu,3\n", {"value": "line 2 has 'inf'"}),
        ("Si-1,\nNaCl,\n", {"remedy": "a number"}),
        ("Si-1\nNaCl\n", {"remedy": "a number"}),
        ("", {"remedy": "a row"}),
        ("id,value\n", {"remedy": "a row"}),
    ],
    ids=["twice", "a word", "infinite", "empty cells", "no column", "empty", "a header alone"],
)
def test_a_table_with_a_fault(tmp_path, table, expected):
    path = crystals_in(tmp_path / "mofs", table)
    with pytest.raises(DatasetError, check=told(name=str(path / "id_prop.csv"), **expected)):
        CifCsv(path=path).read()


@pytest.mark.parametrize("name", ["charge", "name"])
def test_a_property_whose_name_means_something_else(tmp_path, name):
    path = crystals_in(tmp_path / "mofs", f"id,{name},gap\nSi-1,1,5\nNaCl,0,6\nCuAu,-1,7\n")
    with pytest.raises(DatasetError, check=told(name=name, remedy="`properties`")):
        CifCsv(path=path).read()
    frames = CifCsv(path=path, properties={"total_charge_of_cell": name, "gap": "gap"}).read()
    assert frames[0].info["total_charge_of_cell"] == 1
    assert frames[0].info["charge"] == 0


def test_a_table_of_other_structures(tmp_path):
    path = crystals_in(tmp_path / "mofs", "A,1\nB,2\n")
    with pytest.raises(
        DatasetError, match="no row in the table", check=told(name=str(path), remedy="first column")
    ):
        CifCsv(path=path).read()


def test_a_folder_without_a_table(folder):
    (folder / "id_prop.csv").unlink()
    with pytest.raises(DatasetError, check=told(name=str(folder / "id_prop.csv"), remedy="`table`")):
        CifCsv(path=folder).read()


def test_a_table_that_is_no_text(folder):
    (folder / "id_prop.csv").write_bytes(b"Si-1,1\n\xff\xfe\n")
    with pytest.raises(DatasetError, match="line 2", check=told(name=str(folder / "id_prop.csv"))):
        CifCsv(path=folder).read()


def test_a_folder_without_crystals(tmp_path):
    (tmp_path / "id_prop.csv").write_text("A,1\n")
    with pytest.raises(DatasetError, check=told(name=str(tmp_path), remedy="folder of the CIF files")):
        CifCsv(path=tmp_path).read()


@pytest.mark.parametrize("suffix", [".tar.xz", ".tar"])
def test_an_archive_that_was_cut_short(folder, tmp_path, suffix):
    archive = archive_of_crystals(tmp_path / f"mofs{suffix}", folder)
    archive.write_bytes(archive.read_bytes()[:-6000] if suffix == ".tar" else archive.read_bytes()[:-50])
    with pytest.raises(DatasetError, match="cut short", check=told(name=str(archive), remedy="again")):
        CifCsv(path=archive, table=folder / "id_prop.csv").read()


def test_a_set_of_core_mof_that_does_not_exist():
    with pytest.raises(DatasetError, check=told(name="2019-ASF", remedy="'2019-ASR'")):
        CifCsv(path=Path("core-mof/2019-ASF")).read()


def test_the_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, check=told(name="core-mof", remedy="pip install")):
        dataset({"format": "cif-csv", "path": "core-mof/2019-ASR"}).read()


# ---------------------------------------------------------------------------------------------- real data


def test_co2_in_hmof(shared_data):
    """Atoms as ASE reads them; capacity from the table by hand."""
    folder = shared_data / "hmof"
    frames = CifCsv(
        path=folder / "cif",
        table=folder / "co2_uptake.csv",
        properties={"capacity": "co2_2.5bar - co2_0.1bar"},
    ).read()
    assert len(frames) == 100
    number = next(k for k, atoms in enumerate(frames) if atoms.info["name"] == "hMOF-1233")
    assert frames.values("capacity")[number] == pytest.approx(10.1761 - 0.937546)
    smallest = int(frames.n_atoms.argmin())
    other = read(folder / "cif" / f"{frames[smallest].info['name']}.cif")
    assert sorted(frames[smallest].symbols) == sorted(other.symbols)
    own, others = (atoms.get_all_distances(mic=True) for atoms in (frames[smallest], other))
    assert np.sort(own.ravel()) == pytest.approx(np.sort(others.ravel()), abs=1e-3)


@pytest.mark.slow
def test_core_mof(tmp_path):
    """The columns explain each other: cm3_g is a density, and the volume fraction is volume times density."""
    if importlib.util.find_spec("CoRE_MOF") is None:
        pytest.skip("core-mof is not installed (pip install --no-deps core-mof)")
    frames = dataset({"format": "cif-csv", "path": "core-mof/2019-FSR"}).read()
    assert (len(frames), len(frames.left_out)) == (6716, 345)
    density = frames.values("cm3_g")
    assert frames.values("AV_cm3_g") * density == pytest.approx(frames.values("AV_VF"), abs=1e-5)
    masses = Atoms(numbers=frames.numbers).get_masses()
    mass = np.add.reduceat(masses, frames.offsets[:-1])
    own = 1.66053907 * mass / np.abs(np.linalg.det(frames.cells))  # g/cm^3
    assert np.abs(own / density - 1).max() < 2e-4  # of every structure: none lacks or repeats an atom
    assert frames.units["cm3_g"] == "g/cm^3"

"""Readers of ANI-1 and of the ionic liquid, on files that are made here, and on the real ones."""

import json

import h5py
import numpy as np
import pytest
from ase import units
from ase.data import covalent_radii
from ase.io import read
from ase.neighborlist import neighbor_list
from raising import told
from typer.testing import CliRunner

from asecalc_ml.cli.ml import app
from asecalc_ml.errors import ConfigError, DatasetError
from asecalc_ml.potentials.datasets import ANI1, NeuralILJson, dataset, dataset_hash

PAIR = ["N", "H", "H", "H", "C", "H", "H", "C", "H", "H", "H", "N", "O", "O", "O"]


# ------------------------------------------------------------------------------------------------- ANI-1


def add_molecule(file: h5py.File, name: str, symbols: str, smiles: str, energies: list[float]) -> None:
    """Frames whose positions count up, and one of high energy more."""
    group, n_atoms = file.create_group(f"gdb11_s01/{name}"), len(symbols)
    coordinates = np.arange(len(energies) * n_atoms * 3, dtype="f4").reshape(-1, n_atoms, 3)
    group["coordinates"], group["energies"] = coordinates, energies
    group["coordinatesHE"], group["energiesHE"] = coordinates[:1] + 100, [9.0]
    group["species"] = np.array(list(symbols), "S1")
    group["smiles"] = np.array(list(smiles), "S1")


@pytest.fixture
def ani(tmp_path):
    path = tmp_path / "ani.h5"
    with h5py.File(path, "w") as file:
        add_molecule(file, "s01-0", "CHHHH", "[H]C([H])([H])[H]", [-40.0, -40.5])
        add_molecule(file, "s01-1", "OHH", "[H]O[H]", [-76.0])
    return path


def test_conformations_come_with_energy_and_without_forces(ani):
    frames = ANI1(path=ani).read()
    assert [str(atoms.symbols) for atoms in frames] == ["CH4", "CH4", "OH2"]
    expected = np.array([-40.0, -40.5, -76.0]) * units.Hartree
    assert [atoms.get_potential_energy() for atoms in frames] == pytest.approx(expected)
    assert all("forces" not in atoms.calc.results for atoms in frames)
    assert frames[1].positions[0].tolist() == [15, 16, 17]
    assert frames[2].info["group"] == "H2O"
    assert (frames[2].info["smiles"], frames[2].info["molecule"]) == ("[H]O[H]", "s01-1")


def test_a_data_set_is_written_as_extended_xyz(ani, tmp_path):
    target = tmp_path / "ani.extxyz"
    arguments = ["data", "convert", str(ani), str(target), "--molecules", "[H2O]"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (frame,), (expected,) = read(target, ":"), ANI1(path=ani, molecules=["H2O"]).read()
    assert frame.positions == pytest.approx(expected.positions)
    assert frame.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-6)
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "--overwrite" in again.output


@pytest.mark.parametrize("molecule", ["s01-1", "[H]O[H]", "H2O"], ids=["name", "SMILES", "formula"])
def test_molecules_are_chosen_by_any_of_their_names(ani, molecule):
    assert [str(atoms.symbols) for atoms in ANI1(path=ani, molecules=[molecule]).read()] == ["OH2"]


def test_an_unknown_molecule_gets_the_nearest(ani):
    check = told(value="s01-7", allowed=["s01-0", "s01-1"], remedy="`molecules`")
    with pytest.raises(DatasetError, match=r"'s01-[01]'", check=check):
        ANI1(path=ani, molecules=["s01-7"]).read()


def test_conformations_of_high_energy_follow_their_molecule(ani):
    frames = ANI1(path=ani, high_energy=True).read()
    hartree = [round(atoms.get_potential_energy() / units.Hartree, 6) for atoms in frames]
    assert hartree == [-40.0, -40.5, 9.0, -76.0, 9.0]
    assert frames[2].positions[0].tolist() == [100, 101, 102]


def test_frames_are_counted_over_all_molecules(ani):
    assert [len(atoms) for atoms in ANI1(path=ani, frames="1:").read()] == [5, 3]


def test_the_hash_sees_energies_without_forces(ani):
    frames = ANI1(path=ani).read()
    before = dataset_hash(frames)
    frames[0].calc.results["energy"] += 1e-9
    assert dataset_hash(frames) != before


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-500]),
        lambda path: path.write_text("no HDF5"),
        lambda path: h5py.File(path, "w").create_dataset("other", data=[1]).file.close(),
        lambda path: remove(path, "gdb11_s01/s01-0/energies"),
        lambda path: shorten(path, "gdb11_s01/s01-0/energies"),
    ],
    ids=["cut", "text", "another file", "no energies", "too few energies"],
)
def test_a_file_of_ani_with_a_fault(ani, damage):
    damage(ani)
    with pytest.raises(DatasetError, check=told(name=str(ani), remedy="fetch")):
        ANI1(path=ani).read()


def remove(path, name: str) -> None:
    with h5py.File(path, "a") as file:
        del file[name]


def shorten(path, name: str) -> None:
    with h5py.File(path, "a") as file:
        values = file[name][:-1]
        del file[name]
        file[name] = values


def test_real_ani1(shared_data):
    """As its README says: 10,800 conformations of methane, ammonia and water, relaxed ones lowest."""
    frames = ANI1(path=shared_data / "ani1/ani_gdb_s01.h5").read()
    counts = {name: sum(atoms.info["group"] == name for atoms in frames) for name in ("CH4", "H3N", "H2O")}
    assert counts == {"CH4": 5400, "H3N": 3600, "H2O": 1800}
    water = min((a for a in frames if a.info["group"] == "H2O"), key=lambda a: a.get_potential_energy())
    assert sorted(water.get_all_distances()[0])[1:] == pytest.approx([0.96, 0.96], abs=0.02)


# ------------------------------------------------------------------------------------------ ionic liquid


def record(rms: float = 0.2, energy: float = -1.0, n_pairs: int = 2) -> dict:
    n_atoms = 15 * n_pairs
    return {
        "Energy": energy,
        "Positions": (np.arange(3 * n_atoms) / 10).reshape(-1, 3).tolist(),
        "Forces": np.full((n_atoms, 3), rms).tolist(),
        "Cell-Size": [12.9, 12.9, 12.8],
    }


def lines(path, *records: dict):
    path.write_text("\n".join(json.dumps(one) for one in records) + "\n")
    return path


def test_a_line_becomes_a_periodic_frame(tmp_path):
    (atoms,) = NeuralILJson(path=lines(tmp_path / "ean.json", record())).read()
    assert atoms.get_chemical_symbols() == PAIR[:11] * 2 + PAIR[11:] * 2
    assert atoms.cell.array.tolist() == [[12.9, 0, 0], [0, 12.9, 0], [0, 0, 12.8]]
    assert atoms.pbc.all()
    assert atoms.get_potential_energy() == -1.0
    assert atoms.get_forces()[-1].tolist() == [0.2] * 3


def test_populations_and_outliers(tmp_path):
    path = lines(tmp_path / "ean.json", record(0.2), record(1.0), record(1.0, energy=5.0), record(0.3))
    frames = NeuralILJson(path=path, max_energy_eV=0.0).read()
    assert [(atoms.info["frame"], atoms.info["group"]) for atoms in frames] == [
        (0, "relaxed"),
        (1, "thermal"),
        (3, "relaxed"),
    ]


def test_lines_are_counted_before_outliers_are_left_out(tmp_path):
    path = lines(tmp_path / "ean.json", *(record(energy=float(k)) for k in range(4)))
    frames = NeuralILJson(path=path, frames="1:", max_energy_eV=2.5).read()
    assert [atoms.info["frame"] for atoms in frames] == [1, 2]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (json.dumps(record())[:-20], "line 1: JSONDecodeError"),
        (json.dumps({"Energy": 1.0}), "KeyError: 'Positions'"),
        (json.dumps(record() | {"Forces": [[0, 0, 0]]}), r"forces .*\(1, 3\)"),
        (json.dumps(record() | {"Positions": [[0, 0, 0]] * 7, "Forces": [[0, 0, 0]] * 7}), r"\(7, 3\)"),
        (json.dumps(record() | {"Energy": None}), "line 1: TypeError"),
        ("[1, 2]", "line 1: TypeError"),
    ],
)
def test_a_line_with_a_fault(tmp_path, text, fault):
    path = tmp_path / "ean.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=fault, check=told(name=str(path), remedy="15 atoms for each")):
        NeuralILJson(path=path).read()


def test_real_ionic_liquid(shared_data):
    """71 frames without the outliers, 44 relaxed; every atom has a bond that its element explains."""
    path = shared_data / "ean/validation_original.json"
    assert len(NeuralILJson(path=path).read()) == 75
    frames = NeuralILJson(path=path, max_energy_eV=-1255).read()
    groups = [atoms.info["group"] for atoms in frames]
    assert (groups.count("relaxed"), groups.count("thermal")) == (44, 27)
    for atoms in frames:
        assert str(atoms.symbols[:11]) == "NH3CH2CH3"
        i, j, d = neighbor_list("ijd", atoms, 1.8)
        bonded = d < 1.3 * (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
        degree = np.bincount(i[bonded], minlength=len(atoms))
        assert (degree[atoms.numbers == 6] == 4).all()


def test_readers_are_found_by_name_and_have_units_of_their_own():
    assert isinstance(dataset({"format": "ani1", "path": "x"}), ANI1)
    assert isinstance(dataset({"format": "neuralil-json", "path": "x"}), NeuralILJson)
    for name in ("ani1", "neuralil-json"):
        with pytest.raises(ConfigError, check=told(name="energy_unit")):
            dataset({"format": name, "path": "x", "energy_unit": "kJ/mol"})

"""The reader of QM9: its three kinds of files, its units, and the molecules that it leaves out."""

import importlib.util

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read
from property_data import (
    MOLECULES,
    Molecule,
    archive_of,
    extended_xyz_of,
    folder_of,
    tables_of,
)
from raising import told
from scipy import constants
from typer.testing import CliRunner

from asecalc_ml.cli.ml import app
from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets import QM9, dataset, dataset_hash
from asecalc_ml.potentials.datasets.readers.qm9.molecules import ATOMS, UNITS, less_atoms, uncharacterised

N_QM9, N_UNCHARACTERISED = 133_885, 3054


WRITERS = {
    "folder": lambda folder: folder_of(folder / "raw"),
    "archive": lambda folder: archive_of(folder / "raw.tar.bz2"),
    "tables": lambda folder: tables_of(folder / "tables"),
    "extended XYZ": lambda folder: extended_xyz_of(folder / "molecules.xyz"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_all_files_give_the_same_molecules_without_the_uncharacterised(kind, tmp_path, capsys):
    frames = QM9(path=WRITERS[kind](tmp_path)).read()
    assert frames.whole_numbers["index"].tolist() == [1, 3, 5]
    for atoms, molecule in zip(frames, MOLECULES, strict=True):
        expected = molecule.expected()
        assert atoms.get_chemical_symbols() == expected.get_chemical_symbols()
        assert atoms.positions == pytest.approx(expected.positions, abs=1e-10)
        assert atoms.get_potential_energy() == pytest.approx(expected.get_potential_energy(), rel=1e-13)
        assert atoms.info["smiles"] == molecule.smiles
        assert atoms.info["rotational_constants"].tolist() == molecule.rotational
        if kind != "extended XYZ":
            assert atoms.get_array("mulliken_charges").tolist() == molecule.charges.tolist()
            assert atoms.info["frequencies"].tolist() == molecule.frequencies
    n_left_out = N_UNCHARACTERISED if kind == "tables" else 1
    assert set(frames.left_out.values()) == {"uncharacterised"}
    assert len(frames.left_out) == n_left_out
    assert f"3 structures are read, {n_left_out} are left out: {n_left_out} uncharacterised" in (
        capsys.readouterr().err
    )


def test_properties_are_in_the_units_of_targets(tmp_path):
    frames = QM9(path=WRITERS["archive"](tmp_path)).read()
    expected = {
        "mu": 1.6256, "alpha": 13.21, "homo": -10.54985, "lumo": 3.18645, "gap": 13.73631, "r2": 35.3641,
        "zpve": 1.21768, "u298": -1101.40975, "h298": -1101.38403, "g298": -1102.02296, "cv": 6.469,
    }  # fmt: skip
    for name, value in expected.items():
        assert frames.values(name)[0] == pytest.approx(value, abs=1e-5)
        assert frames.units[name] == UNITS[name]
    assert frames.units["rotational_constants"] == "GHz"
    assert frames.units.keys() == frames.properties.keys()


def test_atomisation_energies(tmp_path):
    """U0 - C - 4 H of methane by hand, from the numbers of its file."""
    path = WRITERS["folder"](tmp_path)
    energies = QM9(path=path, energies="atomisation").read()
    assert energies.values("u0")[0] == pytest.approx(
        27.2113860 * (-41.47893 + 37.846772 + 4 * 0.500273), abs=1e-5
    )
    assert energies[0].get_potential_energy() == energies.values("u0")[0]
    total = QM9(path=path).read()
    for name in ("g298", "h298", "u298"):
        atoms = ATOMS[name][8] + 2 * ATOMS[name][1]
        shift = (total.values(name) - energies.values(name))[1] / units.Hartree
        assert shift == pytest.approx(atoms, abs=1e-9)
    for name in ("homo", "zpve", "cv"):
        assert (total.values(name) == energies.values(name)).all()


def test_an_element_without_a_free_atom(tmp_path):
    path = extended_xyz_of(tmp_path / "silane.xyz", [Molecule(2, ["Si", "H"], "", [1.0])])
    assert len(QM9(path=path).read()) == 1
    with pytest.raises(DatasetError, check=told(name="energies", value=14, remedy="total")):
        QM9(path=path, energies="atomisation").read()


def test_tensors_serve_by_their_invariants_alone(tmp_path):
    frames = QM9(path=WRITERS["tables"](tmp_path)).read()
    for number, molecule in enumerate(MOLECULES):
        eigenvalues = np.linalg.eigvalsh(molecule.tensor)
        assert frames.values("alpha_eigenvalues")[number] == pytest.approx(eigenvalues)
        deviator = molecule.tensor - np.trace(molecule.tensor) / 3 * np.eye(3)
        anisotropy = np.sqrt(1.5 * (deviator**2).sum())  # a norm, which no rotation changes
        assert frames.values("alpha_anisotropy")[number] == pytest.approx(anisotropy)
    with pytest.raises(DatasetError, match="standard orientation", check=told(name="polarizability")):
        frames.values("polarizability")
    with pytest.raises(DatasetError, match="norm", check=told(name="dipole")):
        frames.values("dipole")
    assert "polarizability" not in frames[0].info


def test_of_two_sets_of_frequencies_the_second_is_kept(tmp_path):
    frames = QM9(path=tables_of(tmp_path / "tables", repeated=True)).read()
    assert [frames[k].info["frequencies"].tolist() for k in range(3)] == [m.frequencies for m in MOLECULES]


def test_the_list_of_uncharacterised_molecules():
    numbers = uncharacterised()
    assert len(numbers) == len(set(numbers.tolist())) == N_UNCHARACTERISED
    assert (numbers >= 1).all()
    assert (numbers <= N_QM9).all()


def test_all_molecules_are_read_as_arrays_once(tmp_path, monkeypatch):
    path = WRITERS["tables"](tmp_path)
    first = QM9(path=path).read()
    monkeypatch.setattr("asecalc_ml.potentials.datasets.readers.qm9.csv_tables.read_tables", None)
    assert QM9(path=path).read().hash == first.hash == dataset_hash(QM9(path=path).read())


def test_located_frames_are_made_when_they_are_taken(tmp_path):
    located = QM9(path=WRITERS["archive"](tmp_path), frames="1:").read_free()
    assert list(located) == [f"{tmp_path / 'raw.tar.bz2'}, frame {k}" for k in (1, 2)]
    assert str(located[f"{tmp_path / 'raw.tar.bz2'}, frame 2"].symbols) == "CNH"
    assert len(located.frames) == 2


def test_a_data_set_becomes_extended_xyz(tmp_path):
    source, target = WRITERS["archive"](tmp_path), tmp_path / "qm9.extxyz"
    result = CliRunner().invoke(app, ["data", "convert", str(source), str(target), "--format", "qm9"])
    assert result.exit_code == 0, result.output
    frames = read(target, ":")
    assert frames[0].info["homo"] == pytest.approx(-10.54985, abs=1e-5)
    assert frames[2].info["smiles"] == "C#N"
    assert frames[1].get_potential_energy() == pytest.approx(MOLECULES[1].expected().get_potential_energy())


# --------------------------------------------------------------------------------------------- bad input


def test_the_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, check=told(name="qm9pack", remedy="asecalc-ml[properties]")):
        dataset({"format": "qm9"}).read()


def test_a_folder_without_molecules(tmp_path):
    with pytest.raises(DatasetError, check=told(name=str(tmp_path), remedy="qm9pack")):
        QM9(path=tmp_path).read()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_an_archive_that_was_cut_short(tmp_path, share):
    path = WRITERS["archive"](tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, check=told(name=str(path), remedy="again")):
        QM9(path=path).read()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("gdb 3", "gdb x", "invalid literal"),
        ("\t6.469", "", "15 properties"),
        ("3\ngdb", "4\ngdb", ""),
        ("O\t", "Xx\t", "Xx"),
        ("1671.4", "16y1.4", "16y1.4"),
        ("\tInChI=1S/", "", None),
    ],
)
def test_a_molecule_with_a_fault_is_named(tmp_path, old, new, fault):
    path = WRITERS["folder"](tmp_path)
    file = path / MOLECULES[1].name
    file.write_text(file.read_text().replace(old, new, 1))
    if fault is None:  # nobody reads InChI
        assert len(QM9(path=path).read()) == 3
        return
    with pytest.raises(DatasetError, match=file.name, check=told(name=str(path))) as caught:
        QM9(path=path).read()
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("'O'", "'O','O'", "do not fit"),
        (",6.469\n", "\n", "24 columns"),
        ("1671.4", "16y1.4", "molecules 3 and 5"),
        ("13.21", "13,21", "26 columns"),
        ("'O'", "'Ox'", "Ox"),
    ],
)
def test_a_table_with_a_fault_is_named(tmp_path, old, new, fault):
    table = WRITERS["tables"](tmp_path) / "qm9_part2.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(
        DatasetError, match=fault, check=told(name=str(table), remedy="install qm9pack again")
    ):
        QM9(path=table.parent).read()


def test_tensors_that_were_cut_short(tmp_path):
    table = WRITERS["tables"](tmp_path) / "qm9_polarizability.csv"
    table.write_text(table.read_text()[:-20])
    with pytest.raises(DatasetError, check=told(name=str(table), value="line 4")):
        QM9(path=table.parent).read()


def test_a_molecule_that_comes_twice(tmp_path):
    path = extended_xyz_of(tmp_path / "twice.xyz", [*MOLECULES, MOLECULES[0]])
    with pytest.raises(DatasetError, check=told(name="molecule 1", value=1, remedy="copies")):
        QM9(path=path).read()


def test_a_file_in_other_units(tmp_path):
    path = extended_xyz_of(tmp_path / "eV.xyz")
    path.write_text(path.read_text().replace("epsHOMO=-0.3877", "epsHOMO=-10.55"))
    with pytest.raises(DatasetError, match="not in Hartree", check=told(name="homo", value=-10.55)):
        QM9(path=path).read()


def test_a_file_without_properties(tmp_path):
    path = tmp_path / "other.xyz"
    path.write_text('2\nProperties=species:S:1:pos:R:3 espHOMO=-0.3 pbc="F F F"\nH 0 0 0\nH 0 0 0.74\n')
    with pytest.raises(DatasetError, check=told(name=str(path), value="espHOMO", remedy="format: ase")):
        QM9(path=path).read()


# ---------------------------------------------------------------------------------------------- real data


def test_100_molecules_of_metatrain(shared_data):
    with pytest.warns(UserWarning, match="does not number 100 of its 100 molecules"):
        frames = QM9(path=shared_data / "qm9/qm9_reduced_100.xyz").read()
    assert len(frames) == 100
    assert (frames.whole_numbers["index"] == 0).all()  # the file does not number them
    assert frames.values("homo")[0] == pytest.approx(-0.3877 * units.Hartree)
    assert frames.values("lumo") - frames.values("homo") == pytest.approx(frames.values("gap"), abs=4e-3)


@pytest.fixture(scope="module")
def qm9(tmp_path_factory):
    """All of QM9, if the package is installed."""
    if importlib.util.find_spec("qm9pack") is None:
        pytest.skip("qm9pack, which holds QM9, is not installed (pip install 'asecalc-ml[properties]')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield dataset({"format": "qm9"}).read()


@pytest.mark.slow
def test_real_qm9_obeys_its_own_relations(qm9):
    """ZPVE is half the sum of the frequencies, the gap LUMO - HOMO, alpha the mean eigenvalue, ..."""
    assert len(qm9) == N_QM9 - N_UNCHARACTERISED
    per_cm = constants.h * constants.c * 100 / constants.e  # eV
    sums = np.add.reduceat(qm9.lists["frequencies"].values, qm9.lists["frequencies"].offsets[:-1])
    deviations = np.abs(0.5 * per_cm * sums - qm9.values("zpve"))
    assert np.sort(deviations)[-3] < 2e-4  # of all but two molecules (59818 and 129158)
    n_modes, n_atoms = np.diff(qm9.lists["frequencies"].offsets), qm9.n_atoms
    assert np.isin(n_modes - 3 * n_atoms, (-6, -5)).all()
    assert np.abs(qm9.values("lumo") - qm9.values("homo") - qm9.values("gap")).max() < 4e-3
    assert np.abs(qm9.values("alpha_eigenvalues").mean(axis=1) - qm9.values("alpha")).max() < 6e-3
    charges = np.add.reduceat(qm9.of_atoms["mulliken_charges"], qm9.offsets[:-1])
    assert np.abs(charges).max() < 1e-4
    ideal_gas = qm9.values("h298") - qm9.values("u298")
    assert ideal_gas == pytest.approx(units.kB * 298.15, abs=1e-4)  # H - U = kT
    assert np.isin(qm9.numbers, (1, 6, 7, 8, 9)).all()
    electrons = np.add.reduceat(qm9.numbers.astype(int), qm9.offsets[:-1])
    assert (electrons % 2 == 0).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not number")
def test_real_qm9_has_the_molecules_of_other_files(qm9, shared_data):
    """Of metatrain's file of 100, of which three are uncharacterised; U0 of librascal's file of 985."""
    own = Molecules(qm9[:3000])
    others = QM9(path=shared_data / "qm9/qm9_reduced_100.xyz").read()
    pairs = [(atoms, other) for other in others for atoms in own.same_as(other)]
    assert len(pairs) == 97
    for atoms, other in pairs:
        for name in UNITS:
            assert atoms.info[name] == pytest.approx(other.info[name], rel=1e-9)
    own = Molecules(less_atoms(qm9[:3000]))
    others = read(shared_data / "qm9/small_molecules-1000.xyz", ":")
    pairs = [(atoms, other) for other in others for atoms in own.same_as(other)]
    assert len(pairs) > 10
    for atoms, other in pairs:
        per_atom = atoms.get_potential_energy() / len(atoms)
        assert per_atom == pytest.approx(other.info["dft_formation_energy_per_atom_in_eV"], abs=1e-4)


class Molecules:
    """Molecules that are found by their interatomic distances."""

    def __init__(self, frames):
        self._of_elements: dict[tuple, list[Atoms]] = {}
        for atoms in frames:
            self._of_elements.setdefault(tuple(atoms.numbers), []).append(atoms)

    def same_as(self, other: Atoms) -> list[Atoms]:
        """Molecules of the same elements whose distances agree within 1e-4 Å."""
        candidates = self._of_elements.get(tuple(other.numbers), [])
        distances = other.get_all_distances()
        return [one for one in candidates if np.abs(one.get_all_distances() - distances).max() < 1e-4]

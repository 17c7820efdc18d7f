"""The reader of mlearn: order, unit and sign of the stress, shown on a made file and on the real one."""

import itertools
import json

import numpy as np
import pytest
from ase import units
from raising import told

from asecalc_ml.errors import ConfigError, DatasetError
from asecalc_ml.potentials.datasets import Mlearn, dataset, dataset_hash

LABELS = {
    "energy": -10.5,
    "forces": [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]],
    "virial_stress": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0],
}


def record(**labels) -> dict:
    """Two atoms of silicon in a cell, with every number different."""
    matrix = [[4.0, 0.0, 0.0], [0.5, 5.0, 0.0], [0.0, 0.25, 6.0]]
    sites = [{"species": [{"element": "Si", "occu": 1}], "xyz": [k, 2.0 * k, 0.0]} for k in range(2)]
    structure, outputs = {"lattice": {"matrix": matrix}, "sites": sites}, LABELS | labels
    return {"structure": structure, "outputs": outputs, "group": "Elastic", "description": "made by hand"}


@pytest.fixture
def saved(tmp_path):
    def save(records):
        path = tmp_path / "mlearn.json"
        path.write_text(json.dumps(records))
        return path

    return save


def test_a_record_becomes_atoms_in_ases_conventions(saved):
    (atoms,) = dataset({"format": "mlearn", "path": str(saved([record()]))}).read()
    assert atoms.get_chemical_formula() == "Si2"
    assert atoms.pbc.all()
    assert atoms.cell[1].tolist() == [0.5, 5.0, 0.0]
    assert atoms.positions[1].tolist() == [1.0, 2.0, 0.0]
    assert atoms.get_potential_energy() == -10.5
    assert atoms.get_forces()[0].tolist() == [0.1, 0.2, 0.3]
    assert (atoms.info["group"], atoms.info["description"]) == ("Elastic", "made by hand")


def test_stress_in_kbar_of_vasp_becomes_ases(saved):
    """xx yy zz xy yz xz, pressure positive -> xx yy zz yz xz xy, tension positive; 10 kbar are 1 GPa."""
    (atoms,) = Mlearn(path=saved([record()])).read()
    assert atoms.get_stress() / units.GPa == pytest.approx([-1, -2, -3, -5, -6, -4])


def test_frames_are_chosen_before_they_are_read(saved):
    frames = Mlearn(path=saved([{}, record(energy=-2.0)]), frames="1:").read()
    assert [atoms.get_potential_energy() for atoms in frames] == [-2.0]


def test_units_are_the_files_own(saved):
    with pytest.raises(ConfigError, check=told(name="energy_unit", value="Hartree", allowed="eV")):
        dataset({"format": "mlearn", "path": str(saved([record()])), "energy_unit": "Hartree"})


@pytest.mark.parametrize(
    ("content", "place", "expected"),
    [
        ("[{", "", {"name": "mlearn.json", "remedy": "fetch"}),
        ("{}", "", {"name": "mlearn.json", "remedy": "mlearn"}),
        ("[{}]", "record 0: KeyError: 'structure'", {"name": "mlearn.json", "remedy": "virial_stress"}),
        (json.dumps([record(energy=None)]), "record 0: TypeError", {"remedy": "energy"}),
        (json.dumps([record(virial_stress=[1.0])]), "record 0: IndexError", {"remedy": "virial_stress"}),
        (json.dumps([record(forces=[[0, 0, 0]])]), "frame 0", {"name": "forces", "value": (1, 3)}),
        (json.dumps([record(virial_stress=[np.inf] * 6)]), "frame 0", {"name": "stress", "remedy": True}),
    ],
)
def test_a_file_with_a_fault(tmp_path, content, place, expected):
    path = tmp_path / "mlearn.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=place, check=told(**expected)):
        Mlearn(path=path).read()


def test_stress_enters_the_hash(saved):
    records = (record(), record(virial_stress=[10.0, 20.0, 30.0, 40.0, 50.0, 61.0]))
    hashes = [dataset_hash(Mlearn(path=saved([one])).read()) for one in records]
    assert hashes[0] != hashes[1]


# --------------------------------------------------------------------------------------------- real data


@pytest.fixture
def silicon(shared_data):
    return shared_data / "mlearn" / "Si"


def test_real_silicon(silicon):
    frames = Mlearn(path=silicon / "test.json").read()
    groups = [atoms.info["group"] for atoms in frames]
    assert {group: groups.count(group) for group in set(groups)} == {
        "AIMD-NVT": 10,
        "Elastic": 6,
        "Surface": 2,
        "Vacancy": 7,
    }
    assert all(abs(atoms.get_forces().sum(axis=0)).max() < 0.03 for atoms in frames)


@pytest.mark.parametrize("mode", range(6))
def test_the_sign_of_the_stress_is_that_of_the_energys_derivative(silicon, mode):
    """Elastic cells are one crystal under growing strain: neighbors in a series are finite differences.

    From one cell to the next the deformation gradient is 1 + e, and the energy grows by V stress : e, with
    the mean of both stresses. The atoms move affinely, so nothing else contributes. VASP's sign would give
    -1. The basis of plane waves changes with the cell, which is worth one per cent.
    """
    done, gained = zip(*itertools.starmap(works, itertools.pairwise(strained(silicon, mode))), strict=True)
    assert len(done) == 9
    assert np.polyfit(gained, done, 1)[0] == pytest.approx(1, abs=0.02)


def strained(folder, mode: int) -> list:
    """Strained cells of one mode from both files, in the order of their strain."""
    frames = [atoms for name in ("training", "test") for atoms in Mlearn(path=folder / f"{name}.json").read()]
    words = f"mode {mode}, strain "
    chosen = [atoms for atoms in frames if words in atoms.info["description"]]
    return sorted(chosen, key=lambda atoms: float(atoms.info["description"].split(words)[1]))


def works(first, second) -> tuple[float, float]:
    """Work of the mean stress between two cells, and their difference in energy, eV."""
    strain = np.linalg.solve(first.cell.array, second.cell.array).T - np.eye(3)
    virials = [atoms.get_stress(voigt=False) * atoms.get_volume() for atoms in (first, second)]
    energies = [atoms.get_potential_energy() for atoms in (first, second)]
    return float(np.sum(0.5 * sum(virials) * strain)), energies[1] - energies[0]

"""Structures by name, SMILES and file; what is refused, and why."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read, write
from hypothesis import given
from hypothesis import strategies as st
from raising import told

from asecalc_ml.errors import StructureError
from asecalc_ml.md_protocols.engine.preparation import prepare
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.structure import loading
from asecalc_ml.structure.loading import MOLECULES, check_structure, load_structure, shipped_names

FORMULAS = {
    "1-propanol": "C3H8O",
    "2-propanol": "C3H8O",
    "acetic-acid": "C2H4O2",
    "benzene": "C6H6",
    "ethanol": "C2H6O",
    "ethylamine-nitric-acid": "C2H8N2O3",
    "ethylammonium": "C2H8N",
    "ethylammonium-nitrate": "C2H8N2O3",
    "malonaldehyde": "C3H4O2",
    "naphthalene": "C10H8",
    "nitrate": "NO3",
    "nitric-acid": "HNO3",
    "pyrimidine": "C4H4N2",
    "uracil": "C4H4N2O2",
    "water": "H2O",
}
CHARGES = {"ethylammonium": 1, "nitrate": -1}


def test_the_shipped_table():
    assert shipped_names() == sorted(FORMULAS)


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_molecules(name):
    atoms = load_structure(name)
    assert atoms.get_chemical_formula("hill") == "".join(Atoms(FORMULAS[name]).get_chemical_formula("hill"))
    assert atoms.info["charge"] == CHARGES.get(name, 0)
    assert (atoms.numbers.sum() - atoms.info["charge"] - atoms.info["spin"]) % 2 == 0
    assert "GFN2-xTB" in atoms.info["made"]


@pytest.mark.parametrize("name", sorted(set(shipped_names()) - {"ethylammonium-nitrate"}))
def test_shipped_molecules_are_relaxed(name):
    pytest.importorskip("tblite", reason="needs tblite: pip install 'asecalc-ml[reference]'")
    from asecalc_ml.calculators.factory import make_calculator

    atoms = load_structure(name)
    atoms.calc = make_calculator("gfn2-xtb", accuracy=0.01)
    assert abs(atoms.get_forces()).max() < 5e-4
    assert atoms.get_potential_energy() == pytest.approx(atoms.info["gfn2_energy_eV"], abs=1e-4)


def test_the_ion_pair_is_two_ions():
    pair = load_structure("ethylammonium-nitrate")
    distances = pair.get_all_distances()[pair.symbols.search("N")[0], pair.symbols.search("H")]
    assert (distances < 1.2).sum() == 3


def test_names_of_g2_with_the_spin_of_radicals():
    assert load_structure("CH3CH2OH").get_chemical_formula() == "C2H6O"
    assert load_structure("O2").info["spin"] == 2
    assert load_structure("OH").info == {"charge": 0, "spin": 1}


def test_smiles():
    pytest.importorskip("rdkit", reason="needs RDKit: pip install 'asecalc-ml[molecules]'")
    atoms = load_structure("smiles:CC[NH3+]")
    assert atoms.get_chemical_formula() == "C2H8N"
    assert (atoms.info["charge"], atoms.info["spin"]) == (1, 0)
    assert np.array_equal(atoms.positions, load_structure("smiles:CC[NH3+]").positions)
    assert load_structure("smiles:[CH3]").info["spin"] == 1
    with pytest.raises(StructureError, check=told(name="SMILES", value="C(")):
        load_structure("smiles:C(")


def test_files_and_frames_of_files(tmp_path):
    path, info = tmp_path / "h2.xyz", {"charge": 1, "spin": 1}
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, length]], info=info) for length in (0.7, 0.8, 0.9)]
    write(path, frames)
    assert load_structure(path).get_distance(0, 1) == pytest.approx(0.9)  # the last, as ASE reads
    assert load_structure(f"{path}@0").get_distance(0, 1) == pytest.approx(0.7)
    assert load_structure(path).info == {"charge": 1, "spin": 1}
    with pytest.raises(StructureError, check=told(name="h2.xyz", value=":", remedy="number")):
        load_structure(f"{path}@:")
    for index in (3, -4):
        expected = told(name="h2.xyz", value=str(index), allowed="0 to 2")
        with pytest.raises(StructureError, check=expected):
            load_structure(f"{path}@{index}")
    path.rename(tmp_path / "h2@300K.xyz")
    assert load_structure(tmp_path / "h2@300K.xyz").get_distance(0, 1) == pytest.approx(0.9)
    assert load_structure(f"{tmp_path / 'h2@300K.xyz'}@0").get_distance(0, 1) == pytest.approx(0.7)


def test_atoms_pass_through_as_a_copy():
    ethanol = molecule("CH3CH2OH")
    loaded = load_structure(ethanol)
    loaded.positions += 1
    assert ethanol == molecule("CH3CH2OH")
    assert "charge" not in ethanol.info


def test_results_of_a_file_are_left_behind(tmp_path):
    atoms = bulk("Si")
    from ase.calculators.lj import LennardJones

    atoms.calc = LennardJones()
    atoms.get_potential_energy()
    write(tmp_path / "si.traj", atoms)
    assert read(tmp_path / "si.traj").calc is not None
    with pytest.raises((RuntimeError, PropertyNotImplementedError)):
        load_structure(tmp_path / "si.traj").get_potential_energy()


def test_unknown_names_get_the_nearest():
    expected = told(name="ethanl", allowed=["ethanol", "CH3CH2OH"], remedy="Did you mean ethanol")
    with pytest.raises(StructureError, check=expected):
        load_structure("ethanl")
    with pytest.raises(
        StructureError, match=re.escape(str(Path.cwd())), check=told(name="missing.xyz", remedy=True)
    ):
        load_structure("missing.xyz")


def test_a_broken_file(tmp_path):
    (tmp_path / "broken.xyz").write_text("3\n\nH 0 0 zero\n")
    with pytest.raises(StructureError, match=r"broken\.xyz, line 1: ", check=told(name="broken.xyz")):
        load_structure(tmp_path / "broken.xyz")


@pytest.mark.parametrize("charge", [0.5, "one", None])
def test_a_charge_that_is_no_whole_number(charge):
    with pytest.raises(StructureError, check=told(value=charge, allowed="whole number")):
        load_structure(Atoms("H", info={"charge": charge}))


# --------------------------------------------------------------------------------------------- checks


def test_empty():
    with pytest.raises(StructureError, check=told(remedy="file")):
        check_structure(Atoms())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_that_are_not_finite(value):
    atoms = molecule("H2O")
    atoms.positions[1, 2] = value
    with pytest.raises(StructureError, check=told(name="positions of atom 1 (H)", remedy="time step")):
        check_structure(atoms)


def test_overlapping_atoms_are_named():
    atoms = molecule("H2O")
    atoms.positions[2] = atoms.positions[0] + [0, 0, 0.1]
    expected = told(name="atom 0 (O) and atom 2 (H)", value=pytest.approx(0.1), allowed="0.4 Å", remedy=True)
    with pytest.raises(StructureError, check=expected):
        check_structure(atoms)


@given(st.integers(0, 2), st.booleans())
def test_overlap_across_one_wall_of_the_cell(axis, periodic):
    positions = np.full((2, 3), 2.0)
    positions[:, axis] = [0.1, 3.9]
    atoms = Atoms("He2", positions, cell=[4, 4, 4], pbc=False)
    atoms.pbc[axis] = periodic
    if periodic:
        with pytest.raises(StructureError, check=told(value=pytest.approx(0.2))):
            check_structure(atoms)
    else:
        check_structure(atoms)


def test_a_cell_so_small_that_an_atom_meets_itself():
    expected = told(name="atom 0 (He) and atom 0 (He)", value=pytest.approx(0.3))
    with pytest.raises(StructureError, check=expected):
        check_structure(Atoms("He", cell=[0.3, 5, 5], pbc=True))


def test_periodic_without_a_cell():
    with pytest.raises(StructureError, check=told(name="pbc", value=[True, True, True])):
        check_structure(Atoms("He", pbc=True))
    check_structure(Atoms("He", cell=[[3, 0, 0], [0, 3, 0], [0, 0, 0]], pbc=[True, True, False]))


def test_a_cell_that_is_not_finite():
    with pytest.raises(StructureError, check=told(name="cell")):
        check_structure(Atoms("He", cell=[np.nan, 3, 3], pbc=True))


def test_every_shipped_file_is_a_molecule_of_the_table():
    assert {path.name for path in MOLECULES.iterdir()} == {f"{name}.xyz" for name in FORMULAS}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("masses", np.nan, pytest.approx(np.nan, nan_ok=True)),
        ("masses", 0.0, 0.0),
        ("masses", -1.0, -1.0),
        ("momenta", np.inf, [np.inf] * 3),
    ],
)
def test_masses_and_momenta_that_are_no_numbers(name, value, shown):
    atoms = molecule("H2O")
    atoms.set_array(name, np.ones((3, 3) if name == "momenta" else 3))
    atoms.arrays[name][1] = value
    with pytest.raises(StructureError, check=told(name=f"{name} of atom 1 (H)", value=shown, remedy=True)):
        check_structure(atoms)


@pytest.mark.parametrize("is_given", [True, False])
def test_a_run_checks_its_structure_once(tmp_path, monkeypatch, is_given):
    """A check searches for pairs of atoms, which takes seconds for large structures."""
    checked, check = [], loading.check_structure
    monkeypatch.setattr(loading, "check_structure", lambda atoms: (checked.append(atoms), check(atoms)))
    atoms = molecule("H2O")
    write(tmp_path / "water.xyz", atoms)
    options = NVE(structure=str(tmp_path / "water.xyz"), calculator="ase.calculators.emt:EMT")
    prepared = prepare(options, atoms if is_given else None)
    assert len(checked) == 1
    assert checked[0] is prepared
    assert (prepared.info["charge"], prepared.info["spin"]) == (0, 0)
    assert "charge" not in atoms.info

"""Dipoles: of point charges, read from files, from reference calculations, learned, and predicted."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from asecalc_ml.calculator import MLCalculator
from asecalc_ml.dipoles import dipole_of, from_centre_of_mass
from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets import dataset_hash
from asecalc_ml.potentials.datasets.ase_file import AseFile
from asecalc_ml.potentials.datasets.generate import GenerateOptions
from asecalc_ml.potentials.physnet import PhysNet
from asecalc_ml.potentials.training.terms import less_terms
from asecalc_ml.structures import load_structure
from asecalc_ml.testing import register_untrained


def test_two_charges():
    """A charge of +1 and of -1 at a distance of 2 Å: 2 e Å, wherever they lie."""
    atoms = Atoms("NaCl", [[5, 5, 7], [5, 5, 5]])
    np.testing.assert_allclose(dipole_of(np.array([1.0, -1.0]), atoms), [0, 0, 2], atol=1e-12)


def test_an_ion_is_seen_from_its_centre_of_mass():
    atoms = Atoms("HH", [[0, 0, 0], [0, 0, 1]])
    for shift in (0, 10):
        atoms.positions[:, 0] += shift
        np.testing.assert_allclose(dipole_of(np.array([0.0, 1.0]), atoms), [0, 0, 0.5], atol=1e-12)


def labelled(dipole, **cell) -> Atoms:
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1]], **cell)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)))
    if dipole is not None:
        atoms.calc.results["dipole"] = np.array(dipole)
    return atoms


def test_dipoles_are_read_in_their_unit(tmp_path):
    path = tmp_path / "frames.xyz"
    write(path, [labelled([0, 0, 1.5]), labelled(None), labelled([0, 0, 1.5], cell=[9, 9, 9], pbc=True)])
    first, without, periodic = AseFile(path=path).read()
    np.testing.assert_allclose(first.calc.results["dipole"], [0, 0, 1.5])
    assert "dipole" not in without.calc.results
    assert "dipole" not in periodic.calc.results
    in_debye = AseFile(path=path, dipole_unit="Debye").read()[0]
    np.testing.assert_allclose(in_debye.calc.results["dipole"], [0, 0, 1.5 * units.Debye])
    assert dataset_hash([first]) != dataset_hash([in_debye])


def test_dipoles_under_another_name(tmp_path):
    atoms = labelled(None)
    atoms.info["mu"] = [0.0, 0.0, 1.0]
    write(tmp_path / "frames.xyz", atoms)
    (found,) = AseFile(path=tmp_path / "frames.xyz", dipole_key="mu", dipole_unit="e Bohr").read()
    np.testing.assert_allclose(found.calc.results["dipole"], [0, 0, units.Bohr])


@pytest.mark.parametrize("dipole", [[0.0, 1.0], [0.0, 0.0, np.nan]])
def test_a_dipole_that_is_none_is_refused(tmp_path, dipole):
    atoms = labelled(None)
    atoms.info["mu"] = dipole
    write(tmp_path / "frames.traj", atoms)
    with pytest.raises(DatasetError, match="dipole"):
        AseFile(path=tmp_path / "frames.traj", dipole_key="mu").read()


def test_dispersion_leaves_the_dipole_alone():
    pytest.importorskip("dftd3")
    atoms = labelled([0, 0, 1.5])
    (found,) = less_terms([atoms], [{"d3": {"functional": "PBE"}}])
    assert found.calc.results["dipole"] == pytest.approx(atoms.calc.results["dipole"])
    assert found.calc.results["energy"] != atoms.calc.results["energy"]


@pytest.mark.parametrize("structure", ["H2O", "nitrate"])
def test_generated_frames_have_dipoles_seen_from_the_centre_of_mass(structure, tmp_path):
    """What tblite, which takes the origin, says of the frame once its centre of mass lies there."""
    xtb = pytest.importorskip("asecalc_ml.xtb")
    start = load_structure(structure)
    start.translate([3.0, 0.0, 0.0])
    write(tmp_path / "start.xyz", start)
    options = GenerateOptions(
        structure=str(tmp_path / "start.xyz"),
        temperatures_K=[300.0],
        n_frames=1,
        equilibration_ps=0,
        interval_fs=5,
        output=tmp_path / "frames.xyz",
    )
    options.run(quiet=True)
    (frame,) = AseFile(path=options.output).read()
    atoms = Atoms(frame.numbers, from_centre_of_mass(frame), info={"charge": frame.info["charge"]})
    atoms.calc = xtb.GFN2()
    assert frame.get_center_of_mass()[0] == pytest.approx(3.0, abs=0.1)
    assert atoms.info["charge"] == (0 if structure == "H2O" else -1)
    np.testing.assert_allclose(frame.calc.results["dipole"], atoms.get_dipole_moment(), atol=1e-4)


PHYSNET = PhysNet(hidden_channels=8, n_rbf=6, n_layers=1, max_atomic_number=10)


@pytest.fixture
def calculator():
    ethanol = load_structure("ethanol")
    register_untrained("charges", PHYSNET, ethanol, dtype=torch.float64, charges=[0, 1])
    return MLCalculator("charges", compile="never")


def test_charges_sum_to_the_total_charge(calculator):
    for charge in (0, 1):
        atoms = load_structure("ethanol")
        atoms.info["charge"] = charge
        atoms.calc = calculator
        assert atoms.get_charges().shape == (9,)
        assert atoms.get_charges().sum() == pytest.approx(charge, abs=1e-12)
        assert np.ptp(atoms.get_charges()) > 0.01


def test_the_dipole_turns_with_the_molecule(calculator):
    atoms = load_structure("ethanol")
    atoms.info["charge"] = 1
    turned = atoms.copy()
    turned.rotate(120, (1, 1, 1))  # x to y, y to z, z to x
    turned.translate([30.0, 0.0, 0.0])
    atoms.calc = turned.calc = calculator
    before, after = atoms.get_dipole_moment(), turned.get_dipole_moment()
    np.testing.assert_allclose(after, before[[2, 0, 1]], atol=1e-9)
    np.testing.assert_allclose(before, atoms.get_charges() @ from_centre_of_mass(atoms), atol=1e-12)


def test_a_periodic_structure_has_charges_and_no_dipole(calculator):
    atoms = load_structure("ethanol")
    atoms.set_cell(12 * np.eye(3))
    atoms.pbc = True
    atoms.calc = calculator
    assert len(atoms.get_charges()) == 9
    with pytest.raises(PropertyNotImplementedError, match="pbc"):
        atoms.get_dipole_moment()


def test_models_without_charges_offer_none(tiny_model_file):
    atoms = load_structure("ethanol")
    atoms.calc = MLCalculator(tiny_model_file)
    for name in ("charges", "dipole"):
        assert name not in atoms.calc.implemented_properties
        with pytest.raises(PropertyNotImplementedError, match=f"no {name}"):
            atoms.calc.get_property(name, atoms)
    atoms.get_potential_energy()
    assert not {"charges", "dipole"} & set(atoms.calc.results)


def test_many_at_once_have_their_own_charges(calculator):
    ethanol = load_structure("ethanol")
    structures = [ethanol, ethanol[:4]]
    for found, atoms in zip(calculator.calculate_many(structures), structures, strict=True):
        np.testing.assert_allclose(found["charges"], calculator.get_property("charges", atoms), atol=1e-12)
        np.testing.assert_allclose(found["dipole"], calculator.get_property("dipole", atoms), atol=1e-12)


@pytest.mark.slow
def test_compiled_charges_are_the_eager_ones(calculator):
    ethanol = load_structure("ethanol")
    compiled = MLCalculator("charges", compile="always")
    for atoms in (ethanol, _rattled(ethanol)):
        for name in ("energy", "forces", "charges", "dipole"):
            found = compiled.get_property(name, atoms)
            np.testing.assert_allclose(found, calculator.get_property(name, atoms), rtol=1e-9, atol=1e-9)
    assert compiled.checkpoint_state()["compiled"]


def _rattled(atoms: Atoms) -> Atoms:
    rattled = atoms.copy()
    rattled.rattle(0.05, seed=1)
    return rattled

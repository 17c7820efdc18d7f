"""Dipoles: of point charges, read from files, from reference calculations, learned, and predicted."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from asecalc_ml.dipoles import dipole_of, from_centre_of_mass
from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets import dataset_hash
from asecalc_ml.potentials.datasets.ase_file import AseFile
from asecalc_ml.potentials.datasets.generate import GenerateOptions
from asecalc_ml.potentials.training.terms import less_terms
from asecalc_ml.structures import load_structure


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

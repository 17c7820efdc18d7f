"""Dipoles of frames that state periodic boundaries: left out with a word, or those of molecules in a box."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from raising import told

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets import AseFile
from asecalc_ml.potentials.training import TrainOptions
from asecalc_ml.potentials.training.options import TrainingRequest
from asecalc_ml.potentials.training.run import check

DIPOLE = np.array([0.1, -0.2, 0.4])


@pytest.fixture
def boxes(tmp_path):
    """Three waters, of which the second and third lie in a periodic box; info and results hold dipoles."""
    frames = [molecule("H2O") for _ in range(3)]
    for atoms in frames:
        atoms.info["mu"] = DIPOLE
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, dipole=DIPOLE)
    for atoms in frames[1:]:
        atoms.center(vacuum=4)
        atoms.pbc = True
    write(tmp_path / "boxes.extxyz", frames)
    return tmp_path / "boxes.extxyz"


def dipoles(frames):
    return [atoms.calc.results.get("dipole") for atoms in frames]


@pytest.mark.parametrize("key", ["dipole", "mu"])
def test_dipoles_of_periodic_frames_are_left_out_with_the_reason_and_the_remedy(key, boxes):
    with pytest.warns(
        UserWarning, match="dipoles of 2 of 3 frames .* periodic .* `molecules: true`"
    ) as caught:
        frames = AseFile(path=boxes, dipole_key=key).read()
    assert "boxes.extxyz, frame 1" in str(caught[0].message)
    assert [dipole is not None for dipole in dipoles(frames)] == [True, False, False]
    assert frames[1].get_potential_energy() == -1.0  # other labels stay
    assert frames[1].pbc.all()


@pytest.mark.parametrize("key", ["dipole", "mu"])
def test_molecules_in_a_box_keep_their_dipoles_and_lose_the_box(key, boxes, recwarn):
    frames = AseFile(path=boxes, dipole_key=key, molecules=True, dipole_unit="e Bohr").read()
    assert np.array(dipoles(frames)) == pytest.approx(np.tile(DIPOLE, (3, 1)) * 0.5291772, rel=1e-6)
    for atoms in frames:
        assert not atoms.pbc.any()
        assert atoms.cell.rank == 0
        assert atoms.get_all_distances() == pytest.approx(molecule("H2O").get_all_distances())
    assert not [warning for warning in recwarn if "dipole" in str(warning.message)]


def test_periodic_boundaries_without_a_cell_are_those_of_a_molecule(tmp_path):
    atoms = molecule("H2O")
    atoms.pbc, atoms.info["mu"] = True, DIPOLE
    write(tmp_path / "water.extxyz", atoms)
    (frame,) = AseFile(path=tmp_path / "water.extxyz", dipole_key="mu", molecules=True).read()
    assert frame.calc.results["dipole"] == pytest.approx(DIPOLE)


def test_a_molecule_that_the_boundary_cuts_is_refused(tmp_path):
    atoms = molecule("H2O")
    atoms.set_cell([8, 8, 8])
    atoms.pbc, atoms.info["mu"] = True, DIPOLE
    atoms.wrap()  # oxygen lies at the origin, one hydrogen at the other end of the box
    write(tmp_path / "cut.extxyz", atoms)
    with pytest.raises(
        DatasetError, match="crosses the boundary", check=told(name="molecules", remedy="whole")
    ):
        AseFile(path=tmp_path / "cut.extxyz", dipole_key="mu", molecules=True).read()


def test_a_training_on_dipoles_of_periodic_frames_names_the_cause(boxes, tmp_path):
    options = TrainOptions(
        name="p",
        target="dipole",
        data={"format": "ase", "path": str(boxes), "dipole_key": "mu", "frames": "1:"},
        split={"n_train": 1, "n_validation": 1},
        directory=tmp_path / "training",
    )
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(DatasetError, match=r"no frame has dipole\. The frames are periodic.*`molecules"),
    ):
        check(TrainingRequest(options))


def test_an_absent_dipole_is_named_by_its_own_option(tmp_path):
    atoms = molecule("H2O")
    atoms.info["mu_vector"] = DIPOLE
    write(tmp_path / "water.extxyz", atoms)
    options = TrainOptions(
        name="p", target="dipole", data={"format": "ase", "path": str(tmp_path / "water.extxyz")}
    )
    with pytest.raises(DatasetError, match=r"have mu_vector: name the dipole with `dipole_key`"):
        check(TrainingRequest(options))

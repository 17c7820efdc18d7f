"""Tensors in another frame than the positions are recognised by planar molecules."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read
from raising import told
from scipy.spatial.transform import Rotation

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets import QM9
from asecalc_ml.potentials.datasets.label_checks.tensor_frames import check_tensor_frame

PLANAR = ["H2O", "C6H6", "C2H4", "H2CO", "HCN", "CO2", "BF3", "N2", "C4H4O"]


def labelled(names, turn: bool) -> dict[str, Atoms]:
    """Molecules with sums of r, r⊗r and r⊗r⊗r over charges; turned after that, or with these."""
    frames = {}
    for seed, name in enumerate(names):
        atoms = molecule(name)
        atoms.rotate(360 * np.random.default_rng(seed).random(), (1, 2, 3))
        r, q = atoms.get_positions() - atoms.get_center_of_mass(), atoms.numbers
        atoms.info["vector"] = np.einsum("n,na->a", q, r) + 1e-3 * r[0]
        atoms.info["matrix"] = np.einsum("n,na,nb->ab", q, r, r) + 50 * np.eye(3)
        atoms.info["cube"] = np.einsum("n,na,nb,nc->abc", q, r, r, r) + np.einsum("a,b,c->abc", *3 * [r[0]])
        if turn:
            atoms.positions = Rotation.random(random_state=seed).apply(atoms.positions)
        frames[name] = atoms
    return frames


@pytest.mark.parametrize("name", ["vector", "matrix", "cube"])
def test_planar_molecules_tell_the_frame(name, recwarn):
    check_tensor_frame(labelled(PLANAR, turn=False), name)
    assert not recwarn
    with pytest.raises(
        DatasetError, match="mirror plane", check=told(name=name, remedy="Turn the values back")
    ):
        check_tensor_frame(labelled(PLANAR, turn=True), name)


def test_without_a_planar_molecule_nothing_is_known():
    for frames in (labelled(["CH4", "C2H6"], turn=True), labelled(PLANAR, turn=True)):
        name = "matrix" if "CH4" in frames else "absent"
        with pytest.warns(UserWarning, match="no molecule with it is planar"):
            check_tensor_frame(frames, name)


def test_a_wrong_label_among_many_is_no_other_frame():
    frames = labelled(PLANAR, turn=False) | {
        f"{name}, again": a for name, a in labelled(PLANAR, turn=False).items()
    }
    frames["H2O"].info["matrix"] = np.diag([1.0, 2.0, 3.0])
    check_tensor_frame(frames, "matrix")


def test_real_water_is_in_the_frame_of_its_positions(shared_data, recwarn):
    """Dipole, polarizability and hyperpolarizability of 1000 monomers."""
    frames = read(shared_data / "water_response/water_monomers_1k_with_energies_and_gradients.xyz", ":")
    for name, shape in (("mu", (3,)), ("alpha", (3, 3)), ("beta", (3, 3, 3))):
        for atoms in frames:
            atoms.info[name] = np.reshape(atoms.info[name], shape)
        check_tensor_frame({f"frame {k}": atoms for k, atoms in enumerate(frames)}, name)
    assert not recwarn


@pytest.mark.slow
def test_real_tensors_of_qm9_are_not():
    if (package := importlib.util.find_spec("qm9pack")) is None:
        pytest.skip("qm9pack, which holds QM9, is not installed (pip install 'asecalc-ml[properties]')")
    table = Path(package.submodule_search_locations[0]) / "data" / "qm9_polarizability.csv"
    frames = list(QM9(frames=":3000").read())
    with table.open() as file:
        for atoms, (_, *row) in zip(frames, list(csv.reader(file))[1:3001], strict=True):
            xx, xy, yy, xz, yz, zz = map(float, row)
            atoms.info["tensor"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    with pytest.raises(DatasetError, match="planar molecules"):
        check_tensor_frame({f"molecule {k}": atoms for k, atoms in enumerate(frames)}, "tensor")

"""Every registered dataset reader obeys the laws of `asecalc_ml.testing`."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.io import write
from property_data import MOLECULES, archive_of_crystals, crystals_in, extended_xyz_of, structures

from asecalc_ml.plugins import get, names
from asecalc_ml.potentials.datasets import ANI1, QM9, RMD17, AseFile, CifCsv, Mlearn, NeuralILJson
from asecalc_ml.potentials.datasets.options import make_frame
from asecalc_ml.testing import DatasetChecks

RNG = np.random.default_rng(0)
KCAL_MOL = units.kcal / units.mol


class TestRMD17(DatasetChecks):
    options = RMD17(path="co.npz")

    def write(self, path):
        coords, forces = RNG.normal(size=(2, 4, 2, 3))
        energies = np.arange(4) - 10.0
        np.savez(path, nuclear_charges=[6, 8], coords=coords, energies=energies, forces=forces)
        return [
            make_frame(Atoms("CO", coords[k]), energies[k] * KCAL_MOL, forces[k] * KCAL_MOL) for k in range(4)
        ]


class TestAseFile(DatasetChecks):
    options = AseFile(path="frames.traj")

    def write(self, path):
        frames = []
        for k in range(4):
            atoms = Atoms("HF", RNG.normal(size=(2, 3)), cell=[5, 6, 7], pbc=True)
            frames.append(make_frame(atoms, -1.5 * k, RNG.normal(size=(2, 3)), 1e-3 * RNG.normal(size=6)))
        write(path, frames)
        return frames


class TestExtendedXYZ(TestAseFile):
    options = AseFile(path="frames.extxyz")


class TestMlearn(DatasetChecks):
    options = Mlearn(path="si.json")

    def write(self, path):
        records, frames = [], []
        for k in range(3):
            cell, positions = np.diag([4.0, 5.0, 6.0 + k]), RNG.normal(size=(2, 3))
            forces = RNG.normal(size=(2, 3))
            sites = [{"species": [{"element": "Si", "occu": 1}], "xyz": xyz.tolist()} for xyz in positions]
            outputs = {"energy": -k - 1.0, "forces": forces.tolist(), "virial_stress": [1, 2, 3, 4, 5, 6]}
            structure = {"lattice": {"matrix": cell.tolist()}, "sites": sites}
            records.append({"structure": structure, "outputs": outputs, "group": "g", "description": "d"})
            stress = -np.array([1, 2, 3, 5, 6, 4]) / 10 * units.GPa  # kbar; xx yy zz xy yz xz in the file
            frames.append(make_frame(Atoms("Si2", positions, cell=cell, pbc=True), -k - 1.0, forces, stress))
        path.write_text(json.dumps(records))
        return frames


class TestANI1(DatasetChecks):
    options = ANI1(path="ani.h5")

    def write(self, path):
        coordinates, energies = RNG.normal(size=(4, 3, 3)), np.arange(4) - 76.0
        with h5py.File(path, "w") as file:
            group = file.create_group("gdb11_s01/gdb11_s01-0")
            group["coordinates"], group["energies"] = coordinates, energies
            group["species"] = np.array([b"O", b"H", b"H"])
            group["smiles"] = np.array(list("[H]O[H]"), dtype="S1")
        return [make_frame(Atoms("OH2", coordinates[k]), energies[k] * units.Hartree) for k in range(4)]


class TestNeuralILJson(DatasetChecks):
    options = NeuralILJson(path="ean.json")

    def write(self, path):
        lines, frames, symbols = [], [], "N H3 C H2 C H3 N O3".replace(" ", "")
        for k in range(3):
            positions, forces = RNG.normal(size=(2, 15, 3))
            cell, arrays = [10.0, 11.0, 12.0], {"Positions": positions.tolist(), "Forces": forces.tolist()}
            lines.append({**arrays, "Energy": -k, "Cell-Size": cell})
            frames.append(make_frame(Atoms(symbols, positions, cell=cell, pbc=True), -k, forces))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return frames


class TestQM9(DatasetChecks):
    options = QM9(path=Path("molecules.xyz"))

    def write(self, path):
        extended_xyz_of(path)
        return [molecule.expected() for molecule in MOLECULES]


class TestCifCsv(DatasetChecks):
    options = CifCsv(path=Path("mofs.tar"))

    def write(self, path):
        folder = crystals_in(path.parent / "mofs")
        self.table = folder / "id_prop.csv"
        archive_of_crystals(path, folder)
        return [make_frame(atoms) for atoms in structures()]

    def reader(self, path, **changes):
        return super().reader(path, **({"table": self.table} if hasattr(self, "table") else {}) | changes)


@pytest.mark.smoke
def test_every_reader_of_ours_is_checked():
    checked = re.findall(r"^    options = (\w+)\(", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE)
    readers = [get("datasets", name) for name in names("datasets")]
    assert {one.__name__ for one in readers if one.__module__.startswith("asecalc_ml.")} <= set(checked)

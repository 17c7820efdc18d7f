"""Structures that a run flagged get labels from a reference."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.io import read, write
from raising import told
from typer.testing import CliRunner

from asecalc_ml.cli import ml
from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets import AseFile
from asecalc_ml.potentials.datasets.generation.label import label_file

EMT_NAME = "ase.calculators.emt:EMT"


def rattled(n: int, atoms=None) -> list:
    frames = []
    for seed in range(n):
        frame = (atoms or molecule("H2O")).copy()
        frame.rattle(0.05, seed=seed)
        frame.info.update(step=10 * seed, reason="a bond is long")
        frames.append(frame)
    return frames


def test_labels_are_those_of_the_reference(tmp_path):
    frames = rattled(3)
    write(tmp_path / "flagged.extxyz", frames)
    assert label_file(tmp_path / "flagged.extxyz", EMT_NAME, tmp_path / "out.extxyz", quiet=True) == 3
    found = AseFile(path=tmp_path / "out.extxyz").read()
    for frame, given in zip(found, frames, strict=True):
        given.calc = EMT()
        assert frame.get_potential_energy() == pytest.approx(given.get_potential_energy(), abs=1e-7)
        assert frame.get_forces() == pytest.approx(given.get_forces(), abs=1e-6)
        assert frame.info["step"] == given.info["step"]


def test_energies_without_a_zero_are_named(tmp_path):
    write(tmp_path / "water.xyz", rattled(2))
    with pytest.warns(UserWarning, match=r"energies of H2O have no zero"):
        label_file(tmp_path / "water.xyz", "torchmdnet-ethanol", tmp_path / "out.xyz", quiet=True)


def test_the_file_to_write_is_extended_xyz(tmp_path):
    write(tmp_path / "water.xyz", rattled(2))
    check = told(name="out.traj", value=".traj", allowed=[".xyz", ".extxyz"], remedy=True)
    with pytest.raises(DatasetError, check=check):
        label_file(tmp_path / "water.xyz", EMT_NAME, tmp_path / "out.traj", quiet=True)


def test_a_crystal_gets_its_stress(tmp_path):
    write(tmp_path / "in.extxyz", rattled(1, bulk("Cu", cubic=True)))
    label_file(tmp_path / "in.extxyz", EMT_NAME, tmp_path / "out.extxyz", quiet=True)
    given = read(tmp_path / "in.extxyz")
    given.calc = EMT()
    assert read(tmp_path / "out.extxyz").get_stress() == pytest.approx(given.get_stress(), abs=1e-6)


def test_a_structure_on_which_the_reference_fails_is_left_out_and_told(tmp_path):
    write(tmp_path / "in.extxyz", [*rattled(2), *rattled(1, molecule("SiH4"))])  # EMT has no silicon
    with pytest.warns(UserWarning, match="1 of 3 structures are left out; structure 2: "):
        assert label_file(tmp_path / "in.extxyz", EMT_NAME, tmp_path / "out.extxyz", quiet=True) == 2
    write(tmp_path / "none.extxyz", rattled(1, molecule("SiH4")))
    with pytest.raises(DatasetError, check=told(name="none.extxyz")):
        label_file(tmp_path / "none.extxyz", EMT_NAME, tmp_path / "other.extxyz", quiet=True)
    assert not (tmp_path / "other.extxyz").exists()


def test_from_the_command_line(tmp_path):
    path: Path = tmp_path / "flagged.extxyz"
    write(path, rattled(2))
    arguments = ["data", "label", str(path), "--reference", EMT_NAME, "--quiet"]
    result = CliRunner().invoke(ml.app, arguments)
    assert result.exit_code == 0, result.output
    assert "flagged-labelled.extxyz: 2 structures" in " ".join(result.output.split())
    assert np.isfinite(read(tmp_path / "flagged-labelled.extxyz", ":")[1].get_forces()).all()
    again = CliRunner().invoke(ml.app, arguments)
    assert again.exit_code == 2
    assert "replace it with --overwrite" in " ".join(again.output.split())


@pytest.mark.parametrize(
    ("file", "said"), [("missing.extxyz", "there is no such file"), ("bad.extxyz", "cannot read")]
)
def test_files_that_cannot_be_read(file, said, tmp_path):
    (tmp_path / "bad.extxyz").write_text("3\nnonsense\n")
    result = CliRunner().invoke(ml.app, ["data", "label", str(tmp_path / file), "--reference", EMT_NAME])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_the_reference_takes_arguments(tmp_path):
    """Lennard-Jones' dimer at its minimum: minus epsilon."""
    path = tmp_path / "in.extxyz"
    write(path, Atoms("Ar2", [[0, 0, 0], [0, 0, 2 ** (1 / 6) * 3.4]]))
    reference = "{ase.calculators.lj:LennardJones: {sigma: 3.4, epsilon: 0.0103, rc: 1000}}"
    result = CliRunner().invoke(ml.app, ["data", "label", str(path), "--reference", reference, "--quiet"])
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "in-labelled.extxyz").get_potential_energy() == pytest.approx(-0.0103, rel=1e-6)


class EnergyOnly(Calculator):
    implemented_properties: ClassVar = ["energy"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": -1.5}


def test_a_reference_without_forces_labels_energies(tmp_path):
    write(tmp_path / "in.extxyz", rattled(2))
    assert label_file(tmp_path / "in.extxyz", EnergyOnly(), tmp_path / "out.extxyz", quiet=True) == 2
    assert [set(one.calc.results) for one in AseFile(path=tmp_path / "out.extxyz").read()] == [{"energy"}] * 2

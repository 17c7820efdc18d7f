"""Structures that a run flagged get labels from a reference."""

import errno
import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import toy_calculators
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.io import read, write
from raising import told
from typer.testing import CliRunner

from asecalc_ml.calculators import make_calculator
from asecalc_ml.calculators.batches import many
from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.cli import ml
from asecalc_ml.errors import ConfigError, DatasetError
from asecalc_ml.files.writing import GrowingText
from asecalc_ml.potentials.datasets import AseFile
from asecalc_ml.potentials.datasets.generation.label import label_file
from asecalc_ml.potentials.datasets.generation.label_record import LabelRecord

BATCHED = "toy_calculators:BatchedSprings"
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


# ------------------------------------------------------------------------ computed together, and interrupted


@pytest.fixture
def sizes(monkeypatch):
    """Numbers of structures of each batch, at most four structures of water each."""
    monkeypatch.setattr(many, "ATOMS_AT_ONCE", 12)
    toy_calculators.BatchedSprings.batches.clear()
    return toy_calculators.BatchedSprings.batches


def water_file(folder: Path, n_frames: int = 10) -> Path:
    write(folder / "in.extxyz", rattled(n_frames))
    return folder / "in.extxyz"


def unfinished(output: Path) -> Path:
    return output.with_name(f"{output.name}.unfinished.jsonl")


def test_structures_are_labelled_in_batches(sizes, tmp_path):
    path = water_file(tmp_path)
    together, alone = tmp_path / "together.extxyz", tmp_path / "alone.extxyz"
    assert label_file(path, BATCHED, together, quiet=True) == 10
    assert sizes == [4, 4, 2]
    label_file(path, "toy_calculators:Springs", alone, quiet=True)
    for ours, theirs in zip(read(together, ":"), read(alone, ":"), strict=True):
        assert ours.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), abs=1e-6)
        assert ours.get_forces() == pytest.approx(theirs.get_forces(), abs=1e-7)
        assert ours.info["step"] == theirs.info["step"]
    assert not unfinished(together).exists()


def test_a_model_labels_structures_of_all_kinds_together(tiny_model, tmp_path, monkeypatch):
    frames = [atom for k in range(3) for atom in (*rattled(2), *rattled(1, molecule("CH4")), Atoms("He"))]
    frames[5].set_cell([4, 4, 4])
    frames[5].pbc = True
    write(tmp_path / "in.extxyz", frames)
    calculator = MLCalculator(tiny_model, dtype="float64", compile="never")
    sizes, calculate_many = [], MLCalculator.calculate_many

    def counted(self, structures):
        sizes.append(len(structures))
        return calculate_many(self, structures)

    monkeypatch.setattr(MLCalculator, "calculate_many", counted)
    with pytest.warns(
        UserWarning, match=r"3 of 12 structures are left out; structure 3: .*not trained on He"
    ):
        label_file(tmp_path / "in.extxyz", calculator, tmp_path / "out.extxyz", quiet=True)
    assert sizes[0] == 12
    assert sum(sizes) <= 2 * 12 * 4  # halved until helium stands alone
    kept = [atoms for atoms in frames if "He" not in atoms.symbols]
    for found, atoms in zip(read(tmp_path / "out.extxyz", ":"), kept, strict=True):
        assert found.get_potential_energy() == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-7)
        assert found.get_forces() == pytest.approx(calculator.get_forces(atoms), abs=1e-7)
        assert ("stress" in found.calc.results) == (atoms.cell.rank == 3)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_an_interruption_loses_one_batch_at_most(batch, sizes, tmp_path, monkeypatch):
    path, straight, output = water_file(tmp_path), tmp_path / "straight.extxyz", tmp_path / "out.extxyz"
    label_file(path, BATCHED, straight, quiet=True)
    sizes.clear()
    monkeypatch.setenv("TOY_BREAKS_AT", str(batch))
    with pytest.raises(KeyboardInterrupt) as raised:
        label_file(path, BATCHED, output, quiet=True)
    notes = " ".join(getattr(raised.value, "__notes__", ()))
    assert notes == "" if batch == 1 else f"Labels of {4 * (batch - 1)} structures are kept in" in notes
    assert not output.exists()
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    sizes.clear()
    label_file(path, BATCHED, output, quiet=True)
    assert sizes == [4, 4, 2][batch - 1 :]
    assert output.read_bytes() == straight.read_bytes()
    assert list(tmp_path.glob("*.jsonl")) == []


@pytest.mark.parametrize("n_kept", [1, 3, 5])
def test_a_batch_of_which_a_part_is_kept_gives_the_same_digits(n_kept, sizes, tmp_path, monkeypatch):
    path, straight, output = water_file(tmp_path), tmp_path / "straight.extxyz", tmp_path / "out.extxyz"
    label_file(path, BATCHED, straight, quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(LabelRecord, "add", failing(LabelRecord.add, n_kept, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            label_file(path, BATCHED, output, quiet=True)
    kept = unfinished(output).read_text()
    assert kept.count("\n") == 1 + n_kept
    unfinished(output).write_text(kept + '{"structure": "cut')  # as a kill leaves it
    label_file(path, BATCHED, output, quiet=True)
    assert output.read_bytes() == straight.read_bytes()


def failing(function, n_calls, error):
    """A function that fails after so many calls."""
    calls = []

    def wrapped(*arguments):
        calls.append(1)
        if len(calls) > n_calls:
            raise error
        return function(*arguments)

    return wrapped


def test_a_disk_that_is_full_at_the_end_loses_no_label(tmp_path, monkeypatch):
    path, output = water_file(tmp_path), tmp_path / "out.extxyz"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))
    with monkeypatch.context() as patch:
        patch.setattr("asecalc_ml.potentials.datasets.extxyz.write_whole", failing(None, 0, full))
        check = told(name="out.extxyz", problem="No space left", remedy="same command continues")
        with pytest.raises(DatasetError, check=check):
            label_file(path, "toy_calculators:Springs", output, quiet=True)
    monkeypatch.setattr(toy_calculators.Springs, "calculate", None)  # nothing is computed again
    assert label_file(path, "toy_calculators:Springs", output, quiet=True) == 10
    assert len(read(output, ":")) == 10
    assert not unfinished(output).exists()


def test_a_disk_that_is_full_on_the_way_keeps_what_is_done(tmp_path, monkeypatch):
    path, output = water_file(tmp_path), tmp_path / "out.extxyz"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(GrowingText, "flush", failing(GrowingText.flush, 4, full))
        patch.setattr(GrowingText, "close", lambda self: None)
        with pytest.raises(
            DatasetError, check=told(problem="No space left", remedy="Labels of 4 structures")
        ):
            label_file(path, "toy_calculators:Springs", output, quiet=True)
    assert label_file(path, "toy_calculators:Springs", output, quiet=True) == 10


def test_labels_of_two_references_are_not_mixed(tmp_path, monkeypatch):
    path, output = water_file(tmp_path), tmp_path / "out.extxyz"
    monkeypatch.setenv("TOY_BREAKS_AT", "4")
    with pytest.raises(KeyboardInterrupt):
        label_file(path, "toy_calculators:KilledSprings", output, quiet=True)
    kept = unfinished(output).read_bytes()
    command = ["data", "label", str(path), "--reference", EMT_NAME, "--output", str(output), "--quiet"]
    result = CliRunner().invoke(ml.app, command)
    assert result.exit_code == 2
    assert "another reference" in " ".join(result.output.split())
    assert unfinished(output).read_bytes() == kept


def test_structures_that_changed_meanwhile_are_computed_again(tmp_path, monkeypatch):
    output = tmp_path / "out.extxyz"
    monkeypatch.setenv("TOY_BREAKS_AT", "4")
    with pytest.raises(KeyboardInterrupt):
        label_file(water_file(tmp_path), "toy_calculators:KilledSprings", output, quiet=True)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    frames = rattled(10)
    frames[1].rattle(0.1, seed=9)
    write(tmp_path / "in.extxyz", frames)
    label_file(tmp_path / "in.extxyz", "toy_calculators:KilledSprings", output, quiet=True)
    energies = [atoms.get_potential_energy() for atoms in read(output, ":")]
    expected = [
        toy_calculators.Springs().get_potential_energy(atoms) for atoms in read(tmp_path / "in.extxyz", ":")
    ]
    assert energies == pytest.approx(expected, abs=1e-7)


def test_a_reference_that_fails_everywhere_leaves_no_file(tmp_path):
    write(tmp_path / "in.extxyz", rattled(2, molecule("SiH4")))
    with pytest.raises(DatasetError, match="could be labelled"):
        label_file(tmp_path / "in.extxyz", EMT_NAME, tmp_path / "out.extxyz", quiet=True)
    assert [file.name for file in tmp_path.iterdir()] == ["in.extxyz"]


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, check=told(problem="file is a file", remedy="another folder")):
        label_file(water_file(tmp_path), EMT_NAME, tmp_path / "file" / "out.extxyz", quiet=True)


def test_gfn2_xtb_labels_orbital_energies_and_polarizabilities_too(tmp_path):
    """Written in the units of the targets, and read back by a training's reader."""
    pytest.importorskip("tblite")
    frames = [molecule("H2O"), molecule("CH3OH")]
    write(tmp_path / "some.xyz", frames)
    targets = ["dipole", "homo", "gap", "polarizability"]
    label_file(tmp_path / "some.xyz", "gfn2-xtb", tmp_path / "out.xyz", quiet=True, targets=targets)
    source = {"homo": {"unit": "eV"}, "polarizability": {"unit": "Bohr^3"}}
    found = AseFile(path=tmp_path / "out.xyz", properties=source).read()
    reference = make_calculator("gfn2-xtb")
    for given, labelled in zip(frames, found, strict=True):
        assert labelled.info["homo"] == pytest.approx(reference.get_property("homo", given), abs=1e-4)
        alpha = reference.get_property("polarizability", given)
        assert labelled.info["polarizability"] == pytest.approx(alpha, abs=1e-3)
        assert labelled.calc.results["dipole"] == pytest.approx(
            reference.get_property("dipole", given), abs=1e-4
        )


def test_targets_that_a_reference_does_not_give_are_refused(tmp_path):
    write(tmp_path / "some.xyz", [molecule("H2O")])
    for name, problem in (("zpve", "gives no zpve"), ("hmoo", "did you mean 'homo'")):
        with pytest.raises(ConfigError, match=problem):
            label_file(tmp_path / "some.xyz", EMT_NAME, tmp_path / "out.xyz", targets=[name])
    assert not (tmp_path / "out.xyz").exists()

"""A full disk: the message names the file and the file system, and nothing that was written is lost."""

import errno
import os
import re
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from small_training import changed, small_options, weights

from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.cli.errors import explain
from asecalc_ml.errors import DatasetError, TrainingError
from asecalc_ml.files.folder_lock import FolderLock
from asecalc_ml.files.full_disk import file_of, reason, writing
from asecalc_ml.files.writing import GrowingText, write_whole
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.compile.molecules.molecule_graph import molecule_input, molecule_program
from asecalc_ml.model.compile.program import as_function
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.potentials.datasets.extxyz import write_extxyz
from asecalc_ml.potentials.training import checkpoint, train
from asecalc_ml.potentials.training import metrics_file as metrics
from asecalc_ml.runs.writer import RunWriter
from asecalc_ml.store.registry import Registry
from asecalc_ml.testing import register_untrained


@pytest.fixture
def options(tmp_path):
    return small_options(tmp_path)


FREE = r"\([\d.]+ [kMGT]B of [\d.]+ [kMGT]B are free on the file system at /.*\)"
FULL_DEVICE = Path("/dev/full")
needs_full_device = pytest.mark.skipif(not FULL_DEVICE.exists(), reason="needs /dev/full")


def no_space(*names):
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *names)


def test_the_file_system_of_a_file_is_named(tmp_path):
    text = reason(no_space(str(tmp_path / "not" / "yet" / "there")))
    assert re.fullmatch(f"No space left on device {FREE}", text)
    mount = Path(re.search(r"file system at (/.*)\)", text)[1])
    assert mount.is_mount()
    assert mount.stat().st_dev == tmp_path.stat().st_dev


def test_of_a_copy_the_target_is_what_a_full_disk_lacks_room_for():
    assert file_of(OSError(errno.ENOSPC, "full", "/tmp/source", None, "target")) == "target"
    assert file_of(OSError(errno.EACCES, "closed", "/tmp/source", None, "target")) == "/tmp/source"
    assert explain(OSError(errno.ENOSPC, "full", "/tmp/source", None, "target")).startswith(
        "cannot use target"
    )


@needs_full_device
def test_an_error_of_writing_names_the_file():
    text = GrowingText(FULL_DEVICE)
    text.append("line")
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        text.flush()
    with pytest.raises(OSError, match="'/dev/full'"), writing(FULL_DEVICE), FULL_DEVICE.open("w") as file:
        file.write("text")


def test_a_file_that_is_written_whole_is_named_and_not_its_temporary_one(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", "before")
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(no_space()))
    with pytest.raises(OSError, match=re.escape(f"'{tmp_path / 'file'}'")):
        write_whole(tmp_path / "file", "after", sync=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_run_names_file_and_file_system(tmp_path, monkeypatch):
    writer = RunWriter.create(tmp_path / "run")
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(no_space()))
    with pytest.raises(
        Exception, match=f"run/checkpoint.*: No space left on device {FREE}.*asecalc-md resume"
    ):
        writer.write_checkpoint(b"content")


def failing(function, call):
    """A function whose n-th call meets a full disk."""
    calls = []

    def wrapped(path, *arguments):
        calls.append(path)
        if len(calls) == call:
            raise no_space(str(path))
        return function(path, *arguments)

    return wrapped


@pytest.mark.parametrize("call", [5, 6], ids=["first of an epoch", "second"])
def test_a_training_keeps_its_checkpoints(call, options, monkeypatch):
    whole = changed(options, name="whole", directory=options.directory.with_name("whole"))
    expected = weights(train(whole, quiet=True))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_whole", failing(checkpoint.write_whole, call))
        with pytest.raises(
            TrainingError, match=f"(best|last).ckpt: No space left on device {FREE}.*--resume"
        ):
            train(options, quiet=True)
    resumed = weights(train(options, resume=True, quiet=True))
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name


def test_a_training_without_room_for_its_first_files_says_that_nothing_is_kept(options, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "write_whole", failing(metrics.write_whole, 1))
        with pytest.raises(TrainingError, match=f"metrics.csv: No space left on device {FREE}. No epoch is"):
            train(options, quiet=True)
    train(options, quiet=True)


def test_a_line_of_the_metrics_that_was_cut_is_written_again(options, monkeypatch):
    def cut_in_the_third_epoch(self, epoch, values):
        if epoch != 3:
            return written(self, epoch, values)
        with self.path.open("a") as file:
            file.write("3,0.12")
        raise no_space(str(self.path))

    written = metrics.MetricsFile.append
    with monkeypatch.context() as patch:
        patch.setattr(metrics.MetricsFile, "append", cut_in_the_third_epoch)
        with pytest.raises(TrainingError, match=r"metrics\.csv: No space left"):
            train(options, quiet=True)
    train(options, resume=True, quiet=True)
    lines = (options.directory / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3", "4"]


def test_a_registry_on_a_full_disk_loses_no_training(options, monkeypatch):
    from asecalc_ml.store import registry

    with monkeypatch.context() as patch:
        patch.setattr(registry, "write_whole", failing(registry.write_whole, 1))
        with pytest.raises(TrainingError, match=f"methanol.safetensors: No space left .* {FREE}.*--resume"):
            train(options, quiet=True)
    assert train(options, resume=True, quiet=True).path == Registry().find("methanol").path


@pytest.mark.parametrize("written", ["package.pt2", "check.safetensors", "manifest.json"])
def test_a_model_that_cannot_be_kept_compiled_goes_on(written, own_home, monkeypatch):
    """Torch's own writer of packages ends the process instead."""
    atoms = molecule("H2O")
    register_untrained("morse", Morse(), atoms)
    given = molecule_input(AtomGraph.from_atoms(atoms, 6.0))
    replace = Path.replace

    def full(path, target):
        if target.name == written:
            raise no_space(str(path), None, str(target))
        return replace(path, target)

    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", fake_compiler)
    monkeypatch.setattr(
        "asecalc_ml.model.compile.package_cache.load_package",
        lambda *_: as_function(molecule_program(given).trace(calculator._evaluator.model)),
    )
    monkeypatch.setattr(Path, "replace", full)
    calculator = MLCalculator("morse", compile="always")
    with pytest.warns(UserWarning, match=f"continues in eager mode.*: No space left on device {FREE}"):
        forces = calculator.get_forces(atoms)
    assert (forces == MLCalculator("morse", compile="never").get_forces(atoms)).all()


def fake_compiler(exported, package_path, inductor_configs):
    package_path.write(b"package")


@needs_full_device
def test_a_lock_names_its_file():
    with pytest.raises(OSError, match="'/dev/full'"):
        FolderLock(FULL_DEVICE, "testing")


def test_frames_that_find_no_room_name_file_and_file_system(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(no_space()))
    with pytest.raises(DatasetError, match=f"cannot write {tmp_path}/a.xyz: No space left on device {FREE}"):
        write_extxyz(tmp_path / "a.xyz", [molecule("H2O")])

"""Compiled models on disk: found again by everything their machine code depends on, and never trusted."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import torch

from asecalc_ml.errors import ModelError
from asecalc_ml.files.full_disk import reason
from asecalc_ml.files.user_cache import ANOTHER_CACHE, cache_folder, fingerprint, hardware, is_writable
from asecalc_ml.files.writing import write_whole
from asecalc_ml.model.compile.compiled_graph import Runner, load_package, write_package
from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.model.rounding import Rounding, rounding
from asecalc_ml.sources import code_of_model
from asecalc_ml.store.model_file import file_hash
from asecalc_ml.store.stored_model import StoredModel

PACKAGE, CHECK, MANIFEST = "package.pt2", "check.safetensors", "manifest.json"
BOUND = "bound_"  # before the names of largest deviations in CHECK

#: Numbers of atoms, systems, edges, and triplets where the potential needs them, the ghost's included.
Shape = tuple[int, ...]


class CompilationError(ModelError):
    """A model that cannot be compiled here; the message says why."""


class PackageCache:
    """Packages of one model in one type on one device, a folder for each shape.

    A folder holds the package, inputs with what eager mode finds for them and how far rounding may take
    another answer from it (:mod:`asecalc_ml.model.rounding`), and the hashes of both files. A package is used
    after its hash is confirmed and its own answers agree with eager mode's.

    Parameters
    ----------
    stored : StoredModel
    """

    def __init__(self, stored: StoredModel):
        self.stored = stored

    def folder(self, shape: Shape) -> Path:
        """Where the package of a shape lies, or would lie."""
        stored = self.stored
        code = [stored.hash, *code_of_model(stored.card)]
        machine = [hardware(stored.device), stored.device.type, torch.get_num_threads()]
        return cache_folder("compiled") / fingerprint([*code, *machine, str(stored.dtype), *shape])

    def has(self, shape: Shape) -> bool:
        """Whether there is something to load."""
        return (self.folder(shape) / MANIFEST).is_file()

    def load(self, shape: Shape) -> Runner | None:
        """The compiled function; a package that is damaged or wrong is removed, and None comes back."""
        folder = self.folder(shape)
        try:
            return _verified(folder, self.stored)
        except Exception:  # whatever a damaged file makes torch, json or safetensors raise
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def build(self, shape: Shape, inputs: PotentialInput) -> Runner:
        """Compile for the shape of these inputs, compare with eager mode, and keep the package.

        Raises
        ------
        CompilationError
            If the model cannot be traced or compiled, compiled code finds something else, or the disk is
            full.
        """
        folder = self.folder(shape)
        try:
            with tempfile.TemporaryDirectory(dir=_where_it_stays(folder.parent)) as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                runner = self._built(made, inputs)
                _move(made, folder)
        except OSError as error:
            raise CompilationError(reason(error, folder.parent)) from error
        return runner

    def _built(self, folder: Path, inputs: PotentialInput) -> Runner:
        model = self.stored.model
        expected = edge_derivative(model, inputs)
        try:
            write_package(model, inputs, folder / PACKAGE)
            runner = load_package(folder / PACKAGE, self.stored.device)
            found = runner(inputs)
        except OSError:
            raise
        except Exception as error:  # whatever an architecture's code or the compiler meets
            raise _failure(error) from error
        bounds = rounding(model, inputs, expected)
        if not bounds.allows(found, expected):
            raise CompilationError("compiled code does not find what eager mode finds")
        _write_check(folder, inputs, expected, bounds)
        hashes = {name: file_hash(folder / name) for name in (PACKAGE, CHECK)}
        manifest = {"model": self.stored.card.name, "sha256": hashes}
        write_whole(folder / MANIFEST, json.dumps(manifest))
        return runner


def _verified(folder: Path, stored: StoredModel) -> Runner:
    hashes = json.loads((folder / MANIFEST).read_text())["sha256"]
    for name in (PACKAGE, CHECK):
        if file_hash(folder / name) != hashes[name]:
            raise ModelError(f"{folder / name} is damaged", name=str(folder / name))
    runner = load_package(folder / PACKAGE, stored.device)
    inputs, expected, bounds = _read_check(folder, stored.device)
    if not bounds.allows(runner(inputs), expected):
        raise ModelError(f"{folder} does not find what eager mode found", name=str(folder))
    return runner


def _write_check(folder: Path, inputs: PotentialInput, expected: EdgeDerivative, bounds: Rounding) -> None:
    from safetensors.torch import save

    given = {name: tensor for name, tensor in inputs._asdict().items() if tensor is not None}
    tensors = {**given, **expected._asdict()} | {BOUND + key: one for key, one in bounds._asdict().items()}
    plain = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(folder / CHECK, save(plain))


def _read_check(folder: Path, device: torch.device) -> tuple[PotentialInput, EdgeDerivative, Rounding]:
    from safetensors.torch import load_file

    tensors = load_file(folder / CHECK, device=str(device))
    inputs = PotentialInput(*(tensors[name] for name in PotentialInput._fields if name in tensors))
    expected = EdgeDerivative(*(tensors[name] for name in EdgeDerivative._fields))
    return inputs, expected, Rounding(*(tensors[BOUND + name] for name in Rounding._fields))


def _where_it_stays(folder: Path) -> Path | None:
    """The folder of all packages; where it cannot be written, none, with a warning that names the remedy."""
    if is_writable(folder):
        return folder
    warnings.warn(
        f"compiled code cannot be kept in {folder}, which cannot be written to, so that every process "
        f"compiles again: {ANOTHER_CACHE}",
        stacklevel=2,
    )
    return None


def _move(made: Path, folder: Path) -> None:
    """Put a whole folder in its place at once; where nothing can be written it is made again next time."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    except OSError:
        pass


def _failure(error: Exception) -> CompilationError:
    """An error with the first line of what may be a compiler's long output."""
    if "InvalidCxxCompiler" in str(error):
        return CompilationError("there is no C++ compiler that works;", remedy="install one, such as g++")
    lines = str(error).strip().splitlines()
    return CompilationError(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)

"""Compiled models on disk: found again by everything their machine code depends on, and never trusted."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

from asecalc_ml.errors import ModelError
from asecalc_ml.files.full_disk import file_of, reason
from asecalc_ml.files.in_use import mark_in_use
from asecalc_ml.files.user_cache import ANOTHER_CACHE, cache_folder, fingerprint, hardware, is_writable
from asecalc_ml.files.writing import write_whole
from asecalc_ml.model.compile.compiled_graph import INDUCTOR_OPTIONS, load_package, write_package
from asecalc_ml.model.compile.program import Function, KnownCall, Program, Shape
from asecalc_ml.sources import code_of_model
from asecalc_ml.store.model_file import file_hash
from asecalc_ml.store.stored_committee import StoredCommittee
from asecalc_ml.store.stored_model import StoredModel

PACKAGE, CHECK, MANIFEST = "package.pt2", "check.safetensors", "manifest.json"


class CompilationError(ModelError):
    """A model that cannot be compiled here; the message says why."""


class PackageCache:
    """Packages of one model, or of a committee, in one type on one device, a folder for each shape.

    A folder holds the package, calls with the results of eager mode and how far rounding may take other
    results from them (:mod:`asecalc_ml.model.rounding`), and the hashes of both files. A package is used
    after its hash is confirmed and its own results agree with eager mode's.

    Parameters
    ----------
    stored : StoredModel or StoredCommittee
    """

    def __init__(self, stored: StoredModel | StoredCommittee):
        self.stored = stored

    def folder(self, shape: Shape) -> Path:
        """Where the package of a shape lies, or would lie."""
        stored = self.stored
        code = [fact for member in stored.members for fact in (member.hash, *code_of_model(member.card))]
        machine = [hardware(stored.device), stored.device.type, torch.get_num_threads()]
        return cache_folder("compiled") / fingerprint([*code, *machine, str(stored.dtype), *shape])

    def _contents(self, folder: Path) -> dict[str, str]:
        """Entries of the manifest that tell a package from those of other models."""
        return {"model": self.stored.name, "model_hash": self.stored.hash, "folder": folder.name}

    def has(self, shape: Shape) -> bool:
        """Whether there is something to load."""
        return (self.folder(shape) / MANIFEST).is_file()

    def load(self, shape: Shape) -> Function | None:
        """The compiled function; a package that is damaged or wrong is removed, and None comes back."""
        folder = self.folder(shape)
        try:
            function = self._verified(folder)
        except Exception:  # whatever a damaged file makes torch, json or safetensors raise
            shutil.rmtree(folder, ignore_errors=True)
            return None
        mark_in_use(folder / MANIFEST)
        return function

    def build(self, program: Program) -> Function:
        """Compile a program, compare it with eager mode, and keep the package.

        Raises
        ------
        CompilationError
            If the model cannot be traced or compiled, compiled code gives other results, or the disk is full.
        """
        folder = self.folder(program.shape)
        try:
            with tempfile.TemporaryDirectory(dir=_where_it_stays(folder.parent)) as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                function = self._built(made, folder, program)
                _move(made, folder)
        except OSError as error:
            file = file_of(error)
            raise CompilationError(f"{file}: " * bool(file) + reason(error, folder.parent)) from error
        mark_in_use(folder / MANIFEST)
        return function

    def _built(self, folder: Path, place: Path, program: Program) -> Function:
        """Write a package, with what it is checked by, into a folder that is moved to its place."""
        model = self.stored.model
        calls = program.known_calls(model)
        for inductor_options in INDUCTOR_OPTIONS:
            function = self._compiled(folder / PACKAGE, program, inductor_options)
            if all(call.agrees_with(function) for call in calls):
                break
        else:
            raise CompilationError("compiled code does not compute what eager mode does")
        _write_calls(folder, calls)
        hashes = {name: file_hash(folder / name) for name in (PACKAGE, CHECK)}
        manifest = {**self._contents(place), "sha256": hashes}
        write_whole(folder / MANIFEST, json.dumps(manifest))
        return function

    def _verified(self, folder: Path) -> Function:
        manifest, device = json.loads((folder / MANIFEST).read_text()), self.stored.device
        hashes = manifest.pop("sha256")
        if manifest != self._contents(folder):
            raise ModelError(f"{folder} holds another model's package", name=str(folder))
        for name in (PACKAGE, CHECK):
            if file_hash(folder / name) != hashes[name]:
                raise ModelError(f"{folder / name} is damaged", name=str(folder / name))
        function = load_package(folder / PACKAGE, device)
        if not all(call.agrees_with(function) for call in _read_calls(folder, device)):
            raise ModelError(f"{folder} does not compute what eager mode did", name=str(folder))
        return function

    def _compiled(self, path: Path, program: Program, inductor_options: dict | None) -> Function:
        try:
            write_package(self.stored.model, program, path, inductor_options)
            return load_package(path, self.stored.device)
        except OSError:
            raise
        except Exception as error:  # whatever an architecture's code or the compiler meets
            raise _failure(error) from error


def _write_calls(folder: Path, calls: list[KnownCall]) -> None:
    """Known calls in one file of tensors, under names such as ``0.arguments.2``."""
    from safetensors.torch import save

    tensors = {
        f"{number}.{part}.{place}": tensor.cpu().contiguous().clone()
        for number, call in enumerate(calls)
        for part, of_part in call._asdict().items()
        for place, tensor in enumerate(of_part)
    }
    write_whole(folder / CHECK, save(tensors))


def _read_calls(folder: Path, device: torch.device) -> list[KnownCall]:
    from safetensors.torch import load_file

    parts: dict[int, dict[str, dict[int, Tensor]]] = {}
    for name, tensor in load_file(folder / CHECK, device=str(device)).items():
        number, part, place = name.split(".")
        parts.setdefault(int(number), {}).setdefault(part, {})[int(place)] = tensor
    return [
        KnownCall(
            *(
                [of_call.get(field, {})[k] for k in sorted(of_call.get(field, {}))]
                for field in KnownCall._fields
            )
        )
        for _, of_call in sorted(parts.items())
    ]


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

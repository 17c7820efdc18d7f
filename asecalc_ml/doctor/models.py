"""Registered models and those that ship: folders, permissions, checksums."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from asecalc_ml.doctor.finding import Finding
from asecalc_ml.doctor.folders import Folder, state_of, used
from asecalc_ml.errors import AsecalcError
from asecalc_ml.files.writing import obstacle
from asecalc_ml.store.model_file import CHECKSUMS, SHIPPED, SUFFIX, file_hash, read_card
from asecalc_ml.store.registry import HOME_VARIABLE, Registry

ANOTHER_FOLDER = f"set {HOME_VARIABLE} to a folder that you can write to"


def check_shipped(folder: Path = SHIPPED) -> Iterator[Finding]:
    """Compare the models that ship with their checksums.

    Parameters
    ----------
    folder : Path
        With the models and the list of their SHA-256.
    """
    remedy = "pip install --force-reinstall --no-deps asecalc-ml, or `git checkout` the file in a checkout"
    lines = map(str.split, (folder / CHECKSUMS).read_text().splitlines())
    expected = {name: digest for digest, name in lines}
    n_intact = 0
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            yield Finding("models", name, "failed", f"{path} is missing", remedy)
        elif file_hash(path) != digest:
            text = f"{path} has changed: its SHA-256 is not that of {CHECKSUMS}"
            yield Finding("models", name, "failed", text, remedy)
        else:
            n_intact += 1
    text = f"{n_intact} of {len(expected)} are intact in {folder}"
    yield Finding("models", "shipped models", "passed" if n_intact == len(expected) else "failed", text)


def check_registry() -> Iterator[Finding]:
    """Check the folders of the registry and every model in them."""
    folders = Registry().folders
    for folder in folders:
        yield _state(folder)
        yield from _damaged(folder)
    if folders and all(obstacle(folder) for folder in folders):
        text = f"no model can be registered in {os.pathsep.join(map(str, folders))}"
        yield Finding("models", "registry", "failed", text, ANOTHER_FOLDER)


def _state(folder: Path) -> Finding:
    if folder.is_dir() and obstacle(folder):  # a group's own, which its members read
        return Finding("models", "registry", "passed", f"{used(folder)} in {folder}, read only")
    return state_of(Folder("registry", folder, ANOTHER_FOLDER), "models")


def _damaged(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            read_card(path)
        except AsecalcError as error:
            yield Finding("models", path.stem, "failed", error.problem.rstrip(";: "), error.remedy or "")

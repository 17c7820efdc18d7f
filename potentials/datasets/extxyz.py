"""Labelled structures as extended XYZ."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.errors import DatasetError
from asecalc_ml.files import write_whole

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.potentials.datasets.options import DatasetOptions


def write_extxyz(path: Path, frames: Sequence[Atoms]) -> None:
    """Write structures with their labels, whole or not at all.

    Raises
    ------
    DatasetError
        If the file cannot be written.
    """
    from ase.io import write

    text = io.StringIO()
    write(text, frames, format="extxyz")
    try:
        write_whole(path, text.getvalue())
    except OSError as error:
        raise DatasetError(f"cannot write {path}: {error}. Choose another folder.") from error


def convert(source: DatasetOptions, target: Path, overwrite: bool = False) -> int:
    """Write a data set as extended XYZ, in eV and Å, and return the number of its structures.

    Raises
    ------
    DatasetError
        If the data cannot be read, or the file cannot be written or exists.
    """
    if target.exists() and not overwrite:
        raise DatasetError(f"{target} exists: give another file, or replace it with --overwrite")
    frames = source.read_whole()
    write_extxyz(target, frames)
    return len(frames)

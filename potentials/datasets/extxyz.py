"""Labelled structures as extended XYZ."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.errors import DatasetError
from asecalc_ml.files.full_disk import reason
from asecalc_ml.files.writing import check_output, write_whole

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.potentials.datasets.options import DatasetOptions

SUFFIXES = (".xyz", ".extxyz")


def write_extxyz(path: Path, frames: Sequence[Atoms]) -> None:
    """Write structures with their labels, whole or not at all.

    Raises
    ------
    DatasetError
        If the file cannot be written.
    """
    from ase.io import write

    from asecalc_ml.runs.trajectories import lost_constraints

    lost = sorted({name for atoms in frames for name in lost_constraints(atoms, ".extxyz")})
    if lost:
        warnings.warn(f"{path} does not keep constraints {', '.join(lost)}; .traj keeps them", stacklevel=3)
    text = io.StringIO()
    write(text, map(_writable, frames), format="extxyz")
    try:
        write_whole(path, text.getvalue())
    except OSError as error:
        raise DatasetError(
            f"cannot write {path}: {reason(error)}.", name=str(path), remedy="Choose another folder."
        ) from error


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse, before anything is computed, a file that cannot be written; see :func:`check_output`.

    Raises
    ------
    DatasetError
    """
    check_output(target, SUFFIXES, overwrite=overwrite, error=DatasetError)


def _writable(atoms: Atoms) -> Atoms:
    """A copy with each label once, whose ``info`` ASE writes so that it comes back."""
    from asecalc_ml.structure.files.extended_xyz import readable_info

    copy, results = atoms.copy(), {} if atoms.calc is None else atoms.calc.results
    copy.info = readable_info(atoms.info, results)
    for name in results.keys() & copy.arrays.keys():  # ASE refuses to write both
        del copy.arrays[name]
    copy.calc = atoms.calc
    return copy


def convert(
    source: DatasetOptions, target: Path, overwrite: bool = False, strict: bool = False, quiet: bool = True
) -> int:
    """Write a data set as extended XYZ, in eV and Å, and return the number of its structures.

    Labels that contradict themselves cause a warning or, where ``strict`` is true, an error before anything
    is written. A summary of the labels is printed unless ``quiet`` is true.

    Raises
    ------
    DatasetError
        If the data cannot be read, the file cannot be written, exists or is called
            otherwise than extended XYZ, or the labels are refused.
    """
    from asecalc_ml.potentials.datasets.label_checks import examine

    check_target(target, overwrite)
    located = source.read_located()
    frames = list(located.values())
    examine({source.label: frames}, {source.label: list(located)}).show(quiet, strict)
    write_extxyz(target, frames)
    return len(frames)

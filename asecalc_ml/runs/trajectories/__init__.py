"""Formats of trajectories: each has a writer and a reader, found by the suffix of the file's name.

A new one is a line here, and its name among the files of a run directory (:mod:`asecalc_ml.runs`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asecalc_ml.files.reading import damage_named
from asecalc_ml.runs.layout import TRAJECTORIES

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

    from asecalc_ml.runs.trajectories.reader import TrajectoryFile
    from asecalc_ml.runs.trajectories.writer import Origin, TrajectoryWriter

FORMATS = {  # module and class of the writer, module and class of the reader
    ".traj": ("traj_writer:TrajWriter", "traj_reader:TrajFile"),
    ".extxyz": ("extxyz_writer:ExtxyzWriter", "extxyz_reader:ExtxyzFile"),
    ".h5md": ("h5md_writer:H5MDWriter", "h5md_reader:H5MDFile"),
}


def make_writer(path: Path, origin: Origin) -> TrajectoryWriter:
    """Open a writer that appends frames to a file.

    Raises
    ------
    RunError
        If the file is there and damaged.
    """
    with damage_named(path):
        return _load(FORMATS[path.suffix][0])(path, origin)


def head_bytes(path: Path) -> int:
    """Number of first bytes of a growing file that change while it grows, see :class:`TrajectoryWriter`."""
    return _load(FORMATS[path.suffix][0]).head_bytes if path.suffix in FORMATS else 0


def lost_constraints(atoms: Atoms, suffix: str) -> list[str]:
    """Names of the constraints of a structure that a format does not keep."""
    keeps = _load(FORMATS[suffix][0]).keeps
    return [type(constraint).__name__ for constraint in atoms.constraints if not keeps(constraint)]


def trajectory_of(directory: Path) -> Path:
    """Path of the trajectory in a directory, whatever its format; ``trajectory.traj`` if there is none."""
    paths = [directory / name for name in TRAJECTORIES]
    return next((path for path in paths if path.is_file()), paths[0])


def open_trajectory(path: Path) -> TrajectoryFile:
    """The frames of a file."""
    return _load(FORMATS[path.suffix][1])(path)


def _load(name: str) -> Any:
    module, _, cls = name.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), cls)

"""Reads H5MD (.h5md), by h5py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.runs.trajectories.h5md_writer import EXTRAS, FORCE, VELOCITY
from asecalc_ml.runs.trajectories.hdf5 import check_heap
from asecalc_ml.runs.trajectories.reader import Read, TrajectoryFile, check_numbers, damage_told
from asecalc_ml.structure.files.stored_constraints import decode_constraints

if TYPE_CHECKING:
    from ase import Atoms
    from h5py import File

NAMES = {
    "positions": "particles/trajectory/position/value",
    "momenta": "particles/trajectory/velocity/value",
    "forces": "particles/trajectory/force/value",
    "cells": "particles/trajectory/box/edges/value",
    "energies": "observables/potential_energy/value",
}


HEAP_WITHIN = 1 << 20  # bytes from the beginning; a run writes its texts before the first frame


class H5MDFile(TrajectoryFile):
    """Frames of an H5MD file that a run has written.

    Parameters
    ----------
    path : Path
        A file that is missing, or in which nothing was completed, holds no frames.

    Raises
    ------
    RunError
        If it is damaged, or no such file.
    """

    def __init__(self, path: Path):
        self.path, self.n_frames = path, 0
        if _has_begun(path):
            with damage_told(path, "in its texts"), path.open("rb") as content:
                check_heap(content.read(HEAP_WITHIN))
            with self._opened() as file:
                self.n_frames = len(file[NAMES["positions"]])
                self._numbers = file["particles/trajectory/species"][:]
                self._masses = file["particles/trajectory/mass"][:]
                _check_atoms(self._numbers, self._masses)
                self._pbc = file["particles/trajectory/box"].attrs["boundary"] == "periodic"
                datasets = {name: file.get(f"particles/trajectory/{name}") for name in EXTRAS}
                self._extras = {name: dataset[:] for name, dataset in datasets.items() if dataset is not None}
                self._parameters = dict(file["parameters"].attrs) if "parameters" in file else {}

    @contextmanager
    def _opened(self) -> Iterator[File]:
        import h5py

        with damage_told(self.path), h5py.File(self.path, "r", locking=False) as file:
            yield file

    def reader(self, start: int, n_frames: int, numbers: np.ndarray) -> Read:
        """What reads a quantity of some frames."""
        check_numbers(0, numbers, self._numbers)

        def read(quantity: str) -> np.ndarray:
            with self._opened() as file:
                if quantity == "cells" and NAMES[quantity] not in file:  # of what has no cell
                    return np.zeros((n_frames, 3, 3))
                values = file[NAMES[quantity]][start : start + n_frames]
                self._check_shape(quantity, values, n_frames)
            if quantity == "momenta":
                return values / VELOCITY * self._masses[:, None]
            return values / FORCE if quantity == "forces" else values

        return read

    def _check_shape(self, quantity: str, values: np.ndarray, n_frames: int) -> None:
        of_frame = {"cells": (3, 3), "energies": ()}.get(quantity, (len(self._numbers), 3))
        if values.shape != (n_frames, *of_frame) or values.dtype.kind != "f":
            raise ValueError(f"{quantity} are {values.dtype} of shape {values.shape}")

    @property
    def start(self) -> Atoms:
        """A structure of these atoms, with positions still to come."""
        from ase import Atoms
        from ase.io.jsonio import decode

        atoms = Atoms(self._numbers, np.zeros((len(self._numbers), 3)), pbc=self._pbc)
        if not np.array_equal(self._masses, atoms.get_masses()):
            atoms.set_masses(self._masses)
        for name, values in self._extras.items():
            atoms.set_array(name, values)
        with damage_told(self.path, "in its parameters"):
            atoms.info = decode(self._parameters.get("info", "{}"))
            atoms.set_constraint(decode_constraints(self._parameters.get("constraints", "[]")))
        return atoms


def _check_atoms(numbers: np.ndarray, masses: np.ndarray) -> None:
    kinds = numbers.dtype.kind + masses.dtype.kind
    if numbers.ndim != 1 or masses.shape != numbers.shape or kinds not in ("if", "uf"):
        raise ValueError("species and masses are not one number for each atom")
    if not ((numbers >= 0) & (numbers <= 118)).all():
        raise ValueError("species are not atomic numbers")


def _has_begun(path: Path) -> bool:
    """Whether a first frame was completed: the superblock comes last."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return any(file.read(8))

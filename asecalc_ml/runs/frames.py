"""Frames of a trajectory in chunks, of which only what is asked for is read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from asecalc_ml.errors import AnalysisError, RunError
from asecalc_ml.structure.minimum_image import Lattices

COORDINATES_A_CHUNK = 3_000_000  # 24 MB for each quantity
MAX_FRAMES_A_CHUNK = 1000


@dataclass(frozen=True, eq=False)
class Frames:
    """Consecutive frames of the same atoms.

    Every array is read when it is first looked at, so that who needs positions pays for nothing else. It
    cannot be written to, since all analyses of a run share it.

    Parameters
    ----------
    start : int
        Number of the first frame, counted from the start of the run.
    n_frames : int
    masses : array, shape (n_atoms,), amu
    read : callable
        Maps "positions", "momenta", "forces", "cells" or "energies" to an array, or to None where there are
        none.
    source : str
        Where the frames come from, for error messages.

    Raises
    ------
    RunError
        When an array that holds NaN or infinite numbers is first looked at; the message names the frame.
    """

    start: int
    n_frames: int
    masses: np.ndarray
    read: Callable[[str], np.ndarray | None]
    source: str = "the trajectory"

    def __len__(self) -> int:
        return self.n_frames

    @cached_property
    def positions(self) -> np.ndarray:
        """Positions, shape (n_frames, n_atoms, 3), Å."""
        return self._found("positions")

    @cached_property
    def momenta(self) -> np.ndarray:
        """Momenta in ASE's unit, shape (n_frames, n_atoms, 3); AnalysisError where none were written."""
        return self._found("momenta")

    @cached_property
    def velocities(self) -> np.ndarray:
        """Velocities in Å per ASE's unit of time, shape (n_frames, n_atoms, 3)."""
        return _read_only(self.momenta / self.masses[:, None])

    @cached_property
    def forces(self) -> np.ndarray:
        """Forces, shape (n_frames, n_atoms, 3), eV/Å; AnalysisError where none were written."""
        return self._found("forces")

    @cached_property
    def cells(self) -> np.ndarray:
        """Cell vectors as rows, shape (n_frames, 3, 3), Å."""
        return self._found("cells")

    @cached_property
    def energies(self) -> np.ndarray:
        """Potential energies, shape (n_frames,), eV; AnalysisError where none were written."""
        return self._found("energies")

    def lattices(self, pbc: np.ndarray) -> Lattices:
        """Lattices of the frames for these periodic directions; all analyses of a chunk share them.

        Raises
        ------
        StructureError
            If a periodic direction has no cell vector of its own.
        """
        return self.shared(("lattices", *pbc), lambda: Lattices(self.cells, pbc))

    def shared(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """What one analysis computes from these frames, for all that ask for the same key."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    @cached_property
    def _shared(self) -> dict[Hashable, Any]:
        return {}

    def _found(self, quantity: str) -> np.ndarray:
        array = self.read(quantity)
        if array is None:
            raise AnalysisError(
                f"the frames hold no {quantity}",
                name=quantity,
                remedy=f"write them with {quantity}, or leave this out",
            )
        self._check_finite(array, quantity)
        return _read_only(array)

    def _check_finite(self, array: np.ndarray, quantity: str) -> None:
        """Refuse what no analysis can count: a NaN compares as neither near nor far."""
        if np.isfinite(array).all():
            return
        rows = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        number = self.start + int(rows.argmin())
        raise RunError(
            f"frame {number} of {self.source}, counted from 0, is damaged: its {quantity} are not finite "
            "(NaN or infinite), so no analysis can use it.",
            name=self.source,
            value=number,
            remedy=f"Leave it out: in Python, ase.io.read(FILE, ':{number}') reads the frames before it, and "
            "MemoryRun.from_frames analyses them; or repeat the run, with a shorter time step if it became "
            "unstable",
        )


def _read_only(array: np.ndarray) -> np.ndarray:
    """Return a view that raises an error where it is written to."""
    view = array.view()
    view.setflags(write=False)
    return view


def chunk_starts(n_frames: int, n_atoms: int, size: int | None = None) -> Iterator[tuple[int, int]]:
    """First frame and number of frames of each chunk: of at most ``size``, or as many as memory is fine with.

    Examples
    --------
    >>> list(chunk_starts(5, n_atoms=3, size=2))
    [(0, 2), (2, 2), (4, 1)]
    """
    fitting = COORDINATES_A_CHUNK // (3 * max(n_atoms, 1))
    size = size or min(max(fitting, 1), MAX_FRAMES_A_CHUNK)
    for start in range(0, n_frames, size):
        yield start, min(size, n_frames - start)

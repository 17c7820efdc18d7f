"""Vectors between atoms in chunks of frames, across periodic boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from asecalc_ml.frames import Frames
    from asecalc_ml.rundir import RunReader


class FollowedVectors:
    """Vectors between pairs of atoms, each followed through the periodic images from frame to frame.

    With the cell shift s of the bond at the start, ``vector = positions[j] - positions[i] + s @ cell``, with
    the cell of the frame. Where an atom is put back into the cell between two frames, the vector would jump
    by about a cell vector; the shift takes the jump back. Unlike the minimum image this is exact in cells
    smaller than two bond lengths too, and wrapped and unwrapped trajectories give the same. Jumps are told in
    fractions of the cell, so that a cell that changes makes none.

    Parameters
    ----------
    run : RunReader
        Its starting structure says where the pairs were.
    pairs : array of int, shape (n_pairs, 2)
    shifts : array of int, shape (n_pairs, 3)
        Cell shifts in the starting structure.
    """

    def __init__(self, run: RunReader, pairs: np.ndarray, shifts: np.ndarray):
        self._first, self._second = np.asarray(pairs, dtype=int).T
        self._shifts = np.asarray(shifts, dtype=int)
        self._pbc = np.asarray(run.pbc, dtype=bool)
        self._last = np.zeros((len(self._first), 3))
        if self._pbc.any():
            start = self._raw(np.asarray(run.atoms.positions, dtype=float))
            self._last = start @ np.linalg.inv(complete_cells(np.asarray(run.cell)[None]))[0]

    def __call__(self, frames: Frames) -> np.ndarray:
        """Vectors in the next frames, shape (n_frames, n_pairs, 3), Å."""
        raw = self._raw(frames.positions)
        if not self._pbc.any() or len(raw) == 0:
            return raw
        cells = complete_cells(frames.cells)
        fractional = raw @ np.linalg.inv(cells)
        steps = np.diff(fractional, axis=0, prepend=self._last[None])
        shifts = self._shifts - np.cumsum(np.rint(steps).astype(int) * self._pbc, axis=0)
        self._last, self._shifts = fractional[-1], shifts[-1]
        return raw + shifts @ cells

    def _raw(self, positions: np.ndarray) -> np.ndarray:
        return positions[..., self._second, :] - positions[..., self._first, :]


class FollowedPositions:
    """Positions without the jumps that atoms make when they are put back into the cell.

    The displacements from frame to frame, each the shortest among the images, are added up from positions
    wrapped into the cell of their frame. Under a barostat the cell carries everything along that lies far
    from the origin; positions that were followed through many cells would swing with it by more than atoms
    diffuse.

    Parameters
    ----------
    run : RunReader

    Notes
    -----
    Source: S. von Bülow, J. T. Bullerjahn & G. Hummer, J. Chem. Phys. 153, 021101 (2020), eq. 2.
    """

    def __init__(self, run: RunReader):
        self._pbc = np.asarray(run.pbc, dtype=bool)
        self._wrapped: np.ndarray | None = None
        self._position: np.ndarray | None = None

    def __call__(self, frames: Frames) -> np.ndarray:
        """Unwrapped positions of the next frames, shape (n_frames, n_atoms, 3), Å."""
        if not self._pbc.any() or len(frames) == 0:
            return frames.positions
        cells = complete_cells(frames.cells)
        inverse = np.linalg.inv(cells)
        fractional = frames.positions @ inverse
        wrapped = (fractional - np.floor(fractional) * self._pbc) @ cells
        if self._wrapped is None:
            self._wrapped, self._position = wrapped[0], wrapped[0]
        raw = np.diff(wrapped, axis=0, prepend=self._wrapped[None])
        steps = raw - (np.rint(raw @ inverse) * self._pbc) @ cells
        found = self._position + np.cumsum(steps, axis=0)
        self._wrapped, self._position = wrapped[-1], found[-1]
        return found


def complete_cells(cells: np.ndarray) -> np.ndarray:
    """Cells with a unit vector in place of each missing one, as slabs and molecules have them.

    Parameters
    ----------
    cells : array, shape (n_frames, 3, 3), Å

    Returns
    -------
    array, shape (n_frames, 3, 3)
    """
    from ase.geometry import complete_cell

    if (np.linalg.norm(cells, axis=-1) > 0).all():
        return cells
    return np.array([complete_cell(cell) for cell in cells])

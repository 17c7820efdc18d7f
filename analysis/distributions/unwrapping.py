"""Positions and vectors between atoms, unwrapped: without the jumps of periodic boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml._lazy import renamed
from asecalc_ml.structure.lattice import reduced
from asecalc_ml.structure.minimum_image import Lattices
from asecalc_ml.structure.pair_vectors import pair_vectors

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs.frames import Frames


class UnwrappedVectors:
    """Vectors between pairs of atoms, each followed through the periodic images from frame to frame.

    With the cell shift s of the bond at the start, ``vector = positions[j] - positions[i] + s @ cell``, with
    the cell of the frame. Where an atom is put back into the cell between two frames, the vector jumps by a
    lattice vector; s is then changed so that the step from the frame before is the shortest
    (:mod:`asecalc_ml.structure.minimum_image`). Unlike the minimum image of the vector itself this is right
    for bonds longer than half the cell too, and wrapped and unwrapped trajectories give the same. Steps are
    differences of fractional coordinates, so a change of the cell is not mistaken for a jump.

    Parameters
    ----------
    run : RunReader or MemoryRun
        Its starting structure says where the pairs were.
    pairs : array of int, shape (n_pairs, 2)
    shifts : array of int, shape (n_pairs, 3)
        Cell shifts in the starting structure.
    """

    def __init__(self, run: AnyRun, pairs: np.ndarray, shifts: np.ndarray):
        self._pairs = np.asarray(pairs, dtype=int).T
        self._shifts = np.asarray(shifts, dtype=int)
        self._pbc = np.asarray(run.pbc, dtype=bool)
        self._last = np.zeros((1, self._pairs.shape[1], 3))
        if self._pbc.any():
            start = pair_vectors(run.atoms.positions, self._pairs)
            self._last = Lattices(run.cell, self._pbc).fractional(start)

    def __call__(self, frames: Frames) -> np.ndarray:
        """Vectors in the next frames, shape (n_frames, n_pairs, 3), Å."""
        inside = pair_vectors(frames.positions, self._pairs)
        if not self._pbc.any() or len(inside) == 0:
            return inside
        lattices = frames.lattices(self._pbc)
        # steps from the frame before, in fractional coordinates of the cell of each frame
        fractional = lattices.fractional(inside)
        steps = fractional - np.concatenate([self._last, fractional[:-1]])
        # a jump by a lattice vector changes the cell shift of its frame and of all that follow
        shifts = self._shifts + np.cumsum(lattices.shifts(steps @ lattices.cells), axis=0)
        self._last, self._shifts = fractional[-1:], shifts[-1]
        return inside + shifts @ lattices.cells


class UnwrappedPositions:
    """Positions without the jumps that atoms make when they are put back into the cell.

    The displacements from frame to frame, each the shortest among the images, are added up from positions
    wrapped into the cell of their frame. Under a barostat the cell carries everything along that lies far
    from the origin; positions that were followed through many cells would swing with it by more than atoms
    diffuse. So the cell that they are wrapped into is the reduced one, with the origin at its centre, however
    skewed the given cell vectors are. Which vectors these are is decided by the starting structure.

    Parameters
    ----------
    run : RunReader or MemoryRun

    Notes
    -----
    Source: S. von Bülow, J. T. Bullerjahn & G. Hummer, J. Chem. Phys. 153, 021101 (2020), eq. 2.
    """

    def __init__(self, run: AnyRun):
        self._pbc = np.asarray(run.pbc, dtype=bool)
        self._operation = reduced(run.cell, self._pbc)[1]
        self._wrapped: np.ndarray | None = None
        self._position: np.ndarray | None = None

    def __call__(self, frames: Frames) -> np.ndarray:
        """Unwrapped positions of the next frames, shape (n_frames, n_atoms, 3), Å."""
        if not self._pbc.any() or len(frames) == 0:
            return frames.positions
        lattices = frames.lattices(self._pbc)
        # positions wrapped into the reduced cell of their frame
        wrapped = frames.positions + self._shifts(lattices.fractional(frames.positions)) @ lattices.cells
        if self._wrapped is None:
            self._wrapped, self._position = wrapped[:1], wrapped[0]
        # displacements from frame to frame, each the shortest among the images, added up
        steps = lattices.shortest(wrapped - np.concatenate([self._wrapped, wrapped[:-1]]))
        positions = self._position + np.cumsum(steps, axis=0)
        self._wrapped, self._position = wrapped[-1:], positions[-1]
        return positions

    def _shifts(self, fractional: np.ndarray) -> np.ndarray:
        """Cell shifts, as those of Lattices, that put atoms into the reduced cell around the origin."""
        return -np.rint(fractional @ np.linalg.inv(self._operation)) @ self._operation


__getattr__ = renamed(
    __name__, {"FollowedVectors": "UnwrappedVectors", "FollowedPositions": "UnwrappedPositions"}
)

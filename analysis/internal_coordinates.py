"""Bond vectors, lengths and angles in chunks of frames, across periodic boundaries."""

import numpy as np


class FollowedVectors:
    """Vectors between pairs of atoms, each followed through the periodic images from frame to frame.

    With the cell shift s of the bond at the start, ``vector = positions[j] - positions[i] + s @ cell``. Where
    an atom is put back into the cell between two frames, the vector would jump by about a cell vector; the
    shift takes the jump back. Unlike the minimum image this is exact in cells smaller than two bond lengths
    too, and wrapped and unwrapped trajectories give the same.

    Parameters
    ----------
    pairs : array of int, shape (n_pairs, 2)
    shifts : array of int, shape (n_pairs, 3)
        Cell shifts in the starting structure.
    start : array, shape (n_atoms, 3), Å
        Positions of the starting structure.
    cell : array, shape (3, 3), Å
        Rows a, b, c.
    pbc : sequence of 3 bool
    """

    def __init__(self, pairs: np.ndarray, shifts: np.ndarray, start: np.ndarray, cell: np.ndarray, pbc):
        from ase.geometry import complete_cell

        self._first, self._second = np.asarray(pairs, dtype=int).T
        self._shifts = np.asarray(shifts, dtype=int)
        self._cell, self._pbc = complete_cell(np.asarray(cell, dtype=float)), np.asarray(pbc, dtype=bool)
        self._inverse = np.linalg.inv(self._cell) if self._pbc.any() else np.eye(3)
        self._last = self._raw(np.asarray(start, dtype=float)[None])[0] @ self._inverse

    def frames(self, positions: np.ndarray) -> np.ndarray:
        """Vectors in the next frames.

        Parameters
        ----------
        positions : array, shape (n_frames, n_atoms, 3), Å

        Returns
        -------
        array, shape (n_frames, n_pairs, 3), Å
        """
        raw = self._raw(positions)
        if not self._pbc.any() or len(raw) == 0:
            return raw
        fractional = raw @ self._inverse
        steps = np.diff(fractional, axis=0, prepend=self._last[None])
        shifts = self._shifts - np.cumsum(np.rint(steps).astype(int) * self._pbc, axis=0)
        self._last, self._shifts = fractional[-1], shifts[-1]
        return raw + shifts @ self._cell

    def _raw(self, positions: np.ndarray) -> np.ndarray:
        return positions[:, self._second] - positions[:, self._first]


class Lengths:
    """Lengths of bonds in Å, shape (n_frames, n_bonds)."""

    def __init__(self, run, bonds: np.ndarray, shifts: np.ndarray):
        self._vectors = FollowedVectors(bonds, shifts, run.atoms.positions, run.cell, run.pbc)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        return np.linalg.norm(self._vectors.frames(positions), axis=-1)


class BondAngles:
    """Angles between two bonds of an atom in degrees, shape (n_frames, n_angles).

    Parameters
    ----------
    run : RunReader
    triples : array of int, shape (n_angles, 3)
        The centre in the middle.
    shifts : array of int, shape (n_angles, 2, 3)
        Cell shifts of the two ends, seen from the centre.
    """

    def __init__(self, run, triples: np.ndarray, shifts: np.ndarray):
        self._n_angles = len(triples)
        pairs = np.concatenate([triples[:, [1, 0]], triples[:, [1, 2]]])
        both = np.concatenate([shifts[:, 0], shifts[:, 1]])
        self._vectors = FollowedVectors(pairs, both, run.atoms.positions, run.cell, run.pbc)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        vectors = self._vectors.frames(positions)
        return angle_between(vectors[:, : self._n_angles], vectors[:, self._n_angles :])


def angle_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles in degrees from the tangent, which unlike the cosine is accurate near 0 and 180 degrees."""
    opposite = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.degrees(np.arctan2(opposite, np.sum(first * second, axis=-1)))

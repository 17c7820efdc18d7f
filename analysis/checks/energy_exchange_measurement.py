r"""Whether the modes of a run exchange energy, without which its errors are too small.

In the canonical ensemble the mass-weighted velocities :math:`u = \sqrt{m} v` of the motion inside a system
have the same covariance at any positions, whatever the potential is:

.. math:: \langle u u^T \rangle = k_B T \, P

where P projects onto velocities without translation and rotation of the whole. A mode that keeps its energy E
for the whole run has E in place of kT on the diagonal. With the deviations
:math:`D_b = \langle u u^T \rangle_b / k_B T - P` of B blocks of the run,

.. math:: \rho = \frac{n + 1}{n - 1} \, \frac{1}{n B^2} \sum_{a, b} \mathrm{tr}(D_a D_b)

is the autocorrelation function of the modes' energies, averaged over the run: the variance of the mean energy
of a mode, divided by the canonical variance (kT)². It is 1 where every mode keeps its energy, and 1/N where
the run holds N independent values of each. Products of different blocks contain no noise of single frames;
for a = b that of neighboring blocks is taken. kT is that of the mean kinetic energy of all n degrees of
freedom. Energies that are drawn once and kept then have the variance (kT)² (n - 1)/(n + 1), for which the
first factor corrects. The modes themselves need not be known, since the trace is the same in any basis.
Modes of nearly one frequency also keep their phase difference, which adds to the products: where those of
neighboring blocks are above 1, ρ is divided by them. Molecules are turned so that their atoms lie as in the
starting structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.checks.energy_exchange import EnergyExchange
from asecalc_ml.errors import AnalysisError, RunError
from asecalc_ml.statistics.time_series import MAX_BLOCKS
from asecalc_ml.structure.rigid_motions import axes_of_rotation, translations

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.runs import RunReader
    from asecalc_ml.runs.frames import Frames

MOST_ATOMS = 100
MOST_FRAMES = 10_000
FEWEST_FRAMES = 5 * MAX_BLOCKS
FLAT = 1e-6  # moment of inertia, over the largest, about an axis on which all atoms lie
SHARED = "energy exchange"
MOST_DRAWS = 1000.0  # beyond which draws are not counted


class ExchangeMeasurement:
    """Adds up covariances of velocities in blocks of frames.

    Nothing is known of frames without velocities, of fewer than 100 frames, of structures with more than 100
    moving atoms, and under constraints other than FixAtoms.

    Parameters
    ----------
    run : RunReader
    """

    def __init__(self, run: RunReader):
        atoms, n_frames = run.atoms, run.n_frames
        self._interval_fs, self._length = run.frame_interval_fs, n_frames // MAX_BLOCKS
        self._stride, self._n_frames = -(-n_frames // MOST_FRAMES), n_frames
        self._moving = _moving(atoms)
        self._is_known = n_frames >= FEWEST_FRAMES and 1 < len(self._moving) <= MOST_ATOMS
        if self._is_known:
            size = 3 * len(self._moving)
            self._roots = np.sqrt(atoms.get_masses()[self._moving])
            self._directions, self._axes = translations(atoms), axes_of_rotation(atoms)
            self._products, self._rigid = (np.zeros((MAX_BLOCKS, size, size)) for _ in range(2))
            self._counts = np.zeros(MAX_BLOCKS)
            self._start = self._centred(atoms.positions[None, self._moving])[0]

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        if not self._is_known:
            return
        try:
            found = frames.shared(SHARED, lambda: list(self._sums(frames)))
        except (AnalysisError, RunError):  # there are no velocities, or they are damaged
            self._is_known = False
            return
        for block, products, rigid, n_frames in found:
            self._products[block] += products
            self._rigid[block] += rigid
            self._counts[block] += n_frames

    def _sums(self, frames: Frames) -> Iterator[tuple[int, np.ndarray, np.ndarray, int]]:
        """Sums over the frames of each block, which all analyses of these frames share."""
        positions, velocities = frames.positions, frames.velocities
        start = frames.start - (self._n_frames - MAX_BLOCKS * self._length)
        for block in range(max(start // self._length, 0), MAX_BLOCKS):
            first, last = (block * self._length - start, (block + 1) * self._length - start)
            if first >= len(frames):
                break
            chosen = slice(max(first, 0) + -(max(first, 0) - first) % self._stride, last, self._stride)
            yield block, *self._products_of(positions[chosen], velocities[chosen])

    def _products_of(self, positions: np.ndarray, velocities: np.ndarray) -> tuple:
        """Sums of products of velocities and of rigid motions, each (3 n, 3 n), and the number of frames."""
        positions, velocities = positions[:, self._moving], velocities[:, self._moving]
        weighted = self._roots[:, None] * velocities
        centred = self._centred(positions)
        if len(self._axes) == 3:
            turns = self._turns(centred)
            centred, weighted = centred @ turns, weighted @ turns
        rigid = self._rigid_motions(centred)
        flat = weighted.reshape(len(weighted), -1)
        flat = flat - np.einsum("fki,fk->fi", rigid, np.einsum("fki,fi->fk", rigid, flat))
        rigid = rigid.reshape(-1, flat.shape[1])
        return flat.T @ flat, rigid.T @ rigid, len(flat)

    def _centred(self, positions: np.ndarray) -> np.ndarray:
        masses = self._roots**2
        return positions - np.einsum("a,fai->fi", masses, positions)[:, None] / masses.sum()

    def _turns(self, centred: np.ndarray) -> np.ndarray:
        """Rotations onto the start (W. Kabsch, Acta Cryst. A 32, 922, 1976), shape (n_frames, 3, 3)."""
        left, _, right = np.linalg.svd(np.einsum("a,fai,aj->fij", self._roots**2, centred, self._start))
        left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
        return left @ right

    def _rigid_motions(self, centred: np.ndarray) -> np.ndarray:
        """Orthonormal mass-weighted translations and rotations, shape (n_frames, n_motions, 3 n_atoms)."""
        n_frames, size = len(centred), 3 * len(self._roots)
        along = self._roots[:, None] * self._directions[:, None, :] / np.linalg.norm(self._roots)
        along = np.broadcast_to(along.reshape(-1, size), (n_frames, len(along), size))
        about = self._roots[:, None] * np.cross(self._axes[:, None, :], centred[:, None])
        about = about.reshape(n_frames, len(self._axes), size)
        moments, vectors = np.linalg.eigh(about @ about.transpose(0, 2, 1))
        least = FLAT * moments.max(axis=1, keepdims=True, initial=0)
        scales = np.where(moments > least, moments, np.inf) ** -0.5
        return np.concatenate([along, scales[:, :, None] * (vectors.transpose(0, 2, 1) @ about)], axis=1)

    def conclude(self) -> EnergyExchange | None:
        """Return what was found; None where it is not known."""
        if not self._is_known or (self._counts == 0).any():
            return None
        size = len(self._products[0])
        counts = self._counts[:, None, None]
        inside = np.eye(size) - self._rigid / counts
        n_degrees = np.trace(inside, axis1=1, axis2=2).mean()
        products = self._products / counts
        thermal = np.trace(products, axis1=1, axis2=2).mean() / n_degrees
        if not 0 < thermal < np.inf or n_degrees < 1.5:
            return None
        deviations = (products / thermal - inside).reshape(MAX_BLOCKS, -1)
        alike = (n_degrees + 1) / (n_degrees - 1) * deviations @ deviations.T / n_degrees
        at_once = np.diagonal(alike, 1).mean()
        np.fill_diagonal(alike, at_once)  # a block's own product holds its noise
        kept = alike.mean() / max(at_once, 1.0)
        n_draws = float(1 / np.clip(kept, 1 / MOST_DRAWS, 1.0))
        return EnergyExchange(n_draws=n_draws, time_fs=self._n_frames * self._interval_fs / n_draws)


def _moving(atoms: Atoms) -> np.ndarray:
    """Numbers of the atoms that FixAtoms does not hold; none under constraints of another kind."""
    if any(type(one).__name__ != "FixAtoms" for one in atoms.constraints):
        return np.array([], dtype=int)
    held = [one.get_indices() for one in atoms.constraints]
    return np.setdiff1d(np.arange(len(atoms)), np.concatenate([[], *held]))

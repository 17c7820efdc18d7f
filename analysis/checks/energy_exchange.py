r"""How often the modes of a run exchanged energy, and whether errors of its time averages can be trusted.

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

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from asecalc_ml.analysis.base import Cell, Record, Result, Verdict
from asecalc_ml.analysis.number_text import number_text
from asecalc_ml.errors import AnalysisError, RunError
from asecalc_ml.statistics.time_series import MAX_BLOCKS, MIN_BLOCKS, TOO_SHORT
from asecalc_ml.structure.rigid_motions import axes_of_rotation, translations

if TYPE_CHECKING:
    from ase import Atoms
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs.frames import Frames

TOO_SMALL = "too small"
SMALL_ERRORS = "Errors are too small, since vibrations kept their energies for too much of the run"
REMEDY = "Use protocol nvt with thermostat: langevin, a longer run, or several runs with other seeds"
MOST_ATOMS = 100
MOST_FRAMES = 10_000
FEWEST_FRAMES = 5 * MAX_BLOCKS
FLAT = 1e-6  # moment of inertia, over the largest, about an axis on which all atoms lie
SHARED = "energy exchange"
MOST_DRAWS = 1000.0  # beyond which draws are not counted


# ----------------------------------------------------------------------------- what results say about it


class EnergyExchange(Record):
    """How often the modes of a run exchanged their energy."""

    n_draws: float = Field(
        description="independent values that the energy of a mode took in the run; 1 where it stayed the same"
    )
    time_fs: float = Field(description="length of the run over n_draws")

    @property
    def is_enough(self) -> bool:
        """True if a mode's energy took the five values that an error needs at least."""
        return self.n_draws >= MIN_BLOCKS

    @property
    def most_blocks(self) -> int:
        """Blocks of a block average, each at least twice as long as an energy lasts: from five to twenty."""
        return int(min(max(self.n_draws / 2, MIN_BLOCKS), MAX_BLOCKS))

    def widening(self, n_blocks: int) -> float:
        r"""How much larger the error of a mean is than one from blocks, which are correlated.

        With the variance of a mean over x relaxation times of an exponential autocorrelation function,
        :math:`V(x) = (2/x) (1 - (1 - e^{-x}) / x)`, blocks of b show (V(b) - V(L)) / (B - 1) of V(L). A run
        with N values of an energy has 2 N relaxation times.

        Parameters
        ----------
        n_blocks : int
            B; 0 where there is no error.

        Returns
        -------
        float, at least 1; for a quantity that follows the energies. It is too large for one that does not.
        """
        if n_blocks < 2:
            return 1.0
        whole, block = (_variance(2 * self.n_draws / n) for n in (1, n_blocks))
        return math.sqrt(max((n_blocks - 1) * whole / (block - whole), 1.0))

    @property
    def numbers(self) -> str:
        """Number of independent values in words."""
        return (
            f"about {self.n_draws:.1f} independent values of the energy of each vibration in the run, "
            f"at least {MIN_BLOCKS} are needed"
        )


def _variance(n_times: float) -> float:
    """Variance of a mean over so many relaxation times, relative to that of single values."""
    return 2 / n_times * (1 + math.expm1(-n_times) / n_times)


class TimeAverages(Result):
    """Averages over the frames of a run, whose errors are too small where vibrations keep their energies."""

    exchange: EnergyExchange | None = Field(
        None, description="exchange of energy between the modes; null where it is not known"
    )

    @property
    def has_small_errors(self) -> bool:
        """True if the errors are known to be too small."""
        return self.exchange is not None and not self.exchange.is_enough

    @property
    def doubt(self) -> str:
        """A sentence to add to captions where errors are too small, with a space before it."""
        if self.exchange is None or self.exchange.is_enough:
            return ""
        return f" {SMALL_ERRORS} ({self.exchange.numbers})."

    def scalars(self) -> dict[str, float | None]:
        """Numbers for a table of many runs, without errors that are too small."""
        return self.trusted(super().scalars())

    def trusted(self, scalars: dict[str, float | None]) -> dict[str, float | None]:
        """Numbers with None in place of errors that are too small."""
        return {
            name: None if self.has_small_errors and _is_error(name) else scalars[name] for name in scalars
        }

    def draw_doubt(self, ax: Axes) -> None:
        """Write into a figure with error bars or bands that they are too small."""
        if self.has_small_errors:
            ax.annotate(
                f"errors {TOO_SMALL}", (1, 1), xycoords="axes fraction", ha="right", va="top", style="italic"
            )

    def error_cell(self, error: float | None, note: str = TOO_SHORT) -> Cell:
        """An error in a table, see :func:`error_cell`."""
        return error_cell(error, note, self.has_small_errors)


def _is_error(name: str) -> bool:
    return name.rpartition(".")[2].startswith("error")


def error_cell(error: float | None, note: str, is_small: bool) -> Cell:
    """An error in a table: a number, or text where it is missing or too small."""
    if error is None:
        return note
    return f"{number_text(error)} ({TOO_SMALL})" if is_small else error


def exchange_verdict(results: list[Result]) -> list[Verdict]:
    """Whether the errors of time averages can be trusted; nothing where the exchange is not known.

    Undecided where they cannot: the run may be right, such as one at constant energy, and its averages too.
    """
    exchanges = [result.exchange for result in results if isinstance(result, TimeAverages)]
    exchange = next(filter(None, exchanges), None)
    if exchange is None:
        return []
    status, text = "passed", exchange.numbers
    if not exchange.is_enough:
        status = "undecided"
        text += (
            ". The run may be right all the same, but how far its averages are from those of other runs "
            f"is not known: errors are marked as {TOO_SMALL}. {REMEDY}"
        )
    return [Verdict(check="vibrations exchanged enough energy for errors", status=status, text=text)]


# ------------------------------------------------------------------------------------------- measurement


class ExchangeMeasurement:
    """Adds up covariances of velocities in blocks of frames.

    The exchange is not known for frames without velocities, fewer than 100 frames, structures with more than
    100 moving atoms, and constraints other than FixAtoms.

    Parameters
    ----------
    run : RunReader or MemoryRun
    """

    def __init__(self, run: AnyRun):
        atoms, n_frames = run.atoms, run.n_frames
        # blocks of equal length end with the run; frames left over at its beginning belong to none
        self._interval_fs, self._length = run.frame_interval_fs, n_frames // MAX_BLOCKS
        self._stride, self._n_frames = -(-n_frames // MOST_FRAMES), n_frames
        self._moving = _moving(atoms)
        self._is_known = n_frames >= FEWEST_FRAMES and 1 < len(self._moving) <= MOST_ATOMS
        if self._is_known:
            size = 3 * len(self._moving)
            self._roots = np.sqrt(atoms.get_masses()[self._moving])
            self._directions, self._axes = translations(atoms), axes_of_rotation(atoms)
            # of each block: Σ u uᵀ, the sum of projectors onto rigid motions, and the number of frames
            self._products, self._rigid = (np.zeros((MAX_BLOCKS, size, size)) for _ in range(2))
            self._counts = np.zeros(MAX_BLOCKS)
            self._start = self._centred(atoms.positions[None, self._moving])[0]

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        if not self._is_known:
            return
        try:
            sums = frames.shared(SHARED, lambda: list(self._sums(frames)))
        except (AnalysisError, RunError):  # there are no velocities, or they are damaged
            self._is_known = False
            return
        for block, products, rigid, n_frames in sums:
            self._products[block] += products
            self._rigid[block] += rigid
            self._counts[block] += n_frames

    def _sums(self, frames: Frames) -> Iterator[tuple[int, np.ndarray, np.ndarray, int]]:
        """Sums over the frames of each block: its number, and what :meth:`_products_of` returns."""
        positions, velocities = frames.positions, frames.velocities
        start = frames.start - (self._n_frames - MAX_BLOCKS * self._length)
        for block in range(max(start // self._length, 0), MAX_BLOCKS):
            first, last = (block * self._length - start, (block + 1) * self._length - start)
            if first >= len(frames):
                break
            # every stride-th frame, counted from the beginning of the block, whatever the chunks are
            chosen = slice(max(first, 0) + -(max(first, 0) - first) % self._stride, last, self._stride)
            yield block, *self._products_of(positions[chosen], velocities[chosen])

    def _products_of(self, positions: np.ndarray, velocities: np.ndarray) -> tuple:
        """Sums of products of velocities and of rigid motions, each (3 n, 3 n), and the number of frames."""
        positions, velocities = positions[:, self._moving], velocities[:, self._moving]
        weighted = self._roots[:, None] * velocities  # u = √m v
        centred = self._centred(positions)
        # what can turn about all axes is turned onto the starting structure
        if len(self._axes) == 3:
            turns = self._turns(centred)
            centred, weighted = centred @ turns, weighted @ turns
        # u without its components along the rigid motions
        rigid = self._rigid_motions(centred)
        flat = weighted.reshape(len(weighted), -1)
        flat = flat - np.einsum("fki,fk->fi", rigid, np.einsum("fki,fi->fk", rigid, flat))
        # Σ u uᵀ and Σ t tᵀ over frames, with the rigid motions t
        rigid = rigid.reshape(-1, flat.shape[1])
        return flat.T @ flat, rigid.T @ rigid, len(flat)

    def _centred(self, positions: np.ndarray) -> np.ndarray:
        """Positions relative to the centre of mass."""
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
        # translations √m e_a / √M, the same in every frame
        along = self._roots[:, None] * self._directions[:, None, :] / np.linalg.norm(self._roots)
        along = np.broadcast_to(along.reshape(-1, size), (n_frames, len(along), size))
        # rotations √m (e_a × r); their products are the tensor of inertia, whose eigenvectors part them
        about = self._roots[:, None] * np.cross(self._axes[:, None, :], centred[:, None])
        about = about.reshape(n_frames, len(self._axes), size)
        moments, vectors = np.linalg.eigh(about @ about.transpose(0, 2, 1))
        least = FLAT * moments.max(axis=1, keepdims=True, initial=0)
        # an axis on which all atoms lie has no rotation: its vector is zero
        scales = np.where(moments > least, moments, np.inf) ** -0.5
        return np.concatenate([along, scales[:, :, None] * (vectors.transpose(0, 2, 1) @ about)], axis=1)

    def conclude(self) -> EnergyExchange | None:
        """Return the number of independent energies; None where it is not known."""
        if not self._is_known or (self._counts == 0).any():
            return None
        size = len(self._products[0])
        counts = self._counts[:, None, None]
        # P of each block: the unit matrix without the mean projector onto rigid motions; n = tr P
        inside = np.eye(size) - self._rigid / counts
        n_degrees = np.trace(inside, axis1=1, axis2=2).mean()
        # ⟨u uᵀ⟩ of each block, and kT from the mean kinetic energy of all degrees of freedom
        products = self._products / counts
        thermal = np.trace(products, axis1=1, axis2=2).mean() / n_degrees
        if not 0 < thermal < np.inf or n_degrees < 1.5:
            return None
        # D_b = ⟨u uᵀ⟩_b / kT − P, and all tr(D_a D_b) with the factor that corrects for kept energies
        deviations = (products / thermal - inside).reshape(MAX_BLOCKS, -1)
        correlations = (n_degrees + 1) / (n_degrees - 1) * deviations @ deviations.T / n_degrees
        # a block's own product contains its noise: that of neighboring blocks takes its place
        of_neighbors = np.diagonal(correlations, 1).mean()
        np.fill_diagonal(correlations, of_neighbors)
        # ρ, divided by the correlation of neighboring blocks where modes of one frequency raise it above 1
        correlation = correlations.mean() / max(of_neighbors, 1.0)
        n_draws = float(1 / np.clip(correlation, 1 / MOST_DRAWS, 1.0))
        return EnergyExchange(n_draws=n_draws, time_fs=self._n_frames * self._interval_fs / n_draws)


def _moving(atoms: Atoms) -> np.ndarray:
    """Numbers of the atoms that FixAtoms does not hold; none under constraints of another kind."""
    if any(type(constraint).__name__ != "FixAtoms" for constraint in atoms.constraints):
        return np.array([], dtype=int)
    held = [constraint.get_indices() for constraint in atoms.constraints]
    return np.setdiff1d(np.arange(len(atoms)), np.concatenate([[], *held]))

"""What an analysis asks of the reader of a trajectory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import RunError
from asecalc_ml.files.reading import COPY_AGAIN, DAMAGE
from asecalc_ml.runs.frames import MAX_FRAMES_A_CHUNK, Frames, chunk_starts

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

Read = Callable[[str], "np.ndarray | None"]  # as in Frames


class TrajectoryFile(ABC):
    """Frames of a file, which may still grow.

    Attributes
    ----------
    path : Path
    n_frames : int
        Frames that can be read.
    n_lost : int
        Frames that the file counts and no longer holds.
    """

    path: Path
    n_frames: int
    n_lost: int = 0

    @abstractmethod
    def reader(self, start: int, n_frames: int, numbers: np.ndarray) -> Read:
        """What reads a quantity of some frames, which must have these atomic numbers."""

    def chunks(self, numbers: np.ndarray, masses: np.ndarray, size: int | None = None) -> Iterator[Frames]:
        """All frames, as those of a structure.

        Parameters
        ----------
        numbers : array of int, shape (n_atoms,)
            Atomic numbers that every frame must have.
        masses : array, shape (n_atoms,), amu
        size : int, optional
            Frames at once.

        Raises
        ------
        RunError
            If a frame has other atoms, or numbers that are not finite.
        """
        for start, n_frames in chunk_starts(self.n_frames, len(numbers), size):
            yield Frames(start, n_frames, masses, self.reader(start, n_frames, numbers), str(self.path))

    def structures(self, start: Atoms, numbers: range | None = None) -> Iterator[Atoms]:
        """Frames as ASE structures with momenta, energy and forces, else like the structure at the start.

        Parameters
        ----------
        start : Atoms
        numbers : range, optional
            Which frames; all by default.
        """
        numbers = range(self.n_frames) if numbers is None else numbers
        size = max(1, next(chunk_starts(MAX_FRAMES_A_CHUNK, len(start)))[1] // abs(numbers.step))
        for k in range(0, len(numbers), size):
            some = numbers[k : k + size]
            first, n_frames = min(some), max(some) - min(some) + 1
            read = self.reader(first, n_frames, start.numbers)
            frames = Frames(first, n_frames, start.get_masses(), read, str(self.path))
            yield from (_structure(start, frames, number - first) for number in some)


def _structure(start: Atoms, frames: Frames, k: int) -> Atoms:
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = start.copy()
    atoms.set_cell(frames.cells[k], apply_constraint=False)
    atoms.set_positions(frames.positions[k], apply_constraint=False)
    atoms.set_momenta(frames.momenta[k], apply_constraint=False)
    atoms.calc = SinglePointCalculator(atoms, energy=float(frames.energies[k]), forces=frames.forces[k])
    return atoms


@contextmanager
def damage_told(path: Path, where: str = "") -> Iterator[None]:
    """Turn what a reader meets in a cut or altered file into a RunError."""
    try:
        yield
    except (*DAMAGE, MemoryError) as error:  # no whole frame takes all memory, a damaged count does
        place = f" {where}" if where else ""
        raise RunError(
            f"{path} is damaged{place} ({error})",
            name=str(path),
            remedy=f"{COPY_AGAIN}, or start the run anew with --overwrite",
        ) from error


def check_numbers(number: int, expected: np.ndarray, numbers: np.ndarray) -> None:
    """Refuse a frame with other atoms than the structure at the start."""
    from ase.formula import Formula
    from ase.symbols import Symbols

    if not np.array_equal(numbers, expected):
        formula, start = (Symbols(np.array(z)).get_chemical_formula() for z in (numbers, expected))
        is_permuted = Formula(formula) == Formula(start)
        order = ", in another order" if is_permuted else f": {formula} in place of {start}"
        raise RunError(
            f"frame {number} of the trajectory has other atoms than the structure at the start{order}. "
            "Frames of different structures cannot be analysed together;",
            name=f"frame {number}",
            value=formula,
            allowed=start,
            remedy="give each a run of its own",
        )

"""Labelled frames as arrays, in groups that can be compared atom by atom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.charge_and_spin import charge_and_spin, electronic_state
from asecalc_ml.structure.lattice import check_cell

COORDINATES_AT_ONCE = 3_000_000


@dataclass(frozen=True, eq=False)
class Labelled:
    """Frames with what their labels are compared by.

    Parameters
    ----------
    frames : sequence of Atoms
        Energy (eV) and forces (eV/Å) in ``calc.results``, as far as a frame has them.
    names : sequence of str
        What messages call each frame.
    """

    frames: Sequence[Atoms]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def n_atoms(self) -> np.ndarray:
        """Number of atoms of each frame."""
        return np.array([len(atoms) for atoms in self.frames])

    @cached_property
    def energies(self) -> np.ndarray:
        """Energy of each frame, eV; NaN where a frame has none."""
        return np.array([self._label(index, "energy", np.nan) for index in range(len(self))], float)

    @cached_property
    def charges(self) -> np.ndarray:
        """Total charge of each frame, e."""
        return np.array([charge_and_spin(atoms)[0] for atoms in self.frames])

    def forces(self, index: int) -> np.ndarray:
        """Forces of a frame, shape (n_atoms, 3), eV/Å; NaN where it has none."""
        return np.asarray(self._label(index, "forces", np.full((len(self.frames[index]), 3), np.nan)))

    def _label(self, index: int, name: str, missing: object) -> object:
        calc = self.frames[index].calc
        value = None if calc is None else calc.results.get(name)
        return missing if value is None else value

    @cached_property
    def kinds(self) -> list[np.ndarray]:
        """Numbers of the frames that list the same elements in the same order, in the same :func:`state`.

        Frames whose cell is no cell are in none.
        """
        kinds: dict[tuple, list[int]] = defaultdict(list)
        for index, atoms in enumerate(self.frames):
            if cell_problem(atoms) is None:
                kinds[(atoms.numbers.tobytes(), atoms.pbc.tobytes(), electronic_state(atoms))].append(index)
        return [np.array(kind) for kind in kinds.values()]

    @cached_property
    def with_cell(self) -> np.ndarray:
        """True for each frame that is a molecule or has a valid cell."""
        has_cell = np.zeros(len(self), bool)
        has_cell[np.concatenate([np.empty(0, int), *self.kinds])] = True
        return has_cell

    @cached_property
    def compositions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Elements, numbers of their atoms in each composition, and the composition of each frame."""
        alike: dict[bytes, list[int]] = defaultdict(list)
        for index, atoms in enumerate(self.frames):
            alike[atoms.numbers.tobytes()].append(index)
        numbers = [self.frames[same[0]].numbers for same in alike.values()]
        # number of atoms of each element in each frame
        elements = np.unique(np.concatenate([np.empty(0, int), *numbers]))
        counts = np.zeros((len(self), len(elements)))
        for same, of_same in zip(alike.values(), numbers, strict=True):
            counts[same] = [np.count_nonzero(of_same == z) for z in elements]
        # frames of equal counts have one composition, whatever the order of their atoms
        table, of_frame = np.unique(counts, axis=0, return_inverse=True)
        return elements, table, of_frame.ravel()

    def chunks(self, kind: np.ndarray, numbers_a_frame: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frame numbers and positions, shape (n, n_atoms, 3), of as many frames as memory is fine with."""
        size = max(1, COORDINATES_AT_ONCE // max(numbers_a_frame, 1))
        for start in range(0, len(kind), size):
            part = kind[start : start + size]
            yield part, np.array([self.frames[index].positions for index in part])


def cell_problem(atoms: Atoms) -> str | None:
    """Describe what is wrong with the cell of a periodic structure; None if it is valid."""
    if not atoms.pbc.any():
        return None
    try:
        check_cell(atoms.cell.array, atoms.pbc)
    except StructureError as error:
        return str(error)
    return None


def sample(kind: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """At most so many of the frames: random ones, each with the one that follows it, in order."""
    if len(kind) <= size:
        return kind
    first = random.choice(len(kind) - 1, size // 2, replace=False)
    return kind[np.union1d(first, first + 1)]

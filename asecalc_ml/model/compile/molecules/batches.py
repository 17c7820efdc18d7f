"""Molecules of several sizes as few arrays of fixed shapes, which compiled code needs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms

from asecalc_ml.model.compile.molecules.all_pairs import Molecules
from asecalc_ml.model.compile.molecules.molecule_graph import MoleculeInput
from asecalc_ml.structure.charge_and_spin import charge_and_spin

#: Pairs of atoms that are computed at once: so few that their features stay in the processor's cache.
BATCH_PAIRS = 400

#: Sizes that are less frequent than this among the molecules of a call are rounded up to a multiple of ...
FREQUENT = 8

#: ... this number of atoms.
SIZE_STEP = 4


class MoleculeBatch(NamedTuple):
    """Molecules that are computed together.

    Parameters
    ----------
    shape : Molecules
        There may be fewer molecules, with fewer atoms.
    places : list of int
        Numbers of the molecules among those that were given.
    """

    shape: Molecules
    places: list[int]


def molecule_batches(sizes: Sequence[int]) -> list[MoleculeBatch]:
    """Sort molecules into batches of few shapes.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of atoms.

    Examples
    --------
    >>> [tuple(batch.shape) for batch in molecule_batches([9, 3, 10])]
    [(25, 4), (2, 12)]
    """
    n_of_size = Counter(sizes)
    by_size: dict[int, list[int]] = defaultdict(list)
    for place, size in enumerate(sizes):
        frequent = n_of_size[size] >= FREQUENT
        by_size[size if frequent else -(-size // SIZE_STEP) * SIZE_STEP].append(place)
    return [
        MoleculeBatch(Molecules(n_systems, n_atoms), places[start : start + n_systems])
        for n_atoms, places in sorted(by_size.items())
        for n_systems in [max(1, BATCH_PAIRS // n_atoms**2)]
        for start in range(0, len(places), n_systems)
    ]


def fill(structures: Sequence[Atoms], shape: Molecules, device: str | torch.device = "cpu") -> MoleculeInput:
    """Put molecules into an array with room for more molecules and atoms than there are.

    Missing molecules are copies of the first, since a mean over no atoms is undefined.
    """
    n_systems, n_atoms = shape
    structures = [*structures, *[structures[0]] * (n_systems - len(structures))]
    # atoms that are not there have an element that the model knows
    numbers = np.full((n_systems, n_atoms), structures[0].numbers[0], dtype=np.int64)
    positions = np.zeros((n_systems, n_atoms, 3))
    sizes = np.array([len(atoms) for atoms in structures])
    present = np.arange(n_atoms) < sizes[:, None]
    numbers[present] = np.concatenate([atoms.numbers for atoms in structures])
    positions[present] = np.concatenate([atoms.positions for atoms in structures])
    charges_and_spins = np.array([charge_and_spin(atoms) for atoms in structures], dtype=float)
    charge, spin = np.ascontiguousarray(charges_and_spins.T)
    arrays = (positions.reshape(-1, 3), numbers.reshape(-1), present.reshape(-1), charge, spin)
    return MoleculeInput(*(torch.from_numpy(array).to(device) for array in arrays))

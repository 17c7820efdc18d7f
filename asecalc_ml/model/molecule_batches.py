"""Molecules of several sizes as few arrays of fixed shapes, which compiled code needs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.compile.all_pairs import Molecules
from asecalc_ml.model.compile.molecules import MoleculeInput

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


def fill(graphs: Sequence[AtomGraph], shape: Molecules) -> MoleculeInput:
    """Put molecules into an array with room for more molecules and atoms than there are.

    Missing molecules are copies of the first, since a mean over no atoms is undefined.
    """
    n_systems, n_atoms = shape
    graphs = [*graphs, *[graphs[0]] * (n_systems - len(graphs))]
    first = graphs[0]
    device = first.positions.device
    # atoms that are not there have an element that the model knows
    numbers = first.atomic_numbers.new_full((n_systems, n_atoms), int(first.atomic_numbers[0]))
    positions = first.positions.new_zeros(n_systems, n_atoms, 3)
    sizes = torch.tensor([graph.n_atoms for graph in graphs], device=device)
    present = torch.arange(n_atoms, device=device) < sizes[:, None]
    numbers[present] = torch.cat([graph.atomic_numbers for graph in graphs])
    positions[present] = torch.cat([graph.positions for graph in graphs])
    return MoleculeInput(
        positions.view(-1, 3),
        numbers.flatten(),
        present.flatten(),
        torch.cat([graph.charge for graph in graphs]),
        torch.cat([graph.spin for graph in graphs]),
    )

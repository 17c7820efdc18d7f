"""Frames that are copies of others: moved, turned, reflected, wrapped, or with atoms in another order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from asecalc_ml.potentials.datasets.label_checks.labelled import (
    COORDINATES_AT_ONCE,
    Labelled,
    cell_problem,
)
from asecalc_ml.structure.charge_and_spin import charge_and_spin
from asecalc_ml.structure.lattice import complete

#: Copies agree in every distance within this, Å: less than the fourth decimal of a file, and a hundredth of
#: what an atom moves in a femtosecond.
TOLERANCE_A = 2e-4
PROJECTIONS = 6
#: Energies of copies conflict where they differ by more, eV an atom: forces of 10 eV/Å make 0.002 of the
#: tolerance of positions.
CONFLICT_EV_ATOM = 0.01
WAVES = np.array([k for k in np.ndindex(3, 3, 3) if any(k)])


def find_copies(frames: Sequence[Atoms]) -> np.ndarray:
    """A number for each frame, shape (n_frames,), that copies share.

    Only frames of the same composition, charge and spin are compared.
    Molecules are compared by their sorted distances, for each pair of elements; periodic structures by the
    cell's lengths and angles and by structure factors of each element, which do not change where all atoms
    move, are wrapped or are listed in another order. One atom, or two, are never called copies: a series
    of one distance has many that are nearly equal.
    """
    classes: dict[tuple, list[int]] = defaultdict(list)
    for index, atoms in enumerate(frames):
        if (len(atoms) > 2 or atoms.pbc.any()) and cell_problem(atoms) is None:
            classes[(np.sort(atoms.numbers).tobytes(), atoms.pbc.tobytes(), *charge_and_spin(atoms))].append(
                index
            )
    links = [pair for same in classes.values() if len(same) > 1 for pair in _links(frames, np.array(same))]
    i, j = np.array(links, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(len(frames), len(frames)))
    return connected_components(graph, directed=False)[1]


def conflict_warnings(group: np.ndarray, labels: Labelled) -> Iterator[str]:
    """Copies with different energies."""
    known = np.flatnonzero(np.isfinite(labels.energies))
    lowest, highest = np.full(len(group), np.inf), np.full(len(group), -np.inf)
    per_atom = labels.energies[known] / labels.n_atoms[known]
    np.minimum.at(lowest, group[known], per_atom)
    np.maximum.at(highest, group[known], per_atom)
    conflicts = np.flatnonzero(highest - lowest > CONFLICT_EV_ATOM)
    if len(conflicts):
        first = np.flatnonzero(group == conflicts[np.argmax((highest - lowest)[conflicts])])[:2]
        yield (
            f"{len(conflicts)} structures occur more than once with different energies, such as "
            f"{' and '.join(labels.names[k] for k in first)}. Leave out those of another method or state"
        )


def _links(frames: Sequence[Atoms], same: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of copies; candidates are near in a few projections of what they are compared by."""
    periodic, n_atoms = frames[same[0]].pbc.any(), len(frames[same[0]])
    fingerprints = _crystal if periodic else _distances
    size = max(1, COORDINATES_AT_ONCE // (n_atoms * (1 if periodic else n_atoms)))
    parts = [same[start : start + size] for start in range(0, len(same), size)]
    first = fingerprints([frames[same[0]]])
    directions = np.random.default_rng(0).normal(size=(first.shape[1], PROJECTIONS))
    directions /= np.abs(directions).sum(axis=0)  # so that a projection is off by TOLERANCE_A at most
    projected = np.concatenate([fingerprints([frames[k] for k in part]) @ directions for part in parts])
    found = cKDTree(projected).query_pairs(TOLERANCE_A, p=np.inf, output_type="ndarray")
    return [(int(same[a]), int(same[b])) for a, b in _confirmed(frames, same, found, fingerprints)]


def _confirmed(frames, same: np.ndarray, found: np.ndarray, fingerprints) -> np.ndarray:
    if len(found) == 0:
        return found
    needed, number = np.unique(found, return_inverse=True)
    a, b = number.reshape(found.shape).T
    whole = fingerprints([frames[same[k]] for k in needed])
    return found[np.abs(whole[a] - whole[b]).max(axis=1) < TOLERANCE_A]


def _distances(frames: Sequence[Atoms]) -> np.ndarray:
    """Distances by pair of elements, sorted, shape (n_frames, n_pairs), Å."""
    orders = [np.argsort(atoms.numbers, kind="stable") for atoms in frames]
    numbers = frames[0].numbers[orders[0]]
    positions = np.array([atoms.positions[order] for atoms, order in zip(frames, orders, strict=True)])
    i, j = np.triu_indices(len(numbers), 1)
    distances = np.linalg.norm(positions[:, i] - positions[:, j], axis=2)
    pairs = numbers[i].astype(int) * 1000 + numbers[j]
    return np.concatenate([np.sort(distances[:, pairs == pair], axis=1) for pair in np.unique(pairs)], axis=1)


def _crystal(frames: Sequence[Atoms]) -> np.ndarray:
    """Lengths and cosines of the cell, and sizes of structure factors by element."""
    rows = []
    for atoms in frames:
        cell = complete(atoms.cell.array, atoms.pbc)
        lengths = np.linalg.norm(cell, axis=1)
        fractions = atoms.positions @ np.linalg.pinv(cell)
        # an open direction has no wave that suits it: its own length is 1 Å
        waves = np.exp(2j * np.pi * (fractions * np.where(atoms.pbc, 1.0, 0.1)) @ WAVES.T)
        factors = [np.abs(waves[atoms.numbers == z].sum(axis=0)) for z in np.unique(atoms.numbers)]
        metric = (cell / lengths[:, None]) @ (cell / lengths[:, None]).T
        rows.append(np.concatenate([lengths, metric[np.triu_indices(3, 1)], *factors]))
    return np.array(rows)

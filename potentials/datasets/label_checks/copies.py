"""Frames that are copies of others: moved, turned, reflected, wrapped, or with atoms in another order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

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
from asecalc_ml.structure.charge_and_spin import electronic_state
from asecalc_ml.structure.lattice import complete
from asecalc_ml.structure.minimum_image import minimum_image
from asecalc_ml.structure.pair_vectors import pair_vectors

#: Copies agree in every distance within this, Å: less than the fourth decimal of a file, and a hundredth of
#: what an atom moves in a femtosecond.
TOLERANCE_A = 2e-4
PROJECTIONS, MOST_DISTANCES = 6, 1000
WAVES = np.array([k for k in np.ndindex(3, 3, 3) if any(k)])
#: Energies of copies conflict where they differ by more, eV an atom: forces of 10 eV/Å make 0.002 of the
#: tolerance of positions.
CONFLICT_EV_ATOM = 0.01


def find_copies(frames: Sequence[Atoms]) -> np.ndarray:
    """A number for each frame, shape (n_frames,), that copies share.

    Only frames of the same composition, charge, spin and magnetic moments are compared.
    Molecules are compared by their sorted distances, for each pair of elements. Periodic structures have the
    same lengths and angles of the cell, and fractional coordinates that a translation, or an inversion and
    a translation, bring onto each other in any order. One atom, or two, without a cell are never called
    copies: a series of one distance has many that are nearly equal.
    """
    classes: dict[tuple, list[int]] = defaultdict(list)
    for index, atoms in enumerate(frames):
        if (len(atoms) > 2 or atoms.pbc.any()) and cell_problem(atoms) is None:
            elements = np.sort(atoms.numbers).tobytes()
            classes[elements, atoms.pbc.tobytes(), electronic_state(atoms)].append(index)
    # Copies are the connected parts of a graph of pairs.
    links = [pair for same in classes.values() if len(same) > 1 for pair in _links(frames, np.array(same))]
    i, j = np.array(links, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(len(frames), len(frames)))
    return connected_components(graph, directed=False)[1]


def conflict_warnings(group: np.ndarray, labels: Labelled) -> Iterator[str]:
    """Copies with different energies."""
    # Lowest and highest energy per atom of each group of copies.
    known = np.flatnonzero(np.isfinite(labels.energies))
    lowest, highest = np.full(len(group), np.inf), np.full(len(group), -np.inf)
    per_atom = labels.energies[known] / labels.n_atoms[known]
    np.minimum.at(lowest, group[known], per_atom)
    np.maximum.at(highest, group[known], per_atom)
    conflicts = np.flatnonzero(highest - lowest > CONFLICT_EV_ATOM)
    if len(conflicts):
        first = np.flatnonzero(group == conflicts[np.argmax((highest - lowest)[conflicts])])[:2]
        count = "a structure occurs" if len(conflicts) == 1 else f"{len(conflicts)} structures occur"
        yield (
            f"{count} more than once with different energies, such as "
            f"{' and '.join(labels.names[k] for k in first)}. Leave out those of another method or state"
        )


def _links(frames: Sequence[Atoms], same: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of copies that connect all copies; candidates are near in a few projections of fingerprints."""
    periodic, n_atoms = frames[same[0]].pbc.any(), len(frames[same[0]])
    fingerprints = _crystal if periodic else _distances
    size = max(1, COORDINATES_AT_ONCE // n_atoms**2)
    parts = [same[start : start + size] for start in range(0, len(same), size)]
    first = fingerprints([frames[same[0]]])
    directions = np.random.default_rng(0).normal(size=(first.shape[1], PROJECTIONS))
    directions /= np.abs(directions).sum(axis=0)  # so that a projection is off by TOLERANCE_A at most
    projected = np.concatenate([fingerprints([frames[k] for k in part]) @ directions for part in parts])

    def confirmed(found: np.ndarray) -> np.ndarray:
        chunks = np.split(same[found], range(size, len(found), size))
        return np.concatenate([_are_copies(frames, pairs, fingerprints) for pairs in chunks])

    # copies of one frame, however many, are compared with that frame alone
    _, leaders, leader = np.unique(
        np.floor(projected / TOLERANCE_A), axis=0, return_index=True, return_inverse=True
    )
    followers = np.setdiff1d(np.arange(len(same)), leaders)
    following = np.stack([leaders[leader.ravel()[followers]], followers], axis=1)
    follows = confirmed(following)
    apart = np.union1d(leaders, followers[~follows])
    near = apart[cKDTree(projected[apart]).query_pairs(TOLERANCE_A, p=np.inf, output_type="ndarray")]
    links = np.concatenate([following[follows], near[confirmed(near)]])
    return [(int(same[a]), int(same[b])) for a, b in links]


def _are_copies(
    frames: Sequence[Atoms], pairs: np.ndarray, fingerprints: Callable[[Sequence[Atoms]], np.ndarray]
) -> np.ndarray:
    """Return True for each pair of frames, shape (n_pairs, 2), that are copies."""
    if len(pairs) == 0:
        return np.empty(0, bool)
    needed, number = np.unique(pairs, return_inverse=True)
    a, b = number.reshape(pairs.shape).T
    whole = fingerprints([frames[k] for k in needed])
    alike = np.abs(whole[a] - whole[b]).max(axis=1) < TOLERANCE_A
    if fingerprints is _crystal:
        for k in np.flatnonzero(alike):
            alike[k] = _same_crystal(*(frames[index] for index in pairs[k]))
    return alike


def _distances(frames: Sequence[Atoms]) -> np.ndarray:
    """Distances by pair of elements, sorted, shape (n_frames, n_pairs), Å."""
    orders = [np.argsort(atoms.numbers, kind="stable") for atoms in frames]
    numbers = frames[0].numbers[orders[0]]
    positions = np.array([atoms.positions[order] for atoms, order in zip(frames, orders, strict=True)])
    i, j = np.triu_indices(len(numbers), 1)
    distances = np.linalg.norm(pair_vectors(positions, (i, j)), axis=2)
    pairs = numbers[i].astype(int) * 1000 + numbers[j]
    return np.concatenate([np.sort(distances[:, pairs == pair], axis=1) for pair in np.unique(pairs)], axis=1)


def _crystal(frames: Sequence[Atoms]) -> np.ndarray:
    """The cell, and where atoms lie relative to those of the rarest element, in Å.

    Lengths and cosines of the cell, real parts of products of structure factors, scaled so that they change
    by about as much as atoms move, and sorted distances where these are few. Candidates are compared atom by
    atom afterwards.
    """
    numbers = frames[0].numbers
    elements, counts = np.unique(numbers, return_counts=True)
    rarest, rows = elements[np.argmin(counts)], []
    for atoms in frames:
        # Lengths and cosines of the cell's vectors.
        cell = complete(atoms.cell.array, atoms.pbc)
        lengths = np.linalg.norm(cell, axis=1)
        metric = (cell / lengths[:, None]) @ (cell / lengths[:, None]).T
        by_element = []
        if counts.min() * len(numbers) <= MOST_DISTANCES:
            rare = np.flatnonzero(atoms.numbers == rarest)
            vectors = pair_vectors(atoms.positions, (rare[:, None], np.arange(len(atoms))[None]))
            distances = np.linalg.norm(minimum_image(vectors, atoms.cell.array, atoms.pbc), axis=2)
            by_element = [np.sort(distances[:, atoms.numbers == z], axis=None) for z in elements]
        # Structure factors S_Z(k) of each element, times that of the rarest: no origin is left in them.
        waves = np.exp(2j * np.pi * atoms.positions @ np.linalg.inv(cell) @ (WAVES * atoms.pbc).T)
        factors = np.array(
            [waves[atoms.numbers == z].sum(axis=0) / n**0.5 for z, n in zip(elements, counts, strict=True)]
        )
        products = (factors * factors[np.argmin(counts)].conj()).real * lengths.min() / (8 * np.pi * 3**0.5)
        rows.append(np.concatenate([lengths, metric[np.triu_indices(3, 1)], *by_element, *products]))
    return np.array(rows)


def _same_crystal(one: Atoms, other: Atoms) -> bool:
    """Return True if a translation maps the fractional coordinates, or the inverted ones, onto each other."""
    elements, counts = np.unique(one.numbers, return_counts=True)
    rarest = elements[np.argmin(counts)]
    start, end = _scaled(one), _scaled(other)
    box = np.where(one.pbc, np.linalg.norm(complete(one.cell.array, one.pbc), axis=1), 0.0)
    tree = cKDTree(_in_box(end, other.numbers, box), boxsize=[*box, 0.0])
    # An atom of the rarest element lies on one of the other's: so many translations, and inversions.
    anchor = np.argmax(one.numbers == rarest)
    for sign in (1, -1):
        for target in end[other.numbers == rarest]:
            moved = sign * (start - start[anchor]) + target
            off, match = tree.query(_in_box(moved, one.numbers, box))
            if off.max() < 4 * TOLERANCE_A and len(np.unique(match)) == len(one):
                return True
    return False


def _scaled(atoms: Atoms) -> np.ndarray:
    """Fractional coordinates times the lengths of the cell's vectors, Å."""
    cell = complete(atoms.cell.array, atoms.pbc)
    return atoms.positions @ np.linalg.inv(cell) * np.linalg.norm(cell, axis=1)


def _in_box(positions: np.ndarray, numbers: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Coordinates within a periodic box, and the element as one more, shape (n_atoms, 4)."""
    periods = np.where(box > 0, box, np.inf)
    shifts = np.floor(positions / periods) * np.where(box > 0, box, 0.0)
    wrapped = positions - shifts
    wrapped = np.where((box > 0) & (wrapped >= box), 0.0, wrapped)  # -1e-20 is wrapped to the length itself
    return np.column_stack([wrapped, numbers])

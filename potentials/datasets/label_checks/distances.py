"""Shortest distances: atoms that coincide, and positions in another unit of length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from asecalc_ml.errors import StructureError
from asecalc_ml.graph.neighbors import find_pairs
from asecalc_ml.potentials.datasets.label_checks.labelled import Labelled, cell_problem, sample
from asecalc_ml.structure.loading import MIN_DISTANCE_A
from asecalc_ml.structure.pair_vectors import pair_vectors

ALL_DISTANCES = 200  # atoms of a molecule up to which all its distances are taken
LARGE_FRAMES = 2000  # that are searched within SEARCHED_A; the others for atoms that coincide
SEARCHED_A = 4.0
NOBLE_GASES = (2, 10, 18, 36, 54, 86)  # no covalent radius says how near they come

#: Distances to the nearest atom over the sum of covalent radii. In the sets tried the first decile is 0.84
#: to 0.99, the median 0.90 to 1.04, the last decile 0.93 to 1.15; a wrong unit multiplies them by 0.1, 0.53,
#: 1.89 or 10.
TOO_SHORT, TOO_LONG = 0.7, 1.6
#: Median once the unit is corrected, and last over first decile at most: compressed metals (fcc Cs at 4.4 Å
#: has 0.64) and molecules on their way apart do not look like another unit.
CORRECTED, NARROW = (0.8, 1.15), 1.6


@dataclass(frozen=True, eq=False)
class Overlap:
    """Two atoms of a frame that coincide, or nearly so."""

    frame: int
    i: int
    j: int
    distance_A: float


@dataclass(eq=False)
class Distances:
    """Shortest distances of all frames.

    Parameters
    ----------
    shortest : dict
        Distance in Å by pair of elements, such as "C-H".
    overlaps : list of Overlap
        The shortest distance of each frame that has one below 0.4 Å.
    unreadable : dict
        What is wrong with the cell or the positions of a frame, by its number.
    ratios : list of array
        Distance of each atom to its nearest over the sum of covalent radii; infinite where none is near. Not
        of pairs, noble gases and hydrogen alone, which no bond holds at a distance.
    n_searched : int
        Frames whose distances are known; the others were looked through for overlaps alone.
    """

    shortest: dict[str, float] = field(default_factory=dict)
    overlaps: list[Overlap] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    ratios: list[np.ndarray] = field(default_factory=list)
    n_searched: int = 0


def measure_distances(labels: Labelled, random: np.random.Generator) -> Distances:
    """Shortest distance by pair of elements, overlaps, and how distances compare with covalent radii."""
    measured, kinds_searched = Distances(), [np.empty(0, int)]
    # Frames whose cell or positions cannot be used.
    problems = ((index, cell_problem(atoms)) for index, atoms in enumerate(labels.frames))
    measured.unreadable.update({index: problem for index, problem in problems if problem})
    # Small molecules: all distances of many frames at once.
    for kind in labels.kinds:
        first = labels.frames[kind[0]]
        if first.pbc.any() or len(first) > ALL_DISTANCES:
            kinds_searched.append(kind)
            continue
        measured.n_searched += len(kind)
        if len(first) > 1:
            for frames, positions in labels.chunks(kind, len(first) ** 2):
                _all_distances(measured, first.numbers, frames, positions)
    # Large and periodic frames: a search within a radius, of a sample; the others for overlaps alone.
    searched = np.concatenate(kinds_searched)
    whole = set(sample(searched, LARGE_FRAMES, random).tolist())
    for index in searched.tolist():
        _search(measured, labels.frames[index], index, index in whole)
    measured.n_searched += len(whole)
    return measured


def _all_distances(
    measured: Distances, numbers: np.ndarray, frames: np.ndarray, positions: np.ndarray
) -> None:
    """Distances of frames with the same atoms in one array, shape (n_frames, n_atoms, n_atoms)."""
    i, j = np.triu_indices(len(numbers), 1)
    distances = np.linalg.norm(pair_vectors(positions, (i, j)), axis=2)
    _note_shortest(measured, numbers, i, j, distances.min(axis=0))
    # The shortest distance of each frame, where atoms coincide.
    nearest = distances.argmin(axis=1)
    for row in np.flatnonzero(distances.min(axis=1) < MIN_DISTANCE_A):
        k = nearest[row]
        measured.overlaps.append(Overlap(int(frames[row]), int(i[k]), int(j[k]), float(distances[row, k])))
    # Distance of each atom to its nearest, over the sum of covalent radii.
    relative = np.full((len(frames), len(numbers), len(numbers)), np.inf)
    relative[:, i, j] = relative[:, j, i] = distances / _radii(numbers, i, j)
    if len(numbers) > 2:
        measured.ratios.append(relative.min(axis=2)[:, _bound(numbers)].ravel())


def _search(measured: Distances, atoms: Atoms, index: int, whole: bool) -> None:
    """Distances within a radius, images included."""
    radii = covalent_radii[atoms.numbers]
    cutoff = (
        min(_radius_of(atoms), max(SEARCHED_A, 2.1 * TOO_LONG * radii.max())) if whole else MIN_DISTANCE_A
    )
    try:
        pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    except StructureError as error:
        measured.unreadable[index] = str(error)
        return
    # distances of all pairs, images included
    i, j = pairs.edge_index
    vectors = pair_vectors(atoms.positions, *pairs, atoms.cell.array)
    distances = np.linalg.norm(vectors, axis=1)
    if len(distances) and distances.min() < MIN_DISTANCE_A:
        k = int(distances.argmin())
        measured.overlaps.append(Overlap(index, int(i[k]), int(j[k]), float(distances[k])))
    if whole:
        _note_shortest(measured, atoms.numbers, i, j, distances)
        # nearest neighbor of each atom, in units of the sum of covalent radii
        nearest = np.full(len(atoms), np.inf)
        np.minimum.at(nearest, i, distances / _radii(atoms.numbers, i, j))
        if len(atoms) > 2 or (len(atoms) != 2 and len(distances)):
            measured.ratios.append(nearest[_bound(atoms.numbers)])


def _radius_of(atoms: Atoms) -> float:
    """Radius around an atom with about 200 others, Å, whatever the unit; infinite for open structures."""
    if not atoms.pbc.all():
        return np.inf
    return (200 * atoms.get_volume() / len(atoms) * 3 / (4 * np.pi)) ** (1 / 3)


def _radii(numbers: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    return covalent_radii[numbers[i]] + covalent_radii[numbers[j]]


def _bound(numbers: np.ndarray) -> np.ndarray:
    """Atoms whose distances covalent radii tell something of; hydrogen alone may be of any density."""
    return ~np.isin(numbers, NOBLE_GASES) & (numbers != 1).any()


def _note_shortest(
    measured: Distances, numbers: np.ndarray, i: np.ndarray, j: np.ndarray, distances: np.ndarray
) -> None:
    low, high = np.minimum(numbers[i], numbers[j]), np.maximum(numbers[i], numbers[j])
    for pair in np.unique(low * 1000 + high):
        name = "-".join(sorted((chemical_symbols[pair // 1000], chemical_symbols[pair % 1000])))
        shortest = float(distances[low * 1000 + high == pair].min())
        measured.shortest[name] = min(shortest, measured.shortest.get(name, np.inf))


def distance_warnings(measured: Distances, labels: Labelled) -> Iterator[str]:
    """Coinciding atoms, positions in another unit, and cells that cannot be read."""
    unit = length_unit_warning(measured)
    if unit is not None:
        yield unit
    elif measured.overlaps:
        yield _overlap_warning(measured, labels)
    for index, reason in list(measured.unreadable.items())[:1]:
        yield f"{len(measured.unreadable)} frames cannot be searched; {labels.names[index]}: {reason}"


def _overlap_warning(measured: Distances, labels: Labelled) -> str:
    first = min(measured.overlaps, key=lambda overlap: overlap.frame)
    symbols = labels.frames[first.frame].symbols
    count = "a frame has" if len(measured.overlaps) == 1 else f"{len(measured.overlaps)} frames have"
    return (
        f"{count} atoms nearer than {MIN_DISTANCE_A} Å ({labels.names[first.frame]}: atoms {first.i} "
        f"({symbols[first.i]}) and {first.j} ({symbols[first.j]}) are {first.distance_A:.3f} Å apart). "
        "Remove duplicate atoms, correct the cell, or leave the frame out"
    )


def length_unit_warning(measured: Distances) -> str | None:
    """Positions in another unit; None where distances are those of atoms."""
    ratios = np.concatenate(measured.ratios) if measured.ratios else np.empty(0)
    if len(ratios) == 0:
        return None
    # First decile, median and last decile of the distances over the sums of covalent radii.
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9], method="nearest")
    if not np.isfinite(low):
        return (
            f"no atom has a neighbor within {TOO_LONG} times the sum of covalent radii: correct "
            "`length_unit`, or the cell"
        )
    if high > TOO_SHORT and low < TOO_LONG:
        return None
    likely = {
        0.1: "positions in nm read as Å: give `length_unit: nm`, and `forces_unit` unless forces are per nm",
        1.89: "positions in Bohr read as Å: give `length_unit: Bohr`, and `forces_unit` unless forces are "
        "per Bohr",
        0.53: "positions in Å read as Bohr: leave `length_unit` at Angstrom",
        10.0: "positions in Å read as nm: leave `length_unit` at Angstrom",
    }
    # The unit that brings the median nearest to 1, if the distribution is then that of a structure.
    factor = min(likely, key=lambda value: abs(np.log(middle / value)))
    if not CORRECTED[0] < middle / factor < CORRECTED[1] or high > NARROW * low:
        return None
    return (
        f"distances to the nearest atom are {middle:.2f} times the sum of covalent radii (median; 1 is "
        f"usual), which looks like {likely[factor]}"
    )

"""What training frames cover, for the model card."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.potentials.datasets.labels import label_of, with_label
from asecalc_ml.potentials.training.progress import ShownFrames
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.store.card import Domain
from asecalc_ml.structure.minimum_image import Lattices
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import SMALL_MOLECULE, BondGraph, bond_graph, canonical_pattern
from asecalc_ml.structure.topology.chains import all_chains, by_name, values_in
from asecalc_ml.structure.topology.pair_classes import classed_pairs, classes_within

DISTANCE_WIDTH_A = 0.02
ANGLE_WIDTH_DEG = 1.0
DIHEDRAL_WIDTH_DEG = 5.0

MAX_WAITING = 4_000_000  # samples of a histogram that are kept until they are counted, 32 MB

#: A bond that has grown by this factor is broken.
STRETCHED = 1.5

#: Atoms of small molecules whose distances and angles are computed together, and bonds that are compared.
ATOMS_AT_ONCE, BONDS_AT_ONCE = 50_000, 500_000

#: A frame, and its bonds.
Reference = tuple[Atoms, BondGraph]


def measure_domain(
    frames: Sequence[Atoms], cutoff: float, targets: Sequence[str] = (), quiet: bool = True
) -> Domain:
    """Histograms of distances within the cutoff, by topological class, and of bonded angles and dihedrals.

    Bonds are those of the first frame with the same atoms in the same order, as long as a frame keeps at
    least half of them: a bond that breaks later still counts as bonded, with its length. Another arrangement,
    such as a crystal whose atoms are listed in another order, or a melt, has bonds of its own.

    Parameters
    ----------
    frames : sequence of Atoms
        With energies (eV) and forces (eV/Å) in their calculators, where they have them.
    cutoff : float, Å
    targets : sequence of str
        Labels of other targets than the energy, whose ranges are recorded in its place.
    quiet : bool
        Show no progress.
    """
    distances = defaultdict(lambda: Samples(DISTANCE_WIDTH_A))
    angles = defaultdict(lambda: Samples(ANGLE_WIDTH_DEG))
    dihedrals = defaultdict(lambda: Samples(DIHEDRAL_WIDTH_DEG, period=360.0))
    for part in _joined(ShownFrames("distances and angles of training frames", frames, quiet)):
        _add_distances(part, cutoff, distances)
        _add_chains(part.atoms, part.graph, 3, angles)
        _add_chains(part.atoms, part.graph, 4, dihedrals)
    energies = [] if targets else [label_of(atoms, "energy") for atoms in with_label(frames, "energy")]
    return Domain(
        distances=_histograms(distances),
        angles=_histograms(angles),
        dihedrals=_histograms(dihedrals),
        energy_eV=(min(energies), max(energies)) if energies else None,
        values={name: _range_of(frames, name) for name in targets},
        largest_force_eV_A=None if targets else _largest_force(frames),
    )


def _range_of(frames: Sequence[Atoms], label: str) -> tuple[float, float]:
    """Lowest and highest component of a label."""
    values = np.array([label_of(atoms, label) for atoms in with_label(frames, label)])
    return float(values.min()), float(values.max())


def _largest_force(frames: Sequence[Atoms]) -> float | None:
    """None where no frame has forces."""
    forces = [label_of(atoms, "forces") for atoms in with_label(frames, "forces")]
    return max((float(np.linalg.norm(part, axis=1).max()) for part in forces), default=None)


def _references(frames: Sequence[Atoms]) -> list[Reference]:
    """For each frame the first one that it still resembles, perhaps itself, and the bonds of that one."""
    alike: dict[tuple, list[int]] = defaultdict(list)
    for number, atoms in enumerate(frames):
        alike[atoms.numbers.tobytes(), atoms.pbc.tobytes()].append(number)
    references: dict[int, Reference] = {}
    for same in alike.values():
        left = np.array(same)
        while len(left):
            first = frames[left[0]]
            reference = first, bond_graph(first)
            resemble = _resemble([frames[number] for number in left], reference)
            references |= dict.fromkeys(left[resemble].tolist(), reference)
            left = left[~resemble]
    return [references[number] for number in range(len(frames))]


def _resemble(frames: Sequence[Atoms], reference: Reference) -> np.ndarray:
    """True for each frame that keeps at least half of the bonds of a reference."""
    first, graph = reference
    longest = STRETCHED * _lengths([first], graph.shifts[None], graph)
    n_kept: list[np.ndarray] = []
    size = max(1, BONDS_AT_ONCE // max(len(graph.bonds), 1))
    for part in (frames[start : start + size] for start in range(0, len(frames), size)):
        lengths = _lengths(part, _shifts_in(part, reference), graph)
        n_kept.append((lengths <= longest).sum(axis=1))
    return np.concatenate(n_kept) >= len(graph.bonds) / 2


def _shifts_in(frames: Sequence[Atoms], reference: Reference) -> np.ndarray:
    """Cell shifts of the reference's bonds in each frame, shape (n_frames, n_bonds, 3).

    An atom may have been put back into the cell.
    """
    first, graph = reference
    shifts = np.array([graph.shifts] * len(frames))
    if not first.pbc.any() or len(graph.bonds) == 0:
        return shifts
    moved = _vectors(frames, shifts, graph) - _vectors([first], shifts[:1], graph)
    return shifts + Lattices(np.array([atoms.cell.array for atoms in frames]), first.pbc).shifts(
        moved
    ).astype(int)


def _lengths(frames: Sequence[Atoms], shifts: np.ndarray, graph: BondGraph) -> np.ndarray:
    return np.linalg.norm(_vectors(frames, shifts, graph), axis=2)


def _vectors(frames: Sequence[Atoms], shifts: np.ndarray, graph: BondGraph) -> np.ndarray:
    positions, cells = (np.array([getattr(a, name) for a in frames]) for name in ("positions", "cell"))
    return pair_vectors(positions, graph.bonds.T, shifts, cells)


class JoinedMolecules(NamedTuple):
    """Frames as one structure.

    Parameters
    ----------
    atoms : Atoms
        One frame, or the atoms of several molecules, one molecule after the other.
    graph : BondGraph
    pairs : array of int, shape (n_pairs, 2), optional
        Of several molecules: the pairs of atoms of one molecule.
    """

    atoms: Atoms
    graph: BondGraph
    pairs: np.ndarray | None = None


def _joined(shown: ShownFrames) -> Iterator[JoinedMolecules]:
    """Small molecules that follow one another joined to large parts, and every other frame alone."""
    members = zip(shown, _references(shown.frames), strict=True)
    for small, group in itertools.groupby(members, lambda member: _is_small(member[0])):
        if small:
            for batch in batches_by_atoms(group, ATOMS_AT_ONCE, n_atoms=lambda member: len(member[0])):
                yield _as_one([atoms for atoms, _ in batch], [graph for _, (_, graph) in batch])
        else:
            for atoms, reference in group:
                shifts = _shifts_in([atoms], reference)[0]
                yield JoinedMolecules(atoms, BondGraph(len(atoms), reference[1].bonds, shifts))


def _is_small(atoms: Atoms) -> bool:
    return len(atoms) <= SMALL_MOLECULE and not atoms.pbc.any()


def _as_one(molecules: Sequence[Atoms], graphs: Sequence[BondGraph]) -> JoinedMolecules:
    sizes = [len(atoms) for atoms in molecules]
    first = np.cumsum([0, *sizes])[:-1]
    inside = {n: np.stack(np.triu_indices(n, 1), axis=1) for n in set(sizes)}
    bonds = [graph.bonds + start for graph, start in zip(graphs, first, strict=True)]
    return JoinedMolecules(
        Atoms(
            np.concatenate([atoms.numbers for atoms in molecules]),
            positions=np.concatenate([atoms.positions for atoms in molecules]),
        ),
        BondGraph(sum(sizes), np.concatenate(bonds), np.concatenate([graph.shifts for graph in graphs])),
        np.concatenate([inside[n] + start for n, start in zip(sizes, first, strict=True)]),
    )


class Samples:
    """Samples of one histogram in bounded memory: many of them are counted before more are taken.

    Parameters
    ----------
    width, period : float
        See :class:`asecalc_ml.statistics.histogram.Histogram`.
    """

    def __init__(self, width: float, period: float | None = None):
        self._width, self._period = width, period
        self._counted: Histogram | None = None
        self._waiting: list[np.ndarray] = []
        self._n_waiting = 0

    def add(self, values: np.ndarray) -> None:
        """Take more samples, shape (n_samples,)."""
        self._waiting.append(values)
        self._n_waiting += len(values)
        if self._n_waiting > MAX_WAITING:
            self._counted, self._waiting, self._n_waiting = self.histogram, [], 0

    @property
    def histogram(self) -> Histogram:
        """Histogram of all samples."""
        if not self._waiting:
            return self._counted
        waiting = Histogram.from_samples(np.concatenate(self._waiting), self._width, self._period)
        return waiting if self._counted is None else self._counted + waiting


def _histograms(found: dict[str, Samples]) -> dict[str, Histogram]:
    return {name: samples.histogram for name, samples in sorted(found.items())}


def _add_distances(part: JoinedMolecules, cutoff: float, samples: dict[str, Samples]) -> None:
    if part.pairs is None:
        pairs = classed_pairs(part.atoms, part.graph, cutoff)
    else:
        no_shifts = np.zeros((len(part.pairs), 3), dtype=int)
        pairs = classes_within(part.atoms, part.graph, cutoff, part.pairs, no_shifts)
    for name, rows in pairs.names.rows():
        samples[name].add(pairs.lengths[rows])


def _add_chains(atoms: Atoms, graph: BondGraph, n_atoms: int, samples: dict[str, Samples]) -> None:
    def name(members: list[int]) -> str:
        return canonical_pattern([chemical_symbols[atoms.numbers[i]] for i in members])

    for pattern, chains in by_name(all_chains(graph, n_atoms), name, atoms.numbers).items():
        samples[pattern].add(values_in(atoms, chains))

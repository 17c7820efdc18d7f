"""What training frames cover, for the model card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from asecalc_ml.potentials.datasets.labels import label_of, with_label
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.store.card import Domain
from asecalc_ml.structure.minimum_image import image_shifts
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import BondGraph, bond_graph, canonical_pattern
from asecalc_ml.structure.topology.chains import all_chains, by_name, values_in
from asecalc_ml.structure.topology.pair_classes import classed_pairs

DISTANCE_WIDTH_A = 0.02
ANGLE_WIDTH_DEG = 1.0
DIHEDRAL_WIDTH_DEG = 5.0

MAX_WAITING = 4_000_000  # samples of a histogram that are kept until they are counted, 32 MB

#: A bond that has grown by this factor is broken.
STRETCHED = 1.5

#: A frame, and its bonds.
Reference = tuple[Atoms, BondGraph]


def measure_domain(frames: Sequence[Atoms], cutoff: float, targets: Sequence[str] = ()) -> Domain:
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
    """
    references: dict[tuple, list[Reference]] = defaultdict(list)
    distances = defaultdict(lambda: Samples(DISTANCE_WIDTH_A))
    angles = defaultdict(lambda: Samples(ANGLE_WIDTH_DEG))
    dihedrals = defaultdict(lambda: Samples(DIHEDRAL_WIDTH_DEG, period=360.0))
    for atoms in frames:
        graph = _bonds_of(atoms, references[(*atoms.numbers, *atoms.pbc)])
        _add_distances(atoms, graph, cutoff, distances)
        _add_chains(atoms, graph, 3, angles)
        _add_chains(atoms, graph, 4, dihedrals)
    energies = [] if targets else [atoms.get_potential_energy() for atoms in with_label(frames, "energy")]
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
    forces = [atoms.get_forces() for atoms in with_label(frames, "forces")]
    return max((float(np.linalg.norm(part, axis=1).max()) for part in forces), default=None)


def _bonds_of(atoms: Atoms, references: list[Reference]) -> BondGraph:
    """Bonds of the first arrangement that the frame still resembles; its own, as a new one, if of none."""
    for first, graph in references:
        bonds = _with_images_of(atoms, first, graph)
        stretched = _lengths(atoms, bonds) > STRETCHED * _lengths(first, graph)
        if stretched.sum() <= len(stretched) / 2:
            return bonds
    references.append((atoms, bond_graph(atoms)))
    return references[-1][1]


def _lengths(atoms: Atoms, graph: BondGraph) -> np.ndarray:
    return np.linalg.norm(_vectors(atoms, graph), axis=1)


def _vectors(atoms: Atoms, graph: BondGraph) -> np.ndarray:
    return pair_vectors(atoms.positions, graph.bonds.T, graph.shifts, atoms.cell.array)


def _with_images_of(atoms: Atoms, first: Atoms, graph: BondGraph) -> BondGraph:
    """The first frame's bonds with this frame's cell shifts: an atom may have been put back into the cell."""
    if not atoms.pbc.any() or len(graph.bonds) == 0:
        return graph
    moved = _vectors(atoms, graph) - _vectors(first, graph)
    shifts = graph.shifts + image_shifts(moved, atoms.cell.array, atoms.pbc)
    return BondGraph(len(atoms), graph.bonds, shifts)


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


def _add_distances(atoms: Atoms, graph: BondGraph, cutoff: float, samples: dict[str, Samples]) -> None:
    pairs = classed_pairs(atoms, graph, cutoff)
    for name in np.unique(pairs.names):
        samples[str(name)].add(pairs.lengths[pairs.names == name])


def _add_chains(atoms: Atoms, graph: BondGraph, n_atoms: int, samples: dict[str, Samples]) -> None:
    symbols = atoms.get_chemical_symbols()

    def name(members: list[int]) -> str:
        return canonical_pattern([symbols[i] for i in members])

    for pattern, chains in by_name(all_chains(graph, n_atoms), name, symbols).items():
        samples[pattern].add(values_in(atoms, chains))

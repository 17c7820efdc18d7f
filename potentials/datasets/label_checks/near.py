"""Pairs of frames so near to each other that their forces predict the difference of their energies.

Along the line from frame a to frame b the trapezoidal rule gives E_b - E_a ≈ -½ (F_a + F_b) · (r_b - r_a).
It is exact for a harmonic potential, and off by the third power of the displacement otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.spatial import cKDTree

from asecalc_ml.potentials.datasets.label_checks.labelled import Labelled, sample
from asecalc_ml.structure.minimum_image import minimum_image
from asecalc_ml.structure.pair_vectors import pair_vectors

NEIGHBORS = 6  # frames that each frame is compared with
FRAMES_OF_A_KIND, FRAMES_IN_ALL = 1000, 4000
DISTANCES = 300  # of a frame, by which its neighbors are looked for

#: Root mean square displacement, in shortest distances between atoms, up to which the rule is trusted. Pairs
#: of rMD17 below have slopes of 0.97 to 1.00; the farther half of all neighbors goes down to 0.75.
NEAR = 0.2


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of near frames, each with the same atoms in the same cell.

    Parameters
    ----------
    a, b : array of int, shape (n_pairs,)
        Numbers of the frames.
    displacement : array, shape (n_pairs,)
        Root mean square displacement of an atom, in shortest distances between atoms.
    difference : array, shape (n_pairs,), eV
        E_b - E_a.
    work_a, work_b : array, shape (n_pairs,), eV
        -½ F · (r_b - r_a) with the forces of either frame, 0 where a frame has none.
    error : array, shape (n_pairs,), eV
        What the rule may be off by. Where the force on one atom along its way changes steadily, the integral
        lies within half of the change times the way; errors of several atoms are added as squares. Without
        forces 0.
    n_atoms : array of int, shape (n_pairs,)
    with_forces : array of bool, shape (n_pairs,)
        Whether both frames have forces.
    """

    a: np.ndarray
    b: np.ndarray
    displacement: np.ndarray
    difference: np.ndarray
    work_a: np.ndarray
    work_b: np.ndarray
    error: np.ndarray
    n_atoms: np.ndarray
    with_forces: np.ndarray

    def __len__(self) -> int:
        return len(self.a)

    @property
    def work(self) -> np.ndarray:
        """Energy differences that the forces predict, shape (n_pairs,), eV."""
        return self.work_a + self.work_b

    def renumbered(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of the frames that occur, and the place of a and of b of each pair among them."""
        ids, places = np.unique(np.concatenate([self.a, self.b]), return_inverse=True)
        a, b = np.split(places.ravel(), 2)
        return ids, a, b

    def __getitem__(self, chosen: np.ndarray) -> NearPairs:
        return NearPairs(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def near_pairs(labels: Labelled, random: np.random.Generator) -> NearPairs:
    """Near frames among a sample of each kind: each with those whose distances are most like its own."""
    # A sample of each kind: the same atoms, in the same cell.
    kinds = [kind for kind in _kinds_of_one_cell(labels) if len(kind) > 1]
    size = int(np.clip(FRAMES_IN_ALL // max(len(kinds), 1), 20, FRAMES_OF_A_KIND))
    of_kinds = [_among(labels, sample(kind, size, random), random) for kind in kinds[:FRAMES_IN_ALL]]
    # Pairs of all kinds in one; an empty part first, where there are none.
    kinds_of_values = {"a": int, "b": int, "n_atoms": int, "with_forces": bool}
    no_pairs = NearPairs(
        **{field.name: np.empty(0, kinds_of_values.get(field.name, float)) for field in fields(NearPairs)}
    )
    parts = [no_pairs, *of_kinds]
    names = [field.name for field in fields(NearPairs)]
    return NearPairs(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _kinds_of_one_cell(labels: Labelled) -> list[np.ndarray]:
    kinds = []
    for same in labels.kinds:
        kind = same[np.isfinite(labels.energies[same])]
        if not len(kind) or not labels.frames[kind[0]].pbc.any():
            kinds.append(kind)
            continue
        # frames whose cells agree to 1e-4 Å stay together; adding 0 makes −0 and 0 the same
        cells = np.round([labels.frames[index].cell.array.ravel() for index in kind], 4) + 0.0
        _, cell = np.unique(cells, axis=0, return_inverse=True)
        order = np.argsort(cell.ravel(), kind="stable")
        kinds += np.split(kind[order], np.flatnonzero(np.diff(cell.ravel()[order])) + 1)
    return kinds


def _among(labels: Labelled, kind: np.ndarray, random: np.random.Generator) -> NearPairs:
    first = labels.frames[kind[0]]
    periodic = _Periodic(first.cell.array, first.pbc)
    positions = np.array([labels.frames[index].positions for index in kind])
    forces = np.array([labels.forces(index) for index in kind])
    # Each frame with those whose distances between atoms are most like its own; each pair once.
    distances = _distances(positions, periodic, random)
    _, nearest = cKDTree(distances).query(distances, k=min(NEIGHBORS + 1, len(kind)))
    pairs = {(min(i, j), max(i, j)) for i, row in enumerate(nearest) for j in row if i != j}
    i, j = np.array(sorted(pairs), dtype=int).reshape(-1, 2).T
    # Displacements r_b − r_a, and the work −½ F · (r_b − r_a) of the forces at either end.
    steps, turned = _displacements(positions[i], positions[j], forces[j], periodic)
    with_forces = np.isfinite(forces[i] + forces[j]).all(axis=(1, 2))
    works = [-0.5 * (f * steps).sum(axis=2) for f in (forces[i], turned)]
    # The rule's error of each atom: half of the change of the force along its way.
    error = np.sqrt(((works[1] - works[0]) ** 2).sum(axis=1))
    # Root mean square displacement, in shortest distances.
    shortest = _shortest(positions, distances, periodic)
    size = np.sqrt((steps**2).sum(axis=(1, 2)) / positions.shape[1])
    pairs_of_kind = NearPairs(
        kind[i],
        kind[j],
        size / np.maximum(np.minimum(shortest[i], shortest[j]), 1e-9),
        labels.energies[kind[j]] - labels.energies[kind[i]],
        np.where(with_forces, works[0].sum(axis=1), 0.0),
        np.where(with_forces, works[1].sum(axis=1), 0.0),
        np.where(with_forces, error, 0.0),
        np.full(len(i), positions.shape[1]),
        with_forces,
    )
    return pairs_of_kind[pairs_of_kind.displacement < NEAR]


class _Periodic:
    """Shortest images of vectors between atoms; molecules have none."""

    def __init__(self, cell: np.ndarray, pbc: np.ndarray):
        self.cell, self.pbc, self.any = cell, pbc, bool(pbc.any())

    def nearest(self, vectors: np.ndarray) -> np.ndarray:
        return minimum_image(vectors, self.cell, self.pbc) if self.any else vectors


def _distances(positions: np.ndarray, periodic: _Periodic, random: np.random.Generator) -> np.ndarray:
    i, j = np.triu_indices(positions.shape[1], 1)
    if len(i) > DISTANCES:
        chosen = random.choice(len(i), DISTANCES, replace=False)
        i, j = i[chosen], j[chosen]
    if not len(i):
        return np.zeros((len(positions), 1))
    return np.linalg.norm(periodic.nearest(pair_vectors(positions, (i, j))), axis=2)


def _shortest(positions: np.ndarray, distances: np.ndarray, periodic: _Periodic) -> np.ndarray:
    """Shortest distance of each frame, Å; of many atoms the median over atoms and a few frames."""
    n_frames, n_atoms = positions.shape[:2]
    if n_atoms == 1:
        return np.full(n_frames, np.inf)
    if n_atoms * (n_atoms - 1) // 2 <= DISTANCES:
        return distances.min(axis=1)
    # the nearest neighbor of some twenty atoms in some five frames
    nearest = []
    for atoms in positions[:: max(1, n_frames // 5)]:
        for atom in range(0, n_atoms, max(1, n_atoms // 20)):
            others = np.delete(atoms, atom, axis=0)
            nearest.append(np.linalg.norm(periodic.nearest(others - atoms[atom]), axis=1).min())
    return np.full(n_frames, np.median(nearest))


def _displacements(
    start: np.ndarray, end: np.ndarray, forces: np.ndarray, periodic: _Periodic
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements without translation, for molecules without rotation; the end's forces, turned alike."""
    if periodic.any:
        steps = periodic.nearest(end - start)
        return steps - steps.mean(axis=1, keepdims=True), forces
    # Centred on the mean position, then turned onto each other.
    start, end = (positions - positions.mean(axis=1, keepdims=True) for positions in (start, end))
    turn = _rotations(start, end)
    return end @ turn - start, forces @ turn


def _rotations(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Rotations, shape (n, 3, 3), that bring ``end @ rotation`` nearest to the start (Kabsch)."""
    left, _, right = np.linalg.svd(np.einsum("pni,pnj->pij", end, start))
    # A reflection would fit mirror images; the last axis is turned over where the determinant is −1.
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    return left @ right

"""Which atoms are bonded, and what follows from it: angles, topological classes, bonds broken and formed.

A bond is a pair closer than 1.3 times the sum of its covalent radii (B. Cordero et al., Dalton Trans. 2008,
2832, as ASE ships them). In 20,000 frames of ethanol, uracil, malonaldehyde and benzene at 500 K (rMD17)
bonded pairs stay below 1.24 times that sum and all others above 1.42. In salts of large cations the radii of
neutral atoms are too generous: in NaCl two sodium atoms come out bonded.

Conventions are those of the neighbor lists: the bond (i, j) with the integer cell shift s is the vector
``positions[j] - positions[i] + s @ cell``.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from asecalc_ml.structure.lattice import reduced
from asecalc_ml.structure.loading import check_positions
from asecalc_ml.structure.pair_vectors import pair_vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BOND_TOLERANCE = 1.3
SMALL_MOLECULE = 200  # atoms up to which all distances are computed
CHAINS_AT_ONCE = 500_000  # dihedrals that are looked at together, some 200 MB
FORMED_TOLERANCE = 1.2
BROKEN_TOLERANCE = 1.6

CLASSES = ("bonded", "1-3", "1-4", "further", "other molecule")
FURTHER, OTHER_MOLECULE = 3, 4  # places in CLASSES
#: Number of the class of atoms that 0, 1, 2, 3 or more bonds connect; of the atom itself as of its images.
_BY_STEPS = np.array([FURTHER, 0, 1, 2, FURTHER])
MOST_STEPS = 3  # bonds within which images are listed


# ------------------------------------------------------------------------------------------------ bonds


def find_bonds(atoms: Atoms) -> np.ndarray:
    """Bonds of a structure, periodic images included.

    Returns
    -------
    ndarray of int, shape (n_bonds, 2)
        Rows i <= j in the order of :func:`find_bonds_and_shifts`. In a small cell a pair may be bonded
        across several faces, and an atom to its own image: one row for each.
    """
    return find_bonds_and_shifts(atoms)[0]


def find_bonds_and_shifts(atoms: Atoms, tolerance: float = BOND_TOLERANCE) -> tuple[np.ndarray, np.ndarray]:
    """Bonds and the cell shifts that they cross.

    Parameters
    ----------
    atoms : Atoms
    tolerance : float
        Longest bond in units of the sum of covalent radii.

    Returns
    -------
    bonds : ndarray of int, shape (n_bonds, 2)
        Rows i <= j, sorted by i, j, shift; each bond once.
    shifts : ndarray of int, shape (n_bonds, 3)

    Raises
    ------
    StructureError
        If positions or cell are not finite, or a periodic direction has no cell vector of its own.
    """
    check_positions(atoms)
    radii = tolerance * covalent_radii[atoms.numbers]
    first, second, shifts = _pairs_within_radii(atoms, radii)
    # one of each pair and its reverse, sorted by i, j and shift
    once = (first < second) | ((first == second) & _is_positive(shifts))
    bonds, shifts = np.stack([first, second], axis=1)[once], shifts[once]
    order = np.lexsort((*shifts.T[::-1], bonds[:, 1], bonds[:, 0]))
    return bonds[order].astype(int), shifts[order].astype(int)


def _pairs_within_radii(atoms: Atoms, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms i and j of pairs closer than the sum of their radii, at least one order of each; cell shifts."""
    if len(atoms) <= SMALL_MOLECULE and not atoms.pbc.any():
        i, j = np.triu_indices(len(atoms), 1)
        lengths = np.linalg.norm(pair_vectors(atoms.positions, (i, j)), axis=1)
        near = lengths < radii[i] + radii[j]
        return i[near], j[near], np.zeros((near.sum(), 3), dtype=int)
    from ase.neighborlist import primitive_neighbor_list

    positions, box, operation = _enclosed(atoms)
    i, j, shifts = primitive_neighbor_list("ijS", atoms.pbc, box, positions, radii)
    return i, j, shifts @ operation


def _enclosed(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions in a box that holds all atoms along open directions, the box, and how to write its shifts.

    The box is reduced, since ASE visits more images the more skewed a cell is; a shift in it is
    ``shift @ operation`` in the cell of the structure.
    """
    box, operation = reduced(atoms.cell.array, atoms.pbc)
    normals = box[~atoms.pbc]
    along = (atoms.positions - atoms.positions[:1]) @ normals.T
    low, high = along.min(axis=0, initial=0.0), along.max(axis=0, initial=0.0)
    box[~atoms.pbc] *= np.maximum(high - low, 1.0)[:, None]
    return atoms.positions - atoms.positions[:1] - low @ normals, box, operation


def _is_positive(shifts: np.ndarray) -> np.ndarray:
    """Whether the first component that is not zero is positive: one of a shift and its opposite."""
    signs = np.sign(shifts)
    return signs @ np.array([4, 2, 1]) > 0


def bond_changes(
    start_bonds: np.ndarray | Sequence[Sequence[int]], atoms: Atoms
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Bonds that broke and that formed since the start.

    A bond of the start counts as broken beyond 1.6 times the sum of its covalent radii, and a pair that was
    not bonded as formed below 1.2 times. The gap lets vibration at 1000 K pass: a C-H bond, 1.09 Å at rest,
    breaks at 1.71 Å and forms at 1.28 Å.

    Parameters
    ----------
    start_bonds : array of int, shape (n_bonds, 2)
        From :func:`find_bonds` of the starting structure.
    atoms : Atoms
        The structure now; of periodic images the nearest counts.

    Returns
    -------
    broken, formed : list of (int, int)
        Pairs i < j, sorted.
    """
    start = {(min(pair), max(pair)) for pair in np.asarray(start_bonds, dtype=int).reshape(-1, 2).tolist()}
    held = _pairs(find_bonds_and_shifts(atoms, BROKEN_TOLERANCE)[0])
    close = _pairs(find_bonds_and_shifts(atoms, FORMED_TOLERANCE)[0])
    return sorted(start - held), sorted(close - start)


class MoleculePairs:
    """Tells quickly, for any number of frames, which pairs of a molecule are no longer as at the start.

    The rule is that of :func:`bond_changes`, which searches instead, and knows periodic images.

    Parameters
    ----------
    numbers : array of int, shape (n_atoms,)
        Atomic numbers.
    bonds : array of int, shape (n_bonds, 2)
        Bonds of the start.

    Attributes
    ----------
    pairs : ndarray of int, shape (n_pairs, 2)
        All pairs i < j.
    bonded : ndarray of bool, shape (n_pairs,)
        Whether they were bonded at the start.
    """

    def __init__(self, numbers: np.ndarray, bonds: np.ndarray):
        self.pairs = np.stack(np.triu_indices(len(numbers), 1), axis=1)
        self._first, self._second = np.ascontiguousarray(self.pairs.T)
        matrix = np.zeros((len(numbers), len(numbers)), dtype=bool)
        matrix[tuple(np.asarray(bonds, dtype=int).reshape(-1, 2).T)] = True
        self.bonded = (matrix | matrix.T)[self._first, self._second]
        tolerance = np.where(self.bonded, BROKEN_TOLERANCE, FORMED_TOLERANCE)
        self._limits = (tolerance * sums_of_radii(numbers, self.pairs)) ** 2

    def changed(self, positions: np.ndarray) -> np.ndarray:
        """Whether bonded pairs have broken, and others formed a bond.

        Parameters
        ----------
        positions : ndarray, shape (..., n_atoms, 3), Å

        Returns
        -------
        ndarray of bool, shape (..., n_pairs)
        """
        vectors = pair_vectors(positions, (self._first, self._second))
        return (np.einsum("...ij,...ij->...i", vectors, vectors) < self._limits) != self.bonded


def sums_of_radii(numbers: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Sums of covalent radii in Å, shape (n_pairs,), which all tolerances here are multiples of."""
    return covalent_radii[numbers[pairs]].sum(axis=1)


def _pairs(bonds: np.ndarray) -> set[tuple[int, int]]:
    return {(i, j) for i, j in bonds.tolist()}


# ------------------------------------------------------------------------------------------------ graph


@dataclass(frozen=True)
class BondGraph:
    """Atoms and their bonds, with the periodic images told apart."""

    n_atoms: int
    bonds: np.ndarray  # (n_bonds, 2)
    shifts: np.ndarray  # (n_bonds, 3)

    @cached_property
    def neighbors(self) -> list[list[tuple[int, tuple[int, int, int]]]]:
        """For each atom the atoms bonded to it, each with its cell shift; both directions of every bond."""
        neighbors: list[list] = [[] for _ in range(self.n_atoms)]
        for (i, j), shift in zip(self.bonds.tolist(), self.shifts.tolist(), strict=True):
            neighbors[i].append((j, tuple(shift)))
            neighbors[j].append((i, tuple(-s for s in shift)))
        return neighbors

    @cached_property
    def molecules(self) -> np.ndarray:
        """Number of the molecule that each atom belongs to, shape (n_atoms,), counted from 0."""
        from scipy.sparse.csgraph import connected_components

        return connected_components(self._matrix, directed=False)[1]

    @cached_property
    def steps(self) -> np.ndarray:
        """Fewest bonds between two atoms in any image, (n_atoms, n_atoms); infinite where unconnected."""
        from scipy.sparse.csgraph import shortest_path

        return shortest_path(self._matrix, directed=False, unweighted=True)

    @property
    def _matrix(self) -> "csr_matrix":
        from scipy.sparse import coo_matrix

        ones = np.ones(len(self.bonds))
        return coo_matrix((ones, self.bonds.T), shape=(self.n_atoms, self.n_atoms)).tocsr()

    def classes(self, pairs: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """Topological class of pairs of one atom with an image of another.

        In a crystal, whose atoms are bonded to images of themselves, everything connected that is not 1-4 or
        closer is "further".

        Parameters
        ----------
        pairs : array of int, shape (n_pairs, 2)
            Such as ``edge_index.T``.
        shifts : array of int, shape (n_pairs, 3)
            Such as ``cell_shifts``.

        Returns
        -------
        ndarray of str, shape (n_pairs,)
            Of :data:`CLASSES`.
        """
        return np.array(CLASSES)[self.class_numbers(pairs, shifts)]

    def class_numbers(self, pairs: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """Places in :data:`CLASSES` of the classes that :meth:`classes` returns, shape (n_pairs,)."""
        pairs, shifts = np.asarray(pairs, dtype=int), np.asarray(shifts, dtype=int)
        i, j = pairs.T
        steps = self._near.steps_to(pairs, shifts)
        # an image that is not near belongs to the same molecule where the molecule reaches it without a gap
        connected = self.molecules[i] == self.molecules[j]
        reached = (self._offsets[j] - self._offsets[i] == shifts).all(axis=1)
        same = connected & (self._is_infinite[self.molecules[i]] | reached)
        return np.where(steps <= MOST_STEPS, _BY_STEPS[steps], np.where(same, FURTHER, OTHER_MOLECULE))

    @cached_property
    def close_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs within three bonds, each once: atoms (n_pairs, 2), and cell shifts (n_pairs, 3)."""
        near = self._near
        i, j = near.pairs.T
        once = (near.steps > 0) & ((i < j) | ((i == j) & _is_positive(near.shifts)))
        return near.pairs[once], near.shifts[once]

    @cached_property
    def _near(self) -> "_NearImages":
        """For each atom the images within three bonds."""
        ways, atoms = _Ways(self.bonds, self.shifts), np.arange(self.n_atoms)
        zero = np.zeros((self.n_atoms, 3), dtype=int)
        near = _NearImages.sorted(np.stack([atoms, atoms], axis=1), zero, np.zeros(self.n_atoms, dtype=int))
        for n_bonds in range(1, MOST_STEPS + 1):
            pairs, shifts = _one_bond_further(near.take(near.steps == n_bonds - 1), ways)
            near = _NearImages.sorted(
                np.concatenate([near.pairs, pairs]),
                np.concatenate([near.shifts, shifts]),
                np.concatenate([near.steps, np.full(len(pairs), n_bonds)]),
            )
        return near

    @cached_property
    def _offsets(self) -> np.ndarray:
        """Cell of each atom when its molecule is put together from its first atom on, (n_atoms, 3)."""
        offsets, seen = np.zeros((self.n_atoms, 3), dtype=int), np.zeros(self.n_atoms, dtype=bool)
        for start in range(self.n_atoms) if self.shifts.any() else ():
            queue = deque([] if seen[start] else [start])
            seen[start] = True
            while queue:
                here = queue.popleft()
                for j, shift in self.neighbors[here]:
                    if not seen[j]:
                        seen[j], offsets[j] = True, offsets[here] + shift
                        queue.append(j)
        return offsets

    @cached_property
    def _is_infinite(self) -> np.ndarray:
        """True for each molecule that is bonded to an image of itself, as crystals and polymers are."""
        first, second = self.bonds.T if len(self.bonds) else np.zeros((2, 0), dtype=int)
        closes = (self._offsets[first] + self.shifts != self._offsets[second]).any(axis=1)
        infinite = np.zeros(self.molecules.max(initial=-1) + 1, dtype=bool)
        infinite[self.molecules[first[closes]]] = True
        return infinite


@dataclass(frozen=True, eq=False)
class _NearImages:
    """Images within a few bonds of each atom, sorted by atom, atom of the image and cell shift.

    Parameters
    ----------
    pairs : array of int, shape (n_images, 2)
        The atom, and the atom of the image.
    shifts : array of int, shape (n_images, 3)
    steps : array of int, shape (n_images,)
        Fewest bonds.
    """

    pairs: np.ndarray
    shifts: np.ndarray
    steps: np.ndarray

    @classmethod
    def sorted(cls, pairs: np.ndarray, shifts: np.ndarray, steps: np.ndarray) -> "_NearImages":
        """Each image once, with the fewest of its numbers of bonds."""
        order = np.lexsort((steps, _as_numbers(shifts), pairs[:, 1], pairs[:, 0]))
        images = cls(pairs[order], shifts[order], steps[order])
        rows = np.concatenate([images.pairs, images.shifts], axis=1)
        is_new = np.ones(len(rows), dtype=bool)
        is_new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
        return images.take(is_new)

    def take(self, chosen: np.ndarray) -> "_NearImages":
        """Some of the images."""
        return _NearImages(self.pairs[chosen], self.shifts[chosen], self.steps[chosen])

    def steps_to(self, pairs: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """Fewest bonds of each pair of an atom and an image, one more than the most where it is not near."""
        if not len(self.pairs):
            return np.full(len(pairs), MOST_STEPS + 1)
        wanted, occurs = self._numbered(pairs, shifts)
        place = np.searchsorted(self._numbers, wanted).clip(max=len(self._numbers) - 1)
        return np.where(occurs & (self._numbers[place] == wanted), self.steps[place], MOST_STEPS + 1)

    @cached_property
    def _numbers(self) -> np.ndarray:
        return self._numbered(self.pairs, self.shifts)[0]

    @cached_property
    def _kinds(self) -> np.ndarray:
        """Numbers of the shifts that occur, ascending."""
        return np.unique(_as_numbers(self.shifts))

    def _numbered(self, pairs: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Atom, atom of the image and place of the shift in ``_kinds`` as one number; if the shift occurs."""
        number = _as_numbers(shifts)
        kind = np.searchsorted(self._kinds, number).clip(max=len(self._kinds) - 1)
        n_atoms = int(self.pairs[-1, 0]) + 1
        return (pairs[:, 0] * n_atoms + pairs[:, 1]) * len(self._kinds) + kind, self._kinds[kind] == number


def _as_numbers(shifts: np.ndarray) -> np.ndarray:
    """One number for each cell shift, shape (n,), in the order of their components up to 2²⁰ cells."""
    return (shifts + 2**20) @ np.array([2**42, 2**21, 1])


def _one_bond_further(images: _NearImages, ways: "_Ways") -> tuple[np.ndarray, np.ndarray]:
    """Images that one more bond leads to, as often as bonds do: pairs of atoms, and cell shifts."""
    i, j = images.pairs.T
    first, end = (np.searchsorted(ways.first, j, side=side) for side in ("left", "right"))
    image = np.repeat(np.arange(len(j)), end - first)
    way = first[image] + _places_within(end - first)
    return np.stack([i[image], ways.second[way]], axis=1), images.shifts[image] + ways.shifts[way]


def bond_graph(atoms: Atoms) -> BondGraph:
    """The graph of a structure's bonds, see :func:`find_bonds_and_shifts`."""
    return BondGraph(len(atoms), *find_bonds_and_shifts(atoms))


def topological_classes(atoms: Atoms) -> np.ndarray:
    """Topological class of each pair of atoms by the fewest bonds between them.

    Of periodic images the one with the fewest bonds counts; :meth:`BondGraph.classes` tells images apart.

    Returns
    -------
    ndarray of str, shape (n_atoms * (n_atoms - 1) / 2,)
        "bonded", "1-3", "1-4", "further" or "other molecule" for the pairs i < j in the order of
        ``np.triu_indices(n_atoms, 1)``.
    """
    steps = bond_graph(atoms).steps[np.triu_indices(len(atoms), 1)]
    number = _BY_STEPS[np.minimum(steps, MOST_STEPS + 1).astype(int)]
    return np.array(CLASSES)[np.where(np.isinf(steps), OTHER_MOLECULE, number)]


def angle_triples_and_shifts(bonds: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles between two bonds that share an atom, across periodic images.

    Parameters
    ----------
    bonds : array of int, shape (n_bonds, 2)
    shifts : array of int, shape (n_bonds, 3)

    Returns
    -------
    triples : ndarray of int, shape (n_angles, 3)
        i, j, k with the centre j in the middle and i <= k; i = k only where the images differ.
    shifts : ndarray of int, shape (n_angles, 2, 3)
        Cell shifts of i and of k, seen from j.
    """
    ways = _Ways(bonds, shifts)
    ends = np.lexsort((*ways.shifts.T[::-1], ways.second, ways.first))  # by centre, then atom, then shift
    first, second = _pairs_within(ways.degrees)
    i, k = ends[first], ends[second]
    triples = np.stack([ways.second[i], ways.first[i], ways.second[k]], axis=1)
    return triples, np.stack([ways.shifts[i], ways.shifts[k]], axis=1)


def dihedral_chains_and_shifts(bonds: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chains i-j-k-l of three bonds, across periodic images.

    Parameters
    ----------
    bonds : array of int, shape (n_bonds, 2)
    shifts : array of int, shape (n_bonds, 3)

    Returns
    -------
    chains : ndarray of int, shape (n_dihedrals, 4)
        Each once, those of one middle bond together. The ends of a ring of three bonds are the same atom and
        make no dihedral.
    shifts : ndarray of int, shape (n_dihedrals, 3, 3)
        Cell shifts from each atom of the chain to the next.
    """
    bonds, shifts = np.asarray(bonds, dtype=int).reshape(-1, 2), np.asarray(shifts, dtype=int).reshape(-1, 3)
    ways = _Ways(bonds, shifts)
    parts = [_around(ways, bonds[rows], shifts[rows]) for rows in ways.slices(bonds)]
    if not parts:
        return np.empty((0, 4), dtype=int), np.empty((0, 3, 3), int)
    chains, crossed = zip(*parts, strict=True)
    return np.concatenate(chains), np.concatenate(crossed)


def n_angles_and_dihedrals(bonds: np.ndarray) -> tuple[int, int]:
    """Numbers of angles and of dihedrals, rings of three included, without a list of them."""
    bonds = np.asarray(bonds, dtype=int).reshape(-1, 2)
    degrees = np.bincount(bonds.ravel())
    return int((degrees * (degrees - 1) // 2).sum()), int(np.prod(degrees[bonds] - 1, axis=1).sum())


class _Ways:
    """Bonds in both directions, sorted by their first atom."""

    def __init__(self, bonds: np.ndarray, shifts: np.ndarray):
        bonds = np.asarray(bonds, dtype=int).reshape(-1, 2)
        shifts = np.asarray(shifts, dtype=int).reshape(-1, 3)
        both = np.stack([bonds, bonds[:, ::-1]], axis=1).reshape(-1, 2)
        order = np.argsort(both[:, 0], kind="stable")
        self.first, self.second = both[order].T
        self.shifts = np.stack([shifts, -shifts], axis=1).reshape(-1, 3)[order]
        self.degrees = np.bincount(self.first)
        self.starts = np.cumsum(self.degrees) - self.degrees

    def slices(self, bonds: np.ndarray) -> Iterator[slice]:
        """Parts of the bonds, each with a bounded number of dihedrals around its bonds."""
        if len(bonds) == 0:
            return
        ends = np.cumsum(np.prod(self.degrees[bonds], axis=1))
        cuts = np.searchsorted(ends, np.arange(CHAINS_AT_ONCE, ends[-1], CHAINS_AT_ONCE))
        edges = np.unique([0, *cuts, len(bonds)])
        yield from map(slice, edges[:-1], edges[1:])


def _around(ways: _Ways, middle: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dihedrals around some bonds, and the cell shifts along them."""
    j, k = middle.T
    # every neighbor of j with every neighbor of k
    around = ways.degrees[j] * ways.degrees[k]
    bond = np.repeat(np.arange(len(middle)), around)
    number = _places_within(around)
    before = ways.starts[j][bond] + number // ways.degrees[k][bond]
    after = ways.starts[k][bond] + number % ways.degrees[k][bond]
    chains = np.stack([ways.second[before], j[bond], k[bond], ways.second[after]], axis=1)
    first, last, across = ways.shifts[before], ways.shifts[after], shifts[bond]
    # without chains that go back along a bond or end where they began
    end = across + last  # of the last atom, seen from j
    is_middle = (chains[:, 0] == chains[:, 2]) & (first == across).all(axis=1)
    comes_back = (chains[:, 3] == chains[:, 1]) & (end == 0).all(axis=1)
    closes = (chains[:, 3] == chains[:, 0]) & (end == first).all(axis=1)
    kept = ~(is_middle | comes_back | closes)
    return chains[kept], np.stack([-first[kept], across[kept], last[kept]], axis=1).astype(np.int32)


def _pairs_within(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of all pairs of members of the same group, where groups of these sizes follow one another."""
    n_after = np.repeat(sizes, sizes) - 1 - _places_within(sizes)
    first = np.repeat(np.arange(len(n_after)), n_after)
    return first, first + 1 + _places_within(n_after)


def _places_within(sizes: np.ndarray) -> np.ndarray:
    """0, 1, 2… for the members of each group, where groups of these sizes follow one another."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


# --------------------------------------------------------------------------------------------- patterns


def canonical_pattern(elements: Sequence[str]) -> str:
    """Pattern of elements, the alphabetically smaller of its two readings, since both mean the same.

    :mod:`asecalc_ml.structure.topology.patterns` reads patterns, and knows more kinds of them.

    Examples
    --------
    >>> canonical_pattern(("O", "C"))
    'C-O'
    """
    return "-".join(min(list(elements), list(elements)[::-1]))

"""Bonds of a molecule that can turn into another conformer, and the wells of their dihedrals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.distributions.internal_coordinates import grouped
from asecalc_ml.errors import AnalysisError
from asecalc_ml.structure.topology.bonds import BondGraph
from asecalc_ml.structure.topology.chains import Chains, types_of
from asecalc_ml.structure.topology.equivalence import priorities

LARGEST_RING = 8
BORON, CARBON, NITROGEN = 5, 6, 7
CHALCOGENS = (8, 16, 34, 52)
PLANAR = {(BORON, 3), (CARBON, 3), (NITROGEN, 2)}  # element and number of neighbors

Image = tuple[int, tuple[int, int, int]]  # an atom, and the cell that it is in
Wells = Mapping[str, tuple[float, float]]  # where each begins and ends, degrees

THREE_WELLS: Wells = {"g-": (-120.0, 0.0), "g+": (0.0, 120.0), "t": (120.0, -120.0)}
TWO_WELLS: Wells = {"cis": (-90.0, 90.0), "trans": (90.0, -90.0)}
HELICAL_WELLS: Wells = {"M": (-180.0, 0.0), "P": (0.0, 180.0)}


# ------------------------------------------------------------------------------------------------ rotors


def rotors(atoms: Atoms, graph: BondGraph) -> dict[str, Chains]:
    """Dihedrals of each bond whose turning makes another conformer, by the elements of their atoms.

    A bond counts where it is in no ring of up to eight atoms, and where each end has a neighbor that is
    equivalent to no other there, see :func:`asecalc_ml.structure.topology.equivalence.priorities`; the one of
    highest priority serves. Methyl has none: turned by a third, it looks the same. Nor has the nitrogen of a
    primary amide, whose plane looks the same when turned by half. An amine's nitrogen has two equivalent
    neighbors and a lone pair: both serve, and the bond has two dihedrals. The oxygens of a nitro group do
    not. Of an amide's carbon it is not the oxygen that serves, but the neighbor along the chain, as in the
    angle ω of peptides (IUPAC-IUB Commission on Biochemical Nomenclature, Biochemistry 9, 3471, 1970): the
    usual peptide bond is trans. Where an atom's two bonds lie on a line, as in an alkyne, there is no
    dihedral.

    Raises
    ------
    AnalysisError
        If no bond can turn.
    """
    ranks = priorities(atoms.numbers, [[j for j, _ in around] for around in graph.neighbors])
    dihedrals = []  # four atoms, and the cell shift from each to the next
    for (j, k), shift in zip(graph.bonds.tolist(), map(tuple, graph.shifts.tolist()), strict=True):
        back = tuple(-s for s in shift)
        ends = (_references(atoms, graph, ranks, *end) for end in ((j, (k, shift)), (k, (j, back))))
        pairs = list(product(*ends))
        is_straight = _is_linear(atoms, graph, j) or _is_linear(atoms, graph, k)
        if pairs and not is_straight and not _in_ring(graph, j, k, shift):
            dihedrals += [
                ((first[0], j, k, last[0]), (tuple(-s for s in first[1]), shift, last[1]))
                for first, last in pairs
            ]
    if not dihedrals:
        raise AnalysisError(
            f"no bond in {atoms.get_chemical_formula()} can turn into another conformer",
            name=atoms.get_chemical_formula(),
            remedy="remove this analysis, or name its dihedrals in `dihedrals`",
        )
    chains = Chains(*(np.array(part) for part in zip(*dihedrals, strict=True)))
    return grouped(chains, types_of(atoms, graph).elements)


def _is_planar(atoms: Atoms, graph: BondGraph, bond: Sequence[int]) -> bool:
    """Whether a bond ends at a planar atom, such as a carbon with three neighbors."""
    return any((atoms.numbers[i], len(graph.neighbors[i])) in PLANAR for i in bond)


def _is_linear(atoms: Atoms, graph: BondGraph, atom: int) -> bool:
    """Whether the two bonds of an atom lie on a line: a carbon's, and those in the middle of N=N=N or N≡C."""
    if len(graph.neighbors[atom]) != 2:
        return False
    ends = [j for j, _ in graph.neighbors[atom] if len(graph.neighbors[j]) == 1]
    is_cumulated = atoms.numbers[atom] == NITROGEN and any(
        atoms.numbers[j] in (CARBON, NITROGEN) for j in ends
    )
    return atoms.numbers[atom] == CARBON or is_cumulated


def _references(atoms: Atoms, graph: BondGraph, ranks: np.ndarray, here: int, there: Image) -> list[Image]:
    """Neighbors of one end of a bond whose dihedrals tell how far it has turned; none of methyl's."""
    others = [image for image in graph.neighbors[here] if image != there]
    kinds = [int(ranks[j]) for j, _ in others]
    single = [image for image, kind in zip(others, kinds, strict=True) if kinds.count(kind) == 1]
    if single:
        is_amide = atoms.numbers[here] == CARBON and atoms.numbers[there[0]] == NITROGEN
        return [
            max(
                single,
                key=lambda image: (not (is_amide and _is_oxo(atoms, graph, image[0])), ranks[image[0]]),
            )
        ]
    is_amine = (
        atoms.numbers[here] == NITROGEN
        and len(others) == 2
        and not _is_oxo(atoms, graph, others[0][0])
        and not _is_planar(atoms, graph, (here, there[0]))
    )
    return others if is_amine else []


def _is_oxo(atoms: Atoms, graph: BondGraph, atom: int) -> bool:
    """Whether an atom is an oxygen, or sulfur, with one bond, such as a carbonyl's."""
    return atoms.numbers[atom] in CHALCOGENS and len(graph.neighbors[atom]) == 1


def _in_ring(graph: BondGraph, start: int, end: int, shift: tuple) -> bool:
    """Whether the far end of a bond can be reached on another way, of at most seven bonds."""
    seen: set[tuple[int, tuple[int, ...]]] = {(start, (0, 0, 0))}
    goal = (end, shift)
    edge = set(seen)
    for _ in range(LARGEST_RING - 1):
        reached = set()
        for atom, cell in edge:
            for other, crossed in graph.neighbors[atom]:
                there = (other, tuple(a + b for a, b in zip(cell, crossed, strict=True)))
                if (atom, cell) == (start, (0, 0, 0)) and there == goal:
                    continue
                reached.add(there)
        if goal in reached:
            return True
        edge = reached - seen
        seen |= edge
    return False


# ------------------------------------------------------------------------------------------------- wells


def natural_wells(atoms: Atoms, graph: BondGraph, bond: Sequence[int]) -> Wells:
    """Wells of a bond's dihedral: two next to a planar atom, three where bonds are staggered.

    Lone pairs of neighboring atoms avoid each other, which leaves two forms that are neither gauche nor
    trans: of peroxides and disulfides the two helices P and M, of hydroxylamines cis and trans.
    """
    around = [(int(atoms.numbers[i]), len(graph.neighbors[i])) for i in bond]
    is_chain = [element in CHALCOGENS and n_neighbors == 2 for element, n_neighbors in around]
    if all(is_chain):
        return HELICAL_WELLS
    is_hydroxylamine = any(is_chain) and (NITROGEN, 3) in around
    return TWO_WELLS if is_hydroxylamine or _is_planar(atoms, graph, bond) else THREE_WELLS


def covers_the_circle(wells: Wells) -> bool:
    """Whether every angle lies in exactly one well.

    Examples
    --------
    >>> covers_the_circle({"cis": (-90, 90), "trans": (90, -90)})
    True
    >>> covers_the_circle({"gauche": (0, 120), "trans": (120, 180)})
    False
    """
    begins, ends = (sorted(limit[k] % 360 for limit in wells.values()) for k in (0, 1))
    turns = sum((high - low) % 360 for low, high in wells.values())
    return len(set(begins)) == len(begins) > 1 and begins == ends and turns == 360


def well_numbers(angles: np.ndarray, wells: Wells) -> np.ndarray:
    """Number of the well of each angle, from 0, int8 of the angles' shape; a well's begin belongs to it."""
    numbers = np.zeros(np.shape(angles), dtype=np.int8)
    for number, (low, high) in enumerate(wells.values()):
        numbers[(angles - low) % 360 < (high - low) % 360] = number
    return numbers

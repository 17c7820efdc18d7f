"""Which bonds of a molecule can turn, and the dihedral that tells how far each has."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.chains import grouped
from asecalc_ml.chains import Chains, types_of
from asecalc_ml.errors import AnalysisError
from asecalc_ml.topology import BondGraph

LARGEST_RING = 8
NITROGEN = 7


def rotors(atoms: Atoms, graph: BondGraph) -> dict[str, Chains]:
    """One dihedral for each bond that can turn, by the elements of its atoms.

    A bond turns where it is in no ring of up to eight atoms, and where each end has a neighbor that is like
    no other, by its element and what is bonded to it. Methyl has none: turned by a third, it looks the same.

    Raises
    ------
    AnalysisError
        If no bond can turn.
    """
    found = []
    for (j, k), shift in zip(graph.bonds.tolist(), map(tuple, graph.shifts.tolist()), strict=True):
        back = tuple(-s for s in shift)
        first, last = (_reference(atoms, graph, *end) for end in ((j, k, shift), (k, j, back)))
        if first and last and not _in_ring(graph, j, k, shift):
            found.append(((first[0], j, k, last[0]), (tuple(-s for s in first[1]), shift, last[1])))
    if not found:
        raise AnalysisError(
            f"no bond in {atoms.get_chemical_formula()} can turn: remove this analysis, or name its dihedrals"
        )
    chains = Chains(*(np.array(part) for part in zip(*found, strict=True)))
    return grouped(chains, types_of(atoms, graph).elements)


def _reference(atoms: Atoms, graph: BondGraph, here: int, there: int, shift: tuple) -> tuple | None:
    """The heaviest neighbor of one end of a bond that is like no other; None where there is none.

    Of the two equal ones of an amine's nitrogen the first serves: its lone pair is the third.
    """
    others = [(j, s) for j, s in graph.neighbors[here] if (j, s) != (there, shift)]
    kinds = [
        (int(atoms.numbers[j]), sorted(atoms.numbers[k] for k, _ in graph.neighbors[j])) for j, _ in others
    ]
    single = [which for which, kind in enumerate(kinds) if kinds.count(kind) == 1]
    if single:
        return others[max(single, key=lambda which: kinds[which])]
    return others[0] if len(others) == 2 and atoms.numbers[here] == NITROGEN else None


def _in_ring(graph: BondGraph, start: int, end: int, shift: tuple) -> bool:
    """Whether the far end of a bond can be reached on another way, of at most seven bonds."""
    goal, seen = (end, shift), {(start, (0, 0, 0))}
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

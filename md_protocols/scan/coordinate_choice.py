"""From a pattern or numbers to the atoms of a scan's coordinate, and to those that move with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from ase import Atoms

from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.md_protocols.scan.coordinate import KINDS, Coordinate
from asecalc_ml.structure.minimum_image import minimum_image
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import BondGraph, bond_graph
from asecalc_ml.structure.topology.chains import all_chains, name_of, types_of
from asecalc_ml.structure.topology.patterns import parse_terms

Shift = tuple[int, int, int]
SHOWN = 8  # matches named in a message
ATOM_ALONE = "use moves: atom"  # where no fragment can move
FLAT = 1e-3  # sine of an angle below which a dihedral over it is undefined


def choose(
    atoms: Atoms, spec: str | Sequence[int], molecule: int | None, moves: str
) -> tuple[Atoms, Coordinate]:
    """Find a coordinate in a structure.

    Parameters
    ----------
    atoms : Atoms
    spec : str or sequence of int
        A pattern with exactly one match, see :mod:`asecalc_ml.structure.topology.patterns`, or numbers of
        atoms.
    molecule : int, optional
        Number of the molecule, from 0, in which the pattern is sought.
    moves : {"fragment", "atom"}

    Returns
    -------
    atoms : Atoms
        A copy in which what moves lies beside the rest, not across a periodic boundary.
    coordinate : Coordinate

    Raises
    ------
    StructureError
        If the pattern matches nothing or several, an atom does not exist, or nothing can move alone.
    """
    graph = bond_graph(atoms)
    indices = _by_pattern(atoms, graph, spec, molecule) if isinstance(spec, str) else _by_number(atoms, spec)
    shifts = {indices[-1]: (0, 0, 0)}
    if moves == "fragment":
        root, pivot = (indices[-1], indices[-2]) if len(indices) == 2 else (indices[2], indices[1])
        shifts = fragment(atoms, graph, root, pivot)
        _check_fragment(atoms, indices, root, shifts)
    copy = _contiguous(atoms, indices, shifts)
    _check_shape(copy, indices)
    return copy, Coordinate(tuple(indices), tuple(sorted(shifts)))


# ---------------------------------------------------------------------------------------------- choosing


def _by_number(atoms: Atoms, spec: Sequence[int]) -> list[int]:
    indices = [int(i) for i in spec]
    for i in indices:
        if not 0 <= i < len(atoms):
            last = len(atoms) - 1
            raise StructureError(
                f"coordinate {list(spec)}: no atom {i}",
                name="coordinate",
                value=list(spec),
                allowed=f"0 to {last}",
                remedy=f"atoms are numbered from 0 to {last}",
            )
    if len(set(indices)) < len(indices):
        problem = f"coordinate {list(spec)}: an atom is named twice"
        raise StructureError(problem, name="coordinate", value=list(spec))
    return indices


def _by_pattern(atoms: Atoms, graph: BondGraph, pattern: str, molecule: int | None) -> list[int]:
    try:
        terms = parse_terms(pattern)
    except ConfigError as error:
        raise error.as_kind(StructureError) from error
    numbers = [term.index for term in terms if term.index is not None]
    if len(numbers) == len(terms):
        return _by_number(atoms, numbers)
    types = types_of(atoms, graph)
    allowed = [types.matches(term) for term in terms]
    matches = [
        group
        for group in _both_ways(graph, len(terms))
        if all(m[i] for m, i in zip(allowed, group, strict=True))
    ]
    if molecule is not None:
        matches = [group for group in matches if graph.molecules[group[0]] == molecule]
    return _only(atoms, graph, pattern, molecule, matches)


def _both_ways(graph: BondGraph, n_atoms: int) -> list[tuple[int, ...]]:
    """All bonds, angles or dihedrals between different atoms, each in both directions."""
    rows = all_chains(graph, n_atoms).atoms.tolist()
    groups = {tuple(row) for row in rows if len(set(row)) == n_atoms}
    return sorted(groups | {group[::-1] for group in groups})


def _only(atoms: Atoms, graph: BondGraph, pattern: str, molecule: int | None, matches: list) -> list[int]:
    """The one match; of a symmetric pattern the direction with the smaller first number."""
    distinct = {min(group, group[::-1]): group for group in sorted(matches, reverse=True)}
    where = "" if molecule is None else f" in molecule {molecule} of {graph.molecules.max() + 1} (from 0)"
    kind = KINDS[len(parse_terms(pattern))]
    if not distinct:
        raise StructureError(
            f"coordinate {pattern!r}: no {kind} of the structure matches{where}.",
            name="coordinate",
            value=pattern,
            remedy="Atoms that are not bonded are named by number, as in [0, 5]",
        )
    if len(distinct) > 1:
        listed = ", ".join(f"{list(g)} ({name_of(atoms, g)})" for g in sorted(distinct.values())[:SHOWN])
        more = ", ..." if len(distinct) > SHOWN else ""
        raise StructureError(
            f"coordinate {pattern!r}: {len(distinct)} {kind}s match{where}: {listed}{more}.",
            name="coordinate",
            value=pattern,
            allowed=sorted(distinct.values()),
            remedy=f"Name one by its numbers, coordinate: {list(min(distinct.values()))}, or by its "
            "surroundings (CH2-OH)",
        )
    return list(*distinct.values())


# ------------------------------------------------------------------------------------------ what moves


def fragment(atoms: Atoms, graph: BondGraph, root: int, pivot: int) -> dict[int, Shift]:
    """All atoms behind a bond, each with the cell it lies in, seen from the root.

    Raises
    ------
    StructureError
        If the pivot is among them, or an image of one of them.
    """
    shifts: dict[int, Shift] = {root: (0, 0, 0)}
    queue, crossed = deque([root]), False
    while queue:
        here = queue.popleft()
        for there, step in graph.neighbors[here]:
            if here == root and there == pivot and not crossed:
                crossed = True  # the bond itself; one to another image of the pivot is a way around
                continue
            a, b, c = np.add(shifts[here], step).tolist()
            shift = (a, b, c)
            if there == pivot or shifts.get(there, shift) != shift:
                raise _no_fragment(atoms, root, pivot)
            if there not in shifts:
                shifts[there] = shift
                queue.append(there)
    return shifts


def _no_fragment(atoms: Atoms, root: int, pivot: int) -> StructureError:
    bond = name_of(atoms, (pivot, root))
    return StructureError(
        f"nothing lies behind {bond} alone, since bonds lead around it (a ring, or a crystal)",
        name=bond,
        value=(pivot, root),
        remedy=ATOM_ALONE,
    )


def _check_fragment(atoms: Atoms, indices: Sequence[int], root: int, shifts: dict[int, Shift]) -> None:
    """What defines the coordinate must not move with it, but for its last atom."""
    stays = [i for i in indices[:-1] if i in shifts and i != root]
    if stays or indices[-1] not in shifts:
        raise StructureError(
            f"coordinate {list(indices)}: {name_of(atoms, indices[-1:])} is not bonded behind "
            f"{name_of(atoms, (root,))}, so that no fragment moves with it",
            name="coordinate",
            value=list(indices),
            remedy=ATOM_ALONE,
        )


def _contiguous(atoms: Atoms, indices: Sequence[int], shifts: dict[int, Shift]) -> Atoms:
    """A copy with each atom of the coordinate beside the one before, and the fragment in one piece."""
    copy = atoms.copy()
    if not atoms.pbc.any():
        return copy
    given, positions = atoms.positions, atoms.get_positions()
    for before, here in pairwise(indices):
        step = minimum_image(pair_vectors(given, (before, here)), atoms.cell.array, atoms.pbc)
        positions[here] = positions[before] + step
    anchor = indices[-1]
    for i in shifts.keys() - set(indices):
        crossed = np.subtract(shifts[i], shifts[anchor])
        positions[i] = positions[anchor] + pair_vectors(given, (anchor, i), crossed, atoms.cell.array)
    copy.set_positions(positions, apply_constraint=False)
    return copy


def _check_shape(atoms: Atoms, indices: Sequence[int]) -> None:
    """A dihedral over a straight angle is undefined."""
    if len(indices) == 4:
        for triple in (indices[:3], indices[1:]):
            if np.sin(np.radians(atoms.get_angle(*triple))) < FLAT:
                raise StructureError(
                    f"coordinate {list(indices)}: the angle {name_of(atoms, triple)} is straight, so that "
                    "the dihedral over it is undefined",
                    name="coordinate",
                    value=list(indices),
                    remedy="choose other atoms",
                )

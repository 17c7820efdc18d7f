"""Which bonds, angles and dihedrals an analysis looks at, and their values in frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.distributions.internal_coordinates import FollowedVectors
from asecalc_ml.errors import AnalysisError
from asecalc_ml.structure.minimum_image import image_shifts
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import bond_graph
from asecalc_ml.structure.topology.chains import (
    VALUES_AT_ONCE,
    Chains,
    all_chains,
    by_name,
    chain_values,
    distinct_rows,
    join,
    matching,
    n_chains,
    types_of,
)
from asecalc_ml.structure.topology.patterns import KINDS, Selection, parse_selection

if TYPE_CHECKING:
    from asecalc_ml.runs import RunReader
    from asecalc_ml.runs.frames import Frames

Splitting = Literal["element", "environment", "atoms"]
MAX_NAMED = 12
N_NEAREST = 3
MAX_CHAINS = 5_000_000  # their atoms and cell shifts take 0.5 GB
MAX_ALONE = 10_000  # distributions of a single bond, angle or dihedral each


# ---------------------------------------------------------------------------------------------- choosing


def choose(
    atoms: Atoms, n_atoms: int, patterns: list[str] | None = None, by: Splitting = "element"
) -> dict[str, Chains]:
    """Bonds, angles or dihedrals of a structure by pattern.

    Parameters
    ----------
    atoms : Atoms
    n_atoms : int
        Two for bonds, three for angles, four for dihedrals.
    patterns : list of str, optional
        See :mod:`asecalc_ml.structure.topology.patterns`. Without, everything that holds no hydrogen, or
        everything where there is nothing else.
    by : {"element", "environment", "atoms"}
        What a distribution is made of: all of one pattern together, those with the same atoms bonded around
        them, or each by itself.

    Returns
    -------
    dict of Chains, by canonical pattern

    Raises
    ------
    AnalysisError
        If there are none, or a pattern matches none; the message names the nearest that there are.
    """
    return _Chooser(atoms, n_atoms).choose(patterns, by)


class _Chooser:
    def __init__(self, atoms: Atoms, n_atoms: int):
        graph = bond_graph(atoms)
        self._atoms, self._n_atoms, self._kind = atoms, n_atoms, KINDS[n_atoms]
        self._formula = atoms.get_chemical_formula()
        self._check_number(n_chains(graph, n_atoms))
        self._chains = all_chains(graph, n_atoms)
        self._types = types_of(atoms, graph)

    def choose(self, patterns: list[str] | None, by: Splitting) -> dict[str, Chains]:
        found = self._default() if patterns is None else self._matching(patterns)
        if by == "element":
            return found
        chains = join(list(found.values()))
        if by == "environment":
            return grouped(chains, self._types.name, self._surroundings)
        if len(chains) > MAX_ALONE:
            raise AnalysisError(
                f"by: atoms gives {len(chains):,} distributions in {self._formula}, more than {MAX_ALONE:,}"
                f": name fewer {self._kind}s in `patterns`, or choose another `by`"
            )
        return grouped(chains, lambda group: str(_numbered(group)))

    @property
    def _elements(self) -> list[str]:
        return self._types.symbols.tolist()

    @property
    def _surroundings(self) -> list[str]:
        return [str(term) for term in self._types.surroundings]

    def _check_number(self, number: int) -> None:
        """Refuse what would take all memory: in a metal, neighbors count as bonded to one another."""
        if number > MAX_CHAINS:
            raise AnalysisError(
                f"{self._formula} has {number:,} {self._kind}s, at most {MAX_CHAINS:,} are analysed: every "
                "neighbor counts as bonded, which says little in a metal. Leave this analysis out (radial "
                "shows the structure of a metal), or analyse a smaller system"
            )

    def _default(self) -> dict[str, Chains]:
        self._need_some()
        groups = grouped(self._chains, self._types.elements, self._elements)
        without = {name: one for name, one in groups.items() if "H" not in name.split("-")}
        return without or groups

    def _need_some(self) -> None:
        if len(self._chains) == 0:
            raise AnalysisError(
                f"no {self._kind} in {self._formula}: remove this analysis, or start from a bonded structure"
            )

    def _matching(self, patterns: list[str]) -> dict[str, Chains]:
        selections = [parse_selection(pattern) for pattern in patterns]
        return {str(one): self._of(one, text) for one, text in zip(selections, patterns, strict=True)}

    def _of(self, selection: Selection, text: str) -> Chains:
        self._check_indices(selection)
        found = matching(self._chains, self._types, selection)
        if len(found):
            return found
        if selection.indices is not None:
            return _nearest_images(self._atoms, selection.indices)
        self._need_some()
        raise AnalysisError(self._no_match(text))

    def _check_indices(self, selection: Selection) -> None:
        given = [term.index for term in selection.terms if term.index is not None]
        if any(index >= len(self._atoms) for index in given):
            raise AnalysisError(
                f"pattern {str(selection)!r}: {self._formula} has the atoms 0 to {len(self._atoms) - 1}"
            )
        if any(a == b for a, b in pairwise(given)):
            raise AnalysisError(f"pattern {str(selection)!r} names an atom beside itself")

    def _no_match(self, text: str) -> str:
        by_element = sorted(by_name(self._chains, self._types.elements, self._elements))
        by_surroundings = sorted(by_name(self._chains, self._types.name, self._surroundings))
        known = by_surroundings if "(" in text else by_element
        nearest = sorted(known, key=partial(_likeness, parse_selection(text)), reverse=True)[:N_NEAREST]
        hint = f"; nearest are {', '.join(nearest)}" if len(known) > N_NEAREST else ""
        more = f" and {len(known) - MAX_NAMED} more" if len(known) > MAX_NAMED else ""
        there = ", ".join(known[:MAX_NAMED]) + more
        return f"no {self._kind} in {self._formula} matches {text!r}{hint}; there are {there}"


def _likeness(wanted: Selection, name: str) -> float:
    """How much a pattern is like another: by its atoms in either order, and by its elements in any order."""
    from difflib import SequenceMatcher

    found = parse_selection(name).terms
    alike = [
        sum(SequenceMatcher(None, str(a), str(b)).ratio() for a, b in zip(wanted.terms, terms, strict=True))
        for terms in (found, found[::-1])
    ]
    elements = (Counter(term.element for term in terms) for terms in (wanted.terms, found))
    return max(alike) + sum(Counter.__and__(*elements).values())


def _numbered(group) -> Selection:
    return parse_selection("-".join(map(str, group)))


def grouped(chains: Chains, name: Callable, kinds: Sequence | None = None) -> dict[str, Chains]:
    """Chains of the same name together.

    See :func:`~asecalc_ml.structure.topology.chains.by_name`. Numbers by their value.
    """
    found = by_name(chains, name, kinds)
    order = sorted(found, key=lambda one: [term.order for term in parse_selection(one).terms])
    return {one: found[one] for one in order}


def _nearest_images(atoms: Atoms, indices: list[int]) -> Chains:
    """One chain of atoms that need not be bonded, from each to the nearest image of the next."""
    indices = np.array(indices)
    raw = pair_vectors(atoms.positions, (indices[:-1], indices[1:]))
    return Chains(indices[None], image_shifts(raw, atoms.cell.array, atoms.pbc)[None])


# ------------------------------------------------------------------------------------------------ values


class ChainValues:
    """Lengths in Å, angles or dihedrals in degrees, of the chains in the frames of a run.

    Each bond is followed once, however many chains it is part of.
    """

    def __init__(self, run: RunReader, chains: Chains):
        pairs = np.stack([chains.atoms[:, :-1], chains.atoms[:, 1:]], axis=-1).reshape(-1, 2)
        shifts = chains.shifts.reshape(-1, 3)
        first, bonds = distinct_rows(np.column_stack([pairs, shifts]))
        self._bonds = bonds.reshape(len(chains), chains.atoms.shape[1] - 1)
        self._vectors = FollowedVectors(run, pairs[first], shifts[first])

    def __call__(self, frames: Frames) -> np.ndarray:
        """Values, shape (n_frames, n_chains)."""
        parts = list(self.parts(frames))
        return np.concatenate(parts) if parts else np.empty((0, len(self._bonds)))

    def parts(self, frames: Frames) -> Iterator[np.ndarray]:
        """Values of as many successive frames at a time as memory is fine with, (n_frames, n_chains) each."""
        vectors = self._vectors(frames)
        size = max(1, VALUES_AT_ONCE // max(1, len(self._bonds)))
        for start in range(0, len(vectors), size):
            yield self._values(vectors[start : start + size])

    def _values(self, vectors: np.ndarray) -> np.ndarray:
        found = np.empty((len(vectors), len(self._bonds)))
        for start in range(0, len(self._bonds), VALUES_AT_ONCE):
            rows = slice(start, start + VALUES_AT_ONCE)
            found[:, rows] = chain_values(vectors[:, self._bonds[rows]])
        return found

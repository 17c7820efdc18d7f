"""Bonds, angles and dihedrals: their choice by pattern, and their values in the frames of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from ase import Atoms
from pydantic import AfterValidator

from asecalc_ml.analysis.base import unknown_part_error
from asecalc_ml.analysis.distributions.unwrapping import UnwrappedVectors
from asecalc_ml.errors import AnalysisError, ConfigError
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
from asecalc_ml.structure.topology.patterns import EXAMPLES, KINDS, Selection, canonical, parse_selection

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs.frames import Frames

Splitting = Literal["element", "environment", "atoms"]
MAX_NAMED = 12
N_NEAREST = 3
MAX_CHAINS = 5_000_000  # their atoms and cell shifts take 0.5 GB
MAX_ALONE = 10_000  # distributions of a single bond, angle or dihedral each


# ---------------------------------------------------------------------------------------------- patterns


def _with_atoms(n_atoms: int) -> AfterValidator:
    """Check of a pattern when options are read; the canonical pattern takes its place."""

    def check(pattern: str) -> str:
        try:
            selection = parse_selection(pattern)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if len(selection.terms) != n_atoms:
            raise ValueError(
                f"pattern {pattern!r}: expected {n_atoms} atoms for {_article(KINDS[n_atoms])}, such as "
                f"{EXAMPLES[n_atoms]!r}"
            )
        return str(selection)

    return AfterValidator(check)


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "angle" else f"a {kind}"


BondPattern = Annotated[str, _with_atoms(2)]
AnglePattern = Annotated[str, _with_atoms(3)]
DihedralPattern = Annotated[str, _with_atoms(4)]


def of_pattern(records: Iterable[Any], pattern: str, analysis: str) -> Any:
    """Record of a pattern, read in either direction; AnalysisError where the analysis did not measure it."""
    by_pattern = {record.pattern: record for record in records}
    if canonical(pattern) not in by_pattern:
        raise unknown_part_error(analysis, "pattern", pattern, by_pattern)
    return by_pattern[canonical(pattern)]


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
        groups = self._default() if patterns is None else self._matching(patterns)
        if by == "element":
            return groups
        chains = join(list(groups.values()))
        if by == "environment":
            return grouped(chains, self._types.name, self._surroundings)
        if len(chains) > MAX_ALONE:
            raise AnalysisError(
                f"by: atoms gives {len(chains):,} distributions in {self._formula}, more than {MAX_ALONE:,}",
                name="by",
                value=by,
                remedy=f"name fewer {self._kind}s in `patterns`, or choose another `by`",
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
                "neighbor counts as bonded, which says little in a metal.",
                name=self._formula,
                value=number,
                allowed=f"at most {MAX_CHAINS:,}",
                remedy="Leave this analysis out (radial shows the structure of a metal), or analyse a "
                "smaller system",
            )

    def _default(self) -> dict[str, Chains]:
        self._need_some()
        groups = grouped(self._chains, self._types.elements, self._elements)
        without_hydrogen = {name: chains for name, chains in groups.items() if "H" not in name.split("-")}
        return without_hydrogen or groups

    def _need_some(self) -> None:
        if len(self._chains) == 0:
            raise AnalysisError(
                f"no {self._kind} in {self._formula}",
                name=self._formula,
                remedy="remove this analysis, or start from a bonded structure",
            )

    def _matching(self, patterns: list[str]) -> dict[str, Chains]:
        selections = [parse_selection(pattern) for pattern in patterns]
        pairs = zip(selections, patterns, strict=True)
        return {str(selection): self._selected(selection, text) for selection, text in pairs}

    def _selected(self, selection: Selection, text: str) -> Chains:
        self._check_indices(selection)
        chains = matching(self._chains, self._types, selection)
        if len(chains):
            return chains
        if selection.indices is not None:
            return _nearest_images(self._atoms, selection.indices)
        self._need_some()
        raise self._no_match_error(text)

    def _check_indices(self, selection: Selection) -> None:
        given = [term.index for term in selection.terms if term.index is not None]
        if any(index >= len(self._atoms) for index in given):
            raise AnalysisError(
                f"pattern {str(selection)!r} names an atom that is not there;",
                name=str(selection),
                value=str(selection),
                allowed=f"0 to {len(self._atoms) - 1}",
                remedy=f"{self._formula} has the atoms 0 to {len(self._atoms) - 1}",
            )
        if any(a == b for a, b in pairwise(given)):
            raise AnalysisError(
                f"pattern {str(selection)!r} names an atom beside itself",
                name=str(selection),
                value=str(selection),
            )

    def _no_match_error(self, text: str) -> AnalysisError:
        by_element = sorted(by_name(self._chains, self._types.elements, self._elements))
        by_surroundings = sorted(by_name(self._chains, self._types.name, self._surroundings))
        known = by_surroundings if "(" in text else by_element
        nearest = sorted(known, key=partial(_likeness, parse_selection(text)), reverse=True)[:N_NEAREST]
        hint = f"nearest are {', '.join(nearest)}; " if len(known) > N_NEAREST else ""
        more = f" and {len(known) - MAX_NAMED} more" if len(known) > MAX_NAMED else ""
        return AnalysisError(
            f"no {self._kind} in {self._formula} matches {text!r};",
            name=text,
            value=text,
            allowed=known,
            remedy=f"{hint}there are {', '.join(known[:MAX_NAMED])}{more}",
        )


def _likeness(wanted: Selection, name: str) -> float:
    """How much a pattern is like another: by its atoms in either order, and by its elements in any order."""
    others = parse_selection(name).terms
    alike = [
        sum(SequenceMatcher(None, str(a), str(b)).ratio() for a, b in zip(wanted.terms, terms, strict=True))
        for terms in (others, others[::-1])
    ]
    elements = (Counter(term.element for term in terms) for terms in (wanted.terms, others))
    return max(alike) + sum(Counter.__and__(*elements).values())


def _numbered(group: Iterable[int]) -> Selection:
    return parse_selection("-".join(map(str, group)))


def grouped(chains: Chains, name: Callable, kinds: Sequence | None = None) -> dict[str, Chains]:
    """Chains of the same name together.

    See :func:`~asecalc_ml.structure.topology.chains.by_name`. Numbers by their value.
    """
    groups = by_name(chains, name, kinds)
    ordered = sorted(groups, key=lambda pattern: [term.order for term in parse_selection(pattern).terms])
    return {pattern: groups[pattern] for pattern in ordered}


def _nearest_images(atoms: Atoms, indices: list[int]) -> Chains:
    """One chain of atoms that need not be bonded, from each to the nearest image of the next."""
    chain = np.array(indices)
    raw = pair_vectors(atoms.positions, (chain[:-1], chain[1:]))
    return Chains(chain[None], image_shifts(raw, atoms.cell.array, atoms.pbc)[None])


# ------------------------------------------------------------------------------------------------ values


class ChainValues:
    """Lengths in Å, angles or dihedrals in degrees, of the chains in the frames of a run.

    Each bond is unwrapped once, however many chains it is part of.
    """

    def __init__(self, run: AnyRun, chains: Chains):
        # the bonds of all chains, as rows of two atoms and three cell shifts
        pairs = np.stack([chains.atoms[:, :-1], chains.atoms[:, 1:]], axis=-1).reshape(-1, 2)
        shifts = chains.shifts.reshape(-1, 3)
        # each distinct bond once, and the numbers of the bonds of each chain
        first, bonds = distinct_rows(np.column_stack([pairs, shifts]))
        self._bonds = bonds.reshape(len(chains), chains.atoms.shape[1] - 1)
        self._vectors = UnwrappedVectors(run, pairs[first], shifts[first])

    def __call__(self, frames: Frames) -> np.ndarray:
        """Values, shape (n_frames, n_chains)."""
        parts = list(self.parts(frames))
        return np.concatenate(parts) if parts else np.empty((0, len(self._bonds)))

    def parts(self, frames: Frames) -> Iterator[np.ndarray]:
        """Values of successive frames in parts that fit into memory, shape (n_frames, n_chains) each."""
        vectors = self._vectors(frames)
        size = max(1, VALUES_AT_ONCE // max(1, len(self._bonds)))
        for start in range(0, len(vectors), size):
            yield self._values(vectors[start : start + size])

    def _values(self, vectors: np.ndarray) -> np.ndarray:
        values = np.empty((len(vectors), len(self._bonds)))
        for start in range(0, len(self._bonds), VALUES_AT_ONCE):
            rows = slice(start, start + VALUES_AT_ONCE)
            values[:, rows] = chain_values(vectors[:, self._bonds[rows]])
        return values

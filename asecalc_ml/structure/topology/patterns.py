"""A small grammar that names atoms, bonds, angles and dihedrals by element, surroundings or number.

=================== ======================================================================================
``C-O``             elements: every bond between a carbon and an oxygen; ``*`` is any element
``CH3-CH2``         elements with the number of hydrogen atoms bonded to them, as in a condensed formula
``C(CHHH)-C(CCHH)`` elements with all atoms bonded to them, in any order; ``C(CCH2)`` means the same
``C-C(O*)``         ``*`` in the parentheses: and any others, here a carbon that has an oxygen at least
``0-1``             atoms by their numbers, counted from 0 as in ASE; of a bond that is not there too
=================== ======================================================================================

Two of them joined by a hyphen name a bond, three an angle, four a dihedral. Each is read in both directions.
In 1-propanol, CH3-CH2-CH2-OH, the C-C bond beside the oxygen is ``CH2-CH2``, the other one ``CH3-CH2``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from asecalc_ml.errors import ConfigError

ANY = "*"
KINDS = {2: "bond", 3: "angle", 4: "dihedral"}
EXAMPLES = {2: "C-O", 3: "C-C-O", 4: "C-C-C-O"}

_TERM = re.compile(r"(\d+)|([A-Z][a-z]?|\*)(?:H(\d*))?(?:\(([A-Za-z0-9*]+)\))?")
_BONDED = re.compile(r"([A-Z][a-z]?)(\d*)|(\*)")


@dataclass(frozen=True)
class Term:
    """What one atom of a pattern must be; ``None`` where anything will do."""

    index: int | None = None
    element: str = ANY
    n_hydrogens: int | None = None
    bonded: tuple[str, ...] | None = None  # elements, sorted
    others: bool = False  # whether there may be more bonded than those

    def __str__(self) -> str:
        if self.index is not None:
            return str(self.index)
        hydrogens = {None: "", 1: "H"}.get(self.n_hydrogens, f"H{self.n_hydrogens}")
        around = "" if self.bonded is None else f"({''.join(self.bonded)}{ANY * self.others})"
        return f"{self.element}{hydrogens}{around}"

    @property
    def order(self) -> str:
        """What decides which of two readings is the canonical one."""
        return str(self) if self.index is None else f"{self.index:09d}"


@dataclass(frozen=True)
class Selection:
    """A pattern, in the smaller of its two readings."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return "-".join(map(str, self.terms))

    @property
    def indices(self) -> list[int] | None:
        """Numbers of its atoms, where it names nothing but numbers."""
        indices = [term.index for term in self.terms if term.index is not None]
        return indices if len(indices) == len(self.terms) else None


def parse_selection(text: str) -> Selection:
    """Read a pattern.

    Examples
    --------
    >>> str(parse_selection("O-C(OHHC)"))
    'C(CHHO)-O'
    >>> str(parse_selection("CH2-CH3"))
    'CH2-CH3'
    >>> str(parse_selection("10-9"))
    '9-10'

    Raises
    ------
    ConfigError
        If it is none.
    """
    terms = parse_terms(text)
    return Selection(min(terms, terms[::-1], key=lambda reading: [term.order for term in reading]))


def parse_terms(text: str) -> tuple[Term, ...]:
    """The terms of a pattern in the order in which they are written; ConfigError if it is none."""
    terms = tuple(_term(part.strip(), text) for part in re.split("[-–]", str(text)))
    if len(terms) not in KINDS:
        raise ConfigError(
            f"pattern {text!r}: expected two atoms for a bond ('C-O'), three for an angle ('C-C-O') or four "
            "for a dihedral ('C-C-C-O')",
            name=str(text),
            value=len(terms),
            allowed=tuple(KINDS),
        )
    return terms


def canonical(text: str) -> str:
    """A pattern in the one form that all ways to write it have in common."""
    return str(parse_selection(text))


def _term(part: str, whole: str) -> Term:
    match = _TERM.fullmatch(part)
    if match is None:
        raise ConfigError(
            f"pattern {whole!r}: {part!r} is not an atom; a pattern is atoms joined by hyphens",
            name=whole,
            value=part,
            remedy="name an element (C, * for any), with its hydrogen atoms (CH3) or all atoms bonded to it "
            "(C(CHHO)), or a number from 0",
        )
    index, element, hydrogens, around = match.groups()
    if index is not None:
        return Term(index=int(index))
    n_hydrogens = None if hydrogens is None else int(hydrogens or 1)
    bonded = None if around is None else _bonded(around, whole)
    _check_element(element, whole)
    return Term(None, element, n_hydrogens, bonded, around is not None and ANY in around)


def _bonded(around: str, whole: str) -> tuple[str, ...]:
    pieces = list(_BONDED.finditer(around))
    if "".join(piece[0] for piece in pieces) != around:
        raise ConfigError(
            f"pattern {whole!r}: expected elements in parentheses, got {around!r}", name=whole, value=around
        )
    elements = [(piece[1], int(piece[2] or 1)) for piece in pieces if not piece[3]]
    for element, _ in elements:
        _check_element(element, whole)
    return tuple(sorted(element for element, count in elements for _ in range(count)))


def _check_element(element: str, whole: str) -> None:
    if element != ANY and element not in chemical_symbols[1:]:
        raise ConfigError(
            f"pattern {whole!r}: {element!r} is not a chemical element", name=whole, value=element
        )


class AtomTypes:
    """What a pattern can ask of the atoms of a structure.

    Parameters
    ----------
    atoms : Atoms
    neighbors : sequence of sequences of int
        The atoms bonded to each; an atom bonded through two images counts twice.
    """

    def __init__(self, atoms: Atoms, neighbors: Iterable[Iterable[int]]):
        self.symbols = np.array(atoms.get_chemical_symbols(), dtype=object)
        self._around = [tuple(sorted(self.symbols[j] for j in bonded)) for bonded in neighbors]

    @cached_property
    def surroundings(self) -> list[Term]:
        """Each atom with its element and everything bonded to it."""
        pairs = zip(self.symbols, self._around, strict=True)
        return [Term(element=element, bonded=around or None) for element, around in pairs]

    def name(self, group: Iterable[int]) -> str:
        """Pattern of a bond, angle or dihedral by element and everything bonded, such as C(CHHO)-O(CH)."""
        terms = tuple(self.surroundings[i] for i in group)
        return str(Selection(min(terms, terms[::-1], key=lambda reading: [term.order for term in reading])))

    def elements(self, group: Iterable[int]) -> str:
        """Pattern of a bond, angle or dihedral by element."""
        symbols = [self.symbols[i] for i in group]
        return "-".join(min(symbols, symbols[::-1]))

    def matches(self, term: Term) -> np.ndarray:
        """Which atoms a term of a pattern means, boolean of shape (n_atoms,)."""
        return np.array([self._is(term, i) for i in range(len(self.symbols))], dtype=bool)

    def mask(self, selection: Selection, groups: np.ndarray) -> np.ndarray:
        """Which bonds, angles or dihedrals a pattern means, read in either direction.

        Parameters
        ----------
        selection : Selection
        groups : array of int, shape (n_groups, n) with as many atoms as the pattern has

        Returns
        -------
        array of bool, shape (n_groups,)
        """
        by_term = np.array([self.matches(term) for term in selection.terms])
        columns = np.arange(len(selection.terms))
        forward = by_term[columns, groups].all(axis=1)
        return forward | by_term[columns[::-1], groups].all(axis=1)

    def _is(self, term: Term, i: int) -> bool:
        if term.index is not None:
            return term.index == i
        around = self._around[i]
        return (
            term.element in (ANY, self.symbols[i])
            and term.n_hydrogens in (None, around.count("H"))
            and (term.bonded is None or _fits(term.bonded, term.others, around))
        )


def _fits(bonded: tuple[str, ...], others: bool, around: tuple[str, ...]) -> bool:
    """Whether what is bonded to an atom is what a term asks for."""
    if not others:
        return bonded == around
    return all(around.count(element) >= bonded.count(element) for element in bonded)

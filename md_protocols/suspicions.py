"""Signs that a model has left what it was trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import ConfigError
from asecalc_ml.pair_classes import classed_pairs
from asecalc_ml.topology import bond_graph

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.histogram import Histogram
    from asecalc_ml.md_protocols.stopping import Suspicion


class Sign(ABC):
    """One reason not to trust a frame."""

    @abstractmethod
    def __call__(self, atoms: Atoms) -> str | None:
        """What is suspicious about the present positions; None where nothing is."""


class OutsideDomain(Sign):
    """A distance that no training frame had, nor nearly had, between such atoms.

    Parameters
    ----------
    start : Atoms
        Its bonds tell which pairs are bonded, 1-3, 1-4 or further apart.
    distances : mapping of str to Histogram
        Of the training data, by elements and topological class.
    margin : float, Å
    cutoff : float, Å
        Of the histograms.
    """

    def __init__(self, start: Atoms, distances: Mapping[str, Histogram], margin: float, cutoff: float):
        self._graph, self._cutoff = bond_graph(start), cutoff
        self._known = {name: _Widened(histogram, margin) for name, histogram in distances.items()}

    def __call__(self, atoms: Atoms) -> str | None:
        pairs = classed_pairs(atoms, self._graph, self._cutoff)
        for name in np.unique(pairs.names):
            chosen = pairs.names == name
            outside = ~self._covers(str(name), pairs.lengths[chosen])
            if outside.any():
                worst = int(np.argmax(outside))
                return _sentence(atoms, pairs.atoms[chosen][worst], pairs.lengths[chosen][worst], str(name))
        return None

    def _covers(self, name: str, lengths: np.ndarray) -> np.ndarray:
        known = self._known.get(name)
        return known.covers(lengths) if known is not None else np.zeros(len(lengths), dtype=bool)


class _Widened:
    """Intervals of a histogram's occupied bins, each a margin longer at both ends."""

    def __init__(self, histogram: Histogram, margin: float):
        edges, occupied = histogram.edges, np.array(histogram.counts) > 0
        self._low, self._high = edges[:-1][occupied] - margin, edges[1:][occupied] + margin

    def covers(self, lengths: np.ndarray) -> np.ndarray:
        """Boolean, of the shape of the lengths: the nearest intervals on either side decide."""
        begun = np.searchsorted(self._low, lengths, side="right")  # intervals that begin below
        return (begun > 0) & (lengths <= self._high[np.maximum(begun, 1) - 1])


def _sentence(atoms: Atoms, pair: np.ndarray, length: float, name: str) -> str:
    first, second = (f"{atoms.symbols[atom]}{atom}" for atom in pair)
    elements, _, kind = name.partition(" ")
    return (
        f"{first}-{second} ({kind}) is {length:.2f} Å, where no {elements} pair of its kind was in training"
    )


class CommitteeDisagrees(Sign):
    """A force on which the members of a committee differ."""

    def __init__(self, limit_eV_A: float):
        self._limit = limit_eV_A

    def __call__(self, atoms: Atoms) -> str | None:
        deviation = atoms.calc.results["forces_deviation"]
        worst = int(np.argmax(deviation))
        if deviation[worst] <= self._limit:
            return None
        return (
            f"the committee's forces on {atoms.symbols[worst]}{worst} deviate by {deviation[worst]:.3f} eV/Å "
            f"(limit {self._limit:g})"
        )


def make_signs(options: Suspicion, start: Atoms, calculator) -> Sequence[Sign]:
    """The signs that options ask for.

    Raises
    ------
    ConfigError
        If the calculator has no training domain, or is no committee.
    """
    signs: list[Sign] = []
    if options.outside_training_domain:
        card = getattr(calculator, "card", None)
        if card is None or card.domain is None:
            raise ConfigError(
                "outside_training_domain needs a model whose card says what it was trained on: remove it, "
                "or use a model trained with asecalc-ml"
            )
        signs.append(OutsideDomain(start, card.domain.distances, options.domain_margin_A, card.cutoff_A))
    if options.committee_deviation_eV_A is not None:
        if "forces_std" not in getattr(calculator, "implemented_properties", ()):
            raise ConfigError(
                "committee_deviation_eV_A needs a committee of models: `calculator: {committee: {members: "
                "[NAME, NAME]}}`"
            )
        signs.append(CommitteeDisagrees(options.committee_deviation_eV_A))
    return signs


def first_sign(signs: Sequence[Sign], atoms: Atoms) -> str | None:
    """What the first suspicious one says; None where all are quiet."""
    return next((found for sign in signs if (found := sign(atoms)) is not None), None)

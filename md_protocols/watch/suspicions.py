"""Signs that a model has left what it was trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.calculators.protocol import model_cards, offered, std_names
from asecalc_ml.errors import ConfigError
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.bonds import bond_graph
from asecalc_ml.structure.topology.pair_classes import ClassedPairs, classed_pairs, pair_names
from asecalc_ml.targets.target import ENERGY, STD

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import BaseCalculator

    from asecalc_ml.md_protocols.watch.stopping import Suspicion
    from asecalc_ml.statistics.histogram import Histogram


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
        self._close, self._shifts = self._graph.close_pairs
        self._names = pair_names(start, self._close, self._graph.class_numbers(self._close, self._shifts))

    def __call__(self, atoms: Atoms) -> str | None:
        # An atom that has left sees nothing within the cutoff any more: its bonds are looked at beyond.
        return self._first_outside(
            atoms, classed_pairs(atoms, self._graph, self._cutoff), self._covers
        ) or self._first_outside(atoms, self._close_pairs(atoms), self._may_cover_beyond)

    def _close_pairs(self, atoms: Atoms) -> ClassedPairs:
        """What was within three bonds at the start, however far apart it is."""
        vectors = pair_vectors(atoms.positions, self._close.T, self._shifts, atoms.cell.array)
        return ClassedPairs(self._close, np.linalg.norm(vectors, axis=1), self._names)

    def _first_outside(
        self, atoms: Atoms, pairs: ClassedPairs, covers: Callable[[str, np.ndarray], np.ndarray]
    ) -> str | None:
        for name, rows in pairs.names.rows():
            outside = ~covers(name, pairs.lengths[rows])
            if outside.any():
                worst = rows[np.argmax(outside)]
                return _sentence(atoms, pairs.atoms[worst], pairs.lengths[worst], name)
        return None

    def _covers(self, name: str, lengths: np.ndarray) -> np.ndarray:
        known = self._known.get(name)
        return known.covers(lengths) if known is not None else np.zeros(len(lengths), dtype=bool)

    def _may_cover_beyond(self, name: str, lengths: np.ndarray) -> np.ndarray:
        """Distances beyond the cutoff, which a histogram cannot tell where it ends at the cutoff itself."""
        known = self._known.get(name)
        reaches = known is not None and known.highest >= self._cutoff
        return (lengths < self._cutoff) | reaches


class _Widened:
    """Ranges that a histogram covers, each a margin longer at both ends."""

    def __init__(self, histogram: Histogram, margin: float):
        low, high = np.array(histogram.ranges()).T
        self._low, self._high = low - margin, high + margin

    @property
    def highest(self) -> float:
        """End of the last interval."""
        return float(self._high[-1])

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


def force_deviations(atoms: Atoms) -> np.ndarray:
    """Deviation of the force on each atom among the members of a committee, shape (n_atoms,), eV/Å."""
    atoms.get_forces(apply_constraint=False)  # a run that has just been resumed has computed nothing yet
    return atoms.calc.results["forces_deviation"]


class CommitteeDisagrees(Sign):
    """A force on which the members of a committee differ."""

    def __init__(self, limit_eV_A: float):
        self._limit = limit_eV_A

    def __call__(self, atoms: Atoms) -> str | None:
        deviation = force_deviations(atoms)
        worst = int(np.argmax(deviation))
        if deviation[worst] <= self._limit:
            return None
        return (
            f"the committee's forces on {atoms.symbols[worst]}{worst} deviate by {deviation[worst]:.3f} eV/Å "
            f"(limit {self._limit:g})"
        )


def energy_std(atoms: Atoms) -> float:
    """Standard deviation of the energy that the calculator states, eV."""
    return float(atoms.calc.get_property(ENERGY + STD, atoms))


class EnergyUncertain(Sign):
    """An energy whose standard deviation is large."""

    def __init__(self, limit_eV: float):
        self._limit = limit_eV

    def __call__(self, atoms: Atoms) -> str | None:
        deviation = energy_std(atoms)
        if deviation <= self._limit:
            return None
        return f"the standard deviation of the energy is {deviation:.4g} eV (limit {self._limit:g})"


def make_signs(options: Suspicion, start: Atoms, calculator: BaseCalculator) -> Sequence[Sign]:
    """The signs that options ask for.

    Raises
    ------
    ConfigError
        If the calculator, or a member of it, has no training domain, it is no committee, or it has no
        uncertainty.
    """
    signs: list[Sign] = []
    if options.outside_training_domain:
        signs += [
            OutsideDomain(start, distances, options.domain_margin_A, cutoff)
            for distances, cutoff in _domains(calculator)
        ]
    if options.committee_deviation_eV_A is not None:
        if not offered(calculator).members:
            raise ConfigError(
                "committee_deviation_eV_A needs a committee of models",
                name="committee_deviation_eV_A",
                value=options.committee_deviation_eV_A,
                remedy="`calculator: {committee: {members: [NAME, NAME]}}`",
            )
        signs.append(CommitteeDisagrees(options.committee_deviation_eV_A))
    if options.energy_std_eV is not None:
        _check_energy_std(options.energy_std_eV, start, calculator)
        signs.append(EnergyUncertain(options.energy_std_eV))
    return signs


def _check_energy_std(limit: float, start: Atoms, calculator: BaseCalculator) -> None:
    """Refuse a calculator without an uncertainty of the energy of this composition."""
    cards = model_cards(calculator)
    name = cards[0].name if len(cards) == 1 else "NAME"
    if not std_names(calculator, [ENERGY]):
        raise ConfigError(
            "energy_std_eV needs a model with an uncertainty, or a committee of models",
            name="energy_std_eV",
            value=limit,
            remedy=f"`asecalc-ml calibrate {name}`, or `calculator: {{committee: {{members: [NAME, ...]}}}}`",
        )
    for card in cards:
        if not card.knows_energies_of(start.numbers):
            raise ConfigError(
                f"energy_std_eV needs energies of {start.get_chemical_formula()}, which have no zero, since "
                f"the data of {card.name!r} cannot tell its elements apart",
                name="energy_std_eV",
                value=limit,
                remedy="remove it, or use a model trained on data of more compositions",
            )


def _domains(calculator: BaseCalculator) -> list[tuple[dict[str, Histogram], float]]:
    """Training distances of a model, or of each member of a committee, with the cutoff; equal ones once."""
    cards = model_cards(calculator)
    domains = [(card.domain.distances, card.cutoff_A) for card in cards if card.domain is not None]
    if not cards or len(domains) < len(cards):
        raise ConfigError(
            "outside_training_domain needs a model whose card says what it was trained on, or a committee of "
            "such models",
            name="outside_training_domain",
            value=True,
            remedy="remove it, or use models trained with asecalc-ml",
        )
    return [domain for k, domain in enumerate(domains) if domain not in domains[:k]]


def first_sign(signs: Sequence[Sign], atoms: Atoms) -> str | None:
    """What the first suspicious one says; None where all are quiet."""
    return next((reason for sign in signs if (reason := sign(atoms)) is not None), None)

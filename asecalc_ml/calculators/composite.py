"""Several ASE calculators as one: what committees and corrections have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, PropertyNotImplementedError, all_changes
from ase.outputs import Properties, all_outputs

from asecalc_ml.structure.charge_and_spin import is_same_state

if TYPE_CHECKING:
    from asecalc_ml.store.card import ModelCard

#: Results that are combined, where all parts have them.
PROPERTIES = ("energy", "free_energy", "energies", "forces", "stress")

Results = dict[str, Any]  # by ASE's names of properties


class Composite(Calculator):
    """Base of calculators that are made of others.

    A subclass says in :meth:`combine` how the results of the parts become its own. One call runs every part
    once, whatever is asked for afterwards.

    Parameters
    ----------
    parts : sequence of ase Calculator
    """

    name: ClassVar[str]

    def __init__(self, parts: Sequence[BaseCalculator]):
        super().__init__()
        self.parts = tuple(parts)
        common = set.intersection(*(set(part.implemented_properties) for part in self.parts))
        self.implemented_properties = [name for name in PROPERTIES if name in common]
        self.ignored_changes = set.intersection(*(set(_ignored(part)) for part in self.parts))

    @abstractmethod
    def combine(self, results: Sequence[Results], atoms: Atoms) -> Results:
        """Results of the whole from those of the parts, for one structure."""

    @property
    def continuous(self) -> bool:
        """Whether the energies of all parts are continuous where an atom crosses a cutoff."""
        return all(getattr(part, "continuous", True) is not False for part in self.parts)

    def get_property(self, name, atoms=None, allow_calculation=True):
        """As ASE's, with a message that says what there is."""
        if name not in self.implemented_properties:
            raise PropertyNotImplementedError(
                f"no {name}: all parts of this calculator give {', '.join(self.implemented_properties)}; ask "
                "for one of these, or use another calculator"
            )
        return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return the properties that changed since the last call, charge and spin in ``info`` included."""
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and not is_same_state(atoms, self.atoms):
            changes.append("info")
        return changes

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        found = [results_of_part(part, self.atoms, (*properties, "forces", "energy")) for part in self.parts]
        self.results = self.combine(found, self.atoms)

    def calculate_many(self, structures: Sequence[Atoms]) -> list[Results]:
        """Results of each structure; parts that can take all of them in one batch."""
        structures = list(structures)
        by_part = [_results_of_many(part, structures) for part in self.parts]
        by_structure = zip(*by_part, strict=True)
        return [self.combine(found, atoms) for found, atoms in zip(by_structure, structures, strict=True)]

    def expect(self, atoms: Atoms, n_calls: int) -> None:
        """Announce to the parts how often structures like this will be computed."""
        for part in self.parts:
            if hasattr(part, "expect"):
                part.expect(atoms, n_calls)

    def hessians(self, atoms: Atoms) -> list[np.ndarray]:
        """Second derivatives of the energy of each part, shape (3 n_atoms, 3 n_atoms), eV/Å².

        Raises
        ------
        PropertyNotImplementedError
            If a part has none.
        """
        for part in self.parts:
            if not hasattr(part, "get_hessian"):
                raise PropertyNotImplementedError(
                    f"{type(part).__name__} gives no Hessian: use finite differences, as ase.vibrations does"
                )
        return [part.get_hessian(atoms) for part in self.parts]

    def export_properties(self) -> Properties:
        """The results that ASE has names for."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})

    def checkpoint_state(self) -> dict:
        """What a resumed run needs to go on bit for bit, ready for JSON."""
        return {"parts": [_checkpoint_state(part) for part in self.parts]}

    def restore_state(self, state: dict) -> None:
        """Go on as the calculator did whose :meth:`checkpoint_state` this is."""
        for part, one in zip(self.parts, state["parts"], strict=True):
            if one is not None:
                part.restore_state(one)


def model_cards(calculator: BaseCalculator) -> list[ModelCard]:
    """Card of a model, or cards of the members of a committee; none of other calculators."""
    own = getattr(calculator, "card", None)
    cards = [own] if own is not None else [one.card for one in getattr(calculator, "members", ())]
    return [card for card in cards if card is not None]


def calculator_spec(calculator: BaseCalculator) -> str | dict[str, dict]:
    """What :func:`asecalc_ml.calculators.factory.make_calculator` makes the same calculator from.

    A registered model is named with its hash.
    """
    if isinstance(calculator, Composite):
        return calculator.spec()
    kind, arguments = type(calculator), dict(calculator.todict())
    name = (
        arguments.pop("model")
        if hasattr(calculator, "model_hash")
        else f"{kind.__module__}:{kind.__qualname__}"
    )
    return {name: arguments} if arguments else name


def results_of_part(part: BaseCalculator, atoms: Atoms, properties: Sequence[str]) -> Results:
    """All that a calculator finds when it is asked for some properties."""
    for name in properties:  # the first computes, the others are there already
        part.get_property(name, atoms)
    return dict(part.results)


def _results_of_many(part: BaseCalculator, structures: list[Atoms]) -> list[Results]:
    if hasattr(part, "calculate_many"):
        return part.calculate_many(structures)
    return [results_of_part(part, atoms, ("forces", "energy")) for atoms in structures]


def _checkpoint_state(part: BaseCalculator) -> dict | None:
    return part.checkpoint_state() if hasattr(part, "checkpoint_state") else None


def _ignored(part: BaseCalculator) -> set[str]:
    return getattr(part, "ignored_changes", set())

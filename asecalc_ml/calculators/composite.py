"""Several ASE calculators as one: what committees and corrections have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, PropertyNotImplementedError, all_changes

from asecalc_ml.calculators.factory import calculator_spec
from asecalc_ml.calculators.protocol import Spec, model_cards, offered, results_of_part
from asecalc_ml.calculators.results import PROPERTIES, Results, named_by_ase, need_structure
from asecalc_ml.structure.charge_and_spin import is_same_state
from asecalc_ml.targets.target import STD

if TYPE_CHECKING:
    from ase.outputs import Properties

    from asecalc_ml.model.pair_forces import PairForces

__all__ = ["PROPERTIES", "Composite", "Results", "calculator_spec", "model_cards", "results_of_part"]


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
        common = set.intersection(*(set(offered(part).implemented_properties) for part in self.parts))
        predicted = [quantity.name for card in model_cards(self.parts[0]) for quantity in card.quantities]
        self.implemented_properties = [
            name for name in dict.fromkeys((*PROPERTIES, *predicted)) if name in common
        ]
        self.ignored_changes = set.intersection(*(set(offered(part).ignored_changes) for part in self.parts))

    @abstractmethod
    def spec(self) -> Spec | None:
        """Name and arguments from which the factory makes the same calculator; None if not known."""

    @abstractmethod
    def combine(self, results: Sequence[Results], atoms: Atoms) -> Results:
        """Results of the whole from those of the parts, for one structure."""

    @property
    def continuous(self) -> bool:
        """Whether the energies of all parts are continuous where an atom crosses a cutoff."""
        return all(offered(part).continuous for part in self.parts)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """As ASE's, with a message that says what there is."""
        self._need([name])
        return super().get_property(name, atoms, allow_calculation)

    def _need(self, properties: Iterable[str]) -> None:
        """Refuse properties that a part lacks."""
        for name in properties:
            if name not in self.implemented_properties:
                lacking = [part for part in self.parts if name not in offered(part).implemented_properties]
                names = ", ".join(dict.fromkeys(type(part).__name__ for part in lacking))
                raise PropertyNotImplementedError(
                    f"no {name}, which {names or type(self).__name__} does not give: all parts of this "
                    f"calculator give {', '.join(self.implemented_properties)}; ask for one of these, or use "
                    "another calculator"
                )

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return the properties that changed since the last call, charge and spin in ``info`` included."""
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and not is_same_state(atoms, self.atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        need_structure(self.atoms)
        has_energies = "energy" in self.implemented_properties
        computed = ("forces", "energy") if has_energies else self.implemented_properties
        self.results = self.combine(self.results_of_parts((*properties, *computed)), self.atoms)

    def results_of_parts(self, properties: Sequence[str]) -> list[Results]:
        """Results of each part for the present structure, with these properties among them."""
        return [results_of_part(part, self.atoms, self._asked_of(part, properties)) for part in self.parts]

    def _asked_of(self, part: BaseCalculator, properties: Iterable[str]) -> list[str]:
        """Those of the properties that a part is asked for: analytic terms have no standard deviations."""
        implemented = offered(part).implemented_properties
        return [name for name in properties if not name.endswith(STD) or name in implemented]

    def calculate_many(self, structures: Iterable[Atoms], properties: Collection[str] = ()) -> list[Results]:
        """Results of each structure; parts that can take all of them in one batch."""
        self._need(properties)
        structures, by_part = list(structures), []
        for part in self.parts:
            asked = self._asked_of(part, properties)
            by_part.append(offered(part).calculate_many(structures, *([asked] if asked else [])))
        by_structure = zip(*by_part, strict=True)
        return [
            self.combine_of_many(results, atoms)
            for results, atoms in zip(by_structure, structures, strict=True)
        ]

    def combine_of_many(self, results: Sequence[Results], atoms: Atoms) -> Results:
        """Results of one of many structures: those of :meth:`combine` unless a subclass has more to say."""
        return self.combine(results, atoms)

    def expect(self, atoms: Atoms, n_calls: int) -> None:
        """Announce to the parts how often structures like this will be computed."""
        for part in self.parts:
            offered(part).expect(atoms, n_calls)

    def hessians(self, atoms: Atoms) -> list[np.ndarray]:
        """Second derivatives of the energy of each part, shape (3 n_atoms, 3 n_atoms), eV/Å².

        Raises
        ------
        PropertyNotImplementedError
            If a part has none.
        """
        return [offered(part).get_hessian(atoms) for part in self.parts]

    def pair_forces_of_parts(self, atoms: Atoms) -> list[PairForces]:
        """Forces between pairs of atoms of each part.

        Raises
        ------
        PropertyNotImplementedError
            If a part has none.
        """
        return [offered(part).pair_forces(atoms) for part in self.parts]

    def export_properties(self) -> Properties:
        """The results that ASE has names for."""
        return named_by_ase(self.results)

    def checkpoint_state(self) -> dict:
        """What a resumed run needs to go on bit for bit, ready for JSON."""
        return {"parts": [offered(part).checkpoint_state() for part in self.parts]}

    def restore_state(self, state: dict) -> None:
        """Go on as the calculator did whose :meth:`checkpoint_state` this is."""
        for part, of_part in zip(self.parts, state["parts"], strict=True):
            if of_part is not None:
                offered(part).restore_state(of_part)

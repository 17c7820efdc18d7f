"""What a calculator may offer beyond ASE's energy and forces, and what holds where it does not.

Runs, reports and files ask every calculator through :func:`offered` and :func:`offers`, whichever package it
comes from. The table is in ``docs/calculators.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError

from asecalc_ml.calculators.results import Results
from asecalc_ml.contracts import plugin_code
from asecalc_ml.errors import ModelError
from asecalc_ml.store.card import ModelCard
from asecalc_ml.targets.target import STD

if TYPE_CHECKING:
    from asecalc_ml.model.pair_forces import PairForces

#: A name, or a mapping of a name to its arguments: :func:`asecalc_ml.calculators.factory.make_calculator`.
Spec = str | dict[str, dict[str, Any]]


@runtime_checkable
class ExtendedCalculator(Protocol):
    """The optional members of a calculator, each with its default.

    A calculator offers a property by an attribute, and a method by a method, of this name. None counts as
    absent, and so does anything of another type: it is something else of the same name. No calculator
    inherits from this class or has to have all members. The bodies are the defaults, which :func:`offered`
    takes where a calculator has no such member.
    """

    # ------------------------------------------------------------------------------------- ASE's own members

    @property
    def name(self) -> str:
        """Name in files and reports. Default: the name of the class."""
        return type(self).__name__

    @property
    def implemented_properties(self) -> Collection[str]:
        """ASE's names of the properties that can be asked for. Default: none."""
        return ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters by name, stored in ``provenance.json`` and compared on resuming. Default: none."""
        return {}

    @property
    def default_parameters(self) -> Mapping[str, Any]:
        """Values of parameters that are not given, by name. Default: none.

        With an entry ``dtype`` the conformance suite makes the calculator in float32 and float64.
        """
        return {}

    @property
    def ignored_changes(self) -> Collection[str]:
        """ASE's names of changes of a structure that need no new calculation. Default: none."""
        return frozenset()

    @property
    def results(self) -> Mapping[str, Any]:
        """Results of the last calculation by ASE's names, in ASE's units. Default: none."""
        return {}

    def reset(self) -> None:
        """Forget the last calculation. Default: nothing happens."""

    # ------------------------------------------------------------------------------------- what it is made of

    @property
    def card(self) -> ModelCard | None:
        """Card of a registered model. Default: None."""
        return None

    @property
    def model_hash(self) -> str | None:
        """SHA-256 of the model's file, in hexadecimal digits. Default: None."""
        return None

    @property
    def parts(self) -> Sequence[BaseCalculator]:
        """Calculators that this one calls, whose packages and sources count as well. Default: none."""
        return ()

    @property
    def members(self) -> Sequence[BaseCalculator]:
        """Members of a committee. Default: none.

        The results of a calculator with members hold ``forces_deviation``, shape (n_atoms,), eV/Å, see
        :class:`asecalc_ml.calculators.committee.Committee`, and each member's results its own values.
        """
        return ()

    @property
    def corrections(self) -> Sequence[Mapping[str, Mapping[str, Any]]]:
        """Analytic terms that were added, each with its options. Default: none beyond those of the card."""
        return ()

    @property
    def packages(self) -> Collection[str]:
        """Packages, beside those of its classes, whose versions may change results. Default: none."""
        return ()

    @property
    def of_the_structure(self) -> Collection[str]:
        """Names of parameters that the structure computed last has set. Default: none."""
        return ()

    @property
    def continuous(self) -> bool:
        """True if the energy is continuous at the cutoff, which dynamics needs. Default: True."""
        return True

    def spec(self) -> Spec | None:
        """Name and arguments that make the same calculator again, ready for JSON. Default: None, unknown."""
        return None

    # ---------------------------------------------------------------------------------------- what it can do

    def calculate_many(self, structures: Iterable[Atoms], properties: Collection[str] = ()) -> list[Results]:
        """Results of each structure, as ``results`` holds them. Default: one calculation after the other.

        ``properties`` are asked for beside energy and forces, and passed on only if there are any.
        Of a calculator with ``members`` each also holds ``members``, a list of the members' own results.
        Without it, structures whose members' results are needed are computed one after the other.
        """
        calculator = cast(BaseCalculator, self)
        wanted = (*properties, "forces", "energy")
        return [copied_results(calculator, atoms, wanted) for atoms in structures]

    def get_hessian(self, atoms: Atoms) -> np.ndarray:
        """Second derivatives of the energy, shape (3 n_atoms, 3 n_atoms), eV/Å².

        Raises
        ------
        PropertyNotImplementedError
            The default: finite differences are used instead.
        """
        raise PropertyNotImplementedError(
            f"{type(self).__name__} gives no Hessian: use finite differences, as ase.vibrations does"
        )

    def pair_forces(self, atoms: Atoms) -> PairForces:
        """Forces between pairs of atoms, see :class:`asecalc_ml.model.pair_forces.PairForces`.

        Raises
        ------
        PropertyNotImplementedError
            The default.
        """
        raise PropertyNotImplementedError(
            f"{type(self).__name__} gives no pair forces: ask for the forces of atoms, or leave it out"
        )

    def expect(self, atoms: Atoms, n_calls: int) -> None:
        """Prepare for a run of ``n_calls`` structures of this one's size. Default: nothing happens.

        A calculator that compiles does so here rather than during the run.
        """

    def checkpoint_state(self) -> dict[str, Any] | None:
        """State from which the next calculation gives the same bits, ready for JSON. Default: None, none."""
        return None

    def restore_state(self, state: dict[str, Any]) -> None:
        """Continue from the state that :meth:`checkpoint_state` returned. Default: nothing happens."""


#: The optional members: names and the definitions above.
MEMBERS = {name: member for name, member in vars(ExtendedCalculator).items() if not name.startswith("_")}


class _WithDefaults:
    """View of a calculator in which every optional member has a value."""

    __slots__ = ("_calculator",)

    def __init__(self, calculator: object):
        self._calculator = calculator


def _is_collection(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes)


def _holds_calculators(value: Any) -> bool:
    return isinstance(value, Sequence) and all(hasattr(entry, "get_property") for entry in value)


def _holds_mappings(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(entry, Mapping) for entry in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_truth_value(value: Any) -> bool:
    return isinstance(value, int | np.bool_)


def _is_card(value: Any) -> bool:
    return isinstance(value, ModelCard)


#: Tests of the types that :class:`ExtendedCalculator` states for attributes; all other members are methods.
_IS_OF_ITS_TYPE: dict[str, Callable[[Any], bool]] = {
    "name": _is_text,
    "implemented_properties": _is_collection,
    "parameters": _is_mapping,
    "default_parameters": _is_mapping,
    "ignored_changes": _is_collection,
    "results": _is_mapping,
    "card": _is_card,
    "model_hash": _is_text,
    "parts": _holds_calculators,
    "members": _holds_calculators,
    "corrections": _holds_mappings,
    "packages": _is_collection,
    "of_the_structure": _is_collection,
    "continuous": _is_truth_value,
}


def _own(calculator: object, member: str) -> Any:
    """A calculator's own member; None where it has none, or something else of the same name."""
    try:
        own = getattr(calculator, member, None)
    except Exception:
        with plugin_code(f"{type(calculator).__name__}.{member}"):
            raise
    return own if _IS_OF_ITS_TYPE.get(member, callable)(own) else None


def _own_or_default(name: str, default: Any) -> property:
    def value(view: _WithDefaults) -> Any:
        own = _own(view._calculator, name)
        return default.__get__(view._calculator) if own is None else own

    return property(value, doc=default.__doc__)


for _name, _default in MEMBERS.items():
    setattr(_WithDefaults, _name, _own_or_default(_name, _default))


def offered(calculator: object) -> ExtendedCalculator:
    """View of any calculator, also of one of another package, in which every optional member has a value.

    Parameters
    ----------
    calculator : calculator or None
        Also a calculator's class, for members that the class holds.

    Examples
    --------
    >>> from ase.calculators.emt import EMT
    >>> offered(EMT()).members
    ()
    """
    return cast(ExtendedCalculator, _WithDefaults(object() if calculator is None else calculator))


def results_of_part(part: BaseCalculator, atoms: Atoms, properties: Sequence[str]) -> Results:
    """Return all results of a calculator after some properties were asked for.

    Parameters
    ----------
    part : calculator
    atoms : Atoms
    properties : sequence of str
        ASE's names; the first call computes, the others read what is there.
    """
    asked = {name: part.get_property(name, atoms) for name in properties}
    return {**asked, **offered(part).results}


def copied_results(calculator: BaseCalculator, atoms: Atoms, properties: Sequence[str]) -> Results:
    """Return all results of a calculator for a structure, which the next calculation leaves unchanged.

    Many calculators, ASE's EMT among them, write the forces of every structure into the same array.

    Parameters
    ----------
    calculator : calculator
    atoms : Atoms
    properties : sequence of str
        As for :func:`results_of_part`.

    Returns
    -------
    dict
        With ``members``, a list of the results of each member, where the calculator has members.
    """
    results = _copied(results_of_part(calculator, atoms, properties))
    members = offered(calculator).members
    if members:
        results["members"] = [_copied(offered(member).results) for member in members]
    return results


def _copied(results: Mapping[str, Any]) -> Results:
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in results.items()}


def offers(calculator: object, member: str) -> bool:
    """Return True if a calculator has an optional member of its own, and not the default.

    A calculator that is made of parts has second derivatives only where all of its parts have.
    """
    if _own(calculator, member) is None:
        return False
    return member != "get_hessian" or all(offers(part, member) for part in offered(calculator).parts)


def model_cards(calculator: object) -> list[ModelCard]:
    """Card of a model, or cards of the members of a committee; none of other calculators."""
    own, members = offered(calculator).card, offered(calculator).members
    cards = [own] if own is not None else [offered(member).card for member in members]
    return [card for card in cards if card is not None]


def std_names(calculator: object, names: Iterable[str]) -> list[str]:
    """Names of the standard deviations of properties, of those that a calculator offers.

    Parameters
    ----------
    calculator : calculator
    names : iterable of str
        Properties, such as energy or homo.

    Examples
    --------
    >>> from ase.calculators.emt import EMT
    >>> std_names(EMT(), ["energy"])
    []
    """
    implemented = offered(calculator).implemented_properties
    return [name + STD for name in names if name + STD in implemented]


def no_energies(card: ModelCard) -> str:
    """State in a message which quantities a model predicts in place of energies."""
    return f"{card.name!r} predicts {card.predicted}, not energies: it has no forces"


def need_energies(calculator: object, purpose: str) -> None:
    """Refuse models that predict other quantities than energies.

    Parameters
    ----------
    calculator : calculator or None
    purpose : str
        What needs energies, at the beginning of a sentence.

    Raises
    ------
    ModelError
    """
    for card in model_cards(calculator):
        if not card.predicts_energy:
            raise ModelError(
                f"{no_energies(card)}. {purpose} needs energies and forces:",
                name=card.name,
                value=card.predicted,
                allowed=["energy"],
                remedy="use a model of energies (asecalc-ml models list --property energy), or predict "
                f"values with `asecalc-ml predict {card.name} FILE`",
            )

"""Many structures at once: together where a calculator can, one after the other where it cannot.

A batch goes through ``calculate_many``. Where that fails, the batch is halved until the structure that cannot
be computed stands alone, so that one bad structure costs none of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from ase import Atoms
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError

from asecalc_ml.calculators.protocol import copied_results, offered, offers
from asecalc_ml.calculators.results import Results
from asecalc_ml.errors import PluginError
from asecalc_ml.graph.batching import batches_by_atoms

#: Atoms of the structures that are handed over at once: hundreds of small molecules, a second's work.
ATOMS_AT_ONCE = 4096

Structure = TypeVar("Structure")


def computes_together(calculator: BaseCalculator) -> bool:
    """Return True if a calculator's ``calculate_many`` does more than one calculation after the other.

    Of a calculator that is made of parts, one of the parts has to.
    """
    parts = offered(calculator).parts
    return offers(calculator, "calculate_many") and (not parts or any(map(computes_together, parts)))


def batches(
    calculator: BaseCalculator, structures: Iterable[Structure], n_atoms: Callable[[Any], int] = len
) -> Iterator[list[Structure]]:
    """Cut structures, in their order, into what is handed to a calculator at once.

    The cuts depend on the numbers of atoms alone, so that a run that is resumed makes the same ones: values
    of a structure depend on its batch in the last digits.

    Parameters
    ----------
    calculator : calculator
        One that computes one structure after the other gets them one by one: its progress is seen, and a
        kill loses no more than one calculation.
    structures : iterable
    n_atoms : callable
        Number of atoms of a structure.

    Yields
    ------
    list, never empty
    """
    most = ATOMS_AT_ONCE if computes_together(calculator) else 1
    return batches_by_atoms(structures, most, n_atoms)


def results_of_each(
    calculator: BaseCalculator,
    structures: Iterable[Atoms],
    properties: Sequence[str] = ("forces", "energy"),
    further: Sequence[str] = (),
) -> list[Results | Exception]:
    """Return the results of each structure, or the exception with which its calculation failed.

    Parameters
    ----------
    calculator : calculator
    structures : iterable of Atoms
        They may differ in everything.
    properties : sequence of str
        ASE's names of what is needed; ``stress`` only of structures whose cell has rank 3.
    further : sequence of str
        What is asked for beside it, and left out of a structure's results where there is none: standard
        deviations of :func:`asecalc_ml.calculators.protocol.std_names`.

    Returns
    -------
    list
        In the order of the structures. Results as :func:`asecalc_ml.calculators.protocol.copied_results`
        returns them.

    Raises
    ------
    PluginError
        If ``calculate_many`` of a calculator returns another number of results.
    """
    structures = list(structures)
    if len(structures) > 1 and computes_together(calculator):
        return _together(calculator, structures, properties, further)
    return [_alone(calculator, atoms, properties, further) for atoms in structures]


def _together(
    calculator: BaseCalculator, structures: list[Atoms], properties: Sequence[str], further: Sequence[str]
) -> list[Results | Exception]:
    if len(structures) < 2:
        return [_alone(calculator, atoms, properties, further) for atoms in structures]
    try:
        computed = list(offered(calculator).calculate_many(structures, *([further] if further else [])))
    except Exception:  # a calculator may raise anything
        half = len(structures) // 2
        halves = structures[:half], structures[half:]
        return [result for part in halves for result in _together(calculator, part, properties, further)]
    _check_number(calculator, len(computed), len(structures))
    return [
        results
        if _is_complete(calculator, results, atoms, properties)
        else _alone(calculator, atoms, properties, further)
        for results, atoms in zip(computed, structures, strict=True)
    ]


def _alone(
    calculator: BaseCalculator, atoms: Atoms, properties: Sequence[str], further: Sequence[str]
) -> Results | Exception:
    try:
        results = copied_results(calculator, atoms, _needed(atoms, properties))
    except Exception as error:  # a calculator may raise anything
        return error
    for name in further:
        with suppress(PropertyNotImplementedError):
            results[name] = calculator.get_property(name, atoms)
    return results


def _is_complete(
    calculator: BaseCalculator, results: Results, atoms: Atoms, properties: Sequence[str]
) -> bool:
    """Return True if a calculator has given, for one of many structures, all that is needed."""
    members = ["members"] if offered(calculator).members else []
    return all(name in results for name in [*_needed(atoms, properties), *members])


def _needed(atoms: Atoms, properties: Sequence[str]) -> list[str]:
    return [name for name in properties if name != "stress" or atoms.cell.rank == 3]


def _check_number(calculator: BaseCalculator, n_results: int, n_structures: int) -> None:
    if n_results != n_structures:
        what = f"{type(calculator).__name__}.calculate_many()"
        raise PluginError(
            f"{what} returned {n_results} results for {n_structures} structures",
            name=what,
            value=n_results,
            allowed=n_structures,
            remedy="it has to return one for each structure, in their order",
        )

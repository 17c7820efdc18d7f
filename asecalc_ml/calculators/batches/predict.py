"""Predictions of a calculator for many structures, with standard deviations where it has them."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from asecalc_ml.calculators.batches.many import batches
from asecalc_ml.calculators.batches.processes import computing
from asecalc_ml.calculators.ml_calculator import check_trained
from asecalc_ml.calculators.protocol import model_cards, std_names
from asecalc_ml.calculators.results import Results
from asecalc_ml.errors import AsecalcError, lacks_room
from asecalc_ml.store.card import ModelCard, formula_of
from asecalc_ml.structure.checks_of_many import check_each
from asecalc_ml.structure.loading import check_structure
from asecalc_ml.targets.target import ENERGY, STD, Quantity
from asecalc_ml.terminal.progress import progress
from asecalc_ml.units import name_with_unit


@dataclass(frozen=True)
class Predictions:
    """Values of structures.

    Parameters
    ----------
    places : list of str
        File and number of each structure.
    formulas : list of str
    quantities : list of Quantity
    results : list of dict
        Values by the name of a quantity; standard deviations under its name with ``_std``.
    """

    places: list[str]
    formulas: list[str]
    quantities: list[Quantity]
    results: list[Results]

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Values of each column by its heading, shape (n_structures,); NaN where a structure has none."""
        columns: dict[str, np.ndarray] = {}
        for quantity in self.quantities:
            for suffix, word in (("", ""), (STD, " std")):
                rows = [one.get(quantity.name + suffix) for one in self.results]
                if all(row is None for row in rows):
                    continue
                empty = np.full(len(quantity.components), np.nan)
                values = np.array([empty if row is None else np.ravel(row) for row in rows])
                for component, column in zip(quantity.components, values.T, strict=True):
                    if component != "".join(sorted(component)):
                        continue  # tensors are symmetric
                    heading = f"{quantity.name} {component}".strip()
                    columns[name_with_unit(f"{heading}{word}", quantity.unit)] = column
        return columns

    def as_csv(self) -> str:
        """A line for each structure: its place, its formula, and a column for each component."""
        text, columns = io.StringIO(), self.columns
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["structure", "formula", *columns])
        for k, (place, formula) in enumerate(zip(self.places, self.formulas, strict=True)):
            cells = ["" if np.isnan(values[k]) else repr(float(values[k])) for values in columns.values()]
            writer.writerow([place, formula, *cells])
        return text.getvalue()


def quantities_of(calculator: BaseCalculator) -> list[Quantity]:
    """Quantities that a calculator predicts: those of its model, or the energy."""
    cards = model_cards(calculator)
    if cards:
        return list(cards[0].quantities)
    return [Quantity(name=ENERGY, unit="eV", kind="extensive scalar", pooling="sum")]


def predict(
    calculator: BaseCalculator, located: Mapping[str, Atoms], quiet: bool = True, processes: int = 1
) -> Predictions:
    """Values of structures, computed in batches where the calculator can.

    Parameters
    ----------
    calculator : calculator
    located : mapping
        Structures by file and number in it.
    quiet : bool
        Show no progress.
    processes : int
        Processes that compute structures; see :func:`asecalc_ml.calculators.batches.processes.computing`.

    Raises
    ------
    StructureError
        For a structure that the calculator refuses; the message names its place and counts the others.
        Elements, charge and spin of all structures are compared with those that a model was trained on before
        the first is computed.
    """
    quantities, cards = quantities_of(calculator), model_cards(calculator)
    check_each(located, check_structure, *(partial(check_trained, card=card) for card in cards))
    _warn_of_values_without_zero(cards, located.values())
    names, results = [quantity.name for quantity in quantities], []
    deviations = std_names(calculator, names)
    with (
        computing(calculator, names, deviations, processes) as compute,
        progress("predicting", len(located), quiet, unit="structures") as advance,
    ):
        for batch, of_batch in compute(batches(calculator, located.items(), n_atoms=_n_atoms)):
            results += _checked(of_batch, [place for place, _ in batch])
            advance(len(batch))
    formulas = [formula_of(atoms.numbers) for atoms in located.values()]
    return Predictions(list(located), formulas, quantities, results)


def _n_atoms(item: tuple[str, Atoms]) -> int:
    return len(item[1])


def _warn_of_values_without_zero(cards: Sequence[ModelCard], structures: Iterable[Atoms]) -> None:
    """Warn of compositions whose sums over atoms are meaningless, as the card of a model says."""
    formulas = {formula_of(atoms.numbers): atoms.numbers for atoms in structures}
    for card in cards:
        unknown = [name for name, numbers in formulas.items() if not card.knows_energies_of(numbers)]
        if unknown:
            warnings.warn(
                f"values of {', '.join(sorted(unknown))} have no zero, since the data of {card.name!r} "
                f"cannot tell its elements apart (compositions: {', '.join(card.compositions) or 'one'}): "
                "compare only structures of one composition, or train on data of more compositions",
                stacklevel=3,
            )


def _checked(results: Sequence[Results | Exception], places: Sequence[str]) -> list[Results]:
    """The results, or the error of the first structure that has none."""
    for place, result in zip(places, results, strict=True):
        if isinstance(result, AsecalcError) and not lacks_room(result):
            raise result.at(place)
        if isinstance(result, Exception):
            raise result
    return [result for result in results if not isinstance(result, Exception)]

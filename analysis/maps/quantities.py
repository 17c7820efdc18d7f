"""What points of a map are coloured by, and whose roughness is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.base import unknown_part_error
from asecalc_ml.analysis.maps.predictions import Prediction
from asecalc_ml.analysis.maps.results import MapQuantity
from asecalc_ml.calculators.protocol import offered
from asecalc_ml.store.card import ModelCard
from asecalc_ml.targets.target import ENERGY, Quantity


@dataclass(frozen=True)
class Data:
    """Structures, where they come from, and what the model says of them.

    Parameters
    ----------
    frames : list of Atoms
    sources, numbers : list
        Name of the file or run that a structure is of, and its number there.
    predictions : list of Prediction
    card : ModelCard or None
    quantity : Quantity
        What the model predicts, a scalar.
    """

    frames: Sequence[Atoms]
    sources: Sequence[str]
    numbers: Sequence[int]
    predictions: Sequence[Prediction]
    card: ModelCard | None
    quantity: Quantity

    @property
    def is_energy(self) -> bool:
        return self.quantity.name == ENERGY

    @property
    def is_mean(self) -> bool:
        """True if the model averages over atoms."""
        return self.quantity.pooling == "mean"

    @property
    def unit(self) -> str:
        return self.quantity.unit

    def per_atom(self, value: float, n_atoms: int) -> float:
        """A value, or the error of one, for each atom; a model that averages over atoms gives it so."""
        return value if self.is_mean else value / n_atoms

    @property
    def has_errors(self) -> bool:
        """Whether the network alone should meet the labels: no, where the card adds terms."""
        return self.is_energy and not (self.card and self.card.corrections)


def of_structures(data: Data, info: Sequence[str]) -> list[MapQuantity]:
    """Quantities that a structure has one of."""
    quantities = [
        MapQuantity(
            name="frame", title="number of the frame", unit="", values=list(map(float, data.numbers))
        ),
        _predicted(data),
    ]
    if data.is_energy:
        quantities += [_forces(data), *_errors(data)]
    known = [quantity.name for quantity in quantities]
    return [*_source(data.sources), *quantities, *(_info(data.frames, key, known) for key in info)]


def _predicted(data: Data) -> MapQuantity:
    """An average as it is; of a sum over atoms what it has per atom beyond the elements' reference values."""
    name, values = data.quantity.name, data.predictions
    if data.is_mean and not data.is_energy:
        whole = [prediction.value + prediction.references for prediction in values]
        return MapQuantity(name=name, title=name, unit=data.unit, values=whole)
    return MapQuantity(
        name=name,
        title=f"{name} per atom, less the elements' references",
        unit=f"{data.unit}/atom" if data.unit else "1/atom",
        values=[data.per_atom(prediction.value, len(prediction.features)) for prediction in values],
    )


def of_atoms(data: Data, info: Sequence[str]) -> list[MapQuantity]:
    """Quantities that an atom has one of; those of the info are its structure's."""
    symbols = [symbol for atoms in data.frames for symbol in atoms.get_chemical_symbols()]
    quantities = [MapQuantity(name="element", title="element", unit="", values=symbols)]
    if all(one.contributions is not None for one in data.predictions):
        shares = np.concatenate([one.contributions for one in data.predictions])
        quantities.append(
            MapQuantity(name="contribution", title="contribution", unit=data.unit, values=shares.tolist())
        )
    if data.is_energy:
        sizes = np.linalg.norm(np.concatenate([one.forces for one in data.predictions]), axis=1)
        quantities.append(
            MapQuantity(name="force", title="size of the force", unit="eV/Å", values=sizes.tolist())
        )
        quantities += _atom_errors(data)
    spread = [_info(data.frames, key) for key in info] + _source(data.sources)
    sizes = [len(atoms) for atoms in data.frames]
    return quantities + [one.model_copy(update={"values": _repeat(one.values, sizes)}) for one in spread]


def _source(sources: Sequence[str]) -> list[MapQuantity]:
    if len(set(sources)) == 1:
        return []
    return [MapQuantity(name="source", title="source", unit="", values=list(sources))]


def _info(frames: Sequence[Atoms], key: str, known: Sequence[str] = ()) -> MapQuantity:
    """An entry of the frames' info; under another name where a prediction has that of the key."""
    missing = next((k for k, atoms in enumerate(frames) if key not in atoms.info), None)
    if missing is not None:
        raise unknown_part_error(f"the info of structure {missing}", "entry", key, frames[missing].info)
    values = [atoms.info[key] for atoms in frames]
    numbers = all(isinstance(value, int | float | np.number) for value in values)
    kind = float if numbers else str
    name = f"{key}-info" if key in known else key
    return MapQuantity(name=name, title=name, unit="", values=[kind(value) for value in values])


def _forces(data: Data) -> MapQuantity:
    forces = [prediction.forces for prediction in data.predictions if prediction.forces is not None]
    values = [float(np.sqrt((of_structure**2).mean())) for of_structure in forces]
    return MapQuantity(name="force", title="root mean square force component", unit="eV/Å", values=values)


def _errors(data: Data) -> list[MapQuantity]:
    energy = _labelled(
        data,
        "energy",
        lambda prediction, label: (
            1000
            * abs(data.per_atom(prediction.value + prediction.references - label, len(prediction.features)))
        ),
    )
    force = _labelled(
        data, "forces", lambda prediction, label: 1000 * float(np.abs(prediction.forces - label).mean())
    )
    return [
        MapQuantity(name=name, title=title, unit=unit, values=values)
        for name, title, unit, values in (
            ("energy-error", "error of the energy per atom", "meV/atom", energy),
            ("force-error", "mean error of a force component", "meV/Å", force),
        )
        if values
    ]


def _atom_errors(data: Data) -> list[MapQuantity]:
    frame_errors = _labelled(
        data, "forces", lambda prediction, label: 1000 * np.abs(prediction.forces - label).mean(axis=1)
    )
    if not frame_errors:
        return []
    values = [
        value
        for prediction, errors in zip(data.predictions, frame_errors, strict=True)
        for value in (len(prediction.features) * [None] if errors is None else errors.tolist())
    ]
    return [
        MapQuantity(name="force-error", title="mean error of a force component", unit="meV/Å", values=values)
    ]


def _labelled(data: Data, label: str, error: Callable) -> list:
    """Errors of the structures that have a label, None for the others; an empty list where none has."""
    if not data.has_errors:
        return []
    labels = [offered(atoms.calc).results.get(label) for atoms in data.frames]
    if all(one is None for one in labels):
        return []
    return [
        None if known is None else error(one, known)
        for one, known in zip(data.predictions, labels, strict=True)
    ]


def _repeat(values: list, sizes: Sequence[int]) -> list:
    return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]

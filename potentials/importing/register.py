"""The card of an imported model, and its place in the registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from asecalc_ml.calculators.ml_calculator import check_trained
from asecalc_ml.errors import ModelError, StructureError
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.importing.upstream_model import UpstreamModel
from asecalc_ml.store.build_card import build_card
from asecalc_ml.store.card import DatasetCard, ModelCard
from asecalc_ml.store.model_file import file_hash
from asecalc_ml.store.registry import Entry, Registry
from asecalc_ml.structure.loading import load_structure

if TYPE_CHECKING:
    from asecalc_ml.potentials.importing.options import ImportOptions


def register(
    name: str, file: Path, options: ImportOptions, read: Callable[[], UpstreamModel], replace: bool
) -> Entry:
    """Read a checkpoint and register its model, with a card that says what is known of it.

    Parameters
    ----------
    name : str
    file : Path
        The checkpoint, whose name and hash the card keeps.
    options : ImportOptions
    read : callable
        Reads the checkpoint; called once the name is known to be free.
    replace : bool

    Raises
    ------
    ModelError, StructureError, DatasetError
        If the name is taken, or checkpoint, structure or test data are not in order.
    """
    Registry().check_free(name, replace)
    upstream = read()
    model = _with_constant(upstream, options).build(str(file))
    _check_elements(upstream, options, file)
    card = _measured(imported_card(name, file, options, upstream, model), model, options)
    return Registry().add_model(model, card, replace)


def imported_card(
    name: str, file: Path, options: ImportOptions, upstream: UpstreamModel, model: Model
) -> ModelCard:
    """What the checkpoint and the user say of the model. Errors and domain are empty where nobody does."""
    return build_card(
        model,
        name,
        upstream.architecture,
        upstream.hyperparameters,
        structure=_structure(options),
        elements=options.elements,
        charges=options.charges,
        spins=options.spins,
        fitted=upstream.fitted,
        energies_degenerate=options.composition is not None,
        dataset=_dataset(options),
        options={
            "imported": {
                "file": file.name,
                "hash": file_hash(file),
                "notes": [*upstream.notes, *_remarks(model, options)],
                **options.model_dump(mode="json"),
            }
        },
    )


def _with_constant(upstream: UpstreamModel, options: ImportOptions) -> UpstreamModel:
    """The upstream model with its energy of a whole structure shared among the atoms."""
    if upstream.constant_eV == 0.0:
        return upstream
    n_atoms = 1 if upstream.pooling == "mean" else _n_atoms(upstream, options)
    return upstream.shifted(upstream.constant_eV / n_atoms)


def _n_atoms(upstream: UpstreamModel, options: ImportOptions) -> int:
    if options.atom_counts is None:
        raise ModelError(
            f"the model adds the same {upstream.constant_eV:.6g} eV (its mean) to every structure, whatever "
            "its size, and energies here are sums over atoms.",
            value=upstream.constant_eV,
            remedy="If it was trained on one composition, name it (--composition C2H6O): its energies are "
            "then upstream's. For several compositions it cannot be imported with energies that compare "
            "between them; named one of them, they compare within each",
        )
    return sum(options.atom_counts.values())


def _check_elements(upstream: UpstreamModel, options: ImportOptions, file: Path) -> None:
    limit = upstream.hyperparameters.max_atomic_number
    beyond = [symbol for symbol in options.elements if atomic_numbers[symbol] > limit]
    if beyond:
        raise ModelError(
            f"{file} has room for elements up to atomic number {limit}, and --elements names "
            f"{', '.join(beyond)}",
            name="--elements",
            value=beyond,
            allowed=f"atomic numbers up to {limit}",
            remedy="give the elements that it was trained on",
        )


def _dataset(options: ImportOptions) -> DatasetCard | None:
    told = {key: getattr(options, key) for key in ("level_of_theory", "licence", "citation")}
    if options.dataset is None and not any(told.values()):
        return None
    return DatasetCard(name=options.dataset or "name not given", **told)


def _measured(card: ModelCard, model: Model, options: ImportOptions) -> ModelCard:
    """The card with errors on the test data, where the user names some."""
    if options.test_data is None:
        return card
    from asecalc_ml.potentials.datasets import dataset
    from asecalc_ml.potentials.training.evaluate import evaluate

    given = options.test_data if isinstance(options.test_data, dict) else {"path": options.test_data}
    frames = dataset({"format": "ase", **given}).read()
    for atoms in frames:
        check_trained(atoms, card)
    return card.model_copy(update={"metrics": evaluate(model, frames).metrics()})


# -------------------------------------------------------------------------------------------------- golden


def _structure(options: ImportOptions) -> Atoms:
    """The structure that the card's golden values are computed for."""
    if options.structure is None:
        return _row(options)
    atoms = load_structure(options.structure)
    _check_composition(atoms, options)
    return atoms


def _check_composition(atoms: Atoms, options: ImportOptions) -> None:
    strange = sorted(set(atoms.symbols) - set(options.elements))
    if strange:
        raise StructureError(
            f"structure {options.structure!r} holds {', '.join(strange)}, which --elements does not name",
            name=options.structure,
            value=strange,
            allowed=options.elements,
            remedy="correct one of them",
        )
    if options.atom_counts not in (None, atoms.symbols.formula.count()):
        raise StructureError(
            f"structure {options.structure!r} is {atoms.symbols.formula:hill} and not {options.composition}, "
            "the one composition that the model is for",
            name=options.structure,
            value=f"{atoms.symbols.formula:hill}",
            allowed=[options.composition],
            remedy="correct one of them",
        )


def _row(options: ImportOptions) -> Atoms:
    """Two atoms of each element, or those of the composition, on a zigzag line at bond lengths."""
    counts = options.atom_counts or dict.fromkeys(options.elements, 2)
    symbols = [symbol for symbol, count in counts.items() for _ in range(count)]
    radii = covalent_radii[[atomic_numbers[symbol] for symbol in symbols]]
    along = np.concatenate([[0.0], np.cumsum(1.1 * (radii[1:] + radii[:-1]))])
    index = np.arange(len(symbols))
    positions = np.column_stack([along, 0.5 * np.cos(2 * index), 0.5 * np.sin(2 * index)])
    return Atoms(symbols, positions, info={"charge": options.charges[0], "spin": options.spins[0]})


def _remarks(model: Model, options: ImportOptions) -> list[str]:
    """What a user should know, whichever package the model comes from."""
    remarks = {
        "its energy jumps where an atom crosses the cutoff, and dynamics refuses it": (
            not model.potential.continuous
        ),
        f"its energies compare only within {options.composition}": options.composition is not None,
        "the card has no errors; `asecalc-ml eval NAME DATA` measures them": options.test_data is None,
    }
    return [remark for remark, holds in remarks.items() if holds]

"""Gives a model that exists an uncertainty from its last-layer features."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from asecalc_ml.calculators.ml_calculator import check_trained
from asecalc_ml.errors import ConfigError, DatasetError, ModelError, StructureError
from asecalc_ml.model.heads.last_layer import LastLayerUncertainty
from asecalc_ml.potentials.datasets import DatasetOptions
from asecalc_ml.potentials.training.calibration.last_layer import FEWEST, fit_uncertainty
from asecalc_ml.potentials.training.evaluate import read_labelled, split_again
from asecalc_ml.potentials.training.frames.lineage import Lineage
from asecalc_ml.potentials.training.frames.training_data import less_terms
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.golden import check_golden
from asecalc_ml.store.model_file import SHIPPED, SUFFIX, read_model, read_seen, save_model
from asecalc_ml.store.registry import Entry, Registry
from asecalc_ml.store.seen_frames import SeenFrames
from asecalc_ml.store.stored_model import StoredModel
from asecalc_ml.structure.fingerprints import fingerprints


def calibrate(
    name: str,
    training: DatasetOptions | None = None,
    validation: DatasetOptions | None = None,
    new_name: str | None = None,
    replace: bool = False,
) -> Entry:
    """Fit the uncertainty of a registered model, and store it with the model.

    Parameters
    ----------
    name : str
        As :meth:`asecalc_ml.store.registry.Registry.find` resolves it.
    training, validation : DatasetOptions, optional
        Structures that trained the model, and labelled ones that did not; those of the model's own training
        if not given.
    new_name : str, optional
        Register the result under this name, and leave the model as it is.
    replace : bool
        Replace a registered model of the new name.

    Returns
    -------
    Entry
        The model with its uncertainty.

    Raises
    ------
    ModelError, DatasetError, ConfigError
        If the model is unknown, ships with the package and no new name is given, predicts no scalar, or there
        are too few validation structures.
    """
    stored, registry = StoredModel.find(name), Registry()
    check_golden(stored)
    card = stored.card
    _check_place(stored, registry, new_name, replace)
    _check_scalars(card)
    train, held_out, data = _frames(stored, training, validation)
    model, _ = read_model(stored.path)
    uncertainty, stated = fit_uncertainty(
        model, train, less_terms(held_out, card.corrections), data, card.fitted
    )
    if not stated:
        raise DatasetError(
            f"{len(held_out)} validation structures of {data} with labels of {card.predicted} are too few to "
            f"calibrate {card.name!r}",
            name=data,
            value=len(held_out),
            allowed=f"at least {FEWEST}",
            remedy="name more with --training FILE --validation FILE",
        )
    card = card.model_copy(update={"uncertainty": stated})
    if new_name is None:
        return registry.with_uncertainty(name, card, uncertainty)
    return _registered_copy(
        stored, registry, card.model_copy(update={"name": new_name}), uncertainty, replace
    )


def _check_place(stored: StoredModel, registry: Registry, new_name: str | None, replace: bool) -> None:
    """Refuse a model that cannot be changed, or a new name that is taken, before anything is computed."""
    if new_name is not None:
        registry.check_free(new_name, replace)
    elif stored.path.parent == SHIPPED or stored.path.parent not in registry.folders:
        why = "ships with the package" if stored.path.parent == SHIPPED else "is not in the registry"
        raise ModelError(
            f"{stored.card.name!r} {why}, and its file is left as it is;",
            name=stored.card.name,
            remedy="register the result under another name: --as NAME",
        )


def _check_scalars(card: ModelCard) -> None:
    if not any(quantity.is_scalar for quantity in card.quantities):
        raise ModelError(
            f"{card.name!r} predicts {card.predicted}, and last-layer features give uncertainties of scalars",
            name=card.name,
            value=card.predicted,
            remedy="use a committee of models, whose standard deviations are those of its members",
        )


def _frames(
    stored: StoredModel, training: DatasetOptions | None, validation: DatasetOptions | None
) -> tuple[Sequence[Atoms], Sequence[Atoms], str]:
    """Structures that trained a model, labelled ones that did not, and the name of the data."""
    card, seen = stored.card, read_seen(stored.path)
    if (training is None) != (validation is None):
        raise ConfigError(
            "one of --training and --validation is missing",
            name="validation" if validation is None else "training",
            remedy="give both, or neither to take the data of the model's own training",
        )
    if training is None or validation is None:
        data = split_again(card, Lineage.of_model(card, seen))
        return data.train, data.validation, data.source.label
    train, held_out = (read_labelled(data, card) for data in (training, validation))
    for place, atoms in (*train.items(), *held_out.items()):
        try:
            check_trained(atoms, card)
        except StructureError as error:
            raise error.at(place) from None
    train_frames = list(train.values())
    known = SeenFrames.of(train_frames, []) if seen is None else seen.and_of(SeenFrames.of(train_frames, []))
    usable = _of_known_zero(list(held_out.values()), card, validation)
    return train_frames, _untrained(usable, known, validation), validation.label


def _of_known_zero(frames: list[Atoms], card: ModelCard, source: DatasetOptions) -> list[Atoms]:
    """Frames whose energies the model can be compared with; all of them for other quantities."""
    if not card.predicts_energy:
        return frames
    known = [atoms for atoms in frames if card.knows_energies_of(atoms.numbers)]
    if len(known) < len(frames):
        warnings.warn(
            f"{len(frames) - len(known)} of the {len(frames)} validation structures of {source.place} have "
            f"compositions that {card.name!r} was not trained on, so that its energies have another zero "
            "there; they are left out",
            stacklevel=3,
        )
    return known


def _untrained(frames: list[Atoms], known: SeenFrames, source: DatasetOptions) -> list[Atoms]:
    """Frames that did not train the model: errors on the others are too small."""
    trained = known.has_trained(fingerprints(frames))
    if trained.any():
        warnings.warn(
            f"{int(trained.sum())} of the {len(frames)} validation structures of {source.place} are among "
            "those that trained the model, and are left out",
            stacklevel=3,
        )
    return [atoms for atoms, is_known in zip(frames, trained, strict=True) if not is_known]


def _registered_copy(
    stored: StoredModel, registry: Registry, card: ModelCard, uncertainty: LastLayerUncertainty, replace: bool
) -> Entry:
    """Register a model with its uncertainty under the name of the card."""
    model, _ = read_model(stored.path)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{card.name}{SUFFIX}"
        save_model(path, model, card, read_seen(stored.path), uncertainty)
        return registry.add(path, replace=replace)

"""The end of a training: held-out errors, the card, the registry."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from asecalc_ml.calculators.corrections import explicit
from asecalc_ml.errors import AsecalcError, TrainingError
from asecalc_ml.files.reading import check_archive
from asecalc_ml.model.heads.last_layer import LastLayerUncertainty
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.datasets import dataset_hash
from asecalc_ml.potentials.datasets.labels import label_of, with_label
from asecalc_ml.potentials.training.baselines import worse_than_baselines
from asecalc_ml.potentials.training.calibration.last_layer import fit_uncertainty
from asecalc_ml.potentials.training.directory import METRICS, search_of
from asecalc_ml.potentials.training.evaluate import evaluate, measure
from asecalc_ml.potentials.training.frames.domain import measure_domain
from asecalc_ml.potentials.training.frames.scaling import Scaling, elements_of, missing_shift
from asecalc_ml.potentials.training.frames.training_data import TrainingData, less_terms
from asecalc_ml.potentials.training.metrics_file import processor_hours
from asecalc_ml.potentials.training.optimization.exponential_average import read_checkpoint, weights_of
from asecalc_ml.potentials.training.options import TrainingRequest, TrainOptions
from asecalc_ml.potentials.training.targets.evaluate import no_better_than_composition
from asecalc_ml.potentials.training.trainer import architecture
from asecalc_ml.store.build_card import build_card
from asecalc_ml.store.card import DatasetCard, Metrics, ModelCard, UncertaintyCard, formula_of
from asecalc_ml.store.model_file import SUFFIX, save_model
from asecalc_ml.store.registry import Entry, Registry
from asecalc_ml.structure.charge_and_spin import charge_and_spin
from asecalc_ml.structure.fingerprints import fingerprints


def load_best(model: Model, checkpoint: Path) -> Model:
    """Put the averaged weights of the best epoch into the model.

    Raises
    ------
    TrainingError
        If they were damaged, by another process or before a training was resumed.
    """
    try:
        check_archive(checkpoint)
        model.load_state_dict(weights_of(read_checkpoint(checkpoint), averaged=True))
    except Exception as error:  # whatever unpickling meets in a damaged file
        raise TrainingError(
            f"{checkpoint} is damaged or cut short, and with it the best epoch",
            name=str(checkpoint),
            remedy="start over with --replace",
        ) from error
    return model.cpu()


def fit_constant(model: Model, frames: Sequence[Atoms]) -> Model:
    """Shift a model whose loss had no energies, so that it meets the training energies on average.

    Forces leave a constant per element open.

    Parameters
    ----------
    frames : sequence of Atoms
        Training frames, with the labels that the model was fitted to.
    """
    frames = with_label(frames, "energy")
    labelled = np.array([label_of(atoms, "energy") for atoms in frames])
    model.shift += missing_shift(frames, labelled + evaluate(model, frames).energy)
    return model


def save_trained(
    request: TrainingRequest, data: TrainingData, model: Model, scaling: Scaling, notes: Sequence[str] = ()
) -> Path:
    """Test the model on the held-out frames, and save it with its card and these notes."""
    options = request.options
    card = trained_card(request, data, model, scaling)
    uncertainty, stated = _uncertainty(options, data, model)
    card = card.model_copy(update={"notes": [*card.notes, *notes], "uncertainty": stated})
    for note in card.notes[len(data.notes()) :]:  # those were printed at the start
        warnings.warn(note, stacklevel=2)
    path = options.training_directory / f"{options.name}{SUFFIX}"
    save_model(path, model, card, data.seen, uncertainty)
    return path


def register(
    request: TrainingRequest, data: TrainingData, model: Model, scaling: Scaling, notes: Sequence[str] = ()
) -> Entry:
    """Test and save the model as :func:`save_trained` does, and register it."""
    path = save_trained(request, data, model, scaling, notes)
    return Registry().add(path, request.options.name, request.replace)


def _uncertainty(
    options: TrainOptions, data: TrainingData, model: Model
) -> tuple[LastLayerUncertainty, dict[str, UncertaintyCard]]:
    """Uncertainty from last-layer features; none, with a warning, where it cannot be fitted."""
    validation = less_terms(data.validation, options.corrections)
    try:
        return fit_uncertainty(model, data.train, validation, data.source.label, options.loss.fitted)
    except AsecalcError as error:  # nothing that a finished training should be lost for
        warnings.warn(f"the model has no uncertainty: {error}", stacklevel=3)
        return LastLayerUncertainty({}), {}


def trained_card(request: TrainingRequest, data: TrainingData, model: Model, scaling: Scaling) -> ModelCard:
    """Everything the model will say about itself, measured here."""
    options, quiet = request.options, request.quiet
    frames, labels = [*data.train, *data.validation], options.loss.fitted
    charges, spins = zip(*map(charge_and_spin, frames), strict=True)
    compositions: set[str] = set()
    if scaling.degenerate:
        compositions = {formula_of(a.numbers) for label in labels for a in with_label(frames, label)}
    n_copies = int(data.seen.has_seen(fingerprints(data.test)).sum())
    measured = measure(model, data.test, options.corrections, quiet)
    metrics = measured.model_copy(update={"n_copies": n_copies})
    return build_card(
        model,
        options.name,
        options.model["architecture"],
        architecture(options),
        structure=data.test[0],
        elements=sorted(chemical_symbols[number] for number in elements_of(frames)),
        charges=sorted(set(charges)),
        spins=sorted(set(spins)),
        fitted=labels,
        energies_degenerate=scaling.degenerate,
        compositions=sorted(compositions),
        dataset=_dataset_card(data, options.target_names),
        ancestors=list(data.lineage.ancestors),
        corrections=explicit(options.corrections),
        metrics=metrics,
        domain=measure_domain(data.train, model.potential.cutoff, options.target_names, quiet),
        training_cpu_h=processor_hours(options.training_directory / METRICS),
        notes=[
            *data.notes(),
            *_copies_note(metrics),
            *(
                worse_than_baselines(metrics, data.train, data.test, labels)
                if options.fits_energy
                else no_better_than_composition(metrics, options.targets, data.train, data.test)
            ),
        ],
        options=options.model_dump(mode="json"),
        search=search_of(options.training_directory),
    )


def _copies_note(metrics: Metrics) -> list[str]:
    """A sentence on copies of training frames that the test frames hold, where they do."""
    if metrics.n_copies == 0:
        return []
    return [
        f"{metrics.n_copies} of the {metrics.n_frames} test frames are copies of frames that trained the "
        "model or chose its epoch: the errors on all test frames are smaller than those on new ones"
    ]


def _dataset_card(data: TrainingData, targets: Sequence[str]) -> DatasetCard:
    source = data.source
    return DatasetCard(
        name=source.label,
        level_of_theory=source.level_of_theory,
        zeros=dict(data.zeros),
        temperature_K=source.temperature_K,
        licence=source.licence,
        citation=source.citation,
        hash=dataset_hash(data.train, targets),
        validation_hash=dataset_hash(data.validation, targets),
        test_hash=dataset_hash(data.test, targets),
        n_train=len(data.train),
        n_validation=len(data.validation),
    )

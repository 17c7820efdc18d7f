"""The way through a training, start to end."""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from asecalc_ml.errors import TrainingError
from asecalc_ml.files.writing import write_whole
from asecalc_ml.graph.neighbors import find_pairs
from asecalc_ml.model.architectures import build_potential
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.datasets.label_checks import LabelReport
from asecalc_ml.potentials.training.directory import (
    LABELS,
    LEFT_OUT,
    SPLIT,
    begin,
    check_directory,
    finished,
    resumed_or_started,
    writable,
)
from asecalc_ml.potentials.training.finish import fit_constant, load_best, register, save_trained
from asecalc_ml.potentials.training.frames.lineage import PARTS, Lineage
from asecalc_ml.potentials.training.frames.molecular_graphs import table_of, with_molecular_graphs
from asecalc_ml.potentials.training.frames.scaling import Scaling, elements_of, fit_scaling
from asecalc_ml.potentials.training.frames.training_data import TrainingData, read_data, warn_of_absent_labels
from asecalc_ml.potentials.training.optimization.lagging_average import lagging_average
from asecalc_ml.potentials.training.options import TrainingRequest, TrainOptions
from asecalc_ml.potentials.training.processes.launch import ProcessPlace, joined, place_of
from asecalc_ml.potentials.training.targets.scaling import fit_target_scaling
from asecalc_ml.potentials.training.trainer import accelerator, architecture, build_model, fit
from asecalc_ml.store.card import formula_of
from asecalc_ml.store.model_file import read_model
from asecalc_ml.store.registry import Entry, Registry
from asecalc_ml.structure.charge_and_spin import charge_and_spin
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.threads import torch_threads

logger = logging.getLogger(__name__)

#: Atoms of one structure that are farther apart than this, Å, are no structure.
FARTHEST_A = 20.0


@dataclass(frozen=True)
class Start:
    """Everything that a training begins with.

    Attributes
    ----------
    data : TrainingData
        Frames as they were read.
    to_fit : TrainingData
        Frames with the labels that are fitted, less the terms that the model is trained on top of.
    scaling : Scaling
    model : Model
        With its first weights.
    labels : LabelReport
    """

    data: TrainingData
    to_fit: TrainingData
    scaling: Scaling
    model: Model
    labels: LabelReport


def run(request: TrainingRequest, place: ProcessPlace | None = None) -> Entry | None:
    """Read, fit, test, register; see :func:`asecalc_ml.potentials.training.train`.

    Parameters
    ----------
    request : TrainingRequest
    place : ProcessPlace, optional
        Of a process that another one has started to train together.

    Returns
    -------
    Entry
        The registered model; None in all processes but the first, which write no file.
    """
    if entry := finished(request):
        logger.info("%s is finished: nothing is left to do", request.options.training_directory)
        return entry
    request = resumed_or_started(request)
    place = place or place_of(request.options)
    if not place.world.is_first:
        _take_part(request, place)
        return None
    with _fitted(request, place) as (start, checkpoint):
        model, notes = _best(request, start, checkpoint)
        return register(request, start.data, model, start.scaling, notes)


def run_trial(request: TrainingRequest, saves_model: bool) -> Path | None:
    """Read and fit; nothing is registered.

    Parameters
    ----------
    request : TrainingRequest
    saves_model : bool
        Test the model, and save it in the training directory.

    Returns
    -------
    Path or None
        The model file, where there is one.
    """
    with _fitted(request, place_of(request.options)) as (start, checkpoint):
        if not saves_model:
            return None
        model, notes = _best(request, start, checkpoint)
        return save_trained(request, start.data, model, start.scaling, notes)


def _take_part(request: TrainingRequest, place: ProcessPlace) -> None:
    """Compute parts of batches until the training ends; the first process does all else."""
    with torch_threads(request.options.threads), torch.random.fork_rng():
        start = prepare(replace(request, quiet=True))
        with joined(request, place):
            fit(request, start.to_fit, start.model, start.scaling, place.world)


@contextmanager
def _fitted(request: TrainingRequest, place: ProcessPlace) -> Iterator[tuple[Start, Path]]:
    """What the training began with, and the checkpoint of its best epoch, in the first process."""
    options = request.options
    with torch_threads(options.threads), torch.random.fork_rng():
        start = prepare(request)
        with writable(options.training_directory):
            check_directory(request)  # again: another process may have begun meanwhile
            with joined(request, place):  # no file changes before all processes have read what is there
                begin(request, start.data.split)
                write_whole(options.training_directory / LABELS, start.labels.as_json())
                if start.data.left_out:
                    write_whole(options.training_directory / LEFT_OUT, table_of(start.data.left_out))
                checkpoint = fit(request, start.to_fit, start.model, start.scaling, place.world)
            yield start, checkpoint


def _best(request: TrainingRequest, start: Start, checkpoint: Path) -> tuple[Model, list[str]]:
    """Model with the weights of the best epoch, and what its card says of them."""
    options = request.options
    best = load_best(start.model, checkpoint)
    notes = lagging_average(options, best, checkpoint, start.to_fit.validation)
    if options.fits_energy and "energy" not in options.loss.fitted:
        fit_constant(best, start.to_fit.train)
    return best, list(notes)


def check(request: TrainingRequest) -> Start:
    """Do what :func:`run` does before its first step; nothing is written."""
    with torch_threads(request.options.threads), torch.random.fork_rng():
        return prepare(request)


def prepare(request: TrainingRequest) -> Start:
    """Read the data, build the model, and refuse what cannot be trained."""
    options = request.options
    check_directory(request)
    if not request.is_trial:
        Registry().check_free(options.name, request.replace)
    accelerator(options.device)
    # Frames, split into parts, and what they are known to have trained before.
    lineage = Lineage.of_parent(options.init_from)
    data = read_data(options, options.training_directory / SPLIT if request.resume else None, lineage)
    if lineage.ancestors:
        promise = " None of the known frames is tested on." if len(lineage.seen) else ""
        logger.info("The weights start from %s.%s", lineage, promise)
    for note in data.notes():
        warnings.warn(note, stacklevel=2)
    if not request.resume:
        data.refuse_copies(options)
    if build_potential(architecture(options)).molecular_graph:
        data = with_molecular_graphs(options, data, request.quiet)
    # Labels, elements and distances have to make sense before a model is fitted to them.
    labels = data.check_labels()
    labels.show(request.quiet, request.strict)
    warn_of_absent_labels(data, options.loss.fitted)
    _check_parts(options, data)
    _check_elements(options, data)
    _check_cutoff(options, data)
    # The model learns what the analytic terms leave of the labels.
    to_fit = data.less_terms(options.corrections)
    scaling = _scaling(options, to_fit.train)
    model = _start(options, scaling)
    _check_neutral(options, data)
    _check_states(model, data)
    _check_charges(options, model)
    return Start(data, to_fit, scaling, model, labels)


def _scaling(options: TrainOptions, frames: Sequence[Atoms]) -> Scaling:
    if options.fits_energy:
        return fit_scaling(frames, options.reference_energies_eV)
    return fit_target_scaling(frames, options.targets)


def _check_parts(options: TrainOptions, data: TrainingData) -> None:
    """Refuse steps whose frames cannot be divided among devices and accumulated batches."""
    n_parts = options.devices * options.num_nodes * options.accumulated_batches
    n_frames = min(options.frames_per_step, len(data.train))
    if n_frames < n_parts or (options.compile and n_frames % n_parts):
        equal = ", which a compiled step needs to be equal," if n_frames >= n_parts else ""
        raise TrainingError(
            f"the {n_frames} frames of a step cannot be divided into {n_parts} parts{equal} for devices "
            "times num_nodes times accumulated_batches",
            name="batch_size",
            value=options.batch_size,
            remedy="change batch_size",
        )


def _check_elements(options: TrainOptions, data: TrainingData) -> None:
    frames, hyperparameters = (*data.train, *data.validation, *data.test), architecture(options)
    elements = elements_of(frames).tolist()
    present = {chemical_symbols[number] for number in elements}
    missing = sorted(present - set(getattr(hyperparameters, "elements", present)))
    if missing:
        raise TrainingError(
            f"the data hold {', '.join(missing)}, and the model takes {', '.join(hyperparameters.elements)}",
            name=", ".join(missing),
            value=missing,
            allowed=hyperparameters.elements,
            remedy="add what is missing to model.elements, or use an architecture that takes all elements",
        )
    heaviest = max(elements)
    room = getattr(hyperparameters, "max_atomic_number", heaviest)
    if heaviest > room:
        raise TrainingError(
            f"the data hold {chemical_symbols[heaviest]} (atomic number {heaviest}), and the model has room "
            f"up to {room}",
            name=chemical_symbols[heaviest],
            value=heaviest,
            allowed=f"up to {room}",
            remedy="raise model.max_atomic_number",
        )


def _check_cutoff(options: TrainOptions, data: TrainingData) -> None:
    """Refuse a cutoff within which no atom of any frame has a neighbor: nothing could be learned."""
    cutoff = getattr(architecture(options), "cutoff_A", None)
    frames = [*data.train, *data.validation]
    if cutoff is None or any(_shortest_distance(atoms, cutoff) < cutoff for atoms in frames):
        return
    shortest = min(_shortest_distance(atoms, FARTHEST_A) for atoms in frames)
    if shortest < FARTHEST_A:
        raise TrainingError(
            f"model.cutoff_A is {cutoff} Å, and the shortest distance between atoms in the data is "
            f"{shortest:.2f} Å: no atom has a neighbor.",
            name="model.cutoff_A",
            value=cutoff,
            allowed=f"above {shortest:.2f}",
            remedy="Raise model.cutoff_A, to 5 Å or so, or correct the data's `length_unit`",
        )


def _shortest_distance(atoms: Atoms, cutoff: float) -> float:
    """Between two atoms, or an atom and an image, Å; infinite where none is within the cutoff."""
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    vectors = pair_vectors(atoms.positions, *pairs, atoms.cell.array)
    return float(np.linalg.norm(vectors, axis=1).min(initial=np.inf))


def _check_states(model: Model, data: TrainingData) -> None:
    """Refuse one composition in several charges (or spins) where the architecture cannot tell them apart."""
    frames = (*data.train, *data.validation, *data.test)
    by_state = {charge_and_spin(atoms): [] for atoms in frames}
    for atoms in frames if len(by_state) > 1 else ():
        by_state[charge_and_spin(atoms)].append(formula_of(atoms.numbers))
    for key in sorted({"charge", "spin"} - model.potential.takes):
        states = defaultdict(set)
        for state, formulas in by_state.items():
            for formula in formulas:
                states[formula].add(dict(zip(("charge", "spin"), state, strict=True))[key])
        for formula, values in states.items():
            if len(values) > 1:
                raise TrainingError(
                    f"the data hold {formula} with {key} {', '.join(map(str, sorted(values)))}, and this "
                    f"architecture does not take the {key}: it would learn a mean of them.",
                    name=key,
                    value=sorted(values),
                    remedy=f"Use one that does (tensornet takes charge), or data of one {key}",
                )


def _check_charges(options: TrainOptions, model: Model) -> None:
    """Refuse to fit dipoles of an architecture that has none."""
    if options.fits_energy and "dipole" in options.loss.fitted and not model.potential.partial_charges:
        raise TrainingError(
            "loss.dipole_weight is above 0, and this architecture predicts no partial charges",
            name="loss.dipole_weight",
            value=options.loss.dipole_weight,
            allowed=[0],
            remedy="set it to 0, or use one that does, such as physnet with `charges: true`",
        )


def _check_neutral(options: TrainOptions, data: TrainingData) -> None:
    """Refuse charged and periodic structures for a target that depends on the origin or the cell there."""
    for target in options.targets:
        for part in PARTS if target.neutral else ():
            for where, atoms in zip(data.places[part], getattr(data, part), strict=True):
                if atoms.pbc.any():
                    raise TrainingError(
                        f"{where} is periodic, and has no {target.name}.",
                        name=where,
                        value=atoms.pbc.tolist(),
                        remedy="Set pbc to false for molecules, or leave such frames out with `frames`",
                    )
                charge, _ = charge_and_spin(atoms)
                if charge:
                    raise TrainingError(
                        f"{where} has charge {charge:+d}, and {target.name} is that of neutral structures: "
                        "the dipole of an ion depends on the origin.",
                        name=where,
                        value=charge,
                        allowed=[0],
                        remedy="Leave charged frames out with `frames`",
                    )


def _start(options: TrainOptions, scaling: Scaling) -> Model:
    """Random weights from the seed, or those of another model under this data's scale and shift."""
    model = build_model(options, scaling)
    if options.init_from is not None:
        source, card = read_model(Registry().find(options.init_from).path)
        try:
            model.potential.load_state_dict(source.potential.state_dict())
            if source.quantities == model.quantities:
                model.heads.load_state_dict(source.heads.state_dict())
        except RuntimeError as error:
            raise TrainingError(
                f"init_from: {card.name!r} is a {card.architecture} with {card.hyperparameters};",
                name="init_from",
                value=card.name,
                remedy="give `model` the same architecture and hyperparameters to start from its weights",
            ) from error
    return model

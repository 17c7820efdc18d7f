"""Errors of a model on labelled frames."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from asecalc_ml.calculators.batches.many import batches
from asecalc_ml.calculators.batches.predict import predict
from asecalc_ml.calculators.batches.processes import computing
from asecalc_ml.calculators.corrections import correction_calculators, with_terms
from asecalc_ml.calculators.ml_calculator import MLCalculator, check_trained
from asecalc_ml.calculators.protocol import std_names
from asecalc_ml.calculators.results import Results, results_of
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AsecalcError, DatasetError, StructureError, TrainingError, lacks_room
from asecalc_ml.graph.atom_graph import collate
from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.graph.graph_of import graph_of
from asecalc_ml.model.dipoles import dipole_of
from asecalc_ml.model.evaluator import Evaluator, SystemArrays
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.datasets import DatasetOptions, dataset, dataset_hash
from asecalc_ml.potentials.datasets.label_checks import examine
from asecalc_ml.potentials.datasets.labels import LABELS, incomplete, with_label
from asecalc_ml.potentials.datasets.properties import check_properties
from asecalc_ml.potentials.training.baselines import mean_errors, table, zero_errors
from asecalc_ml.potentials.training.calibration.report import (
    FittedScale,
    calibration_lines,
    calibrations,
)
from asecalc_ml.potentials.training.frames.groups import info_values
from asecalc_ml.potentials.training.frames.lineage import Lineage
from asecalc_ml.potentials.training.frames.molecular_graphs import with_molecular_graphs
from asecalc_ml.potentials.training.frames.training_data import TrainingData, read_data
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.training.targets.evaluate import (
    QuantityPredictions,
    compare,
    predictions_of,
    summary_of_targets,
    target_metrics,
)
from asecalc_ml.statistics.calibration import Calibration
from asecalc_ml.store.card import Metrics, ModelCard, formula_of
from asecalc_ml.store.golden import check_golden
from asecalc_ml.store.model_file import read_seen
from asecalc_ml.store.seen_frames import SeenFrames
from asecalc_ml.store.stored_model import StoredModel
from asecalc_ml.structure.checks_of_many import check_each
from asecalc_ml.structure.fingerprints import fingerprints
from asecalc_ml.targets.target import ENERGY
from asecalc_ml.targets.zeros import check_zeros
from asecalc_ml.terminal.progress import progress

ATOMS_AT_ONCE = 450  # as many as fit into memory with any architecture


@dataclass(frozen=True)
class Errors:
    """Predicted minus labelled, of energies and what belongs to them.

    Parameters
    ----------
    n_frames : int
    labelled : Counter
        Number of frames with each label that was compared.
    energy : ndarray, eV
        Of the frames that have an energy.
    n_atoms : ndarray
        Of the same frames.
    forces : ndarray, eV/Å
        All components of the frames that have forces; empty where none has.
    stress : ndarray, eV/Å³
        The six components of each frame that has a stress; empty where none has.
    dipole : ndarray, e Å
        The three components of each frame that has a dipole; empty where none has, or the model none.
    """

    n_frames: int
    labelled: Counter[str]
    energy: np.ndarray
    n_atoms: np.ndarray
    forces: np.ndarray
    stress: np.ndarray
    dipole: np.ndarray

    def metrics(self) -> Metrics:
        """Mean absolute and root mean square errors, in meV, meV/Å, GPa and mD."""
        per_atom, in_GPa = 1000 * self.energy / self.n_atoms, self.stress / units.GPa
        in_mD = 1000 * self.dipole / units.Debye
        return Metrics(
            n_frames=self.n_frames,
            labelled=dict(self.labelled) if incomplete(self.labelled, self.n_frames) else None,
            energy_mae_meV=_if_any(_mae, 1000 * self.energy),
            energy_rmse_meV=_if_any(_rmse, 1000 * self.energy),
            forces_mae_meV_A=_if_any(_mae, 1000 * self.forces),
            forces_rmse_meV_A=_if_any(_rmse, 1000 * self.forces),
            energy_mae_meV_atom=_if_any(_mae, per_atom),
            energy_rmse_meV_atom=_if_any(_rmse, per_atom),
            stress_mae_GPa=_if_any(_mae, in_GPa),
            stress_rmse_GPa=_if_any(_rmse, in_GPa),
            dipole_mae_mD=_if_any(_mae, in_mD),
            dipole_rmse_mD=_if_any(_rmse, in_mD),
        )


def _mae(values: np.ndarray) -> float:
    return float(np.abs(values).mean())


def _rmse(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def _if_any(measure: Callable[[np.ndarray], float], values: np.ndarray) -> float | None:
    return measure(values) if len(values) else None


def measure(
    model: Model, frames: Sequence[Atoms], corrections: Sequence[Any] = (), quiet: bool = True
) -> Metrics:
    """Errors of a model in memory on labelled frames, of what it predicts; see :func:`evaluate`."""
    if model.predicts_energy:
        return evaluate(model, frames, corrections).metrics()
    return target_metrics(len(frames), predictions_of(model, frames, quiet))


def evaluate(model: Model, frames: Sequence[Atoms], corrections: Sequence[Any] = ()) -> Errors:
    """Errors on labelled frames, as dynamics would see them: the evaluator, float64 sums, no averaging.

    Parameters
    ----------
    model : Model
        In memory; it runs eagerly.
    frames : sequence of Atoms
        With labels in their calculators. Energy (eV), forces (eV/Å), stress (eV/Å³) and, for a model with
        partial charges, dipole (e Å) are compared where a frame has them.
    corrections : sequence
        Terms that the model was trained on top of.

    Raises
    ------
    DatasetError
        If the model has no energy or forces for a frame, such as one whose atoms coincide.
    """
    places = [f"frame {k} of those evaluated, counted from 0" for k in range(len(frames))]
    return errors_of(frames, _in_memory(model, corrections, frames, places))


def _in_memory(
    model: Model, corrections: Sequence[Any], frames: Sequence[Atoms], places: Sequence[str]
) -> Iterator[Results]:
    """Results of a model and terms for each frame, in batches of :data:`ATOMS_AT_ONCE`."""
    evaluator, terms, named = Evaluator(model), correction_calculators(corrections), iter(places)
    for batch in batches_by_atoms(frames, ATOMS_AT_ONCE):
        graph = collate([graph_of(atoms, model) for atoms in batch])
        parts = evaluator.eagerly(graph).split([len(atoms) for atoms in batch])
        for atoms, evaluation in zip(batch, parts, strict=True):
            yield with_terms(_finite_results(evaluation, atoms, next(named)), terms, atoms)


def _finite_results(evaluation: SystemArrays, atoms: Atoms, place: str) -> Results:
    try:
        return results_of(evaluation, atoms)
    except StructureError as error:
        raise DatasetError(
            f"{place}: the model's energy or forces are not finite.",
            name=place,
            remedy="Look whether atoms coincide there; if not, the model is damaged or its training diverged",
        ) from error


def _by_calculator(
    stored: StoredModel, calculator: MLCalculator, located: Mapping[str, Atoms], quiet: bool, processes: int
) -> Iterator[Results]:
    """Results of a registered model for each frame, computed together.

    A frame that a calculator refuses, since atoms nearly coincide there, has labels all the same: it is
    evaluated as in a training.
    """
    further = std_names(calculator, [ENERGY])
    with (
        computing(calculator, ("forces", ENERGY), further, processes) as compute,
        progress(f"evaluating {stored.card.name}", len(located), quiet, unit="frames") as advance,
    ):
        for batch, of_batch in compute(
            batches(calculator, located.items(), n_atoms=lambda item: len(item[1]))
        ):
            for (place, atoms), results in zip(batch, of_batch, strict=True):
                if not isinstance(results, Exception):
                    yield results
                elif lacks_room(results):
                    raise results
                else:
                    yield from _in_memory(stored.model, stored.card.corrections, [atoms], [place])
            advance(len(batch))


def errors_of(frames: Sequence[Atoms], results: Iterable[Results]) -> Errors:
    """Predicted minus labelled of frames, whose results come in their order."""
    errors: dict[str, list[np.ndarray]] = {label: [] for label in LABELS}
    for atoms, of_frame in zip(frames, results, strict=True):
        predicted = dict(of_frame)
        if "charges" in predicted:
            predicted["dipole"] = dipole_of(predicted["charges"], atoms)
        for label in LABELS:
            if label in atoms.calc.results and label in predicted:
                errors[label].append(np.ravel(predicted[label] - atoms.calc.results[label]))
    return Errors(
        n_frames=len(frames),
        labelled=Counter({label: len(values) for label, values in errors.items() if values}),
        n_atoms=np.array([len(atoms) for atoms in with_label(frames, "energy")]),
        **{label: np.concatenate(values) if values else np.empty(0) for label, values in errors.items()},
    )


@dataclass(frozen=True)
class ModelEvaluation:
    """Errors of a registered model on a data set, beside those its card states, and by group of frames.

    ``groups`` holds energy errors per atom (eV) and force errors (eV/Å) by group and by predictor, ``sizes``
    the number of frames of each group, with those of each label where some frames lack it.
    ``relative`` holds numbers of frames by formula, where errors of energies are relative to their mean.
    ``n_trained`` counts frames that the model or one that it started from was trained on, and ``n_validated``
    further ones that an epoch was chosen by, as far as it is known. ``unknown`` names the models of which it
    is not. ``predictions`` holds values of other quantities than the energy with their labels, and ``places``
    file and number of the frames.
    ``calibrations`` holds errors with standard deviations of each quantity that has them, and ``scales``
    factors of a committee's standard deviations by quantity, fitted to validation frames.
    """

    model: str
    data: str
    metrics: Metrics
    card_metrics: Metrics | None
    groups: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    sizes: dict[str, str] = field(default_factory=dict)
    relative: dict[str, int] = field(default_factory=dict)
    n_trained: int = 0
    n_validated: int = 0
    unknown: tuple[str, ...] = ()
    predictions: tuple[QuantityPredictions, ...] = ()
    places: tuple[str, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    scales: dict[str, FittedScale] = field(default_factory=dict)

    def __str__(self) -> str:
        n_frames = self.metrics.n_frames
        lines = [f"{self.model} on {self.data}, {n_frames} frames"]
        if partly := incomplete(self.metrics.labelled or {}, n_frames):
            lines.append(f"  Errors are means over the frames that have the label: {partly}.")
        for name, info in Metrics.model_fields.items():
            value = getattr(self.metrics, name)
            if isinstance(value, float):
                lines.append(f"  {info.description:<55} {value:9.2f}{self._stated(name)}")
        for name, errors in self.metrics.quantities.items():
            stated = self.card_metrics.quantities.get(name) if self.card_metrics else None
            of_card = f"   (card: {stated.mae:.4g})" if stated else ""
            lines.append(f"  {name}: {errors}, {errors.n_labelled} labelled{of_card}")
        lines += [f"  {line}" for line in summary_of_targets(self.metrics.quantities)]
        for formula, n_frames in self.relative.items():
            lines.append(
                f"  Errors of energies of {formula} are relative to their mean over {n_frames} frames: the "
                "model was trained on another composition."
            )
        lines += [f"  {sentence[0].upper()}{sentence[1:]}." for sentence in self.leakage()]
        if self.groups:
            lines += ["", *table(self.groups, self.sizes)]
        if self.calibrations:
            lines += ["", *calibration_lines(self.calibrations, self.scales)]
        return "\n".join(lines)

    def leakage(self) -> list[str]:
        """Sentences on frames that the model's weights rest on."""
        sentences = []
        if self.n_trained or self.n_validated:
            sentences.append(
                f"{self.n_trained} of the {self.metrics.n_frames} frames trained {self.model} or a model "
                f"that it started from, and {self.n_validated} more chose an epoch: the errors are smaller "
                "than those on new frames"
            )
        if self.unknown:
            sentences.append(
                f"which frames trained {', '.join(self.unknown)} is not known: they may be among these"
            )
        return sentences

    def _stated(self, name: str) -> str:
        stated = getattr(self.card_metrics, name, None)
        return "" if stated is None else f"   (card: {stated:.2f})"


def evaluate_model(
    name: str,
    data: DatasetOptions | None = None,
    by: str | None = None,
    strict: bool = False,
    quiet: bool = True,
    device: str = "cpu",
    processes: int = 1,
) -> ModelEvaluation:
    """Measure a registered model's errors.

    Parameters
    ----------
    name : str
        As :meth:`asecalc_ml.store.registry.Registry.find` resolves it.
    data : DatasetOptions, optional
        Labelled frames; the test data of the model's training, or what it held out, if not given.
        Where the model was trained on one composition, errors of energies of others are relative to
        their mean.
    by : str, optional
        Key of the frames' info: errors of each of its values, too, beside predictors that know no positions.
        Not given: "group", where every frame has one and they differ.
    strict : bool
        Refuse labels that contradict themselves, instead of warning.
    quiet : bool
        Show no progress, and no summary of the labels.
    device : str
        Device on which the model runs, such as "cuda".
    processes : int
        Processes that compute frames; see :func:`asecalc_ml.calculators.batches.processes.computing`.

    Raises
    ------
    ModelError, DatasetError, StructureError, TrainingError
        If the model or the data are missing or damaged, the data hold elements, a charge or a spin that the
        model was not trained on, frames lack what ``by`` names, or labels are refused.
    """
    stored = StoredModel.find(name, device=device)
    check_golden(stored)
    card, seen = stored.card, read_seen(stored.path)
    lineage = Lineage.of_model(card, seen)
    label, located = (
        held_out_frames(card, lineage) if data is None else (data.label, read_labelled(data, card))
    )
    frames = list(located.values())
    check_each(located, partial(check_trained, card=card))
    training = _training_frames(card, lineage)
    labels = examine({label: frames}, {label: list(located)}, training or ())
    labels.show(quiet, strict)
    if not card.predicts_energy:
        known = seen or lineage.and_own(training or (), ())
        return _of_quantities(stored, label, located, quiet, known, processes)
    groups = _by_group(frames, by)
    places = {id(atoms): place for place, atoms in located.items()}
    in_groups = {places[id(atoms)]: atoms for members in groups.values() for atoms in members}
    computed = [*_by_calculator(stored, MLCalculator(name, device=device), in_groups, quiet, processes)]
    results = iter(computed)
    found = {group: errors_of(members, islice(results, len(members))) for group, members in groups.items()}
    unknown = Counter(
        _formula(atoms) for atoms in with_label(frames, "energy") if not card.knows_energies_of(atoms.numbers)
    )
    found = _less_their_mean(found, groups, unknown)
    together = _joined(list(found.values()))
    compared, sizes = {}, {}
    if len(groups) > 1 or by is not None:
        groups = {"all": [atoms for members in groups.values() for atoms in members]} | groups
        found = {"all": together} | found
        compared = _beside_baselines(training, groups, found)
        sizes = {group: _size(errors) for group, errors in found.items()}
    n_trained, n_validated = count_seen(frames, seen or lineage.and_own(training or (), ()))
    unknown_models = [*([] if seen or training else [card.name]), *card.unknown_ancestors()]
    if n_trained and training is None:  # else the checks of the labels have warned
        warnings.warn(
            f"{n_trained} of the {len(frames)} frames of {label} trained {card.name} or a model that it "
            "started from, so errors on them say nothing of new structures: leave them out",
            stacklevel=2,
        )
    return ModelEvaluation(
        card.name,
        label,
        together.metrics(),
        card.metrics,
        compared,
        sizes,
        dict(unknown),
        n_trained,
        n_validated,
        tuple(unknown_models),
        calibrations=tuple(calibrations(card.quantities, list(in_groups.values()), computed)),
    )


def read_labelled(data: DatasetOptions, card: ModelCard) -> dict[str, Atoms]:
    """Frames by file and number, with labels of what a model predicts."""
    names = [quantity.name for quantity in card.quantities]
    check_zeros({repr(card.name): card.zeros, data.place: data.zeros_of(names)}, names, DatasetError)
    if card.predicts_energy:
        return data.read_free()
    located = data.read_free(())
    check_properties(located, card.quantities, data, every=False)
    return located


def _of_quantities(
    stored: StoredModel,
    label: str,
    located: Mapping[str, Atoms],
    quiet: bool,
    seen: SeenFrames,
    processes: int,
) -> ModelEvaluation:
    """Errors of a registered model of other quantities than the energy."""
    card, frames = stored.card, list(located.values())
    values = predict(MLCalculator(stored.path, device=str(stored.device)), located, quiet, processes)
    predictions = compare(card.quantities, frames, values.results)
    n_trained, n_validated = count_seen(frames, seen)
    return ModelEvaluation(
        card.name,
        label,
        target_metrics(len(frames), predictions),
        card.metrics,
        n_trained=n_trained,
        n_validated=n_validated,
        unknown=(*([] if len(seen) else [card.name]), *card.unknown_ancestors()),
        predictions=tuple(predictions),
        places=tuple(located),
        calibrations=tuple(calibrations(card.quantities, frames, values.results)),
    )


def count_seen(frames: Sequence[Atoms], seen: SeenFrames) -> tuple[int, int]:
    """Numbers of frames that were trained on, and of further ones that an epoch was chosen by."""
    if not len(seen):
        return 0, 0
    prints = fingerprints(frames)
    trained, used = seen.has_trained(prints), seen.has_seen(prints)
    return int(trained.sum()), int((used & ~trained).sum())


def _size(errors: Errors) -> str:
    """Number of frames, with those of each label that some of them lack."""
    partly = incomplete(errors.labelled, errors.n_frames)
    return f"{errors.n_frames} ({partly})" if partly else f"{errors.n_frames}"


def _less_their_mean(
    found: dict[str, Errors], groups: dict[str, list[Atoms]], formulas: Iterable[str]
) -> dict[str, Errors]:
    """Errors of energies relative to their mean over all frames of a formula, for these formulas."""
    own = {
        group: np.array([_formula(atoms) for atoms in with_label(members, "energy")], dtype=str)
        for group, members in groups.items()
    }
    energies = {group: errors.energy.copy() for group, errors in found.items()}
    for formula in formulas:
        mean = np.concatenate([energies[group][own[group] == formula] for group in groups]).mean()
        for group in groups:
            energies[group][own[group] == formula] -= mean
    return {group: dataclasses.replace(found[group], energy=energies[group]) for group in groups}


def _formula(atoms: Atoms) -> str:
    return formula_of(atoms.numbers)


def _by_group(frames: Sequence[Atoms], by: str | None) -> dict[str, list[Atoms]]:
    """Frames of each value, in the order of the values; all under one name where there is nothing to tell."""
    if by is None:
        by = "group" if all("group" in atoms.info for atoms in frames) else None
    groups: dict[str, list[Atoms]] = defaultdict(list)
    for atoms, name in zip(frames, info_values(frames, by), strict=True):
        groups[name].append(atoms)
    return dict(sorted(groups.items()))


def _joined(parts: Sequence[Errors]) -> Errors:
    """Errors of all frames; counts are added."""
    arrays = [one.name for one in fields(Errors) if one.name not in ("n_frames", "labelled")]
    return Errors(
        n_frames=sum(part.n_frames for part in parts),
        labelled=sum((part.labelled for part in parts), Counter()),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays},
    )


def _beside_baselines(
    training: list[Atoms] | None, groups: dict[str, list[Atoms]], found: dict[str, Errors]
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Errors of model, zero and training mean for each group."""
    compared = {}
    for name, members in groups.items():
        errors = found[name]
        compared[name] = {
            "model": (errors.energy / errors.n_atoms, errors.forces),
            "zero forces": zero_errors(members),
        }
        if training is not None:
            compared[name]["training mean"] = mean_errors(training, members)
    return compared


def _training_frames(card: ModelCard, lineage: Lineage) -> list[Atoms] | None:
    """Frames that the model was trained on; None where they are not at hand."""
    try:
        return split_again(card, lineage).train
    except AsecalcError:
        return None


def split_again(card: ModelCard, lineage: Lineage) -> TrainingData:
    """Data of a model's training, divided as they were.

    Raises
    ------
    AsecalcError
        If the data are not there, or not those of the card.
    """
    if not card.options or card.dataset is None:
        raise DatasetError(
            f"the card of {card.name!r} names no test data",
            name=card.name,
            remedy=f"give a file (asecalc-ml eval {card.name} DATA)",
        )
    options = parse_options(card.options, TrainOptions, f"card of {card.name!r}")
    names = [] if card.predicts_energy else [quantity.name for quantity in card.quantities]
    try:
        data = read_data(options, None, lineage)
    except TrainingError as error:  # other data need not divide into parts of these sizes
        raise _other_data(card, options) from error
    if card.molecular_graph:
        data = with_molecular_graphs(options, data)
    if dataset_hash(data.train, names) != card.dataset.hash:
        raise _other_data(card, options)
    return data


def _other_data(card: ModelCard, options: TrainOptions) -> DatasetError:
    place = dataset(options.data).place
    return DatasetError(
        f"{place} does not hold the frames that {card.name!r} was trained on, so nobody knows which were "
        "held out",
        name=place,
        remedy=f"put the old data back, or give a file (asecalc-ml eval {card.name} DATA)",
    )


def held_out_frames(card: ModelCard, lineage: Lineage) -> tuple[str, dict[str, Atoms]]:
    """Name of the data, and frames by file and number: the training's test data, or those it held out."""
    if card.options.get("test_data") is not None:
        reader = _training_test_data(card)
        return reader.label, lineage.unseen(read_labelled(reader, card))
    data = split_again(card, lineage)
    return f"what was held out of {data.source.label}", dict(zip(data.places["test"], data.test, strict=True))


def _training_test_data(card: ModelCard) -> DatasetOptions:
    reader = dataset(card.options["test_data"])
    if not all(file.is_file() for file in reader.files):
        raise DatasetError(
            f"the test data of {card.name!r}, {reader.place}, are not in {Path.cwd()}",
            name=reader.place,
            remedy=f"give a file (asecalc-ml eval {card.name} DATA), or make this one with `asecalc-ml data "
            "fetch` or `asecalc-ml data generate`",
        )
    return reader

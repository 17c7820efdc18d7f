"""Errors of a committee on labelled structures, and how far its standard deviations describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms

from asecalc_ml.calculators.batches.predict import predict
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.calculators.protocol import Spec, offered
from asecalc_ml.errors import AsecalcError, ConfigError, DatasetError
from asecalc_ml.potentials.datasets import DatasetOptions
from asecalc_ml.potentials.datasets.label_checks import examine
from asecalc_ml.potentials.training.calibration.last_layer import FEWEST
from asecalc_ml.potentials.training.calibration.report import FittedScale, calibrations
from asecalc_ml.potentials.training.evaluate import (
    ModelEvaluation,
    count_seen,
    errors_of,
    held_out_frames,
    read_labelled,
    split_again,
)
from asecalc_ml.potentials.training.frames.lineage import Lineage
from asecalc_ml.potentials.training.targets.evaluate import compare, target_metrics
from asecalc_ml.store.card import Metrics, ModelCard
from asecalc_ml.store.model_file import read_seen
from asecalc_ml.store.registry import Registry
from asecalc_ml.store.seen_frames import SeenFrames
from asecalc_ml.structure.fingerprints import fingerprints


@dataclass(frozen=True)
class _Member:
    """Card of a member, and the frames behind its weights; None where they are not known."""

    card: ModelCard
    seen: SeenFrames | None


def evaluate_committee(
    spec: Spec,
    data: DatasetOptions | None = None,
    strict: bool = False,
    quiet: bool = True,
    processes: int = 1,
) -> ModelEvaluation:
    """Measure the errors of a committee's mean, and the calibration of its standard deviations.

    A factor of the standard deviations is fitted to the validation frames of the first member that trained
    none of the members, where its data are at hand.

    Parameters
    ----------
    spec : mapping
        ``{"committee": {"members": [first, second]}}``.
    data : DatasetOptions, optional
        Labelled frames; if not given, the test data of the first member that no member has seen.
    strict : bool
        Refuse labels that contradict themselves, instead of warning.
    quiet : bool
        Show no progress, and no summary of the labels.
    processes : int
        Processes that compute frames; see :func:`asecalc_ml.calculators.batches.processes.computing`.

    Raises
    ------
    ConfigError
        If the calculator is no committee.
    ModelError, DatasetError, StructureError, TrainingError
        If the data are missing or damaged, hold what a member was not trained on, or labels are refused.
    """
    calculator = make_calculator(spec)
    if not isinstance(calculator, Committee):
        raise ConfigError(
            f"{spec!r} is neither the name of a model nor a committee",
            name="name",
            value=spec,
            remedy='name a registered model, or "{committee: {members: [first, second]}}"',
        )
    members = [_member(member) for member in calculator.members]
    card = members[0].card
    label, located = _test_frames(members) if data is None else (data.label, read_labelled(data, card))
    examine({label: list(located.values())}, {label: list(located)}, ()).show(quiet, strict)
    predictions = predict(calculator, located, quiet, processes)
    frames = list(located.values())
    measured = calibrations(card.quantities, frames, predictions.results)
    compared = [] if card.predicts_energy else compare(card.quantities, frames, predictions.results)
    if card.predicts_energy:
        metrics: Metrics = errors_of(frames, predictions.results).metrics()
    else:
        metrics = target_metrics(len(frames), compared)
    n_trained, n_validated = count_seen(frames, _seen_by_any(members))
    return ModelEvaluation(
        f"the committee of {', '.join(member.card.name for member in members)}",
        label,
        metrics,
        None,
        n_trained=n_trained,
        n_validated=n_validated,
        unknown=tuple(member.card.name for member in members if member.seen is None),
        predictions=tuple(compared),
        places=tuple(located),
        calibrations=tuple(measured),
        scales=_scales(calculator, members, quiet, processes),
    )


def _member(calculator: object) -> _Member:
    card = offered(calculator).card
    assert card is not None  # a committee is made of registered models
    return _Member(card, read_seen(Registry().find(offered(calculator).parameters["model"]).path))


def _seen_by_any(members: Sequence[_Member]) -> SeenFrames:
    """Frames that trained any of the members, or that an epoch of any was chosen by."""
    seen = SeenFrames.none()
    for member in members:
        seen = seen if member.seen is None else seen.and_of(member.seen)
    return seen


def _lineage(member: _Member) -> Lineage:
    return Lineage.of_model(member.card, member.seen)


def _test_frames(members: Sequence[_Member]) -> tuple[str, dict[str, Atoms]]:
    """Name of the data, and the test frames of the first member that no member has seen."""
    label, located = held_out_frames(members[0].card, _lineage(members[0]))
    seen, places = _seen_by_any(members), list(located)
    is_known = seen.has_seen(fingerprints(list(located.values())))
    unseen = {place: located[place] for place, known in zip(places, is_known, strict=True) if not known}
    if not unseen:
        raise DatasetError(
            f"each of the {len(located)} test frames of {members[0].card.name!r} trained another member, or "
            "chose its epoch",
            name=label,
            remedy="name labelled structures that none has seen, or train the members on one split "
            "(`split: {file: training/FIRST/split.json}`)",
        )
    return label, unseen


def _scales(
    calculator: Committee, members: Sequence[_Member], quiet: bool, processes: int
) -> dict[str, FittedScale]:
    """Factors of the standard deviations by quantity; empty where there is nothing to fit them to."""
    frames = _validation_frames(members)
    if len(frames) < FEWEST:
        return {}
    predictions = predict(calculator, frames, quiet, processes)
    measured = calibrations(members[0].card.quantities, list(frames.values()), predictions.results)
    fitted = {one.quantity: one.fitted_scale for one in measured}
    return {name: FittedScale(factor, len(frames), len(members)) for name, factor in fitted.items() if factor}


def _validation_frames(members: Sequence[_Member]) -> Mapping[str, Atoms]:
    """Validation frames of the first member that trained no member."""
    if any(member.seen is None for member in members):
        return {}
    try:
        data = split_again(members[0].card, _lineage(members[0]))
    except AsecalcError:
        return {}
    trained = _seen_by_any(members).has_trained(fingerprints(data.validation))
    located = zip(data.places["validation"], data.validation, trained, strict=True)
    return {place: atoms for place, atoms, is_known in located if not is_known}

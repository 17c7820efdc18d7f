"""What is refused before a search starts: parameters and objectives that the training does not have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asecalc_ml import plugins
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AsecalcError, ConfigError, together
from asecalc_ml.potentials.training.options import TrainingRequest, TrainOptions
from asecalc_ml.potentials.tuning.objectives import LOSS, Validation, parse_objectives
from asecalc_ml.potentials.tuning.options import TuneOptions

if TYPE_CHECKING:
    from asecalc_ml.potentials.training.run import Start

ABSENT = object()

ARCHITECTURE = "model.architecture"

#: Options that decide which frames and labels validate.
JUDGING = ("data", "test_data", "split", "target")


def check_search(options: TuneOptions) -> None:
    """Refuse a search that cannot give what it is asked for.

    Raises
    ------
    ConfigError
        For a parameter that is no option, a value at the end of a range that the option does not take, and an
        objective that the training does not give, one line each.
    """
    from asecalc_ml.potentials.training.task import columns

    problems: list[AsecalcError] = [*_same_frames(options)]
    for name, parameter in options.search.space.items():
        for value in parameter.extremes:
            problem = _refusal(options, name, value)
            if problem is not None:
                problems.append(problem)
                break
    given = [LOSS, *columns(options.loss), "train_loss"]
    for objective in parse_objectives(options.search.objectives):
        try:
            objective.check(given)
            _check_loss_stays(objective, options.search.space)
        except AsecalcError as error:
            problems.append(error)
    if problems:
        raise together(ConfigError, problems)


def check_training(options: TuneOptions) -> Start:
    """Do what a training does before its first step, without values of the search.

    Raises
    ------
    AsecalcError
        If the data cannot be read or split, or do not fit the model: no trial could begin.
    """
    from asecalc_ml.potentials.training.run import check

    given = options.trial({}, options.search_directory / "trials" / "0000")
    training = parse_options(given, TrainOptions, source="options of the training")
    return check(TrainingRequest(training, is_trial=True, quiet=True))


def _check_loss_stays(objective: Any, space: Mapping[str, Any]) -> None:
    """Refuse to compare losses of which each is another sum."""
    varied = [name for name in space if name.split(".")[0] == "loss"]
    if varied and isinstance(objective, Validation) and objective.metric in (LOSS, "train_loss"):
        raise ConfigError(
            f"the objective is {objective.metric}, and {varied[0]} varies: no two trials have the same loss.",
            name="objectives.validation.metric",
            value=objective.metric,
            remedy="Choose an error that is the same for all, such as metric: val_forces_mae_meV_A",
        )


def _same_frames(options: TuneOptions) -> Iterator[ConfigError]:
    """Refuse to judge trials by validation frames that differ."""
    for name in options.search.space:
        section = name.split(".")[0]
        if section in JUDGING or (section == "seed" and options.split.file is None):
            remedy = (
                "give split.file, whose frames are the same for every seed" if section == "seed" else None
            )
            yield ConfigError(
                f"search.space, {name}: it decides which frames and labels a trial is judged by, so that "
                f"trials could not be compared{':' if remedy else '.'}",
                name=name,
                remedy=remedy or "Leave it out",
            )


def _refusal(options: TuneOptions, name: str, value: Any) -> AsecalcError | None:
    """Why an option cannot have a value whatever the others are; None if it can."""
    for others in _choices_of_architecture(options, name):
        try:
            data = options.training({**others, name: value})
        except AsecalcError as error:  # on the way to it is a value that has no options
            return error
        try:
            _parse(data)
        except AsecalcError as error:
            blamed = [one for one in (error, *error.others) if _blames(one, name, value)]
            if blamed:
                return blamed[0]
    return None


def _blames(error: AsecalcError, name: str, value: Any) -> bool:
    """Whether an error is about an option or its value, and not about how several fit together."""
    about = error.name or ""
    no_section = name.startswith(f"{about}.") and re.search("unknown key|should be", error.problem)
    return about in (name, str(value)) or bool(no_section)


def _choices_of_architecture(options: TuneOptions, name: str) -> list[dict[str, Any]]:
    """Architectures that an option of the model has to fit."""
    varied = options.search.space.get(ARCHITECTURE)
    if varied is None or name == ARCHITECTURE:
        return [{}]
    return [{ARCHITECTURE: choice} for choice in varied.choices]


def _parse(data: dict[str, Any]) -> None:
    """Check the options of a training, with those of its architecture and its data."""
    training = parse_options(data, TrainOptions, source="search.space")
    chosen = dict(training.model)
    kind = plugins.get("architectures", str(chosen.pop("architecture", "")))
    parse_options({"model": chosen}, kind, source="search.space", within=("model",))


def differences(before: Mapping[str, Any], now: Mapping[str, Any], free: Sequence[str]) -> list[str]:
    """Options, by dotted name, that differ, with both values."""
    return [
        f"{name}: {_shown(old)} there, {_shown(new)} now"
        for name, old, new in _pairs(before, now)
        if old != new and not any(name == one or name.startswith(f"{one}.") for one in free)
    ]


def _pairs(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            inner = f"{name}.{key}" if name else str(key)
            yield from _pairs(before.get(key, ABSENT), now.get(key, ABSENT), inner)
    else:
        yield name, before, now


def _shown(value: Any) -> str:
    return "none" if value is ABSENT else str(value)

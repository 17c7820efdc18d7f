"""The training directory: what a new training may overwrite, and what a resumed one must find unchanged."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from asecalc_ml.config.nested_options import differences
from asecalc_ml.config.options import dump_yaml, load_options
from asecalc_ml.errors import TrainingError, continued_by
from asecalc_ml.files.folder_lock import FolderLock
from asecalc_ml.files.full_disk import file_of, reason
from asecalc_ml.files.reading import damage_named, read_json
from asecalc_ml.files.writing import is_unfinished, obstacle, write_whole
from asecalc_ml.potentials.training.frames.split import Split
from asecalc_ml.potentials.training.options import TrainingRequest, TrainOptions
from asecalc_ml.sources import changed, sources_of_plugins
from asecalc_ml.store.card import SearchCard
from asecalc_ml.store.model_file import SUFFIX, contents_hash
from asecalc_ml.store.registry import Entry, Registry

OPTIONS, SPLIT, LABELS, SOURCES = "train.yaml", "split.json", "labels.json", "sources.json"
SEARCH = "search.json"
LEFT_OUT = "left_out.csv"
METRICS, BEST, LAST = "metrics.csv", "best.ckpt", "last.ckpt"
LOCK = ".lock"

#: Options that a resumed training may have otherwise: they change neither data nor model. The number of
#: epochs is one of them only where the learning rate does not follow from it.
FREE_AT_RESUME = {
    "max_epochs",
    "patience_epochs",
    "threads",
    "device",
    "devices",
    "num_nodes",
    "compile",
    "tracking",
    "directory",
}


def resumed_or_started(request: TrainingRequest) -> TrainingRequest:
    """Turn a request to resume or start into one of the two."""
    if not request.resume_or_start:
        return request
    has_begun = (request.options.training_directory / LAST).exists()
    return replace(request, resume=has_begun, resume_or_start=False)


def finished(request: TrainingRequest) -> Entry | None:
    """Return the registered model of a training that may resume or start and is finished; None otherwise.

    Raises
    ------
    TrainingError
        If its options are not those of the request.
    """
    options, directory = request.options, request.options.training_directory
    trained = directory / f"{options.name}{SUFFIX}"
    entries = [entry for entry in Registry().list() if entry.name == options.name]
    if not (request.resume_or_start and trained.exists() and entries):
        return None
    if contents_hash(entries[0].path) != contents_hash(trained):
        return None
    stored = _check_same_options(directory, options)
    return entries[0] if options.max_epochs == stored.max_epochs else None


def check_directory(request: TrainingRequest) -> None:
    """Look whether the training may begin or go on; nothing is touched.

    Raises
    ------
    TrainingError
        If there is nothing to resume, options or the code of another party's plugin have changed, or an
        unfinished training would be lost.
    """
    options, replace = request.options, request.replace
    directory = options.training_directory
    if why := obstacle(directory):
        raise TrainingError(
            f"cannot write to {directory} ({why})", name=str(directory), remedy="choose another `directory`"
        )
    begun, finished = (directory / LAST).exists(), any(directory.glob(f"*{SUFFIX}"))
    if request.resume:
        _check_resumable(directory, begun, options)
        if finished and not replace and _is_registered(options.name):
            raise TrainingError(
                f"the training in {directory} is finished, and its model registered: nothing is left to do.",
                name=str(directory),
                remedy="With --replace, too, a training that has more epochs now takes its place",
            )
        _check_sources(directory, options, request.allow_different)
    elif begun and not finished and not replace:
        raise TrainingError(
            f"{directory} holds a training that has not finished",
            name=str(directory),
            remedy="continue with --resume, start over with --replace, or choose another `directory`",
        )


def begin(request: TrainingRequest, split: Split) -> None:
    """Store options, split and sources; of a former training nothing is left unless it is resumed."""
    options, directory = request.options, request.options.training_directory
    for path in filter(is_unfinished, list(directory.glob(".*"))):
        path.unlink()
    if not request.resume:
        for path in (
            *(directory / name for name in (LAST, BEST, METRICS, SEARCH, LEFT_OUT)),
            *directory.glob(f"*{SUFFIX}"),
        ):
            path.unlink(missing_ok=True)
    write_whole(directory / OPTIONS, dump_yaml(options))
    split.write(directory / SPLIT)
    write_whole(directory / SOURCES, json.dumps(_sources(options) | _parent(options), indent=2))
    if request.search is not None:
        write_whole(directory / SEARCH, request.search.model_dump_json(indent=2))


def search_of(directory: Path) -> SearchCard | None:
    """The search that chose the options of a training; None where they were given."""
    path = directory / SEARCH
    if not path.exists():
        return None
    with damage_named(path):
        return SearchCard.model_validate(read_json(path, error=TrainingError))


@contextmanager
def writable(directory: Path) -> Iterator[None]:
    """Keep other processes out; say of files that cannot be written, and of Ctrl-C, how a training continues.

    Raises
    ------
    TrainingError
        In place of the operating system's error.
    RunBusyError
        If another process is running the training.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(directory / LOCK, "running this training")
        with closing(lock), continued_by(lambda: continued(directory)):
            yield
    except OSError as error:
        name = file_of(error) or str(directory)
        raise TrainingError(
            f"cannot write to {name}: {reason(error, directory)}.",
            name=name,
            remedy=f"{continued(directory)}, once there is space and the permission to write",
        ) from error


def continued(directory: Path) -> str:
    """Sentence on what is kept of a training, and how it continues."""
    if not (directory / LAST).exists():
        return "No epoch is finished: start again"
    return (
        f"Everything up to {directory / LAST} is kept: continue with "
        f"`asecalc-ml train {directory / OPTIONS} --resume`"
    )


def _check_resumable(directory: Path, begun: bool, options: TrainOptions) -> None:
    if not begun:
        raise TrainingError(
            f"nothing to resume: {directory / LAST} does not exist;",
            name=str(directory / LAST),
            remedy="start without --resume",
        )
    _check_same_options(directory, options)


def _check_same_options(directory: Path, options: TrainOptions) -> TrainOptions:
    """Options that a training began with, which a resumed one must not change."""
    stored = load_options(directory / OPTIONS, TrainOptions)
    before, now = (
        {key: value for key, value in one.model_dump(mode="json").items() if key not in FREE_AT_RESUME}
        for one in (stored, options)
    )
    different = differences(before, now)
    if not different and options.optimizer.spans_training and options.max_epochs != stored.max_epochs:
        raise _other_length(directory, stored, options)
    if different:
        raise TrainingError(
            f"{directory} holds a training that began with other options ({'; '.join(different)})",
            name=different[0].partition(":")[0],
            value=different,
            remedy="put them back to resume it, or start another training with a new `directory`",
        )
    return stored


def _sources(options: TrainOptions) -> dict[str, str]:
    """Sources of other parties' plugins behind a training, see :mod:`asecalc_ml.sources`."""
    readers = [data.get("format") for data in (options.data, options.test_data) if data is not None]
    chosen = [
        ("architectures", options.model.get("architecture")),
        ("losses", options.loss.function),
        *(("datasets", name) for name in readers),
    ]
    return sources_of_plugins(chosen)


def _parent(options: TrainOptions) -> dict[str, str]:
    """Hash of the model that the weights start from, where there is one."""
    if options.init_from is None:
        return {}
    return {"model of init_from": contents_hash(Registry().find(options.init_from).path)}


def _check_sources(directory: Path, options: TrainOptions, allow_different: bool) -> None:
    path = directory / SOURCES
    remedy = "remove it to resume without this check"
    before = read_json(path, error=TrainingError, remedy=remedy) if path.exists() else {}
    if changed(before, _parent(options)):
        raise TrainingError(
            f"'{options.init_from}' is another model than when the training in {directory} started from its "
            "weights",
            name=options.init_from,
            remedy="bring the former one back (`asecalc-ml models add FILE --name NAME --replace`), or start "
            "another training with a new `directory`",
        )
    differences = "; ".join(changed(before, _sources(options)))
    if differences and not allow_different:
        raise TrainingError(
            f"the training in {directory} would continue with {differences}",
            name=str(directory),
            value=differences,
            remedy="bring back the code that it began with, start another training with a new `directory`, "
            "or continue with --allow-different (allow_different=True in Python)",
        )
    if differences:
        warnings.warn(f"the training continues with {differences}", stacklevel=2)


def _is_registered(name: str) -> bool:
    return any(entry.name == name for entry in Registry().list())


def _other_length(directory: Path, stored: TrainOptions, options: TrainOptions) -> TrainingError:
    began_with, schedule = stored.max_epochs, options.optimizer.schedule
    return TrainingError(
        f"max_epochs is {options.max_epochs}, and the training in {directory} began with {began_with}: "
        f"schedule {schedule} takes the learning rate down over all epochs, so that it would have been "
        "another one at every step.",
        name="max_epochs",
        value=options.max_epochs,
        allowed=[began_with],
        remedy=f"Put {began_with} back to resume it, start over with --replace, or train on from the "
        f"finished model under another `name` with `init_from: {options.name}`. A training with "
        "`schedule: one-cycle` and `cycle_epochs` can have more epochs",
    )

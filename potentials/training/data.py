"""The frames of a training, and the part each belongs to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from asecalc_ml.errors import TrainingError
from asecalc_ml.potentials.datasets import DatasetOptions, dataset, dataset_hash
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.training.split import Split


@dataclass(frozen=True)
class TrainingData:
    """Frames of each part, the reader they came from, and their numbers there."""

    train: list[Atoms]
    validation: list[Atoms]
    test: list[Atoms]
    source: DatasetOptions
    split: Split


def read_data(options: TrainOptions, split_file: Path | None) -> TrainingData:
    """Read the frames, and split them as is stored in a file, or anew.

    Raises
    ------
    TrainingError
        If there is nothing to test on, a label has a weight and a frame has none, or the data are not those
        the stored split was drawn for.
    """
    source = dataset(options.data)
    frames = source.read()
    split = _split(frames, options, split_file)
    test = [frames[k] for k in split.test]
    if options.test_data is not None:
        test += dataset(options.test_data).read()
    if not test:
        raise TrainingError("nothing to test on: give `test_data`, or `split.n_test` above zero")
    train, validation = ([frames[k] for k in part] for part in (split.train, split.validation))
    _check_labels([*train, *validation], source, options.loss.fitted)
    return TrainingData(train, validation, test, source, split)


def _check_labels(frames: list[Atoms], source: DatasetOptions, fitted: list[str]) -> None:
    for label in fitted:
        without = sum(label not in atoms.calc.results for atoms in frames)
        if without:
            raise TrainingError(
                f"loss.{label}_weight is above 0, and {without} of the {len(frames)} frames of {source.path} "
                f"that train and validate have no {label}: set it to 0, or give data in which all have it"
            )


def _split(frames: list[Atoms], options: TrainOptions, split_file: Path | None) -> Split:
    data_hash, path = dataset_hash(frames), split_file or options.split.file
    if path is None:
        return Split.draw(frames, options.split, options.seed, data_hash)
    split = Split.read(path)
    split.check(path, len(frames), data_hash)
    return dataclasses.replace(split, data_hash=data_hash)

"""The frames of a training, and the part each belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from asecalc_ml.errors import TrainingError
from asecalc_ml.potentials.datasets import DatasetOptions, dataset, dataset_hash
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.training.split import Split


@dataclass(frozen=True)
class TrainingData:
    """Frames of each part, and the reader they came from."""

    train: list[Atoms]
    validation: list[Atoms]
    test: list[Atoms]
    source: DatasetOptions


def read_data(options: TrainOptions, split_file: Path) -> TrainingData:
    """Read the frames, and split them as is stored; a first time draw the split and store it.

    Raises
    ------
    TrainingError
        If there is nothing to test on, or the data are not those the split was drawn for.
    """
    source = dataset(options.data)
    frames = source.read()
    split = _split(frames, options, split_file)
    test = [frames[k] for k in split.test]
    if options.test_data is not None:
        test += dataset(options.test_data).read()
    if not test:
        raise TrainingError("nothing to test on: give `test_data`, or `split.n_test` above zero")
    return TrainingData([frames[k] for k in split.train], [frames[k] for k in split.validation], test, source)


def _split(frames: list[Atoms], options: TrainOptions, split_file: Path) -> Split:
    data_hash = dataset_hash(frames)
    if not split_file.exists():
        split = Split.draw(len(frames), options.split, options.seed, data_hash)
        split.write(split_file)
        return split
    split = Split.read(split_file)
    if split.data_hash != data_hash:
        raise TrainingError(
            f"the data have changed since {split_file} was written, so frames to test on may have been "
            "trained on: put the old data back, or start another training with a new `directory`"
        )
    return split

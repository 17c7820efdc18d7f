"""Which frames train, validate and test: drawn once from the seed, or given, and stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from asecalc_ml.errors import TrainingError
from asecalc_ml.files import write_whole
from asecalc_ml.potentials.training.groups import draw_grouped, find_groups, info_values
from asecalc_ml.potentials.training.options import SplitOptions
from asecalc_ml.reading import read_json


class _Contents(BaseModel):
    """Contents of a stored split."""

    model_config = ConfigDict(extra="forbid")

    train: list[NonNegativeInt]
    validation: list[NonNegativeInt]
    test: list[NonNegativeInt]
    data_hash: str = ""


@dataclass(frozen=True)
class Split:
    """Frame numbers of each part, counted in the data as they were read."""

    train: list[int]
    validation: list[int]
    test: list[int]
    data_hash: str = ""

    @classmethod
    def draw(cls, frames: Sequence[Atoms], sizes: SplitOptions, seed: int, data_hash: str = "") -> Split:
        """Draw disjoint parts at random; near-duplicates on one side and strata in proportion where asked.

        Raises
        ------
        TrainingError
            If the data hold fewer frames than are asked for, or groups do not fit into the sizes.
        """
        parts, n_frames = (sizes.n_train, sizes.n_validation, sizes.n_test), len(frames)
        if sum(parts) > n_frames:
            raise TrainingError(
                f"split asks for {parts[0]} + {parts[1]} + {parts[2]} = {sum(parts)} frames, the data hold "
                f"{n_frames}; lower split.n_train, split.n_validation or split.n_test"
            )
        random = np.random.default_rng(seed)
        if sizes.stratify_by or sizes.group_by or sizes.group_distance_A:
            groups = find_groups(frames, sizes.group_by, sizes.group_distance_A)
            strata = info_values(frames, sizes.stratify_by)
            return cls(*draw_grouped(groups, strata, parts, random), data_hash)
        order = random.permutation(n_frames)
        ends = np.cumsum(parts)
        return cls(*(sorted(part.tolist()) for part in np.split(order[: ends[-1]], ends[:-1])), data_hash)

    def check(self, path: Path, n_frames: int, data_hash: str) -> None:
        """Compare a split that was read from a file with the data it shall divide.

        Raises
        ------
        TrainingError
            If it was drawn for other data, or a frame is missing or in two parts.
        """
        if self.data_hash not in ("", data_hash):
            raise TrainingError(
                f"the data have changed since {path} was written, so frames to test on may have been "
                "trained on: put the old data back, or start another training with a new `directory`"
            )
        numbers = [*self.train, *self.validation, *self.test]
        if len(set(numbers)) < len(numbers) or not set(numbers) <= set(range(n_frames)):
            raise TrainingError(
                f"{path} names a frame twice, or one beyond the {n_frames} of the data: give each of "
                f"0 to {n_frames - 1} at most once"
            )
        if not self.train or not self.validation:
            raise TrainingError(f"{path} has no frames to train or to validate: give both")

    def write(self, path: Path) -> None:
        """Store the split as JSON."""
        write_whole(path, json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> Split:
        """Read a stored split.

        Raises
        ------
        TrainingError
            If the file is damaged.
        """
        remedy = (
            "it should hold train, validation and test, lists of frame numbers. Start another training with "
            "a new `directory`"
        )
        return cls(**read_json(path, _Contents, TrainingError, remedy))

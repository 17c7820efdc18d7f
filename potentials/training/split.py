"""Which frames train, validate and test: drawn once from the seed, and stored."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from asecalc_ml.errors import TrainingError
from asecalc_ml.files import write_whole
from asecalc_ml.potentials.training.options import SplitOptions


@dataclass(frozen=True)
class Split:
    """Frame numbers of each part, counted in the data as they were read."""

    train: list[int]
    validation: list[int]
    test: list[int]
    data_hash: str

    @classmethod
    def draw(cls, n_frames: int, sizes: SplitOptions, seed: int, data_hash: str = "") -> Split:
        """Draw disjoint parts at random.

        Raises
        ------
        TrainingError
            If the data hold fewer frames than are asked for.
        """
        parts = (sizes.n_train, sizes.n_validation, sizes.n_test)
        if sum(parts) > n_frames:
            raise TrainingError(
                f"split asks for {parts[0]} + {parts[1]} + {parts[2]} = {sum(parts)} frames, the data hold "
                f"{n_frames}; lower split.n_train, split.n_validation or split.n_test"
            )
        order = np.random.default_rng(seed).permutation(n_frames)
        ends = np.cumsum(parts)
        return cls(*(sorted(part.tolist()) for part in np.split(order[: ends[-1]], ends[:-1])), data_hash)

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
        try:
            return cls(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise TrainingError(
                f"{path} is damaged ({error}): start another training with a new `directory`"
            ) from error

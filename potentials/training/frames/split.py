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
from asecalc_ml.files.reading import read_json
from asecalc_ml.files.writing import write_whole
from asecalc_ml.potentials.datasets.label_checks.copies import find_copies
from asecalc_ml.potentials.training.frames.copies import keep_together
from asecalc_ml.potentials.training.frames.groups import (
    draw_grouped,
    find_groups,
    info_values,
    joined,
    of_groups,
)
from asecalc_ml.potentials.training.frames.lineage import PARTS, Lineage
from asecalc_ml.potentials.training.options import SplitOptions

NO_LINEAGE = Lineage()


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
    def draw(
        cls,
        frames: Sequence[Atoms],
        sizes: SplitOptions,
        seed: int,
        data_hash: str = "",
        lineage: Lineage = NO_LINEAGE,
    ) -> Split:
        """Draw disjoint parts at random; near-duplicates on one side and strata in proportion where asked.

        All copies of a structure are drawn for one part. Frames that an ancestor was trained on are drawn for
        training only. Those that chose an ancestor's epoch are not drawn for testing.

        Raises
        ------
        TrainingError
            If the data hold fewer frames than are asked for, or too few that no ancestor has seen, or groups
            do not fit into the sizes.
        """
        parts, n_frames = (sizes.n_train, sizes.n_validation, sizes.n_test), len(frames)
        if sum(parts) > n_frames:
            raise TrainingError(
                f"split asks for {parts[0]} + {parts[1]} + {parts[2]} = {sum(parts)} frames, the data hold "
                f"{n_frames}",
                name="split",
                value=sum(parts),
                allowed=f"up to {n_frames}",
                remedy="lower split.n_train, split.n_validation or split.n_test",
            )
        random, barred = np.random.default_rng(seed), lineage.barred(frames)
        if sizes.stratify_by or sizes.group_by or sizes.group_distance_A:
            groups = joined(find_groups(frames, sizes.group_by, sizes.group_distance_A), find_copies(frames))
            barred = of_groups(barred, groups)
            _check_room(barred, parts, lineage)
            strata = info_values(frames, sizes.stratify_by)
            return cls(*draw_grouped(groups, strata, parts, random, barred), data_hash)
        _check_room(barred, parts, lineage)
        order = random.permutation(n_frames)
        drawn = _draw_alone(order, parts, barred)
        spare = order[~np.isin(order, np.concatenate(drawn))]
        together = keep_together(drawn, spare, frames, barred, random)
        if together is None:  # most structures have copies
            groups = find_copies(frames)
            together = draw_grouped(groups, [""] * n_frames, parts, random, of_groups(barred, groups))
        return cls(*together, data_hash)

    def check(self, path: Path, frames: Sequence[Atoms], data_hash: str, lineage: Lineage) -> None:
        """Compare a split that was read from a file with the data it shall divide.

        Raises
        ------
        TrainingError
            If it was drawn for other data, a frame is missing or in two parts, or one to validate or test was
            trained on by an ancestor.
        """
        n_frames = len(frames)
        if self.data_hash not in ("", data_hash):
            raise TrainingError(
                f"the data have changed since {path} was written, so frames to test on may have been "
                "trained on",
                name=str(path),
                value=data_hash,
                allowed=[self.data_hash],
                remedy="put the old data back, or start another training with a new `directory`",
            )
        numbers = [*self.train, *self.validation, *self.test]
        if len(set(numbers)) < len(numbers) or not set(numbers) <= set(range(n_frames)):
            raise TrainingError(
                f"{path} names a frame twice, or one beyond the {n_frames} of the data",
                name=str(path),
                allowed=f"0 to {n_frames - 1}",
                remedy=f"give each of 0 to {n_frames - 1} at most once",
            )
        if not self.train or not self.validation:
            raise TrainingError(
                f"{path} has no frames to train or to validate", name=str(path), remedy="give both"
            )
        barred = lineage.barred(frames)
        for part, rows in zip(PARTS, barred, strict=True):
            seen = [number for number in getattr(self, part) if rows[number]]
            if seen:
                raise TrainingError(
                    f"{path}: {len(seen)} of the {len(getattr(self, part))} frames of {part} (such as "
                    f"frame {seen[0]}) have been used to train {lineage.names}, which this training starts "
                    "from, so errors on them would be too small.",
                    name=str(path),
                    value=seen,
                    remedy="Move them to train, or leave them out",
                )

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


def _draw_alone(order: np.ndarray, sizes: Sequence[int], barred: np.ndarray) -> list[list[int]]:
    """Parts of given sizes from frames in random order; tests, for which most frames are barred, come first.

    Each part begins at its own place of the order, so that without barred frames the parts follow each other
    there.
    """
    free, parts = np.ones(len(order), dtype=bool), []
    for part in reversed(range(len(sizes))):
        # The random order, from the place on where this part begins; frames taken or barred are skipped.
        turned = np.roll(order, -sum(sizes[:part]))
        chosen = turned[free[turned] & ~barred[part, turned]][: sizes[part]]
        free[chosen] = False
        parts.append(sorted(chosen.tolist()))
    return parts[::-1]


def _check_room(barred: np.ndarray, sizes: Sequence[int], lineage: Lineage) -> None:
    """Refuse to validate and test on more frames than the ancestors leave."""
    (_, n_validation, n_test), (_, for_validation, for_test) = sizes, (~barred).sum(axis=1)
    if n_test <= for_test and n_validation + n_test <= for_validation:
        return
    raise TrainingError(
        f"split asks for {n_validation} frames to validate and {n_test} to test. Of the {barred.shape[1]} "
        f"frames of the data, {for_validation} have not trained {lineage.names}, which this training starts "
        f"from, and {for_test} have not chosen its epoch either (nor has a frame of their group, with "
        "split.group_by or split.group_distance_A).",
        name="split",
        value=(n_validation, n_test),
        allowed=f"up to {for_validation} frames in both, {for_test} of them to test",
        remedy="Add frames that are new to it, lower split.n_validation or split.n_test, or give `test_data`",
    )

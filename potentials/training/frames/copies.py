"""Copies of structures in several parts of a training's data.

Errors on a copy of a training structure say nothing of new structures. Parts that are drawn are changed until
all copies of a structure lie in one of them; parts that a user gives are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from asecalc_ml.errors import TrainingError
from asecalc_ml.potentials.datasets.label_checks.copies import find_copies
from asecalc_ml.potentials.training.frames.lineage import PARTS

#: Number of the frames that are in no part, after those of the parts; so many of them may take a place.
SPARE, MOST_SPARE = len(PARTS), 1000

#: Places of copies that a message lists.
PLACES_NAMED = 10


def keep_together(
    parts: Sequence[Sequence[int]],
    spare: np.ndarray,
    frames: Sequence[Atoms],
    barred: np.ndarray,
    random: np.random.Generator,
) -> list[list[int]] | None:
    """Exchange single frames until all copies of a structure lie in one part, the first that has one.

    A copy in a later part changes places with a frame of no part, or, where these are used up, with one of
    the first part. Both have no copies. Parts without copies in others stay as they are.

    Parameters
    ----------
    parts : sequence of sequences of int
        Frames that train, validate and test.
    spare : ndarray of int
        Frames of no part, in random order.
    frames : sequence of Atoms
    barred : ndarray of bool, shape (3, n_frames)
        Parts that a frame must not go to.
    random : Generator

    Returns
    -------
    list of list of int, or None
        None if there are too few structures without copies.
    """
    rows = [*(np.asarray(part, dtype=int) for part in parts), spare[:MOST_SPARE]]
    numbers, part_of = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    # the first part that has a copy of each structure
    group = find_copies([frames[number] for number in numbers])
    first = np.full(len(numbers), SPARE)
    np.minimum.at(first, group, part_of)
    home, alone = first[group], np.bincount(group)[group] == 1
    for copy in np.flatnonzero((part_of > home) & (part_of < SPARE)):
        part = part_of[copy]
        may_come = alone & ~barred[part, numbers]
        candidates = np.flatnonzero(may_come & (part_of == SPARE))
        if not len(candidates):
            candidates = np.flatnonzero(may_come & (part_of == home[copy]))
        if not len(candidates):
            return None
        partner = random.choice(candidates)
        part_of[copy], part_of[partner] = part_of[partner], part
    return [sorted(numbers[part_of == part].tolist()) for part in range(SPARE)]


def refuse_copies(train: Mapping[str, Atoms], others: Mapping[str, Atoms], option: str, remedy: str) -> None:
    """Refuse frames to validate or test that are copies of training frames, where a user gave them.

    Parameters
    ----------
    train, others : mapping
        Frames by file and number in it.
    option : str
        The option that gave the others.
    remedy : str

    Raises
    ------
    TrainingError
    """
    group = find_copies([*train.values(), *others.values()])
    trained, given = group[: len(train)], group[len(train) :]
    copies = np.flatnonzero(np.isin(given, trained))
    if not len(copies):
        return
    places = list(others)
    named = [places[k] for k in copies[:PLACES_NAMED]]
    original = list(train)[int(np.flatnonzero(trained == given[copies[0]])[0])]
    more = ", …" if len(copies) > len(named) else ""
    raise TrainingError(
        f"{option}: {len(copies)} of its {len(others)} frames that do not train are copies of training "
        f"frames, the first one of {original}: errors on them say nothing of new structures. The copies are "
        f"{', '.join(named)}{more}.",
        name=option,
        value=named,
        remedy=remedy,
    )

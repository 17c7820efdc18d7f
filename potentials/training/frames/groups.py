"""Frames that belong together, and splits that keep them on one side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from ase import Atoms
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from asecalc_ml.errors import TrainingError
from asecalc_ml.structure.minimum_image import minimum_image


def info_values(frames: Sequence[Atoms], key: str | None) -> list[Hashable]:
    """What ``info[key]`` of each frame says, as text; the same for all where no key is given.

    Raises
    ------
    TrainingError
        If a frame does not have it.
    """
    if key is None:
        return [""] * len(frames)
    without = sum(key not in atoms.info for atoms in frames)
    if without:
        known = sorted({name for atoms in frames for name in atoms.info})
        raise TrainingError(
            f"{without} of {len(frames)} frames have no {key!r} in their info, which split or evaluation ask "
            f"for; there are {', '.join(known)}",
            name=key,
            value=key,
            allowed=known,
        )
    return [str(atoms.info[key]) for atoms in frames]


def find_groups(frames: Sequence[Atoms], key: str | None, distance_A: float | None) -> np.ndarray:
    """Number of the group of each frame: frames of one ``info[key]``, or linked by small distances.

    Parameters
    ----------
    distance_A : float, optional
        Frames of the same atoms in the same order are linked where the root mean square displacement is
        smaller, Å. Periodic images do not count, rotations do. Links chain.
    """
    links = [] if key is None else _links_of_values(info_values(frames, key))
    if distance_A is not None:
        links += _close_pairs(frames, distance_A)
    return _connected(links, len(frames))


def joined(groups: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Number of the group of each frame where frames of one group of either kind belong together."""
    links = [*_links_of_values(groups.tolist()), *_links_of_values(others.tolist())]
    return _connected(links, len(groups))


def _connected(links: list[tuple[int, int]], n_frames: int) -> np.ndarray:
    i, j = np.array(links, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(n_frames, n_frames))
    return connected_components(graph, directed=False)[1]


def _links_of_values(values: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Each frame with the first of its value."""
    first: dict[Hashable, int] = {}
    return [(first.setdefault(value, index), index) for index, value in enumerate(values)]


def _close_pairs(frames: Sequence[Atoms], distance_A: float) -> list[tuple[int, int]]:
    kinds: dict[tuple, list[int]] = {}
    for index, atoms in enumerate(frames):
        kinds.setdefault((*atoms.numbers, *atoms.pbc), []).append(index)
    return [pair for same in kinds.values() for pair in _close_among(frames, np.array(same), distance_A)]


def _close_among(frames: Sequence[Atoms], same: np.ndarray, distance_A: float) -> list[tuple[int, int]]:
    positions = np.array([frames[k].positions for k in same])
    cells = np.array([frames[k].cell.array * frames[k].pbc[:, None] for k in same])
    pairs = []
    for a, first in enumerate(same[:-1]):
        # frames further on with about the same cell
        later = np.flatnonzero(np.abs(cells[a + 1 :] - cells[a]).max(axis=(1, 2)) < distance_A) + a + 1
        vectors = (positions[later] - positions[a]).reshape(-1, 3)
        if frames[first].pbc.any() and len(later):
            vectors = minimum_image(vectors, cells[a], frames[first].pbc)
        # mean-square displacement between the frames, atom by atom
        mean_square = (vectors**2).sum(axis=1).reshape(-1, positions.shape[1]).mean(axis=1)
        pairs += [(int(first), int(same[b])) for b in later[mean_square < distance_A**2]]
    return pairs


def of_groups(barred: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Bar each frame from the parts that one of its group is barred from, shape (n_parts, n_frames)."""
    counts = [np.bincount(groups, row)[groups] for row in barred]
    return np.array(counts) > 0


def draw_grouped(
    groups: np.ndarray,
    strata: Sequence[Hashable],
    sizes: Sequence[int],
    random: np.random.Generator,
    barred: np.ndarray | None = None,
) -> list[list[int]]:
    """Parts of given sizes, drawn so that no group is torn and each part has each stratum's share.

    Groups come in random order, barred ones first, then large ones; each goes where its strata are missing
    most.

    Parameters
    ----------
    groups, strata : sequence, length n_frames
        To which group and to which stratum each frame belongs.
    sizes : sequence of int
        Frames of each part; their sum is at most n_frames.
    barred : ndarray of bool, shape (n_parts, n_frames), optional
        Parts that a frame must not go to, the same for all of a group.

    Raises
    ------
    TrainingError
        If a group does not fit into what is left of any part.
    """
    n_frames = len(groups)
    room = np.array([*sizes, n_frames - sum(sizes)], float)
    names, stratum = np.unique(np.array(strata, dtype=str), return_inverse=True)
    # frames of each stratum that each part, and what is left over, should have
    missing = np.outer(room, np.bincount(stratum, minlength=len(names))) / n_frames
    parts: list[list[int]] = [[] for _ in room]
    by_group = np.split(
        np.argsort(groups, kind="stable"), np.cumsum(np.unique(groups, return_counts=True)[1])[:-1]
    )
    members = [by_group[place] for place in random.permutation(len(by_group))]
    kept_out = np.zeros((len(room), n_frames), dtype=bool)
    kept_out[: len(sizes)] = False if barred is None else barred
    for frames in sorted(members, key=lambda one: (kept_out[:, one[0]].sum(), len(one)), reverse=True):
        # the part with room that lacks most of what the group brings
        gain = missing[:, stratum[frames]].sum(axis=1)
        fits = (room >= len(frames)) & ~kept_out[:, frames[0]]
        part = int(np.argmax(np.where(fits, gain, -np.inf)))
        if not fits[part]:
            raise TrainingError(
                f"a group of {len(frames)} frames, copies of one structure included, fits into none of the "
                f"parts of {', '.join(map(str, sizes))} frames",
                value=len(frames),
                allowed=f"up to {max(sizes)} frames",
                remedy="leave a few frames out of the sizes, lower split.group_distance_A, or leave repeated "
                "structures out with `frames`",
            )
        parts[part] += frames.tolist()
        room[part] -= len(frames)
        np.subtract.at(missing[part], stratum[frames], 1)
    return [sorted(part) for part in parts[: len(sizes)]]

"""Which frames have which labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase import Atoms

LABELS = ("energy", "forces", "stress", "dipole")


def with_label(frames: Iterable[Atoms], label: str) -> list[Atoms]:
    """The frames that have a label."""
    return [atoms for atoms in frames if label in atoms.calc.results]


def label_counts(frames: Sequence[Atoms]) -> dict[str, int]:
    """Number of frames that have each of :data:`LABELS`."""
    return {label: len(with_label(frames, label)) for label in LABELS}


def incomplete(counts: Mapping[str, int], n_frames: int) -> str:
    """The labels that only some frames have, in words; empty where each label is in all frames or in none.

    Parameters
    ----------
    counts : mapping
        Frames with each label.
    n_frames : int
        Frames in all.

    Examples
    --------
    >>> incomplete({"energy": 40, "forces": 30, "stress": 8, "dipole": 0}, 40)
    'forces 30, stress 8'
    """
    return ", ".join(f"{label} {count}" for label, count in counts.items() if 0 < count < n_frames)

"""Which frames have which labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

LABELS = ("energy", "forces", "stress", "dipole")

#: Labels that are results of a calculator alone: ``info`` may hold others under these names.
ENERGY_LABELS = ("energy", "forces", "stress")


def label_of(atoms: Atoms, label: str) -> Any:
    """A label of a frame; None where it has none.

    Energy, forces, stress and dipole are among the results of its calculator, targets such as homo in its
    ``info``, in the unit of the target.
    """
    value = None if atoms.calc is None else atoms.calc.results.get(label)
    return atoms.info.get(label) if value is None and label not in ENERGY_LABELS else value


def with_label(frames: Iterable[Atoms], label: str) -> list[Atoms]:
    """The frames that have a label."""
    return [atoms for atoms in frames if label_of(atoms, label) is not None]


def label_counts(frames: Sequence[Atoms], labels: Sequence[str] = LABELS) -> dict[str, int]:
    """Number of frames that have each of the labels."""
    return {label: len(with_label(frames, label)) for label in labels}


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

"""Parts of the circle that a dihedral can be in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Wells = Mapping[str, tuple[float, float]]


def covers_the_circle(wells: Wells) -> bool:
    """Whether every angle lies in exactly one well.

    Examples
    --------
    >>> covers_the_circle({"cis": (-90, 90), "trans": (90, -90)})
    True
    >>> covers_the_circle({"gauche": (0, 120), "trans": (120, 180)})
    False
    """
    begins, ends = (sorted(limit[k] % 360 for limit in wells.values()) for k in (0, 1))
    turns = sum((high - low) % 360 for low, high in wells.values())
    return len(set(begins)) == len(begins) > 1 and begins == ends and turns == 360


def well_numbers(angles: np.ndarray, wells: Wells) -> np.ndarray:
    """Number of the well of each angle, from 0, int8 of the angles' shape; a well's begin belongs to it."""
    import numpy as np

    found = np.zeros(np.shape(angles), dtype=np.int8)
    for number, (low, high) in enumerate(wells.values()):
        found[(angles - low) % 360 < (high - low) % 360] = number
    return found

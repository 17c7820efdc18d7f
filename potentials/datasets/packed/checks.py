"""Tests that every set of frames in arrays has to pass, whichever files it came from."""

from __future__ import annotations

import numpy as np

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.options import LARGEST
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames
from asecalc_ml.structure.element_checks import HEAVIEST


def check_arrays(frames: PackedFrames, place: str) -> None:
    """Refuse numbers that would poison a training.

    Parameters
    ----------
    frames : PackedFrames
    place : str
        What messages call the data.

    Raises
    ------
    DatasetError
        For a frame without atoms, atomic numbers that are no element, positions and cells that are not
        finite, and properties that are infinite; a property that is NaN is missing. The message names the
        first frame.
    """
    of_atom = np.repeat(np.arange(len(frames)), frames.n_atoms)
    _refuse(frames, place, np.flatnonzero(frames.n_atoms == 0), "it has no atoms")
    unknown = (frames.numbers < 1) | (frames.numbers > HEAVIEST)
    _refuse(frames, place, of_atom[unknown], "it has an atomic number that is no element")
    _refuse(frames, place, of_atom[_beyond(frames.positions)], "its positions are no finite numbers")
    if frames.cells is not None:
        _refuse(frames, place, np.flatnonzero(_beyond(frames.cells)), "its cell is no finite numbers")
    for name, values in frames.properties.items():
        known = np.where(np.isnan(values), 0.0, values)
        _refuse(frames, place, np.flatnonzero(_beyond(known)), f"its {name!r} is no finite number")


def _beyond(values: np.ndarray) -> np.ndarray:
    """Rows with a number that is not finite, or as large as in no structure."""
    rows = values.reshape(len(values), -1)
    return ~(np.abs(rows) <= LARGEST).all(axis=1)


def _refuse(frames: PackedFrames, place: str, wrong: np.ndarray, problem: str) -> None:
    if not len(wrong):
        return
    number = int(wrong[0])
    words = [str(texts[number]) for texts in frames.texts.values() if texts[number]]
    words += [f"{name} {values[number]}" for name, values in frames.whole_numbers.items()]
    named = f" ({', '.join(words)})" if words else ""
    raise DatasetError(
        f"{place}, frame {number}{named}: {problem} ({len(np.unique(wrong))} frames in all);",
        name=place,
        value=number,
        remedy="the file is damaged, so get it again or leave the structure out of it",
    )

"""Molecules for the viewer of a page (``templates/viewer.js``): few enough frames, as compact JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors

from asecalc_ml._lazy import renamed
from asecalc_ml.analysis.figures import BLUE, VERMILION
from asecalc_ml.structure.topology.bonds import BROKEN_TOLERANCE

#: Frames of a scene at most, evenly spaced.
MOST_FRAMES = 100
#: Coordinates and values of a scene at most, as long as it has one frame: some 5 bytes each, 300 kB together.
MOST_NUMBERS = 60_000
#: Atoms up to which their names are shown at first.
FEW_ATOMS = 30

TILTED = [[0.94, 0.0, 0.342], [-0.117, 0.94, 0.321], [-0.321, -0.342, 0.883]]  # a cell's faces in perspective


@dataclass(frozen=True, eq=False)
class DrawnMolecule:
    """Atoms and bonds that several frames have in common.

    Parameters
    ----------
    symbols : list of str
    bonds : ndarray of int, shape (n_bonds, 2)
    shifts : ndarray of int, shape (n_bonds, 3)
        Cell shifts from the first atom of a bond to the second.
    """

    symbols: list[str]
    bonds: np.ndarray
    shifts: np.ndarray

    @cached_property
    def key(self) -> tuple:
        """The same for the same molecule."""
        return tuple(self.symbols), self.bonds.tobytes(), self.shifts.tobytes()

    def packed(self) -> dict[str, Any]:
        shifts = self.shifts if self.shifts.any() else self.shifts[:, :0]
        return {"symbols": self.symbols, "bonds": np.hstack([self.bonds, shifts]).tolist()}


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame.

    Parameters
    ----------
    molecule : DrawnMolecule
    positions : ndarray, shape (n_atoms, 3), Å
    cell : ndarray, shape (3, 3), Å
    pbc : ndarray of bool, shape (3,)
    label : str
        What is written below, such as the time.
    """

    molecule: DrawnMolecule
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    label: str

    @property
    def centre(self) -> np.ndarray:
        """Of the cell where all directions are periodic, else of the atoms."""
        return self.cell.sum(axis=0) / 2 if self.pbc.all() else self.positions.mean(axis=0)

    def packed(self, number: int) -> dict[str, Any]:
        """Coordinates as seen from the centre, in hundredths of an Å."""
        fields: dict[str, Any] = {"label": self.label, "molecule": number}
        fields["positions"] = _hundredths(self.positions - self.centre)
        if self.pbc.any():
            fields |= {"cell": _hundredths(self.cell), "corner": _hundredths(-self.centre)}
        return fields


@dataclass(frozen=True)
class Way:
    """A way to colour atoms and bonds.

    Parameters
    ----------
    title, unit : str
    atoms : list of list of float
        Value of each atom in each frame.
    bonds : list of list of float
        Value of each bond in each frame; None for a frame without.
    """

    title: str
    unit: str
    atoms: Sequence[Sequence[float]]
    bonds: Sequence[Sequence[float | None] | None]

    @property
    def largest(self) -> float:
        """Largest size over all frames, where the colours end."""
        listed = [*self.atoms, *(bond for bond in self.bonds if bond is not None)]
        return max((abs(x) for values in listed for x in values if x is not None), default=0.0) or 1.0

    def packed(self) -> dict[str, Any]:
        numbers = {name: [_rounded(values) for values in getattr(self, name)] for name in ("atoms", "bonds")}
        return {"title": self.title, "unit": self.unit, "largest": self.largest, **numbers}


@dataclass(frozen=True)
class Scene:
    """What one viewer shows.

    Parameters
    ----------
    key : str
        Its name in the page.
    title, caption : str
    frames : sequence of Picture
    ways : sequence of Way
        Beside the colours of elements.
    """

    key: str
    title: str
    caption: str
    frames: Sequence[Picture]
    ways: Sequence[Way] = field(default=())

    @property
    def elements(self) -> dict[str, dict[str, Any]]:
        """Radii in Å and colour of each element that is there."""
        symbols = sorted({symbol for frame in self.frames for symbol in frame.molecule.symbols})
        return {symbol: _element(symbol) for symbol in symbols}

    @property
    def is_small(self) -> bool:
        """Whether names of all atoms can be read."""
        return len(self.frames[0].positions) <= FEW_ATOMS

    @property
    def css_ends(self) -> list[str]:
        """Colours of the most negative and the most positive value."""
        return [BLUE, VERMILION]

    def json(self) -> str:
        """The scene for ``viewer.js``, safe inside an HTML element."""
        molecules = {frame.molecule.key: frame.molecule for frame in self.frames}
        numbers = {key: number for number, key in enumerate(molecules)}
        data = {
            "view": _view(self.frames[0]),
            "ends": [[int(color[k : k + 2], 16) for k in (1, 3, 5)] for color in self.css_ends],
            "elements": self.elements,
            "broken": BROKEN_TOLERANCE,
            "molecules": [molecule.packed() for molecule in molecules.values()],
            "frames": [frame.packed(numbers[frame.molecule.key]) for frame in self.frames],
            "ways": [way.packed() for way in self.ways],
        }
        return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def chosen_frames(n_frames: int, numbers_each: int) -> list[int]:
    """Evenly spaced frames, the first and the last among them, as many as a scene may have.

    Examples
    --------
    >>> chosen_frames(5, 27), chosen_frames(5, 30_000), chosen_frames(5, 10**6)
    ([0, 1, 2, 3, 4], [0, 4], [0])
    """
    most = max(1, min(n_frames, MOST_FRAMES, MOST_NUMBERS // numbers_each))
    return np.unique(np.linspace(0, n_frames - 1, most).round().astype(int)).tolist()


def _element(symbol: str) -> dict[str, Any]:
    """Jmol's colour, the covalent radius, and that of the sphere, Å."""
    number = atomic_numbers[symbol]
    color = "#" + "".join(f"{round(255 * part):02x}" for part in jmol_colors[number])
    covalent = round(float(covalent_radii[number]), 3)
    return {"color": color, "covalent": covalent, "radius": round(0.2 + 0.25 * covalent, 3)}


def _view(frame: Picture) -> list[list[float]]:
    """Rotation to begin with: the two largest extents of a molecule lie in the plane of the page."""
    if frame.pbc.any() or len(frame.positions) < 3:
        return TILTED
    _, _, axes = np.linalg.svd(frame.positions - frame.centre, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    return np.round([*axes, np.cross(*axes)], 4).tolist()


def _hundredths(lengths: np.ndarray) -> list[int]:
    return np.rint(100 * lengths).astype(int).ravel().tolist()


def _rounded(values: Sequence[float | None] | None) -> list[float | None] | None:
    return None if values is None else [None if value is None else float(f"{value:.4g}") for value in values]


__getattr__ = renamed(__name__, {"Molecule": "DrawnMolecule"})

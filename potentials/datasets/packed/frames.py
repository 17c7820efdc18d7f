"""Structures and their properties as arrays; an Atoms object is made when it is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import DatasetError
from asecalc_ml.targets.zeros import check_zeros

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike

ENERGY = "energy"


class Lists(NamedTuple):
    """A list of numbers for each frame, such as its vibrational frequencies.

    Parameters
    ----------
    values : ndarray, shape (n_values, ...)
        The lists of all frames, one after the other.
    offsets : ndarray, shape (n_frames + 1,)
        Where the list of each frame begins, and where the last one ends.
    """

    values: np.ndarray
    offsets: np.ndarray

    def take(self, numbers: np.ndarray) -> Lists:
        """Lists of some frames, in their order."""
        rows, offsets = _rows(self.offsets, numbers)
        return Lists(self.values[rows], offsets)

    def of(self, number: int) -> np.ndarray:
        """The list of a frame."""
        return self.values[self.offsets[number] : self.offsets[number + 1]]


@dataclass(frozen=True, eq=False)
class PackedFrames(Sequence["Atoms"]):
    """Structures and their properties as arrays.

    ``frames[3]`` makes an Atoms object with the properties in its ``info``; a slice or an array of numbers
    gives the arrays of these frames. All lengths are in Å.

    Parameters
    ----------
    numbers : ndarray, shape (n_atoms,), uint8
        Atomic numbers of all frames, one after the other.
    positions : ndarray, shape (n_atoms, 3), Å
    offsets : ndarray, shape (n_frames + 1,)
        Where the atoms of each frame begin, and where the last frame ends.
    properties : mapping of str to ndarray, shape (n_frames, ...)
        In the units of ``units``; NaN where a frame lacks a property.
    units : mapping of str to str
        Units of the properties; a property of unknown unit is not in it.
    cells : ndarray, shape (n_frames, 3, 3), Å, optional
        All frames are periodic in three directions if it is given, and molecules otherwise.
    texts : mapping of str to ndarray of str, shape (n_frames,)
        Names, SMILES and other words, empty where a frame has none.
    whole_numbers : mapping of str to ndarray of int, shape (n_frames,)
        Numbers that identify frames.
    of_atoms : mapping of str to ndarray, shape (n_atoms,)
        Values of each atom.
    lists : mapping of str to Lists
    energy : str, optional
        The property that is the potential energy (eV), which the frames have as ``calc.results["energy"]``.
    zeros : mapping of str to str
        What properties are relative to, such as "free atoms", where they are relative and it is known.
    absent : mapping of str to str
        Properties that the data cannot give, and the reason.
    left_out : mapping of str to str
        Names of structures that were not read, and the reason.
    charge, spin : int
        Total charge (e) and number of unpaired electrons of every frame.
    """

    numbers: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    properties: Mapping[str, np.ndarray]
    units: Mapping[str, str]
    cells: np.ndarray | None = None
    texts: Mapping[str, np.ndarray] = field(default_factory=dict)
    whole_numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    of_atoms: Mapping[str, np.ndarray] = field(default_factory=dict)
    lists: Mapping[str, Lists] = field(default_factory=dict)
    energy: str | None = None
    zeros: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    charge: int = 0
    spin: int = 0

    # ---------------------------------------------------------------------------------------- a sequence

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Atoms: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray | list[int]) -> PackedFrames: ...

    def __getitem__(self, index: int | slice | np.ndarray | list[int]) -> Atoms | PackedFrames:
        if isinstance(index, slice | np.ndarray | list):
            return self.take(np.arange(len(self))[index])
        return self._frame(range(len(self))[index])

    def __iter__(self) -> Iterator[Atoms]:
        return map(self._frame, range(len(self)))

    def take(self, numbers: ArrayLike) -> PackedFrames:
        """Arrays of some frames.

        Parameters
        ----------
        numbers : array of int, shape (n_taken,)
            Numbers of the frames, in the order wanted.
        """
        chosen = np.asarray(numbers, dtype=np.int64)
        atoms, offsets = _rows(self.offsets, chosen)
        return replace(
            self,
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            offsets=offsets,
            properties={name: values[chosen] for name, values in self.properties.items()},
            cells=None if self.cells is None else self.cells[chosen],
            texts={name: texts[chosen] for name, texts in self.texts.items()},
            whole_numbers={name: values[chosen] for name, values in self.whole_numbers.items()},
            of_atoms={name: values[atoms] for name, values in self.of_atoms.items()},
            lists={name: lists.take(chosen) for name, lists in self.lists.items()},
        )

    def _frame(self, number: int) -> Atoms:
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator

        own = slice(self.offsets[number], self.offsets[number + 1])
        cell = None if self.cells is None else self.cells[number]
        atoms = Atoms(self.numbers[own], positions=self.positions[own], cell=cell, pbc=cell is not None)
        properties = self._properties_of(number)
        energy = {} if self.energy is None else {ENERGY: properties.get(self.energy)}
        # made now, since it keeps a copy of the structure with everything that this has
        atoms.calc = SinglePointCalculator(atoms, **energy)  # which leaves None out
        for name, values in self.of_atoms.items():
            atoms.set_array(name, values[own])
        atoms.info.update({name: str(texts[number]) for name, texts in self.texts.items()})
        atoms.info.update({name: int(values[number]) for name, values in self.whole_numbers.items()})
        atoms.info.update({name: lists.of(number).copy() for name, lists in self.lists.items()})
        atoms.info.update(properties)
        atoms.info.update(charge=self.charge, spin=self.spin)
        return atoms

    def _properties_of(self, number: int) -> dict[str, float | np.ndarray]:
        """Properties that a frame has; scalars as numbers."""
        return {
            name: column[number].copy() if column.ndim > 1 else float(column[number])
            for name, column in self.properties.items()
            if self._known[name][number]
        }

    @cached_property
    def _known(self) -> dict[str, np.ndarray]:
        """True for each frame that has a property, by the name of the property."""
        return {
            name: np.isfinite(values).reshape(len(values), -1).all(axis=1)
            for name, values in self.properties.items()
        }

    # ------------------------------------------------------------------------------------------ as arrays

    @property
    def n_atoms(self) -> np.ndarray:
        """Number of atoms of each frame, shape (n_frames,)."""
        return np.diff(self.offsets)

    def values(self, name: str) -> np.ndarray:
        """A property of all frames, shape (n_frames, ...), NaN where a frame lacks it.

        Parameters
        ----------
        name : str

        Raises
        ------
        DatasetError
            If the data do not have it; the message names the nearest property, or says why there is none.
        """
        if name in self.properties:
            return self.properties[name]
        if name in self.absent:
            raise DatasetError(
                f"the data have no {name!r}: {self.absent[name]}",
                name=name,
                value=name,
                allowed=list(self.properties),
            )
        remedy = f"There are {', '.join(self.properties)}."
        raise unknown_name_error(DatasetError, f"the data have no {name!r}", name, self.properties, remedy)

    def counts(self) -> dict[str, int]:
        """Number of frames that have each property."""
        return {name: int(known.sum()) for name, known in self._known.items()}

    @property
    def hash(self) -> str:
        """SHA-256 of atoms, cells, charge, spin and properties, 64 hexadecimal digits."""
        digest = hashlib.sha256(json.dumps([len(self), self.charge, self.spin, self.energy]).encode())
        arrays = {"numbers": self.numbers, "positions": self.positions, "offsets": self.offsets}
        arrays |= {} if self.cells is None else {"cells": self.cells}
        for name, values in (arrays | dict(sorted(self.properties.items()))).items():
            digest.update(name.encode())
            digest.update((np.ascontiguousarray(values, dtype="<f8") + 0.0).tobytes())  # there is one zero
        return digest.hexdigest()


def _rows(offsets: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the values of some frames, and where those of each of these frames begin."""
    sizes = np.diff(offsets)[numbers]
    taken = offsets_of(sizes)
    shift = np.repeat(offsets[numbers] - taken[:-1], sizes)
    return np.arange(taken[-1]) + shift, taken


def pack(values: Sequence[ArrayLike]) -> Lists:
    """Lists of numbers, one a frame, as one array.

    Parameters
    ----------
    values : sequence of array, shape (n, ...)
    """
    parts = [np.asarray(part) for part in values]
    return Lists(np.concatenate(parts), offsets_of([len(part) for part in parts]))


def concatenated(parts: Sequence[PackedFrames]) -> PackedFrames:
    """Several sets as one, which has the properties of all; NaN where the set of a frame lacks one.

    Raises
    ------
    DatasetError
        If a property has different units or zeros, or some sets are periodic and others are not.
    """
    if len(parts) == 1:
        return parts[0]
    zeros = {f"set {number}": part.zeros for number, part in enumerate(parts)}
    check_zeros(zeros, sorted({name for part in parts for name in part.zeros}), DatasetError)
    units: dict[str, str] = {}
    for name, unit in (pair for part in parts for pair in part.units.items()):
        if units.setdefault(name, unit) != unit:
            raise DatasetError(
                f"{name!r} is in {units[name]} in one file and in {unit} in another;",
                name=name,
                value=unit,
                allowed=units[name],
                remedy="read them one by one",
            )
    if len({part.cells is None for part in parts}) > 1:
        raise DatasetError("some files hold crystals and others molecules;", remedy="read them one by one")
    joint = [_with_names_of(part, parts) for part in parts]
    first = joint[0]
    return replace(
        first,
        numbers=np.concatenate([part.numbers for part in joint]),
        positions=np.concatenate([part.positions for part in joint]),
        offsets=_joined([part.offsets for part in joint]),
        properties=_joint(joint, "properties"),
        units=units,
        zeros={name: zero for part in parts for name, zero in part.zeros.items()},
        cells=None if first.cells is None else np.concatenate([part.cells for part in joint]),
        texts=_joint(joint, "texts"),
        whole_numbers=_joint(joint, "whole_numbers"),
        of_atoms=_joint(joint, "of_atoms"),
        lists={
            name: Lists(
                np.concatenate([part.lists[name].values for part in joint]),
                _joined([part.lists[name].offsets for part in joint]),
            )
            for name in first.lists
        },
        left_out={name: reason for part in parts for name, reason in part.left_out.items()},
        absent={name: reason for part in parts for name, reason in part.absent.items()},
    )


def _joint(parts: Sequence[PackedFrames], kind: str) -> dict[str, np.ndarray]:
    """Arrays of one kind, which all parts have under the same names, one after the other."""
    mappings = [getattr(part, kind) for part in parts]
    return {name: np.concatenate([mapping[name] for mapping in mappings]) for name in mappings[0]}


def offsets_of(sizes: ArrayLike) -> np.ndarray:
    """Where parts of these sizes begin, and where the last one ends, shape (n_parts + 1,)."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def _joined(offsets: Sequence[np.ndarray]) -> np.ndarray:
    return offsets_of(np.concatenate([np.diff(part) for part in offsets]))


def _with_names_of(part: PackedFrames, parts: Sequence[PackedFrames]) -> PackedFrames:
    """A set with everything that any of several sets has: NaN, empty texts and empty lists."""
    n_frames, n_atoms = len(part), len(part.numbers)
    shapes = {name: values.shape[1:] for one in parts for name, values in one.properties.items()}
    no_list = Lists(np.empty(0), np.zeros(n_frames + 1, dtype=np.int64))
    texts, whole_numbers, lists, of_atoms = (
        sorted({name for one in parts for name in getattr(one, kind)})
        for kind in ("texts", "whole_numbers", "lists", "of_atoms")
    )
    return replace(
        part,
        properties={
            name: part.properties.get(name, np.full((n_frames, *shape), np.nan))
            for name, shape in shapes.items()
        },
        texts={name: part.texts.get(name, np.full(n_frames, "")) for name in texts},
        whole_numbers={
            name: part.whole_numbers.get(name, np.zeros(n_frames, dtype=np.int64)) for name in whole_numbers
        },
        lists={name: part.lists.get(name, no_list) for name in lists},
        of_atoms={name: part.of_atoms.get(name, np.full(n_atoms, np.nan)) for name in of_atoms},
    )


# ----------------------------------------------------------------------------------------------- as a file

#: Mappings of arrays, and what is stored of them as JSON.
OF_ARRAYS = ("properties", "texts", "whole_numbers", "of_atoms")
OF_WORDS = ("units", "zeros", "energy", "absent", "left_out", "charge", "spin")


def to_arrays(frames: PackedFrames) -> dict[str, np.ndarray]:
    """All of a set as arrays by name, which an npz file stores."""
    words = {name: getattr(frames, name) for name in OF_WORDS}
    arrays = {"numbers": frames.numbers, "positions": frames.positions, "offsets": frames.offsets}
    arrays |= {} if frames.cells is None else {"cells": frames.cells}
    for kind in OF_ARRAYS:
        arrays |= {f"{kind}/{name}": values for name, values in getattr(frames, kind).items()}
    for name, lists in frames.lists.items():
        arrays |= {f"lists/{name}": lists.values, f"offsets/{name}": lists.offsets}
    return arrays | {"words": np.frombuffer(json.dumps(words, default=dict).encode(), dtype=np.uint8)}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> PackedFrames:
    """The set that :func:`to_arrays` stored.

    Raises
    ------
    LookupError, ValueError, TypeError
        If these are other arrays.
    """
    words = json.loads(arrays["words"].tobytes())
    return PackedFrames(
        numbers=arrays["numbers"],
        positions=arrays["positions"],
        offsets=arrays["offsets"],
        cells=arrays.get("cells"),
        lists={name: Lists(values, arrays[f"offsets/{name}"]) for name, values in _named(arrays, "lists")},
        properties=dict(_named(arrays, "properties")),
        texts=dict(_named(arrays, "texts")),
        whole_numbers=dict(_named(arrays, "whole_numbers")),
        of_atoms=dict(_named(arrays, "of_atoms")),
        **words,
    )


def _named(arrays: Mapping[str, np.ndarray], kind: str) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of one kind by their names."""
    beginning = f"{kind}/"
    return (
        (name.removeprefix(beginning), array) for name, array in arrays.items() if name.startswith(beginning)
    )

"""Frames of the same atoms as text in extended XYZ, with all that ASE reads back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from asecalc_ml.structure.files.stored_constraints import movable

if TYPE_CHECKING:
    from ase import Atoms

COLUMNS = "species:S:1:pos:R:3"
#: Keys of a comment that a frame has itself.
RESERVED = ("Properties", "Lattice", "pbc")
NEXT_KEY = "asecalc_ml_next"


class FrameText:
    """Writes frames; what they have in common is encoded once.

    Columns of masses, initial charges, initial magnetic moments, tags and ``move_mask`` are written where
    they differ from ASE's defaults.

    Parameters
    ----------
    atoms : Atoms
        One of the frames. Every frame has its elements, masses, tags, constraints, pbc and ``info``.
    columns : sequence of str
        Names of further columns, each of three real numbers.
    without : collection of str
        Keys of ``info`` that are not written.
    """

    def __init__(self, atoms: Atoms, *columns: str, without: Collection[str] = ()):
        further = dict(_further_columns(atoms))
        names = [COLUMNS, *(f"{name}:R:3" for name in columns), *further]
        self._properties = f"Properties={':'.join(names)}"
        self._symbols = atoms.get_chemical_symbols()
        self._ends = ["".join(f" {word}" for word in words) for words in zip(*further.values(), strict=True)]
        self._ends = self._ends or [""] * len(atoms)
        self._last_words = _last_words(atoms, without)

    def __call__(self, atoms: Atoms, *columns: np.ndarray, **values: Any) -> str:
        """Text of a frame.

        Parameters
        ----------
        atoms : Atoms
            Its positions and cell are taken.
        *columns : ndarray, shape (n_atoms, 3)
        **values
            Numbers and texts for the comment, written with all digits.
        """
        numbers = np.concatenate([atoms.positions, *columns], axis=1).tolist()
        rows = [
            f"{symbol} {' '.join(map(repr, row))}{end}"
            for symbol, row, end in zip(self._symbols, numbers, self._ends, strict=True)
        ]
        return "\n".join([str(len(rows)), self._comment(atoms, values), *rows, ""])

    def _comment(self, atoms: Atoms, values: Mapping[str, Any]) -> str:
        words = [self._properties, *(f"{key}={value!r}" for key, value in values.items()), self._last_words]
        if atoms.cell.array.any():
            words.insert(0, f'Lattice="{" ".join(map(repr, atoms.cell.array.ravel().tolist()))}"')
        return " ".join(words)


def _further_columns(atoms: Atoms) -> Iterator[tuple[str, list[str]]]:
    """Header of each column that is needed, and its text for every atom."""
    from ase.data import atomic_masses

    defaults = {"masses": atomic_masses[atoms.numbers], "initial_charges": 0, "initial_magmoms": 0, "tags": 0}
    for name, default in defaults.items():
        if atoms.has(name) and (atoms.arrays[name] != default).any():
            yield _column(name, "I" if name == "tags" else "R", atoms.arrays[name])
    if (free := movable(atoms)) is not None:
        yield _column("move_mask", "L", np.where(free, "T", "F"))


def _column(name: str, kind: str, values: np.ndarray) -> tuple[str, list[str]]:
    rows = values.reshape(len(values), -1).tolist()
    return f"{name}:{kind}:{len(rows[0])}", [" ".join(map(str, row)) for row in rows]


def _last_words(atoms: Atoms, without: Collection[str]) -> str:
    from ase.calculators.calculator import all_properties
    from ase.io.extxyz import key_val_dict_to_str

    info = readable_info(atoms.info, {*all_properties, *without})
    pbc = f'pbc="{" ".join("FT"[int(is_periodic)] for is_periodic in atoms.pbc)}"'
    return f"{pbc} {key_val_dict_to_str(info)}".rstrip()


def readable_info(info: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """Prepare ``info`` for ASE's writer of extended XYZ, so that ASE's reader returns the same values.

    Without it back-slashes (as in SMILES), line ends, and texts such as "T" or "12" come back as something
    else. Values that cannot come back are left out.

    Parameters
    ----------
    info : mapping
    without : collection of str
        Further keys that are left out.
    """
    forms = {key: _readable(key, value) for key, value in info.items() if key not in (*RESERVED, *without)}
    return {key: value for key, value in forms.items() if value is not None}


def _readable(key: Any, value: Any) -> Any:
    """The form of a value in which it comes back; None if there is none."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float):
        return value if _first_form(key, 1) is not None else None
    return _first_form(key, value) if isinstance(value, str) else _find_form(key, value)


@lru_cache(maxsize=1024)
def _first_form(key: Any, value: Any) -> Any:
    return _find_form(key, value)


def _find_form(key: Any, value: Any) -> Any:
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

    for form in _forms(value):
        try:
            text = key_val_dict_to_str({key: form})
            read = key_val_str_to_dict(f"{text} {NEXT_KEY}=1")  # a key without a value takes the next one's
            if read.pop(NEXT_KEY) == 1 and text.isprintable() and _are_same(read, {key: value}):
                return form
        except Exception:  # ASE raises various errors for values that it cannot write
            continue
    return None


def _forms(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, str):
        yield value.replace("\\", "\\\\")
    with suppress(TypeError):
        plain = value.tolist() if isinstance(value, np.ndarray) else value
        yield f"_JSON {json.dumps(plain)}".replace("\\", "\\\\")


def _are_same(read: dict, given: dict) -> bool:
    if list(read) != list(given):
        return False
    (one,), (other,) = read.values(), given.values()
    if isinstance(one, str | bool | dict) or isinstance(other, str | bool | dict):
        return type(one) is type(other) and one == other
    one, other = np.asarray(one), np.asarray(other)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")

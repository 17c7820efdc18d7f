"""Charge and spin that a file states, and that ASE's readers leave out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml.structure.charge_and_spin import means_state

if TYPE_CHECKING:
    from ase import Atoms

CHARGES_OF_ROWS = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}  # codes in the rows of atoms of a molfile
DOUBLET = 4  # another such code
UNPAIRED = {2: 1, 3: 2}  # electrons, of the multiplicities in `M  RAD`


def add_stated(frames: list[Atoms], path: Path, file_format: str) -> None:
    """Write charge and spin of a file's own format into ``info`` of its frames, where it states them.

    Key-value pairs of ASE's databases, the line of charge and multiplicity of Gaussian's input, and charges
    and radicals of the first molecule of a molfile (V2000, MDL's CTfile formats).
    """
    if read := READERS.get(file_format):
        for atoms, stated in zip(frames, read(path), strict=False):
            atoms.info |= stated


def _of_database(path: Path) -> list[dict[str, Any]]:
    from ase.db import connect

    if path.suffix not in (".db", ".json"):  # compressed ones cannot be opened
        return []
    rows = list(connect(path).select())  # whose `charge` is not the stored one, but a sum of initial charges
    return [{key: vars(row)[key] for key in row.key_value_pairs if means_state(key)} for row in rows]


def _of_gaussian(path: Path) -> list[dict[str, Any]]:
    from ase.io import read

    parameters = read(path, format="gaussian-in", attach_calculator=True).calc.parameters
    return [{"charge": parameters["charge"], "multiplicity": parameters["mult"]}]


def _of_molfile(path: Path) -> list[dict[str, Any]]:
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "r") as file:
        lines = file.read().splitlines()
    n_atoms = int(lines[3][:3])
    codes = [int(line[36:39] or 0) for line in lines[4 : 4 + n_atoms]]
    charges, radicals = _properties(lines, "M  CHG"), _properties(lines, "M  RAD")
    if charges or radicals:  # they replace the codes in the rows
        charge, spin = sum(charges), sum(UNPAIRED.get(code, 0) for code in radicals)
    else:
        charge, spin = sum(CHARGES_OF_ROWS.get(code, 0) for code in codes), codes.count(DOUBLET)
    return [{"charge": charge, "spin": spin}] if charge or spin else [{}]


def _properties(lines: list[str], name: str) -> list[int]:
    """Values of all atoms in the lines of a property, such as ``M  CHG  2   1  -1   4   1``."""
    entries = [line[9:].split() for line in lines if line.startswith(name)]
    return [int(value) for words in entries for value in words[1::2]]


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "db": _of_database,
    "json": _of_database,
    "gaussian-in": _of_gaussian,
    "mol": _of_molfile,
    "sdf": _of_molfile,
}

"""Crystals from CIF files, in a folder or in an archive."""

from __future__ import annotations

import io
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import DatasetError
from asecalc_ml.files.reading import DAMAGE, damage_named, described
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames, offsets_of
from asecalc_ml.potentials.datasets.readers.cif_csv.table import Table, read_table
from asecalc_ml.structure.element_checks import FULL
from asecalc_ml.terminal.progress import progress

if TYPE_CHECKING:
    from ase import Atoms
    from ase.io.cif import CIFBlock

PARTIAL, UNREADABLE, OVERLAPPING = "partial occupancy", "unreadable", "atoms closer than 0.4 Å"
NO_ROW, NO_FILE = "no row in the table", "no CIF file"
CLOSEST_A = 0.4  # H2 has 0.74 Å
IDENTITY = "x,y,z"
OCCUPANCY = "_atom_site_occupancy"
SYMMETRY = (
    "_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz", "_space_group_symop.operation_xyz",
)  # fmt: skip
GROUP_NUMBERS = ("_symmetry_int_tables_number", "_space_group_it_number", "_space_group.it_number")


class LeftOutError(Exception):
    """A structure that is not read, and why."""


def read_crystals(files: Sequence[Path], place: Path, table_path: Path) -> PackedFrames:
    """Crystals that have a row in the table, in the order of the table.

    Parameters
    ----------
    files : sequence of Path
        CIF files, or one archive of them.
    place : Path
        The folder or the archive.
    table_path : Path

    Raises
    ------
    DatasetError
        If the table or the archive is damaged, or no structure can be read.
    """
    table = read_table(table_path)
    crystals: dict[str, Atoms] = {}
    left_out: dict[str, str] = {}
    remedy = "download it again, or unpack it and name the folder in `path`"
    shown = progress(f"reading {place.name}", len(table.rows), unit="structures")
    with damage_named(place, DatasetError, remedy), shown as advance:
        for name, content in _contents(files, place):
            try:
                if name not in table.rows:
                    raise LeftOutError(NO_ROW)
                advance(1)
                crystals[name] = crystal(content)
            except LeftOutError as why:
                left_out[name] = str(why)
    without = [name for name in table.rows if name not in crystals and name not in left_out]
    left_out |= dict.fromkeys(without, NO_FILE)
    if not crystals:
        name, why = next(iter(left_out.items()))
        raise DatasetError(
            f"no structure of {place} can be read with a row of {table_path}; {name}: {why}.",
            name=str(place),
            value=left_out,
            remedy="The first column of the table names the CIF files, without folder and .cif",
        )
    return _packed(crystals, table, left_out)


def _contents(files: Sequence[Path], place: Path) -> Iterator[tuple[str, bytes]]:
    """Name without ``.cif`` and text of each file."""
    if place.is_dir():
        for file in files:
            yield file.stem, file.read_bytes()
        return
    with tarfile.open(place) as archive:
        for member in archive:
            name = Path(member.name).name  # macOS adds files of its own that begin with a dot
            if name.endswith(".cif") and not name.startswith(".") and (file := archive.extractfile(member)):
                yield name.removesuffix(".cif"), file.read()


def _packed(crystals: dict[str, Atoms], table: Table, left_out: dict[str, str]) -> PackedFrames:
    names = sorted(crystals, key=lambda name: table.rows[name])
    chosen = [crystals[name] for name in names]
    rows = np.array([table.rows[name] for name in names])
    return PackedFrames(
        numbers=np.concatenate([atoms.numbers for atoms in chosen]).astype(np.uint8),
        positions=np.concatenate([atoms.positions for atoms in chosen]),
        offsets=offsets_of([len(atoms) for atoms in chosen]),
        properties={name: values[rows] for name, values in table.columns.items()},
        units={},
        cells=np.array([atoms.cell.array for atoms in chosen]),
        texts={"name": np.array(names)},
        absent=table.faulty,
        left_out=left_out,
    )


def crystal(content: bytes) -> Atoms:
    """The structure of a CIF file.

    Raises
    ------
    LeftOutError
        If it cannot be read, has partial occupancies or overlapping atoms, or is no crystal.
    """
    from ase.io.cif import parse_cif

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that do not matter for a list of positions
            blocks = [block for block in parse_cif(io.BytesIO(content)) if block.has_structure()]
            if len(blocks) != 1:
                raise LeftOutError(f"{UNREADABLE}: {len(blocks)} structures in the file")
            if any(occupancy < FULL for occupancy in _occupancies(blocks[0])):
                raise LeftOutError(PARTIAL)
            atoms = _atoms(blocks[0])
    except (*DAMAGE, AssertionError) as error:
        raise LeftOutError(f"{UNREADABLE}: {type(error).__name__}: {described(error)}") from None
    _check(atoms)
    return atoms


def _occupancies(block: CIFBlock) -> list[float]:
    """Occupancies that the file states as numbers; `.` and `?` stand for whole atoms."""
    values = block.get(OCCUPANCY) or []
    return [value for value in values if isinstance(value, int | float)]


def _atoms(block: CIFBlock) -> Atoms:
    """All atoms of the cell. ASE's search for images takes seconds, and is left out where there are none."""
    atoms = block.get_unsymmetrized_structure() if _is_whole(block) else block.get_atoms()
    atoms.pbc = True
    return atoms


def _is_whole(block: CIFBlock) -> bool:
    """Return True if the file lists every atom of the cell: no symmetry but the identity is stated."""
    operations = [operation for key in SYMMETRY for operation in _listed(block.get(key))]
    groups = {str(block[key]) for key in GROUP_NUMBERS if key in block}
    is_identity = all("".join(one.split()).lower() == IDENTITY for one in operations)
    return is_identity and groups <= {"1"} and bool(operations or groups)


def _listed(value: object) -> list[str]:
    return [] if value is None else [str(value)] if isinstance(value, str) else [str(one) for one in value]  # type: ignore[attr-defined]


def _check(atoms: Atoms) -> None:
    from matscipy.neighbours import neighbour_list

    if not np.isfinite([*atoms.positions, *atoms.cell.array]).all() or atoms.cell.rank < 3:
        raise LeftOutError(f"{UNREADABLE}: no cell, or coordinates that are no finite numbers")
    if len(neighbour_list("i", atoms, CLOSEST_A)):
        raise LeftOutError(OVERLAPPING)

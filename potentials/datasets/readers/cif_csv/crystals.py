"""Crystals from CIF files, in a folder or in an archive."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import DatasetError, StructureError
from asecalc_ml.files.reading import DAMAGE, described
from asecalc_ml.potentials.datasets.packed.archives import files_in
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames, offsets_of
from asecalc_ml.potentials.datasets.readers.cif_csv.table import PropertyTable, read_table
from asecalc_ml.structure.element_checks import FULL
from asecalc_ml.structure.loading import check_structure
from asecalc_ml.terminal.progress import progress

if TYPE_CHECKING:
    from ase import Atoms
    from ase.io.cif import CIFBlock

SUFFIX = ".cif"
#: Why structures are left out.
PARTIAL, IMPOSSIBLE, UNREADABLE = "partial occupancy", "impossible geometry", "unreadable"
NO_ROW, NO_FILE = "no row in the table", "no CIF file"
OCCUPANCY = "_atom_site_occupancy"
#: What states the symmetry: operations, and number or name of the space group.
SYMMETRY = (
    "_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz", "_space_group_symop.operation_xyz",
    "_symmetry_int_tables_number", "_space_group_it_number", "_space_group.it_number",
    "_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt", "_space_group.patterson_name_h-m",
)  # fmt: skip
#: How the identity alone is written, without spaces, or that nothing is known.
IDENTITY = ("x,y,z", "1", "p1", "?", ".", "")


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
    with progress(f"reading {place.name}", len(table.rows), unit="structures") as advance:
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
        name, reason = next(iter(left_out.items()))
        raise DatasetError(
            f"no structure of {place} can be read with a row of {table_path}; {name}: {reason}.",
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
    for name, content in files_in(place, SUFFIX):
        yield name.removesuffix(SUFFIX), content


def _packed(crystals: dict[str, Atoms], table: PropertyTable, left_out: dict[str, str]) -> PackedFrames:
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
        If it cannot be read, has partial occupancies or overlapping atoms, or no cell.
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
            check_structure(atoms)
    except StructureError as error:
        raise LeftOutError(f"{IMPOSSIBLE}: {error.problem}") from None
    except (*DAMAGE, AssertionError) as error:
        raise LeftOutError(f"{UNREADABLE}: {type(error).__name__}: {described(error)}") from None
    return atoms


def _occupancies(block: CIFBlock) -> list[float]:
    """Occupancies that the file states as numbers; `.` and `?` stand for whole atoms."""
    values = block.get(OCCUPANCY) or []
    return [value for value in values if isinstance(value, int | float)]


def _atoms(block: CIFBlock) -> Atoms:
    """All atoms of the cell. ASE's search for images takes seconds, and is left out where there are none."""
    atoms = block.get_unsymmetrized_structure() if _is_whole(block) else block.get_atoms()
    atoms.pbc = True
    atoms.info.clear()
    return atoms


def _is_whole(block: CIFBlock) -> bool:
    """Return True if the file lists every atom of the cell: no symmetry but the identity is stated."""
    stated = (np.atleast_1d(block[key]) for key in SYMMETRY if key in block)
    return all("".join(str(value).split()).lower() in IDENTITY for values in stated for value in values)

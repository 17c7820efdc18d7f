"""QM9's own format: a .xyz file for each molecule, in a folder or in the original archive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asecalc_ml.errors import DatasetError
from asecalc_ml.files.reading import damage_named
from asecalc_ml.potentials.datasets.packed.archives import files_in
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames, pack
from asecalc_ml.potentials.datasets.readers.qm9.molecules import SCALARS, molecules
from asecalc_ml.terminal.progress import progress

TAG = "gdb"  # first word of the second line of a file
N_FURTHER_LINES = 5  # number of atoms, properties, frequencies, SMILES, InChI
DOWNLOAD_AGAIN = "download the archive of QM9 again"


class Molecule(NamedTuple):
    """One molecule in the units of its file."""

    number: int
    numbers: list[int]
    positions: np.ndarray
    scalars: list[float]
    charges: np.ndarray
    frequencies: list[float]
    smiles: str


def is_raw(path: Path) -> bool:
    """Return True if a file is in QM9's own format."""
    with path.open("rb") as file:
        return file.readline().strip().isdigit() and file.readline().startswith(TAG.encode())


def read_files(files: Sequence[Path], place: Path) -> PackedFrames:
    """Molecules of files, one in each.

    Parameters
    ----------
    files : sequence of Path
    place : Path
        What errors call all files together.

    Raises
    ------
    DatasetError
        If a file is damaged or cut short.
    """
    with progress("reading QM9", len(files), unit="molecules") as advance:

        def texts() -> Iterator[tuple[str, bytes]]:
            for file in files:
                yield file.name, file.read_bytes()
                advance(1)

        return _packed(texts(), place)


def read_archive(path: Path) -> PackedFrames:
    """Molecules of a tar archive of files, one in each.

    Raises
    ------
    DatasetError
        If the archive or a file in it is damaged or cut short, or holds no molecules.
    """
    with progress("reading QM9", path.stat().st_size // 1000, unit="kB") as advance:
        return _packed(files_in(path, ".xyz", advance), path)


def _packed(texts: Iterable[tuple[str, bytes]], place: Path) -> PackedFrames:
    parsed = []
    for name, content in texts:
        with damage_named(place, DatasetError, DOWNLOAD_AGAIN, f"in {name}"):
            parsed.append(_parsed(content.decode("ascii")))
    if not parsed:
        raise DatasetError(
            f"{place} holds no .xyz files", name=str(place), remedy="name the archive of QM9 in `path`"
        )
    index, numbers, positions, scalars, charges, frequencies, smiles = zip(*parsed, strict=True)
    return molecules(
        index,
        np.concatenate(numbers).astype(np.uint8),
        np.concatenate(positions),
        [len(part) for part in numbers],
        np.array(scalars),
        smiles=smiles,
        charges=np.concatenate(charges),
        frequencies=pack(frequencies),
    )


def _parsed(text: str) -> Molecule:
    """One molecule.

    The lines are: the number of atoms; ``gdb``, the number of the molecule and its 15 properties; symbol,
    position and Mulliken charge of each atom; the frequencies; two SMILES, from GDB and of the relaxed
    geometry; two InChI. Exponents may be written ``*^``, as Mathematica does.

    Raises
    ------
    ValueError, LookupError
        If it is something else.
    """
    from ase.data import atomic_numbers

    lines = text.replace("*^", "e").splitlines()
    n_atoms = int(lines[0])
    if len(lines) < n_atoms + N_FURTHER_LINES:
        raise ValueError(f"{len(lines)} lines for {n_atoms} atoms")
    tag, index, *scalars = lines[1].split()
    if tag != TAG or len(scalars) != len(SCALARS):
        raise ValueError(f"line 2 is not `{TAG}`, a number and {len(SCALARS)} properties")
    atoms = [line.split() for line in lines[2 : n_atoms + 2]]
    table = np.array([row[1:] for row in atoms], dtype=float)
    if table.shape != (n_atoms, 4):
        raise ValueError("an atom is not a symbol, three coordinates and a charge")
    smiles = lines[n_atoms + 3].split()
    return Molecule(
        int(index),
        [atomic_numbers[row[0]] for row in atoms],
        table[:, :3],
        [float(value) for value in scalars],
        table[:, 3],
        [float(value) for value in lines[n_atoms + 2].split()],
        smiles[0],
    )

"""QM9 as extended XYZ, with its properties under their names there and in the units of QM9's files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames
from asecalc_ml.potentials.datasets.readers.qm9.molecules import molecules
from asecalc_ml.terminal.progress import progress

if TYPE_CHECKING:
    from ase import Atoms

#: Names of the properties in files, in the order of SCALARS and each followed by further spellings.
KEYS = (
    ("A",), ("B",), ("C",), ("mu",), ("alpha",), ("epsHOMO", "homo"), ("epsLUMO", "lumo"), ("epsgap", "gap"),
    ("<R2>", "R2", "r2"), ("zpve",), ("U0", "u0"), ("U", "u298"), ("H", "h298"), ("G", "g298"), ("Cv", "cv"),
)  # fmt: skip
INDEX = ("index", "gdb_index", "gdb_idx")


def read_molecules(path: Path) -> PackedFrames:
    """Molecules of one extended XYZ file.

    Raises
    ------
    DatasetError
        If the file is damaged, or no molecule has any of QM9's properties.
    """
    from asecalc_ml.structure.files.structure_file import open_structures

    structures = open_structures(path)
    with progress("reading QM9", len(structures), unit="molecules") as advance:
        frames = []
        for atoms in structures:
            frames.append(atoms)
            advance(1)
    scalars = np.array([[_value(atoms, names) for names in KEYS] for atoms in frames])
    if not frames or np.isnan(scalars).all():
        names = sorted({name for atoms in frames for name in atoms.info} - {"charge", "spin"})
        raise DatasetError(
            f"{path} has none of QM9's properties; it has {', '.join(names) or 'nothing but positions'}.",
            name=str(path),
            value=names,
            allowed=[name for keys in KEYS for name in keys],
            remedy=f"QM9 calls them {', '.join(keys[0] for keys in KEYS)}. Read others with `format: ase`",
        )
    return molecules(
        [next((int(atoms.info[name]) for name in INDEX if name in atoms.info), 0) for atoms in frames],
        np.concatenate([atoms.numbers for atoms in frames]).astype(np.uint8),
        np.concatenate([atoms.positions for atoms in frames]),
        [len(atoms) for atoms in frames],
        scalars,
        smiles=[str(atoms.info.get("smiles", "")) for atoms in frames],
    )


def _value(atoms: Atoms, names: tuple[str, ...]) -> float:
    """The property that stands under one of some names; NaN if there is none."""
    value = next((atoms.info[name] for name in names if name in atoms.info), np.nan)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DatasetError(
            f"{names[0]} is {value!r}, which is no number", name=names[0], value=value
        ) from None

"""Other distances in the structures of a scan: where a proton goes while a bond is pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from asecalc_ml.analysis.base import Record
from asecalc_ml.analysis.scan.curve import WHOLE, Numbers
from asecalc_ml.errors import AnalysisError
from asecalc_ml.structure.minimum_image import minimum_image
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.topology.chains import name_of

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.base import AnyRun

Structures = dict[tuple[str, int], "Atoms"]  # by the calculator that made them and number of the point


class Followed(Record):
    """A distance in the structures that a calculator made."""

    pair: str = Field(description="atoms, such as N3-H9")
    calculator: str
    distances_A: Numbers = Field(description="nearest image; null where no structure was computed")


def follow(run: AnyRun, about: dict[str, Any], pairs: list[tuple[int, int]]) -> list[Followed]:
    """Distances along a scan, for each calculator that made structures of its own.

    Raises
    ------
    AnalysisError
        If an atom does not exist, or is paired with itself.
    """
    if not pairs:
        return []
    check_pairs(run.atoms, pairs)
    structures = _structures(run, about)
    makers = dict.fromkeys(maker for maker, _ in structures)
    return [
        Followed(
            pair=name_of(run.atoms, pair),
            calculator=maker,
            distances_A=[
                _distance(structures.get((maker, point)), pair) for point in range(len(about["values"]))
            ],
        )
        for maker in makers
        for pair in pairs
    ]


def check_pairs(atoms: Atoms, pairs: list[tuple[int, int]]) -> None:
    """Refuse what are not two atoms of the structure, with an AnalysisError."""
    for i, j in pairs:
        if not (0 <= i < len(atoms) and 0 <= j < len(atoms)) or i == j:
            raise AnalysisError(
                f"follow: {[i, j]} are not two atoms of the structure;",
                name="follow",
                value=[i, j],
                allowed=f"0 to {len(atoms) - 1}",
                remedy=f"atoms are numbered from 0 to {len(atoms) - 1}",
            )


def _structures(run: AnyRun, about: dict[str, Any]) -> Structures:
    """The trajectory has one frame for each computed row that is not a member's."""
    table = run.read_scan_table()
    written = np.flatnonzero((table["member"] == WHOLE) & np.isfinite(table["energy_eV"]))
    structures: Structures = {}
    for row, atoms in zip(written, run.frames(), strict=False):
        maker = about["calculators"][int(table["calculator"][row])]["geometries_of"]
        structures.setdefault((maker, int(table["point"][row])), atoms)
    return structures


def _distance(atoms: Atoms | None, pair: tuple[int, int]) -> float | None:
    if atoms is None:
        return None
    vector = pair_vectors(atoms.positions, np.array(pair)[:, None])
    return float(np.linalg.norm(minimum_image(vector, atoms.cell.array, atoms.pbc)))

"""The ionic liquid ethylammonium nitrate, as NeuralIL's authors publish it: a JSON object a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.options import DatasetOptions, Paths, make_frame
from asecalc_ml.structure.files.lazy_frames import LazyFrames

if TYPE_CHECKING:
    from ase import Atoms

CITATION = (
    "H. Montes-Campos, J. Carrete, S. Bichelmaier, L. M. Varela, G. K. H. Madsen, J. Chem. Inf. Model. 62, "
    "88 (2022), doi:10.1021/acs.jcim.1c01380"
)

#: Atoms of an ion in the order of the file, which stores no elements: all cations, then all anions.
CATION, ANION = "NH3CH2CH3", "NO3"

#: Root mean square force component that lies between relaxed and thermal frames, eV/Å.
THERMAL_ABOVE_eV_A = 0.6


class NeuralILJson(DatasetOptions):
    """Read NeuralIL's frames of ethylammonium nitrate: positions, cell, energy in eV and forces in eV/Å.

    The file stores no elements: they are n times N H H H C H H C H H H, then n times N O O O. Its frames are
    of two kinds, which ``info["group"]`` tells apart by the root mean square force component: relaxed (0.17
    to 0.33 eV/Å in the file of 75) and thermal (0.83 to 1.86 eV/Å); there is nothing between.
    ``info["frame"]`` is the number of the line, from 0.
    """

    format: Literal["neuralil-json"] = Field("neuralil-json", description="name of the reader")
    path: Paths = Field(description="file with a JSON object a line", examples=["data/ean_validation.json"])
    energy_unit: Literal["eV"] = Field("eV", description="unit of the file's energies")
    length_unit: Literal["Angstrom"] = Field("Angstrom", description="unit of the file's lengths")
    max_energy_eV: float | None = Field(
        None, description="leave out frames above this energy, as outliers; empty: keep all"
    )
    licence: str | None = Field("Apache-2.0", description="licence of the data")
    citation: str | None = Field(CITATION, description="what to cite for the data")
    level_of_theory: str | None = Field(
        "DFT; the files do not say which", description="method and basis of the labels"
    )

    def _read(self) -> LazyFrames:
        texts = self.check_file().read_text(encoding="utf-8-sig", errors="replace").split("\n")
        lines = [(k, line) for k, line in enumerate(texts) if line.strip()]
        return LazyFrames(len(lines), lambda numbers: (self._frame(*lines[k]) for k in numbers))

    def _keeps(self, atoms: Atoms) -> bool:
        return self.max_energy_eV is None or atoms.get_potential_energy() <= self.max_energy_eV

    def _frame(self, number: int, line: str) -> Atoms:
        try:
            atoms = _atoms(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{self.path}, line {number + 1}: {type(error).__name__}: {error}.",
                name=str(self.path),
                value=line,
                remedy="A line is a JSON object with Positions, Forces, Energy and Cell-Size, 15 atoms for "
                "each pair of ions. Was the file cut short?",
            ) from error
        atoms.info["frame"] = number
        return atoms


def _atoms(record: dict) -> Atoms:
    import numpy as np
    from ase import Atoms
    from ase.formula import Formula

    pair = [*Formula(CATION), *Formula(ANION)]
    positions, forces = (np.array(record[key], dtype=np.float64) for key in ("Positions", "Forces"))
    n_pairs, rest = divmod(len(positions), len(pair))
    if rest or forces.shape != positions.shape:
        raise ValueError(f"positions of shape {positions.shape}, forces of shape {forces.shape}")
    symbols = n_pairs * [*Formula(CATION)] + n_pairs * [*Formula(ANION)]
    atoms = Atoms(symbols, positions=positions, cell=record["Cell-Size"], pbc=True)
    hot = np.sqrt((forces**2).mean()) > THERMAL_ABOVE_eV_A
    atoms.info["group"] = "thermal" if hot else "relaxed"
    return make_frame(atoms, float(record["Energy"]), forces)

"""The mlearn sets of elements: energies, forces and stress of bulk, strained, surface and vacancy cells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.errors import DatasetError
from asecalc_ml.files.reading import DAMAGE
from asecalc_ml.potentials.datasets.options import DatasetOptions, Paths, make_frame
from asecalc_ml.structure.element_checks import FULL
from asecalc_ml.structure.files.lazy_frames import LazyFrames

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

#: Where ASE's Voigt order xx yy zz yz xz xy finds its components in the file's xx yy zz xy yz xz.
TO_VOIGT = [0, 1, 2, 4, 5, 3]

CITATION = "Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020), doi:10.1021/acs.jpca.9b08723"


class Mlearn(DatasetOptions):
    """Read a JSON file of the mlearn set (Materials Virtual Lab): one element, cells of several kinds.

    Energies are in eV and forces in eV/Å. ``virial_stress`` is VASP's: in kbar, in the order xx, yy, zz, xy,
    yz, xz, and positive where the cell wants to expand; ASE's stress has the opposite sign. ``info["group"]``
    of each frame keeps the kind of its cell (AIMD-NVT, Elastic, Surface, Vacancy), ``info["description"]``
    what the authors say of it.
    """

    suffixes: ClassVar = (".json",)
    format: Literal["mlearn"] = Field("mlearn", description="name of the reader")
    path: Paths = Field(description="JSON file to read", examples=["data/mlearn_si_training.json"])
    energy_unit: Literal["eV"] = Field("eV", description="unit of the file's energies")
    length_unit: Literal["Angstrom"] = Field("Angstrom", description="unit of the file's lengths")
    licence: str | None = Field("BSD-3-Clause", description="licence of the data")
    citation: str | None = Field(CITATION, description="what to cite for the data")
    level_of_theory: str | None = Field("PBE, VASP", description="method and basis of the labels")

    def _read(self) -> LazyFrames:
        records = self._records()
        return LazyFrames(len(records), lambda numbers: (self._frame(records[k], k) for k in numbers))

    def _records(self) -> list:
        path = self.check_file()
        try:
            records = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise DatasetError(
                f"{self.path} is not whole JSON ({error}), so it is damaged or cut short",
                name=str(self.path),
                remedy="fetch it again",
            ) from error
        if not isinstance(records, list):
            raise DatasetError(
                f"{self.path} holds no list of records",
                name=str(self.path),
                remedy="give a file of mlearn",
            )
        return records

    def _frame(self, record: dict, index: int) -> Atoms:
        try:
            return _atoms(record)
        except DAMAGE as error:
            raise DatasetError(
                f"{self.path}, record {index}: {type(error).__name__}: {error}.",
                name=str(self.path),
                remedy="A record of mlearn has `structure`, a dictionary of pymatgen, and `outputs` with "
                "energy, forces and virial_stress.",
            ) from error


def _atoms(record: dict) -> Atoms:
    from ase import Atoms

    structure, outputs = record["structure"], record["outputs"]
    atoms = Atoms(
        [_element(site["species"]) for site in structure["sites"]],
        positions=[site["xyz"] for site in structure["sites"]],
        cell=structure["lattice"]["matrix"],
        pbc=True,
    )
    energy = float(outputs["energy"])
    atoms.info.update(group=record["group"], description=record["description"])
    return make_frame(atoms, energy, outputs["forces"], ase_stress(outputs["virial_stress"]))


def _element(species: list[dict]) -> str:
    if len(species) != 1 or species[0].get("occu", 1) < FULL:
        raise ValueError(f"a site is shared or occupied in part: {species}; a potential needs whole atoms")
    return species[0]["element"]


def ase_stress(virial_stress_kbar: list[float]) -> np.ndarray:
    """ASE's stress, Voigt, eV/Å³, from VASP's in kbar and in the file's order."""
    import numpy as np
    from ase import units

    return -0.1 * units.GPa * np.asarray(virial_stress_kbar, dtype=np.float64)[TO_VOIGT]

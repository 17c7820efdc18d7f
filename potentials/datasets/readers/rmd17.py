"""Revised MD17: energies and forces of ten molecules, PBE/def2-SVP, sampled at 500 K."""

from __future__ import annotations

import os
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.errors import DatasetError
from asecalc_ml.files.reading import DAMAGE, open_npz
from asecalc_ml.potentials.datasets.options import (
    EnergyUnit,
    FreeUnits,
    LengthUnit,
    Paths,
    make_frame,
)
from asecalc_ml.structure.files.lazy_frames import LazyFrames
from asecalc_ml.units import energy_unit, length_unit

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
KEYS = ("nuclear_charges", "coords", "energies", "forces")
END_MAGIC, END_BYTES = b"PK\5\6", 22  # of the record that ends an archive, but for its comment
CITATION = (
    "A. S. Christensen, O. A. von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020), "
    "arXiv:2007.09593; S. Chmiela et al., Sci. Adv. 3, e1603015 (2017)"
)


class RMD17(FreeUnits):
    """Read an npz file of the revised MD17 set: one molecule, many frames.

    The file holds ``nuclear_charges (n_atoms,)``, ``coords (n_frames, n_atoms, 3)``, ``energies (n_frames,)``
    and ``forces (n_frames, n_atoms, 3)``, in kcal/mol and Å unless the options say otherwise. Its authors
    warn against training on more than 1000 frames, since they are correlated in time.
    """

    suffixes: ClassVar = (".npz",)
    format: Literal["rmd17"] = Field("rmd17", description="name of the reader")
    path: Paths = Field(description="npz file to read", examples=["data/rmd17_ethanol_train_01.npz"])
    energy_unit: EnergyUnit = Field("kcal/mol", description="unit of the file's energies")
    length_unit: LengthUnit = Field("Angstrom", description="unit of the file's positions")
    licence: str | None = Field("CC0-1.0", description="licence of the data")
    citation: str | None = Field(CITATION, description="what to cite for the data")
    level_of_theory: str | None = Field("PBE/def2-SVP", description="method and basis of the labels")
    temperature_K: float | list[float] | None = Field(500.0, description="temperature of the sampling")

    def _read(self) -> LazyFrames:
        from ase import Atoms

        numbers, coords, energies, forces = self._arrays()
        per_energy, per_length = energy_unit(self.energy_unit), length_unit(self.length_unit)
        return LazyFrames(
            len(energies),
            lambda chosen: (
                make_frame(
                    Atoms(numbers, positions=coords[i] * per_length),
                    energies[i] * per_energy,
                    forces[i] * self.per_force,
                )
                for i in chosen
            ),
        )

    def _arrays(self) -> tuple[np.ndarray, ...]:
        import numpy as np

        path = self.check_file()
        self._check_ends(path)
        with open_npz(path, DatasetError, "fetch it again") as archive:
            missing = [key for key in KEYS if key not in archive]
            if missing:
                raise DatasetError(
                    f"{self.path} lacks {', '.join(missing)}; it has {', '.join(archive)}",
                    name=str(self.path),
                    value=list(archive),
                    allowed=KEYS,
                    remedy="give a file of rMD17",
                )
            stored = [archive[key] for key in KEYS]
        for key, array in zip(KEYS, stored, strict=True):
            if array.dtype.kind not in "iuf":
                raise DatasetError(
                    f"{self.path}: {key} holds {array.dtype}, numbers are expected",
                    name=key,
                    value=str(array.dtype),
                    allowed="numbers",
                )
        arrays = (stored[0].astype(int), *(array.astype(np.float64) for array in stored[1:]))
        self._check_shapes(*arrays)
        return arrays

    def _check_ends(self, path: Path) -> None:
        """Refuse bytes before or after the archive: of two concatenated files numpy reads the last one."""
        with suppress(*DAMAGE), zipfile.ZipFile(path) as archive:
            begin = min((one.header_offset for one in archive.infolist()), default=0)
            n_last = END_BYTES + len(archive.comment)
            with path.open("rb") as file:
                file.seek(-n_last, os.SEEK_END)
                is_last = file.read(len(END_MAGIC)) == END_MAGIC
            if begin or not is_last:
                raise DatasetError(
                    f"{self.path} holds more than one npz archive, of which only one would be read",
                    name=str(self.path),
                    remedy="fetch it again, or read its parts one by one",
                )

    def _check_shapes(
        self, numbers: np.ndarray, coords: np.ndarray, energies: np.ndarray, forces: np.ndarray
    ) -> None:
        n_frames, n_atoms = energies.size, numbers.size
        per_atom = (n_frames, n_atoms, 3)
        expected = {"coords": per_atom, "energies": (n_frames,), "forces": per_atom}
        for key, array in (("coords", coords), ("energies", energies), ("forces", forces)):
            if array.shape != expected[key]:
                raise DatasetError(
                    f"{self.path}: {key} has shape {array.shape}, but {n_atoms} nuclear charges and "
                    f"{n_frames} energies need {expected[key]}",
                    name=key,
                    value=array.shape,
                    allowed=[expected[key]],
                )

"""The ANI-1 set: energies of organic molecules with up to eight heavy atoms, displaced along normal modes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import DatasetError
from asecalc_ml.files.reading import DAMAGE
from asecalc_ml.potentials.datasets.options import DatasetOptions, Paths, make_frame
from asecalc_ml.units import energy_unit

if TYPE_CHECKING:
    import h5py
    from ase import Atoms

CITATION = "J. S. Smith, O. Isayev, A. E. Roitberg, Sci. Data 4, 170193 (2017), doi:10.1038/sdata.2017.193"

LABELS = ("coordinates", "energies")


class ANI1(DatasetOptions):
    """Read an HDF5 file of ANI-1 (``ani_gdb_s01.h5`` to ``s08``): energies in Hartree, and no forces.

    Frames come molecule by molecule, in the order of the file. ``info`` of each keeps the chemical formula
    as ``group``, the ``smiles``, and ``molecule``, the name in the file. The set keeps conformations of high
    energy apart, under names that end in HE; ``high_energy`` puts them after the others of their molecule.
    """

    suffixes: ClassVar = (".h5",)
    format: Literal["ani1"] = Field("ani1", description="name of the reader")
    path: Paths = Field(description="HDF5 file to read", examples=["data/ani_gdb_s01.h5"])
    energy_unit: Literal["Hartree"] = Field("Hartree", description="unit of the file's energies")
    length_unit: Literal["Angstrom"] = Field("Angstrom", description="unit of the file's lengths")
    molecules: list[str] | None = Field(
        None, description="which to read, by name (gdb11_s01-0), SMILES or formula (CH4); empty: all"
    )
    high_energy: bool = Field(False, description="read the conformations of high energy, too")
    licence: str | None = Field("MIT and CC-BY, as its authors say", description="licence of the data")
    citation: str | None = Field(CITATION, description="what to cite for the data")
    level_of_theory: str | None = Field("wB97x/6-31G(d)", description="method and basis of the labels")

    def _read(self) -> list[Atoms]:
        import h5py

        self.check_file()
        try:
            with h5py.File(self.path) as file:
                return self._chosen(list(_molecules(file)))
        except DAMAGE as error:
            raise DatasetError(
                f"cannot read {self.path} ({type(error).__name__}: {error}): it is damaged, was cut short, "
                "or is no file of ANI-1;",
                name=str(self.path),
                remedy="fetch it again, or give a file of ANI-1",
            ) from error

    def _chosen(self, molecules: list[tuple[tuple[str, ...], h5py.Group]]) -> list[Atoms]:
        known = {name for names, _ in molecules for name in names}
        for asked in self.molecules or []:
            if asked not in known:
                complaint = f"{self.path} has no molecule {asked!r}"
                raise unknown_name_error(DatasetError, complaint, asked, known, "Correct `molecules`.")
        wanted = known if self.molecules is None else set(self.molecules)
        return [
            atoms for names, group in molecules if wanted & set(names) for atoms in self._frames(names, group)
        ]

    def _frames(self, names: tuple[str, ...], group: h5py.Group) -> Iterator[Atoms]:
        from ase import Atoms

        name, smiles, formula = names
        per_energy = energy_unit(self.energy_unit)
        for part in ("", "HE")[: 1 + self.high_energy]:
            coordinates, energies = (group[f"{label}{part}"][:] for label in LABELS)
            for positions, energy in zip(coordinates, energies, strict=True):
                atoms = Atoms(_text(group["species"]), positions=positions)
                atoms.info.update(group=formula, smiles=smiles, molecule=name)
                yield make_frame(atoms, float(energy) * per_energy)


def _molecules(file: h5py.File) -> Iterator[tuple[tuple[str, str, str], h5py.Group]]:
    """Name, SMILES and formula of each molecule, and where it lies."""
    from ase.formula import Formula

    for outer in file.values():
        for name, group in outer.items():
            formula = Formula.from_list(_text(group["species"])).format("hill")
            yield (name, "".join(_text(group["smiles"])), formula), group


def _text(dataset: h5py.Dataset) -> list[str]:
    return [value.decode() for value in dataset[:]]

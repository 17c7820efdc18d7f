"""Labelled structures from any file that ASE reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.options import DatasetOptions, make_frame
from asecalc_ml.structure.frames import LazyFrames
from asecalc_ml.units import DIPOLE_UNITS, dipole_unit, energy_unit, length_unit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from ase import Atoms


DipoleUnit = Literal[DIPOLE_UNITS]


class AseFile(DatasetOptions):
    """Read a file that ASE reads (extended XYZ, .traj, VASP's and others) with energy and forces.

    Positions, cell, energy, forces and stress are converted once, with the units named here; stress is energy
    per cubed length, with ASE's sign. ASE itself converts the output of most programs to eV and Å: leave the
    units alone there, and name them where the file is plain numbers, as extended XYZ is. Stress is read where
    a frame has it; one whose cell has no volume has none. So is the dipole of a molecule, an ion's relative
    to its centre of mass; a periodic frame has none. ``info`` of each frame is kept.
    """

    format: Literal["ase"] = Field("ase", description="name of the reader")
    file_format: str | None = Field(None, description="ASE's name of the format; empty: from the file's name")
    energy_key: str = Field("energy", description="name of the energy in each frame's info or results")
    forces_key: str = Field("forces", description="name of the forces among each frame's arrays or results")
    stress_key: str = Field("stress", description="name of the stress in each frame's info or results")
    dipole_key: str = Field("dipole", description="name of the dipole in each frame's info or results")
    dipole_unit: DipoleUnit = Field("e Angstrom", description="unit of the dipole")

    def _read(self) -> LazyFrames:
        from asecalc_ml.structure.reading import open_structures

        self.check_file()
        frames = open_structures(self.path, self.file_format)

        def converted(numbers: range) -> Iterator[Atoms]:
            return map(self._converted, frames.make(numbers), numbers)

        return LazyFrames(len(frames), converted)

    def _converted(self, atoms: Atoms, index: int) -> Atoms:
        energy = self._label(atoms, index, self.energy_key, atoms.info)
        forces = self._label(atoms, index, self.forces_key, atoms.arrays)
        per_energy, per_length = energy_unit(self.energy_unit), length_unit(self.length_unit)
        if forces.shape != (len(atoms), 3) or energy.shape != ():
            raise DatasetError(
                f"{self.path}, frame {index}: energy of shape {energy.shape} and forces of shape "
                f"{forces.shape}, expected one number and ({len(atoms)}, 3)"
            )
        stress = self._stress(atoms, index)
        atoms.set_cell(atoms.cell[:] * per_length, apply_constraint=False)
        atoms.positions *= per_length
        if stress is not None:
            stress = stress * (per_energy / per_length**3)
        forces = forces * (per_energy / per_length)
        return make_frame(atoms, energy * per_energy, forces, stress, self._dipole(atoms, index))

    def _dipole(self, atoms: Atoms, index: int) -> np.ndarray | None:
        """Dipole (3,) in e Å; None where there is none."""
        if atoms.pbc.any() or _value(atoms, self.dipole_key, atoms.info) is None:
            return None
        return self._label(atoms, index, self.dipole_key, atoms.info) * dipole_unit(self.dipole_unit)

    def _stress(self, atoms: Atoms, index: int) -> np.ndarray | None:
        """Stress (6,) in the file's units, from Voigt components or a matrix; None where there is none."""
        from ase.stress import full_3x3_to_voigt_6_stress

        if atoms.cell.rank < 3 or _value(atoms, self.stress_key, atoms.info) is None:
            return None
        stress = self._label(atoms, index, self.stress_key, atoms.info)
        return full_3x3_to_voigt_6_stress(stress.reshape(3, 3)) if stress.size == 9 else stress

    def _label(self, atoms: Atoms, index: int, key: str, stored: dict) -> np.ndarray:
        import numpy as np

        value = _value(atoms, key, stored)
        if value is None:
            known = sorted({*_results(atoms), *atoms.info, *atoms.arrays} - {"numbers", "positions"})
            raise DatasetError(
                f"{self.path}, frame {index}: no '{key}'; the frame has {', '.join(known) or 'no labels'}. "
                "Name the right ones with `energy_key` and `forces_key`."
            )
        try:
            return np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise DatasetError(f"{self.path}, frame {index}: '{key}' is not numbers: {value!r}") from None


def _value(atoms: Atoms, key: str, stored: dict) -> object:
    return _results(atoms).get(key, stored.get(key))


def _results(atoms: Atoms) -> dict:
    return {} if atoms.calc is None else atoms.calc.results

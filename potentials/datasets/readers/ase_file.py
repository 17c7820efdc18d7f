"""Labelled structures from any file that ASE reads."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from asecalc_ml.errors import DatasetError
from asecalc_ml.plugins import names
from asecalc_ml.potentials.datasets.labels import LABELS, with_label
from asecalc_ml.potentials.datasets.options import FreeUnits, make_frame
from asecalc_ml.potentials.datasets.properties import PropertySource, factors, take_properties
from asecalc_ml.structure.files.lazy_frames import LazyFrames
from asecalc_ml.units import (
    DipoleUnit,
    EnergyUnit,
    StressUnit,
    dipole_unit,
    energy_unit,
    length_unit,
    stress_unit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from ase import Atoms


PositiveIn = Literal["tension", "compression"]

#: Of a stress or virial that is positive in tension, as ASE's stress is, or in compression.
SIGNS = {"tension": 1.0, "compression": -1.0}

#: A stress beyond this, GPa, is rather an energy, or in another unit.
LARGEST_STRESS_GPa = 100.0

NO_PERIODIC_DIPOLE = (
    "The frames are periodic, and the dipole of a periodic structure is defined up to multiples of e times a "
    "cell vector: set `molecules: true` if they are molecules in a box, or pbc to false in the file"
)


class AseFile(FreeUnits):
    """Read a file that ASE reads (extended XYZ, .traj, VASP's and others) with its labels.

    Positions, cell and labels are converted once, from the units named here. ASE itself converts the output
    of most programs to eV and Å: leave the units alone there, and name them where the file is plain numbers,
    as extended XYZ is. A frame may lack any label. A stress is read where a frame has it and its cell has a
    volume; a dipole where a frame has it and is not periodic, an ion's relative to its centre of mass.
    Dipoles of periodic frames are left out with a warning; ``molecules`` states that frames are molecules in
    a box. ``info`` of each frame is kept.
    """

    format: Literal["ase"] = Field("ase", description="name of the reader")
    file_format: str | None = Field(None, description="ASE's name of the format; empty: from the file's name")
    energy_key: str = Field("energy", description="name of the energy in each frame's info or results")
    forces_key: str = Field("forces", description="name of the forces among each frame's arrays or results")
    stress_key: str = Field(
        "stress",
        description="name of the stress in each frame's info or results: a matrix, or the components "
        "xx yy zz yz xz xy",
    )
    stress_unit: StressUnit | None = Field(
        None, description="unit of the stress; empty: energy_unit over cubed length_unit"
    )
    stress_positive_in: PositiveIn = Field(
        "tension",
        description="sign of the stress: tension is ASE's, compression that of a pressure, as in VASP",
    )
    virial_key: str | None = Field(
        None, description="name of the virial (stress times volume) in each frame's info, for the stress"
    )
    virial_unit: EnergyUnit | None = Field(None, description="unit of the virial; empty: energy_unit")
    virial_positive_in: PositiveIn = Field(
        "compression",
        description="sign of the virial: compression if it is -volume times ASE's stress, as in GAP, MACE "
        "and NEP",
    )
    dipole_key: str = Field("dipole", description="name of the dipole in each frame's info or results")
    dipole_unit: DipoleUnit = Field("e Angstrom", description="unit of the dipole")
    molecules: bool = Field(
        False,
        description="true: frames are molecules in a box; their pbc and cell are left out",
    )
    properties: dict[str, PropertySource | None] = Field(
        {},
        description="place and unit of other properties in each frame's info, by the name of the target, as "
        "in {homo: {key: epsHOMO, unit: Hartree}}",
    )

    @field_validator("properties")
    @classmethod
    def _in_known_units(cls, given: dict[str, PropertySource | None]) -> dict[str, PropertySource | None]:
        if taken := sorted(set(given) & set(LABELS)):
            raise ValueError(f"{taken[0]} has an option of its own: {taken[0]}_key")
        factors(_sources(given))
        return given

    @model_validator(mode="after")
    def _stress_or_virial(self) -> AseFile:
        if self.virial_key is not None and {"stress_key", "stress_unit"} & self.model_fields_set:
            raise ValueError("the stress comes from virial_key or from stress_key: give one of them")
        return self

    def _read(self) -> LazyFrames:
        from asecalc_ml.structure.files.structure_file import open_structures

        frames = open_structures(self.check_file(), self.file_format)
        sources = _sources(self.properties)
        factor = factors(sources)

        def converted(numbers: range) -> Iterator[Atoms]:
            for atoms, number in zip(frames.make(numbers), numbers, strict=True):
                take_properties(atoms, sources, factor, self._where(number))
                yield self._converted(atoms, number)

        return LazyFrames(len(frames), converted)

    def _converted(self, atoms: Atoms, index: int) -> Atoms:
        energy = self._label(atoms, index, "energy")
        forces = self._label(atoms, index, "forces")
        for name, values, shape in (("energy", energy, ()), ("forces", forces, (len(atoms), 3))):
            if values is not None and values.shape != shape:
                expected = "one number" if shape == () else f"{shape}"
                raise DatasetError(
                    f"{self._where(index)}: {name} of shape {values.shape}, expected {expected}",
                    name=name,
                    value=values.shape,
                    allowed=[shape],
                )
        stress, dipole = self._label(atoms, index, "stress"), self._label(atoms, index, "dipole")
        per_length = length_unit(self.length_unit)
        atoms.set_cell(atoms.cell[:] * per_length, apply_constraint=False)
        atoms.positions *= per_length
        if self.molecules:
            _leave_out_box(atoms, self._where(index))
        return make_frame(
            atoms,
            None if energy is None else float(energy) * energy_unit(self.energy_unit),
            None if forces is None else forces * self.per_force,
            None if stress is None or atoms.cell.rank < 3 else self._stress(stress, atoms, index),
            None if dipole is None else dipole * dipole_unit(self.dipole_unit),
        )

    def _stress(self, components: np.ndarray, atoms: Atoms, index: int) -> np.ndarray:
        """Stress (6,), eV/Å³, of a frame in Å, from stress or virial of shape (6,), (9,) or (3, 3)."""
        import numpy as np
        from ase.stress import full_3x3_to_voigt_6_stress

        from asecalc_ml.structure.files.xyz_file import ASYMMETRY

        if components.size == 9:
            matrix = components.reshape(3, 3)
            if np.abs(matrix - matrix.T).max() > ASYMMETRY * np.abs(matrix).max():
                raise DatasetError(
                    f"{self._where(index)}: '{self._key('stress')}' is not symmetric.",
                    name=self._key("stress"),
                    remedy="Nine numbers are the rows of a matrix, six are xx yy zz yz xz xy.",
                )
            components = full_3x3_to_voigt_6_stress(matrix)
        if self.virial_key is None:
            unit = self.stress_unit or f"{self.energy_unit}/{self.length_unit}^3"
            return components * (SIGNS[self.stress_positive_in] * stress_unit(unit))
        per_virial = energy_unit(self.virial_unit or self.energy_unit)
        return components * (SIGNS[self.virial_positive_in] * per_virial / atoms.get_volume())

    def _label(self, atoms: Atoms, index: int, label: str) -> np.ndarray | None:
        """A label in the file's units; None where the frame lacks it."""
        import numpy as np

        from asecalc_ml.structure.files.xyz_file import EXPONENT

        key = self._key(label)
        value = _results(atoms).get(key)
        if value is None:
            value = (atoms.arrays if label == "forces" else atoms.info).get(key)
        if np.asarray(value).dtype.kind == "b":
            raise DatasetError(
                f"{self._where(index)}: '{key}' is {value!r}, not numbers. A word without a number, as in a "
                f"comment `{key}` or `{key}=T`, reads as True",
                name=key,
                value=value,
                allowed="numbers",
                remedy=f"write `{key}=-1.5`, or name the {label} with `{self._option(label)}`",
            )
        try:
            return None if value is None else np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise DatasetError(
                f"{self._where(index)}: '{key}' is not numbers: {value!r}",
                name=key,
                value=value,
                allowed="numbers",
                remedy="write exponents as E, not as D" if EXPONENT.search(str(value)) else None,
            ) from None

    def knows_unit(self, target: str) -> bool:
        """Return True for a unit that is given, and for a target of any unit: that of the data."""
        source = self.properties.get(target)
        return target not in names("targets") or target in LABELS or bool(source and source.unit)

    def zero_of(self, target: str) -> str | None:
        """What the option ``properties`` states."""
        source = self.properties.get(target)
        return source.zero if source else None

    def naming_of(self, target: str, unit: str) -> str:
        """Advice on the option ``properties``."""
        return (
            f"Name it with the reader's option `properties`, as in {{{target}: {{key: NAME, unit: {unit}}}}}"
        )

    # ------------------------------------------------------------------------------- names of the labels

    def _key(self, label: str) -> str:
        return getattr(self, self._option(label))

    def _option(self, label: str) -> str:
        return "virial_key" if label == "stress" and self.virial_key else f"{label}_key"

    def _where(self, index: int) -> str:
        return f"{self.path}, frame {index}"

    def _check_options(self, frames: dict[str, Atoms]) -> None:
        self._leave_out_periodic_dipoles(frames)
        found = list(frames.values())
        for label in LABELS:
            key, option = self._key(label), self._option(label)
            renamed = key != type(self).model_fields[option].default
            if renamed and key not in _names(found) and not with_label(found, label):
                raise DatasetError(
                    f"{self.place}: no frame has '{key}', which `{option}` names.",
                    name=option,
                    value=key,
                    allowed=_names(found),
                    remedy=self.remedy(label, found),
                )
        self._check_size_of_stress(frames)

    def _leave_out_periodic_dipoles(self, frames: dict[str, Atoms]) -> None:
        """Remove dipoles of periodic frames, and say why."""
        periodic = [
            where for where, atoms in frames.items() if atoms.pbc.any() and "dipole" in atoms.calc.results
        ]
        for where in periodic:
            del frames[where].calc.results["dipole"]
        if periodic:
            warnings.warn(
                f"the dipoles of {len(periodic)} of {len(frames)} frames are left out, that of {periodic[0]} "
                f"for one. {NO_PERIODIC_DIPOLE}",
                stacklevel=2,
            )

    def _check_size_of_stress(self, frames: dict[str, Atoms]) -> None:
        """Warn of a stress that is rather a virial, or in another unit."""
        import numpy as np
        from ase import units

        sizes = {
            where: np.abs(atoms.calc.results["stress"]).max() / units.GPa
            for where, atoms in frames.items()
            if "stress" in atoms.calc.results
        }
        where = max(sizes, key=lambda place: sizes[place], default=None)
        if where is None or sizes[where] < LARGEST_STRESS_GPa:
            return
        remedy = "Check `virial_unit`, and that it is no stress (`stress_key`)."
        if self.virial_key is None:
            remedy = (
                f"If '{self.stress_key}' is a virial (an energy), name it with `virial_key` instead of "
                "`stress_key`; otherwise check `stress_unit`."
            )
        warnings.warn(f"{where}: a stress of {sizes[where]:.3g} GPa. {remedy}", stacklevel=2)

    def remedy(self, label: str, frames: Sequence[Atoms]) -> str:
        if not (known := ", ".join(_names(frames))):
            return super().remedy(label, frames)
        if label == "dipole" and any(atoms.pbc.any() for atoms in frames):
            return NO_PERIODIC_DIPOLE
        option = "stress_key` or `virial_key" if label == "stress" else f"{label}_key"
        return f"The frames have {known}: name the {label} with `{option}`."

    def _similar(self, label: str, frames: Sequence[Atoms]) -> list[str]:
        return [name for name in _names(frames) if label.removesuffix("s") in name.lower()]


def _leave_out_box(atoms: Atoms, where: str) -> None:
    """Make a frame a molecule without cell.

    Raises
    ------
    DatasetError
        If a bond crosses the boundary of the box, so that its atoms would be torn apart.
    """
    from asecalc_ml.structure.topology.bonds import find_bonds_and_shifts

    atoms.pbc &= atoms.cell.any(axis=1)  # a direction without a cell vector has no images
    bonds, shifts = find_bonds_and_shifts(atoms)
    if (crosses := shifts.any(axis=1)).any():
        first, second = bonds[crosses][0]
        raise DatasetError(
            f"{where}: the bond of atoms {first} and {second} crosses the boundary of the box, and "
            "`molecules` is true.",
            name="molecules",
            value=True,
            remedy="Move atoms by cell vectors so that molecules are whole, or leave `molecules` out",
        )
    atoms.pbc = False
    atoms.set_cell(None, apply_constraint=False)


def _sources(properties: dict[str, PropertySource | None]) -> dict[str, PropertySource]:
    """Properties with all their options."""
    return {name: source or PropertySource() for name, source in properties.items()}


def _names(frames: Sequence[Atoms]) -> list[str]:
    """Names of what the frames have beside atoms and labels."""
    names = {name for atoms in frames for name in (*atoms.info, *atoms.arrays)}
    return sorted(names - {"numbers", "positions", "charge", "spin"})


def _results(atoms: Atoms) -> dict:
    return {} if atoms.calc is None else atoms.calc.results

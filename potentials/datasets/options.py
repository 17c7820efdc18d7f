"""What every dataset reader shares: options with units and provenance, one conversion, one set of checks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from asecalc_ml.config import Options, parse_options
from asecalc_ml.errors import ConfigError, DatasetError, StructureError
from asecalc_ml.plugins import get, names
from asecalc_ml.structure.charge_and_spin import charge_and_spin, set_charge_and_spin, warn_of_multiplicities
from asecalc_ml.structure.frames import parse_slice, selected_numbers
from asecalc_ml.units import ENERGY_UNITS, LENGTH_UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from ase import Atoms

EnergyUnit = Literal[ENERGY_UNITS]
LengthUnit = Literal[LENGTH_UNITS]


class DatasetOptions(Options):
    """Where labelled structures lie, in which units, and where they come from."""

    format: str = Field(description="name of the reader, as registered under asecalc_ml.datasets")
    path: Path = Field(description="file to read", examples=["data/frames.xyz"])
    energy_unit: EnergyUnit = Field("eV", description="unit of the file's energies")
    length_unit: LengthUnit = Field("Angstrom", description="unit of the file's lengths")
    frames: str | None = Field(None, description="which frames, as in Python: 0:950, -100:, ::10; empty: all")
    charge: int | None = Field(None, description="total charge of each frame in e; empty: as the file, or 0")
    spin: int | None = Field(None, ge=0, description="unpaired electrons; empty: as the file says, or 0")
    name: str | None = Field(None, description="what cards and reports call the data; empty: the file's name")
    licence: str | None = Field(None, description="licence of the data, an SPDX identifier where it has one")
    citation: str | None = Field(None, description="what to cite for the data")
    level_of_theory: str | None = Field(None, description="method and basis of the labels")
    temperature_K: float | list[float] | None = Field(None, description="temperature of the sampling")

    @field_validator("frames")
    @classmethod
    def _a_slice(cls, text: str | None) -> str | None:
        if text is not None:
            parse_slice(text)
        return text

    def read(self) -> list[Atoms]:
        """Frames with energy (eV) and forces (eV/Å) in a ``SinglePointCalculator``, positions in Å.

        Where the data have it, stress (Voigt, eV/Å³, ASE's sign) is there too.
        ``info["charge"]`` and ``info["spin"]`` (unpaired electrons) are set in each frame, as
        :mod:`asecalc_ml.structure.charge_and_spin` decides them.

        Raises
        ------
        DatasetError
            If the file is missing, damaged or incomplete, a label is not finite, or a charge or spin is no
            whole number.

        Warns
        -----
        UserWarning
            If a molecule's spin does not fit its number of electrons.
        """
        frames = self.read_whole()
        for atoms in frames:
            atoms.set_constraint()  # it would hide forces
        return frames

    def read_whole(self) -> list[Atoms]:
        """Frames as :meth:`read` gives them, with the constraints that the file has.

        Raises
        ------
        DatasetError
            As for :meth:`read`.
        """
        frames = self.model_copy(update={"frames": None})._read()
        numbers = selected_numbers(self.frames, len(frames), self.path)
        chosen = frames[parse_slice(self.frames or ":")]
        for number, atoms in zip(numbers, chosen, strict=True):
            where = f"{self.path}, frame {number}"
            self._complete(atoms, where)
            check_labels(atoms, where)
        kept = [atoms for atoms in chosen if self._keeps(atoms)]
        selection = "" if self.frames is None else f" of frames {self.frames}"
        if not kept:
            raise DatasetError(f"{self.path} has no frames{selection}; it has {len(frames)} in all")
        warn_of_multiplicities(kept, f"{self.path}{selection}")
        return kept

    def _read(self) -> Sequence[Atoms]:
        """All frames in eV and Å; what a reader implements. ``frames`` is selected from them afterwards.

        A :class:`asecalc_ml.structure.frames.LazyFrames` makes only those that are selected.
        """
        raise NotImplementedError

    def _keeps(self, atoms: Atoms) -> bool:
        """Whether a frame belongs to the data, by further options of a reader."""
        return True

    def _complete(self, atoms: Atoms, where: str) -> None:
        try:
            set_charge_and_spin(atoms, self.charge, self.spin, where)
        except StructureError as error:
            raise DatasetError(f"{error}, or name it with the options `charge` and `spin`") from None

    @property
    def label(self) -> str:
        """Name of the data for people."""
        return self.name or self.path.stem

    def check_file(self) -> None:
        """Refuse a path that is no file.

        Raises
        ------
        DatasetError
            The message says where it was looked for.
        """
        if self.path.is_dir():
            raise DatasetError(f"{self.path} is a folder; a file is expected")
        if not self.path.is_file():
            raise DatasetError(
                f"{self.path} does not exist (looked in {Path.cwd()}): correct `path`, or make the file with "
                "`asecalc-ml data fetch` or `asecalc-ml data generate`"
            )


def dataset(data: Mapping) -> DatasetOptions:
    """The reader that ``format`` names, with the other entries as its options.

    Raises
    ------
    ConfigError, PluginError
        If the format is missing or unknown, or an option does not fit.
    """
    if "format" not in data:
        raise ConfigError(f"data: no `format` given; use one of: {', '.join(names('datasets'))}")
    return parse_options(data, get("datasets", data["format"]), source="data")


def make_frame(
    atoms: Atoms,
    energy: float,
    forces: np.ndarray,
    stress: np.ndarray | None = None,
    dipole: np.ndarray | None = None,
) -> Atoms:
    """Attach labels.

    Parameters
    ----------
    energy : float, eV
    forces : array, shape (n_atoms, 3), eV/Å
    stress : array, shape (6,), eV/Å³, optional
        As ASE has it.
    dipole : array, shape (3,), e Å, optional
        Of an ion relative to its centre of mass.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms.calc = SinglePointCalculator(atoms, energy=float(energy), forces=forces)
    for name, value in (("stress", stress), ("dipole", dipole)):
        if value is not None:
            atoms.calc.results[name] = value
    return atoms


def check_labels(atoms: Atoms, where: str) -> None:
    """Refuse a frame that would poison a training.

    Raises
    ------
    DatasetError
        For NaN or infinite positions, cell and labels, and for a label of the wrong shape.
    """
    import numpy as np

    results = atoms.calc.results
    for what, expected in (("forces", (len(atoms), 3)), ("stress", (6,)), ("dipole", (3,))):
        shape = np.shape(results.get(what, np.zeros(expected)))
        if shape != expected:
            raise DatasetError(f"{where}: {what} of shape {shape}, expected {expected}")
    labels = {name: results[name] for name in ("energy", "forces", "stress", "dipole") if name in results}
    for what, values in ({"positions": atoms.positions, "cell": atoms.cell.array} | labels).items():
        if not np.isfinite(values).all():
            raise DatasetError(f"{where}: {what} not finite. Leave it out with `frames`, or label it anew.")


def dataset_hash(frames: Sequence[Atoms]) -> str:
    """SHA-256 of what a training sees: atoms, cell, charge, spin and labels, in their order.

    Numbers enter as 64-bit little-endian values in eV and Å, so the hash does not depend on the file they
    came from as long as that file keeps every digit.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    import numpy as np

    digest = hashlib.sha256()
    for atoms in frames:
        digest.update(np.array([len(atoms), *atoms.numbers], dtype="<i8").tobytes())
        labels = [atoms.get_potential_energy()]
        if "forces" in atoms.calc.results:
            labels.append(atoms.get_forces(apply_constraint=False))
        for values in (atoms.positions, *labels):
            digest.update((np.asarray(values, dtype="<f8") + 0.0).tobytes())  # + 0.0: there is one zero
        if atoms.pbc.any():
            digest.update((np.asarray(atoms.cell.array, dtype="<f8") + 0.0).tobytes() + atoms.pbc.tobytes())
        for name in ("stress", "dipole"):
            if name in atoms.calc.results:
                digest.update((np.asarray(atoms.calc.results[name], dtype="<f8") + 0.0).tobytes())
        state = charge_and_spin(atoms)
        if any(state):
            digest.update(np.array(state, dtype="<i8").tobytes())
    return digest.hexdigest()

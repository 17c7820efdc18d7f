"""What every dataset reader shares: options with units and provenance, one conversion, one set of checks."""

from __future__ import annotations

import glob
import hashlib
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, field_validator

from asecalc_ml.config.options import Options, parse_options
from asecalc_ml.contracts import plugin_code, returned
from asecalc_ml.errors import ConfigError, DatasetError, PluginError, StructureError
from asecalc_ml.plugins import get, names
from asecalc_ml.potentials.datasets.labels import LABELS, label_counts, label_of
from asecalc_ml.structure.charge_and_spin import charge_and_spin, set_charge_and_spin, warn_of_multiplicities
from asecalc_ml.structure.element_checks import check_elements
from asecalc_ml.structure.files.lazy_frames import joined, parse_slice, selected_numbers
from asecalc_ml.units import EnergyUnit, ForcesUnit, LengthUnit, forces_unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from ase import Atoms

Paths = Path | Annotated[list[Path], Field(min_length=1)]


class DatasetOptions(Options):
    """Where labelled structures lie, in which units, and where they come from.

    Attributes
    ----------
    suffixes : tuple of str
        Ends of file names, such as ".npz", by which commands choose the reader where no format is named.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    format: str = Field(description="name of the reader, as registered under asecalc_ml.datasets")
    path: Paths = Field(
        description="file to read, a pattern such as data/*.xyz (files sorted by name), or a list of these",
        examples=["data/frames.xyz"],
    )
    energy_unit: EnergyUnit = Field("eV", description="unit of the file's energies")
    length_unit: LengthUnit = Field("Angstrom", description="unit of the file's positions and cell")
    frames: str | None = Field(
        None,
        description="which frames, of all files one after the other, as in Python: 0:950, -100:, ::10; "
        "empty: all",
    )
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

    def read(self) -> Sequence[Atoms]:
        """Labelled frames without constraints, which would hide forces; otherwise as :meth:`read_located`."""
        return list(self.read_free().values())

    def read_free(self, labels: Sequence[str] = LABELS) -> Mapping[str, Atoms]:
        """Frames of :meth:`read` by file and number in it, as messages name them."""
        located = self.read_located(labels)
        for atoms in located.values():
            atoms.set_constraint()
        return located

    def read_located(self, labels: Sequence[str] = LABELS) -> Mapping[str, Atoms]:
        """Labelled frames: those of :meth:`structures`, of which at least one has a label.

        Parameters
        ----------
        labels : sequence of str
            Energy, forces, stress and dipole, of which one is needed; none if empty.

        Returns
        -------
        mapping
            Frames by file and number in it, as messages name them.

        Raises
        ------
        DatasetError
            If a file is missing, damaged or incomplete, a label is not finite, or no frame has any.

        Warns
        -----
        UserWarning
            If no frame has energy or forces, and there is something of a similar name.
        """
        located = self._located()
        frames = list(located.values())
        counts = label_counts(frames, labels)
        if labels and not any(counts.values()):
            raise DatasetError(
                f"{self.place}: no frame has a label ({', '.join(labels)}).",
                name=self.place,
                allowed=labels,
                remedy=self.remedy(labels[0], frames),
            )
        for label in ("energy", "forces"):
            if label in counts and not counts[label] and (found := self._similar(label, frames)):
                warnings.warn(
                    f"{self.place}: no frame has {label}, but there is {', '.join(found)}. "
                    f"{self.remedy(label, frames)}",
                    stacklevel=2,
                )
        return located

    def structures(self) -> Sequence[Atoms]:
        """Frames in Å with their constraints and the labels that they have, in a ``SinglePointCalculator``.

        Energies are in eV, forces in eV/Å, stress in eV/Å³ (Voigt, ASE's sign), dipoles in e Å. A frame may
        lack any of them. ``info["charge"]`` and ``info["spin"]`` (unpaired electrons) are set in each frame,
        as :mod:`asecalc_ml.structure.charge_and_spin` decides them.

        Raises
        ------
        DatasetError
            If a file is missing, damaged or incomplete, a label is not finite, or a charge or spin is no
            whole number.

        Warns
        -----
        UserWarning
            If a molecule's spin does not fit its number of electrons.
        """
        return list(self._located().values())

    def _located(self) -> Mapping[str, Atoms]:
        parts = self._parts()
        places = places_of(parts)
        numbers = selected_numbers(self.frames, len(places), self.place)
        chosen = joined(list(parts.values()))[parse_slice(self.frames or ":")]
        found = {places[number]: atoms for number, atoms in zip(numbers, chosen, strict=True)}
        for where, atoms in found.items():
            if not hasattr(atoms, "positions"):
                raise returned(self._reads, atoms, f"Atoms ({where})")
            if atoms.calc is None:
                raise PluginError(
                    f"{where}: {self._reads} attached no labels",
                    name=self._reads,
                    remedy="attach them with `make_frame`",
                )
            self._complete(atoms, where)
            check_labels(atoms, where)
        found = {where: atoms for where, atoms in found.items() if self._keeps(atoms)}
        if not found:
            raise self._nothing_selected(len(places))
        self._check_options(found)
        warn_of_multiplicities(list(found.values()), f"{self.place}{self._selection}")
        return found

    def _parts(self) -> dict[Path, Sequence[Atoms]]:
        """All frames of each file."""
        return {
            file: self.model_copy(update={"path": file, "frames": None})._checked() for file in self.files
        }

    @property
    def _selection(self) -> str:
        return "" if self.frames is None else f" of frames {self.frames}"

    def _nothing_selected(self, n_frames: int) -> DatasetError:
        return DatasetError(
            f"{self.place} has no frames{self._selection}; it has {n_frames} in all",
            name=self.place,
            value=self.frames,
            remedy="correct `frames`" if self.frames else "correct `path`, or what leaves frames out",
        )

    def _checked(self) -> Sequence[Atoms]:
        """Return :meth:`_read`, if it is a sequence."""
        with plugin_code(self._reads):
            frames = self._read()
        if not isinstance(frames, Sequence):
            raise returned(self._reads, frames, "a list of Atoms, or LazyFrames")
        return frames

    @property
    def _reads(self) -> str:
        return f"{type(self).__name__}._read()"

    def _read(self) -> Sequence[Atoms]:
        """All frames of one file in eV and Å; what a reader implements. ``frames`` is selected afterwards.

        A :class:`asecalc_ml.structure.files.lazy_frames.LazyFrames` makes only those that are selected.
        """
        raise NotImplementedError

    def _keeps(self, atoms: Atoms) -> bool:
        """Return True if a frame belongs to the data, by further options of a reader."""
        return True

    def _check_options(self, frames: dict[str, Atoms]) -> None:
        """Refuse options that do not fit the frames, which are given by file and number."""

    def knows_unit(self, target: str) -> bool:
        """Return True if values of a target in the frames' info are in the target's unit.

        A reader of one format converts them. One of files in any units needs an option.
        """
        return True

    def zero_of(self, target: str) -> str | None:
        """What values of a target, or the energy, are relative to, such as "free atoms"; None if unknown."""
        return None

    def zeros_of(self, targets: Iterable[str]) -> dict[str, str]:
        """Zeros of those targets of which they are known."""
        return {name: zero for name in targets if (zero := self.zero_of(name)) is not None}

    def naming_of(self, target: str, unit: str) -> str:
        """Advice on how place and unit of a target in the files are named; empty if they are fixed."""
        return ""

    def _similar(self, label: str, frames: Sequence[Atoms]) -> list[str]:
        """Names in the files that may mean a label; none where files have fixed names."""
        return []

    def remedy(self, label: str, frames: Sequence[Atoms]) -> str:
        """Advice for frames that lack a label."""
        return "Give data that have it."

    @property
    def files(self) -> list[Path]:
        """The files to read: as listed, and those of a pattern sorted by name.

        Raises
        ------
        DatasetError
            If no file matches a pattern, or a file is named twice.
        """
        files = [file for entry in self._entries for file in _matching(entry)]
        seen = set()
        for file in filter(Path.exists, files):
            identity = (file.stat().st_dev, file.stat().st_ino)  # also of links, hard ones included
            if identity in seen:
                raise DatasetError(
                    f"`path` names {file} twice: its frames would count twice.",
                    name=str(file),
                    remedy="Name it once",
                )
            seen.add(identity)
        return files

    @property
    def place(self) -> str:
        """Files and patterns as they were given, for messages."""
        return ", ".join(map(str, self._entries))

    @property
    def _entries(self) -> list[Path]:
        return self.path if isinstance(self.path, list) else [self.path]

    def _complete(self, atoms: Atoms, where: str) -> None:
        try:
            check_elements(atoms)
        except StructureError as error:
            raise error.as_kind(DatasetError).at(where) from None
        try:
            set_charge_and_spin(atoms, self.charge, self.spin, where)
        except StructureError as error:
            raise DatasetError(
                f"{error},",
                name=error.name,
                value=error.value,
                allowed=error.allowed,
                remedy="or name it with the options `charge` and `spin`",
            ) from None

    @property
    def label(self) -> str:
        """Name of the data for people."""
        return self.name or ", ".join(
            str(entry) if glob.has_magic(str(entry)) else entry.stem for entry in self._entries
        )

    def check_file(self) -> Path:
        """Return the path of the one file that is read, and refuse one that is no file.

        Raises
        ------
        DatasetError
            The message says where it was looked for.
        """
        assert isinstance(self.path, Path)  # each file of several has options of its own
        if self.path.is_dir():
            raise DatasetError(
                f"{self.path} is a folder", name=str(self.path), remedy="name a file in `path`"
            )
        if not self.path.is_file():
            raise DatasetError(
                f"{self.path} does not exist (looked in {Path.cwd()})",
                name=str(self.path),
                remedy="correct `path`, or make the file with `asecalc-ml data fetch` or "
                "`asecalc-ml data generate`",
            )
        return self.path


class FreeUnits(DatasetOptions):
    """Base of readers of files that may be in any units."""

    forces_unit: ForcesUnit | None = Field(
        None, description="unit of the file's forces; empty: energy_unit over length_unit"
    )

    @property
    def per_force(self) -> float:
        """The file's unit of forces in eV/Å."""
        return forces_unit(self.forces_unit or f"{self.energy_unit}/{self.length_unit}")


def places_of(parts: Mapping[Path, Sequence[Atoms]]) -> list[str]:
    """File and number in it of each frame, as messages name them."""
    return [f"{file}, frame {number}" for file, part in parts.items() for number in range(len(part))]


def _matching(entry: Path) -> list[Path]:
    """The file itself, or the files that a pattern matches, sorted by name."""
    if entry.exists() or not glob.has_magic(str(entry)):
        return [entry]
    files = [path for path in map(Path, sorted(glob.glob(str(entry), recursive=True))) if path.is_file()]
    if not files:
        raise DatasetError(
            f"no file matches {entry} (looked in {Path.cwd()})", name=str(entry), remedy="correct `path`"
        )
    return files


#: Beyond every energy (eV), force (eV/Å) and length (Å); its square is a finite number.
LARGEST = 1e15


def dataset(data: Mapping) -> DatasetOptions:
    """The reader that ``format`` names, with the other entries as its options.

    Raises
    ------
    ConfigError, PluginError
        If the format is missing or unknown, or an option does not fit.
    """
    if "format" not in data:
        known = names("datasets")
        raise ConfigError(
            "data: no `format` given",
            name="format",
            allowed=known,
            remedy=f"use one of: {', '.join(known)}",
        )
    return parse_options(data, get("datasets", data["format"]), source="data")


def make_frame(
    atoms: Atoms,
    energy: float | None = None,
    forces: np.ndarray | None = None,
    stress: np.ndarray | None = None,
    dipole: np.ndarray | None = None,
) -> Atoms:
    """Attach the labels that a frame has.

    Parameters
    ----------
    energy : float, eV, optional
    forces : array, shape (n_atoms, 3), eV/Å, optional
    stress : array, shape (6,), eV/Å³, optional
        As ASE has it.
    dipole : array, shape (3,), e Å, optional
        Of an ion relative to its centre of mass.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    energy = None if energy is None else float(energy)
    labels = {"energy": energy, "forces": forces, "stress": stress, "dipole": dipole}
    atoms.calc = SinglePointCalculator(atoms, **labels)  # which leaves None out
    return atoms


def check_labels(atoms: Atoms, where: str) -> None:
    """Refuse a frame that would poison a training.

    Raises
    ------
    DatasetError
        For positions, cell and labels that are NaN, infinite or beyond :data:`LARGEST`, and for a label of
        the wrong shape.
    """
    import numpy as np

    results = atoms.calc.results
    for what, expected in (("forces", (len(atoms), 3)), ("stress", (6,)), ("dipole", (3,))):
        shape = np.shape(results.get(what, np.zeros(expected)))
        if shape != expected:
            raise DatasetError(
                f"{where}: {what} of shape {shape}, expected {expected}",
                name=what,
                value=shape,
                allowed=[expected],
            )
    labels = {name: results[name] for name in LABELS if name in results}
    for what, values in ({"positions": atoms.positions, "cell": atoms.cell.array} | labels).items():
        if not np.isfinite(values).all():
            raise DatasetError(
                f"{where}: {what} not finite.",
                name=what,
                remedy="Leave it out with `frames`, or label it anew.",
            )
        if np.abs(values).max(initial=0) > LARGEST:
            raise DatasetError(
                f"{where}: {what} as large as {np.abs(values).max():.3g}, which no structure has: the file "
                "is damaged.",
                name=what,
                value=float(np.abs(values).max()),
                allowed=f"up to {LARGEST:g}",
                remedy="Leave the frame out with `frames`, or label it anew.",
            )


def dataset_hash(frames: Sequence[Atoms], targets: Sequence[str] = ()) -> str:
    """SHA-256 of what a training sees: atoms, cell, charge, spin and labels, in their order.

    Values of ``targets`` in the frames' info count as well.

    Numbers enter as 64-bit little-endian values in eV and Å, so the hash does not depend on the file they
    came from as long as that file keeps every digit. Frames that are arrays have a hash of their own.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    import numpy as np

    from asecalc_ml.potentials.datasets.packed.frames import PackedFrames

    if isinstance(frames, PackedFrames):
        return frames.hash
    digest = hashlib.sha256()
    for atoms in frames:
        digest.update(np.array([len(atoms), *atoms.numbers], dtype="<i8").tobytes())
        results = atoms.calc.results
        labels = [results.get("energy", np.nan)]  # no label is NaN
        if "forces" in results:
            labels.append(results["forces"])
        for values in (atoms.positions, *labels):
            digest.update((np.asarray(values, dtype="<f8") + 0.0).tobytes())  # + 0.0: there is one zero
        if atoms.pbc.any():
            digest.update((np.asarray(atoms.cell.array, dtype="<f8") + 0.0).tobytes() + atoms.pbc.tobytes())
        for name in ("stress", "dipole"):
            if name in results:
                digest.update((np.asarray(results[name], dtype="<f8") + 0.0).tobytes())
        for name in targets:
            value = label_of(atoms, name)
            digest.update((np.asarray(np.nan if value is None else value, dtype="<f8") + 0.0).tobytes())
        state = charge_and_spin(atoms)
        if any(state):
            digest.update(np.array(state, dtype="<i8").tobytes())
    return digest.hexdigest()

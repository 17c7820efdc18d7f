"""Options of the reader of crystals with a table of properties, and where its files lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.options import Paths
from asecalc_ml.potentials.datasets.packed.reader import ARCHIVES, PropertyData

if TYPE_CHECKING:
    from asecalc_ml.potentials.datasets.packed.frames import PackedFrames

TABLE = "id_prop.csv"
#: The package of CoRE MOF as `path` names it, its import name, and its sets.
CORE_MOF, CORE_MOF_PACKAGE, CORE_MOF_SETS = "core-mof", "CoRE_MOF", ("2014", "2019-ASR", "2019-FSR")
#: Units of the columns of CoRE MOF. ``cm3_g`` is a density: ASA_m2_cm3 over ASA_m2_g, AV_VF over AV_cm3_g.
CORE_MOF_UNITS = {
    "LCD": "Angstrom", "PLD": "Angstrom", "LFPD": "Angstrom", "cm3_g": "g/cm^3", "ASA_m2_cm3": "m^2/cm^3",
    "ASA_m2_g": "m^2/g", "NASA_m2_cm3": "m^2/cm^3", "NASA_m2_g": "m^2/g", "AV_VF": "", "AV_cm3_g": "cm^3/g",
    "NAV_cm3_g": "cm^3/g",
}  # fmt: skip


class CifCsv(PropertyData):
    """Read crystals from CIF files, and their properties from a table whose first column names the files.

    That is a folder as CGCNN has it (``id_prop.csv`` and a CIF file for each row), any folder or tar archive
    of CIF files with a table elsewhere, or a set of CoRE MOF from the package core-mof. Every column of
    numbers is a property; an empty cell is a missing value. The columns of a table without a header are
    ``value``, or ``value1``, ``value2``, ... Structures with partial occupancy are left out.
    """

    format: Literal["cif-csv"] = Field("cif-csv", description="name of the reader")
    path: Paths = Field(
        description="folder or tar archive of CIF files; or core-mof/2019-ASR, core-mof/2019-FSR: a set of "
        "the installed package core-mof",
        examples=["data/mofs"],
    )
    table: Path | None = Field(
        None,
        description=f"CSV file of the properties; empty: {TABLE} in the folder, or the .csv file beside the "
        "archive with its name",
    )
    properties: dict[str, str] | None = Field(
        None,
        description="properties by name, each a column or a difference of two, as in {capacity: a - b}; "
        "empty: every column of numbers, under its own name",
    )
    units: dict[str, str] = Field({}, description="units of properties by name, such as {capacity: mol/kg}")
    energy_unit: Literal["eV"] = Field("eV", description="has no meaning here: see units")
    length_unit: Literal["Angstrom"] = Field("Angstrom", description="unit of lengths in CIF files")

    def _read(self) -> PackedFrames:
        from asecalc_ml.potentials.datasets.packed.cache import kept
        from asecalc_ml.potentials.datasets.readers.cif_csv.crystals import read_crystals
        from asecalc_ml.potentials.datasets.readers.cif_csv.table import choose

        assert isinstance(self.path, Path)  # each file of several has options of its own
        place, table, units = self._source(self.path)
        files = sorted(place.glob("*.cif")) if place.is_dir() else [place]
        if not files:
            raise DatasetError(
                f"{place} holds no .cif files",
                name=str(place),
                remedy="name the folder of the CIF files in `path`, and the table in `table`",
            )
        frames = kept("cif-csv", [table, *files], lambda: read_crystals(files, place, table), str(self.path))
        return choose(frames, self.properties, units | self.units, table)

    def _source(self, path: Path) -> tuple[Path, Path, dict[str, str]]:
        """Folder or archive of CIF files, the table, and the units that are known."""
        if path.parts[:1] == (CORE_MOF,) and not path.exists():
            name = _core_mof_set(path.name)
            archive = _core_mof() / f"{name}.tar.xz"
            return archive, self._table(_beside(archive)), CORE_MOF_UNITS
        if path.is_dir():
            return path, self._table(path / TABLE), {}
        archive = self.check_file()
        if not path.name.endswith(ARCHIVES):
            raise DatasetError(
                f"{path} is neither a folder nor a tar archive of CIF files",
                name=str(path),
                remedy="name the folder in `path`, and the table in `table`",
            )
        return archive, self._table(_beside(archive)), {}

    def _table(self, default: Path) -> Path:
        table = self.table or default
        if not table.is_file():
            raise DatasetError(
                f"{table} does not exist (looked in {Path.cwd()})",
                name=str(table),
                remedy="name a CSV file in `table`, whose first column names the CIF files",
            )
        return table


def _beside(archive: Path) -> Path:
    """The table with the name of an archive."""
    suffix = next(end for end in ARCHIVES if archive.name.endswith(end))
    return archive.with_name(f"{archive.name.removesuffix(suffix)}.csv")


def _core_mof_set(name: str) -> str:
    if name in CORE_MOF_SETS:
        return name
    remedy = f"Give {', '.join(f'{CORE_MOF}/{known}' for known in CORE_MOF_SETS)}."
    raise unknown_name_error(DatasetError, f"core-mof has no set {name!r}", name, CORE_MOF_SETS, remedy)


def _core_mof() -> Path:
    """The folder of the package's archives. The package is not imported: it needs pymatgen."""
    import importlib.util

    spec = importlib.util.find_spec(CORE_MOF_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError(
            "the package core-mof, which holds CoRE MOF, is not installed;",
            name=CORE_MOF,
            remedy="pip install 'asecalc-ml[properties]', or give a folder of CIF files in `path`",
        )
    return Path(spec.submodule_search_locations[0]) / "data"

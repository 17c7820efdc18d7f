"""Small files of QM9's molecules and of crystals with properties, in the formats of their sources."""

import dataclasses
import io
import tarfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from asecalc_ml.potentials.datasets.options import make_frame

PROPERTIES = ["mu", "alpha", "epsHOMO", "epsLUMO", "epsgap", "<R2>", "zpve", "U0", "U", "H", "G", "Cv"]


@dataclasses.dataclass
class Molecule:
    """A molecule of the tests, in the units of QM9's files."""

    index: int
    symbols: str
    smiles: str
    frequencies: list[float]
    seed: int = 0

    def __post_init__(self):
        random, n_atoms = np.random.default_rng(self.index), len(self.symbols)
        self.positions = np.round(random.normal(size=(n_atoms, 3)) + 2 * np.arange(n_atoms)[:, None], 10)
        self.charges = np.round(random.normal(size=n_atoms), 6)
        self.rotational = [157.7118 + self.index, 157.70997, 157.70699]
        self.scalars = [1.6256, 13.21, -0.3877, 0.1171, 0.5048, 35.3641, 0.044749]
        self.scalars += [-40.47893 - self.index, -40.476062, -40.475117, -40.498597, 6.469]
        half = random.normal(size=(3, 3))
        self.tensor = np.round(half + half.T, 3)

    def as_raw(self) -> str:
        """The file of QM9's authors, with an exponent as Mathematica writes it."""
        first, *rest = self.positions
        rows = [[f"{value:.10f}" for value in first], *([f"{v:.10f}" for v in row] for row in rest)]
        rows[0][0] = f"{first[0] * 1e5:.12g}*^-5"
        values = "\t".join(map(str, [*self.rotational, *self.scalars]))
        atoms = [
            "\t".join([symbol, *row, f"{charge:.6f}"])
            for symbol, row, charge in zip(self.symbols, rows, self.charges, strict=True)
        ]
        words = [f"{self.smiles}\t{self.smiles}@\t", "InChI=1S/\tInChI=1S/"]
        lines = [str(len(self.symbols)), f"gdb {self.index}\t{values}\t", *atoms]
        return "\n".join([*lines, "\t".join(map(str, self.frequencies)), *words]) + "\n"

    def as_row(self, repeated: bool = False) -> str:
        """A row of qm9pack's tables; `repeated` puts another set of frequencies before the right one."""
        listed = ",".join(f"'{symbol}'" for symbol in self.symbols)
        xyz = ",".join("[" + ",".join(f"{value:.10f}" for value in row) + "]" for row in self.positions)
        charges = ",".join(f"{value:.6f}" for value in self.charges)
        sets = [[f + 1 for f in self.frequencies], self.frequencies] if repeated else [self.frequencies]
        frequencies = ",".join(str(value) for one in sets for value in one)
        lists = [f"[{listed}]", f"[{xyz}]", f"[{charges}]", f"[{frequencies}]"]
        words = [self.name, self.index, self.smiles, "InChI=1S/", len(self.symbols), "[0]", *lists]
        quoted = [f'"{word}"' if isinstance(word, str) else str(word) for word in words]
        return ",".join([*quoted, *map(str, [*self.rotational, *self.scalars])])

    def as_extended_xyz(self) -> str:
        values = [f"{key}={value}" for key, value in zip("ABC", self.rotational, strict=True)]
        values += [f"{key}={value}" for key, value in zip(PROPERTIES, self.scalars, strict=True)]
        head = f'Properties=species:S:1:pos:R:3 index={self.index} smiles="{self.smiles}" {" ".join(values)}'
        rows = [
            f"{symbol} " + " ".join(f"{value:.10f}" for value in row)
            for symbol, row in zip(self.symbols, self.positions, strict=True)
        ]
        return "\n".join([str(len(self.symbols)), f'{head} pbc="F F F"', *rows]) + "\n"

    @property
    def name(self) -> str:
        return f"dsgdb9nsd_{self.index:06d}.xyz"

    def expected(self) -> Atoms:
        """Converted by hand."""
        atoms = Atoms(self.symbols, positions=self.positions)
        return make_frame(atoms, self.scalars[7] * 27.211386024367243)  # ASE's Hartree


MOLECULES = [
    Molecule(1, "CHHHH", "C", [1341.3 + k for k in range(9)]),
    Molecule(3, "OHH", "O", [1671.4, 3803.6, 3907.7]),
    Molecule(5, "CNH", "C#N", [799.0, 799.0, 2198.4, 3490.4]),
]
UNCHARACTERISED = Molecule(58, "NHHH", "N", [1.0] * 6)


def folder_of(path: Path, molecules=(UNCHARACTERISED, *MOLECULES)) -> Path:
    path.mkdir()
    for molecule in molecules:
        (path / molecule.name).write_text(molecule.as_raw())
    return path


def archive_of(path: Path, molecules=(UNCHARACTERISED, *MOLECULES)) -> Path:
    with tarfile.open(path, "w:bz2" if path.suffix == ".bz2" else "w") as archive:
        for molecule in molecules:
            content = molecule.as_raw().encode()
            entry = tarfile.TarInfo(molecule.name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def tables_of(path: Path, molecules=MOLECULES, **rows) -> Path:
    path.mkdir()
    header = ",".join(f"column{k}" for k in range(25))
    (path / "qm9_part1.csv").write_text(f"{header}\n{molecules[0].as_row(**rows)}\n")
    others = "\n".join(molecule.as_row() for molecule in molecules[1:])
    (path / "qm9_part2.csv").write_text(f"{header}\n{others}\n")
    tensors = [[m.name, *m.tensor[[0, 0, 1, 0, 1, 2], [0, 1, 1, 2, 2, 2]]] for m in molecules]
    lines = ["XYZ_file,A_xx,A_xy,A_yy,A_xz,A_yz,A_zz"]
    lines += [",".join([f'"{name}"', *map(str, values)]) for name, *values in tensors]
    (path / "qm9_polarizability.csv").write_text("\n".join(lines) + "\n")
    return path


def extended_xyz_of(path: Path, molecules=(UNCHARACTERISED, *MOLECULES)) -> Path:
    path.write_text("".join(molecule.as_extended_xyz() for molecule in molecules))
    return path


# ---------------------------------------------------------------------------------------------- crystals

P1 = "_symmetry_space_group_name_H-M 'P1'\nloop_\n_symmetry_equiv_pos_as_xyz\n x,y,z\n"
NAMES = ("Si-1", "NaCl", "CuAu")


def cif(atoms: Atoms, occupancy: float | None = None, symmetry: str = P1) -> str:
    """A CIF file that lists all atoms, as programs for porous materials write it."""
    names = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"]
    cell = [f"_cell_{name} {value:.10f}\n" for name, value in zip(names, atoms.cell.cellpar(), strict=True)]
    columns = ["label", "type_symbol", "fract_x", "fract_y", "fract_z"]
    columns += [] if occupancy is None else ["occupancy"]
    last = "" if occupancy is None else f" {occupancy}"
    sites = [
        f"{symbol}{k} {symbol} " + " ".join(f"{value:.10f}" for value in place) + last
        for k, (symbol, place) in enumerate(zip(atoms.symbols, atoms.get_scaled_positions(), strict=True))
    ]
    heads = "".join(f"_atom_site_{name}\n" for name in columns)
    return f"data_test\n{symmetry}{''.join(cell)}loop_\n{heads}" + "\n".join(sites) + "\n"


def structures() -> list[Atoms]:
    """Three crystals in the cell that lengths and angles make of them."""
    triclinic = Atoms("CuAu", [[0, 0, 0], [1.9, 1.9, 1.9]], cell=[3.8, 3.9, 4.0, 95, 85, 100], pbc=True)
    made = [bulk("Si", cubic=True), bulk("NaCl", "rocksalt", a=5.6), triclinic]
    for atoms in made:
        atoms.rattle(0.05, seed=1)
        atoms.set_cell(atoms.cell.cellpar(), scale_atoms=True)
        atoms.wrap()
    return made


def crystals_in(path: Path, table: str = "Si-1,1.5\nNaCl,2.5\nCuAu,-3.0\n", **options) -> Path:
    path.mkdir(exist_ok=True)
    for name, atoms in zip(NAMES, structures(), strict=True):
        (path / f"{name}.cif").write_text(cif(atoms, **options))
    (path / "id_prop.csv").write_text(table)
    return path


def archive_of_crystals(path: Path, folder: Path) -> Path:
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w") as archive:
        for file in sorted(folder.glob("*.cif"), key=lambda file: NAMES.index(file.stem)):
            archive.add(file, f"folder/{file.name}")
            entry = tarfile.TarInfo(f"folder/._{file.name}")  # as macOS adds it
            archive.addfile(entry, io.BytesIO())
    return path

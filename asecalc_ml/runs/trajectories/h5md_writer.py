"""Writes H5MD (.h5md), version 1.1: https://www.nongnu.org/h5md/h5md.html.

============================================== =====================================================
particles/trajectory/position/value            Å, (n_frames, n_atoms, 3)
particles/trajectory/velocity/value            Å/ps
particles/trajectory/force/value               kJ/mol/Å, since MDAnalysis knows no eV
particles/trajectory/box/edges/value           Å, (n_frames, 3, 3), rows; where there is a cell
.../step, .../time                             the same two datasets everywhere; time in fs
particles/trajectory/species, mass             atomic numbers; u
.../initial_charges, initial_magmoms, tags     as ASE has them, where they are not all 0
parameters                                     attributes ``info`` and ``constraints``, JSON; where not empty
observables/potential_energy/value             eV
h5md/author, h5md/creator                      the user's name; this package and its version
============================================== =====================================================

Positions, cells and energies are kept bit for bit; velocities and forces change their unit, and come back
within two units of the last of their 16 digits.
"""

from __future__ import annotations

import getpass
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units

from asecalc_ml.files.writing import write_at
from asecalc_ml.runs.trajectories import hdf5
from asecalc_ml.runs.trajectories.hdf5 import FLOAT64, INT64, FixedDataset, GrowingDataset
from asecalc_ml.runs.trajectories.writer import Moment, Origin, TrajectoryWriter
from asecalc_ml.structure.files.stored_constraints import encode_constraints, storable_copy

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from ase import Atoms

BLOCK_BYTES = 262_144  # of a chunk of frames
VELOCITY = 1000 * units.fs  # Å per ASE's unit of time in Å/ps
FORCE = 1 / (units.kJ / units.mol)  # eV/Å in kJ/mol/Å
EXTRAS = ("initial_charges", "initial_magmoms", "tags")
ELEMENTS = ("position", "velocity", "force", "edges", "potential_energy")


class H5MDWriter(TrajectoryWriter):
    """Frames go to the end of the file, in chunks; then the tables that lead to them, then the superblock.

    Parameters
    ----------
    path : Path
        A file that is there has been written by this class.
    origin : Origin
        Not kept.
    """

    head_bytes = 100  # HDF5's superblock: where the tables of the newest frames begin

    def __init__(self, path: Path, origin: Origin):
        path.touch()
        self._path, self._file = path, path.open("r+b", buffering=0)
        self._layout: _Layout | None = None
        self._waiting: list[dict[str, np.ndarray]] = []

    def append(self, atoms: Atoms, moment: Moment) -> None:
        """Add a frame; it reaches the file when a chunk is full."""
        if self._layout is None:
            self._layout = _Layout(self._path, self._file, atoms)
        self._waiting.append(_rows(atoms, moment))
        if len(self._waiting) == self._layout.room:
            self.flush()

    def flush(self) -> None:
        """Put what waits into the file, and let readers see it."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        assert self._layout is not None  # made with the first frame
        try:
            self._layout.write(waiting)
        except OSError:  # what the file then holds is what its superblock says, and not what we remember
            self._layout = None
            raise

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            self._file.close()


def _rows(atoms: Atoms, moment: Moment) -> dict[str, np.ndarray]:
    """One row of every dataset, in the units of the file."""
    return {
        "step": np.array(moment.step, np.int64),
        "time": np.array(moment.time_fs),
        "potential_energy": np.array(moment.energy, float),
        "edges": atoms.cell.array.copy(),
        "position": atoms.positions.copy(),
        "velocity": atoms.get_velocities() * VELOCITY,
        "force": moment.forces * FORCE,
    }


class _Layout:
    """Where everything stands in the file.

    A block holds the chunks of all datasets for the same frames. It is reserved when its first frame comes,
    and filled beyond the rows that the tables tell of.
    """

    def __init__(self, path: Path, file: FileIO, atoms: Atoms):
        self._file = file
        self.n_frames, chunk_rows, blocks = _written(path)
        per_frame = 8 * (3 + 9 + 9 * len(atoms))
        self.chunk_rows = chunk_rows or max(1, BLOCK_BYTES // per_frame)
        self._has_cell = bool(atoms.cell.array.any())
        size = path.stat().st_size or hdf5.SUPERBLOCK_BYTES
        self._end = size + -size % 8
        heap = hdf5.StringHeap(self._end)
        self._make_datasets(atoms, heap)
        self._make_fixed(atoms, heap)
        self._offsets, self._block_bytes = {}, 0
        for name, dataset in self._datasets.items():
            self._offsets[name] = self._block_bytes
            self._block_bytes += dataset.chunk_bytes
        self._block = blocks[-1] if blocks else 0
        for block in blocks:
            self._index(block)

    @property
    def room(self) -> int:
        """Frames until the present block is full."""
        return self.chunk_rows - self.n_frames % self.chunk_rows

    def _make_datasets(self, atoms: Atoms, heap: hdf5.StringHeap) -> None:
        def make(kind: bytes, row: tuple[int, ...], unit: str = "", n_links: int = 1) -> GrowingDataset:
            attributes = (heap.attribute("unit", unit),) if unit else ()
            return GrowingDataset(kind, row, self.chunk_rows, attributes, n_links)

        n_elements, per_atom = len(ELEMENTS) - (not self._has_cell), (len(atoms), 3)
        self._datasets = {
            "step": make(INT64, (), n_links=n_elements),
            "time": make(FLOAT64, (), "fs", n_elements),
            "potential_energy": make(FLOAT64, (), "eV"),
            "position": make(FLOAT64, per_atom, "Angstrom"),
            "velocity": make(FLOAT64, per_atom, "Angstrom ps-1"),
            "force": make(FLOAT64, per_atom, "kJ mol-1 Angstrom-1"),
        }
        if self._has_cell:
            self._datasets["edges"] = make(FLOAT64, (3, 3), "Angstrom")

    def _make_fixed(self, atoms: Atoms, heap: hdf5.StringHeap) -> None:
        """What never changes: species, masses, who wrote it, and the strings of all attributes."""
        from asecalc_ml import __version__

        kinds = ("periodic" if is_periodic else "none" for is_periodic in atoms.pbc)
        boundary = heap.attribute("boundary", *kinds)
        self._box = (hdf5.integers("dimension", 3), boundary)
        author = hdf5.group({}, [heap.attribute("name", _user())])
        versions = [heap.attribute("name", "asecalc-ml"), heap.attribute("version", __version__)]
        creator = hdf5.group({}, versions)
        unit, n_atoms = (heap.attribute("unit", "u"),), len(atoms)
        parameters = [heap.attribute(name, text) for name, text in _parameters(atoms).items()]
        self._append(heap.encoded())  # first, since its address is known to all attributes
        about = {"author": self._append(author), "creator": self._append(creator)}
        self._h5md = self._append(hdf5.group(about, [hdf5.integers("version", 1, 1)]))
        numbers = FixedDataset(INT64, (n_atoms,), self._append(atoms.numbers.astype("<i8").tobytes()))
        address = self._append(atoms.get_masses().astype("<f8").tobytes())
        masses = FixedDataset(FLOAT64, (n_atoms,), address, unit)
        self._fixed = {"species": self._append(numbers.header()), "mass": self._append(masses.header())}
        for name in EXTRAS:
            if atoms.has(name) and atoms.arrays[name].any():
                self._fixed[name] = self._append(self._extra(atoms.arrays[name]).header())
        self._parameters = {"parameters": self._append(hdf5.group({}, parameters))} if parameters else {}

    def _extra(self, values: np.ndarray) -> FixedDataset:
        datatype, encoded = (INT64, "<i8") if values.dtype.kind == "i" else (FLOAT64, "<f8")
        return FixedDataset(datatype, values.shape, self._append(values.astype(encoded).tobytes()))

    def write(self, frames: list[dict[str, np.ndarray]]) -> None:
        """Write frames, which fit into the block, and let readers see them."""
        first = self.n_frames % self.chunk_rows
        if first == 0:
            self._block = self._end
            self._end += self._block_bytes
            self._index(self._block)
        for name, dataset in self._datasets.items():
            rows = np.array([frame[name] for frame in frames])
            data = rows.astype("<i8" if dataset.datatype == INT64 else "<f8").tobytes()
            place = self._block + self._offsets[name] + first * dataset.chunk_bytes // self.chunk_rows
            self._put(data, place)
        self.n_frames += len(frames)
        root = self._append(self._tables())
        self._put(hdf5.superblock(root, self._end), 0)

    def _index(self, block: int) -> None:
        for name, dataset in self._datasets.items():
            dataset.index.append(block + self._offsets[name], self._append)

    def _tables(self) -> bytes:
        """Write all that leads to the frames; the root group, yet to be written."""
        at = {
            name: self._append(dataset.header(self.n_frames, dataset.index.root(self._append)))
            for name, dataset in self._datasets.items()
        }
        moments = {"step": at["step"], "time": at["time"]}
        groups = {
            name: self._append(hdf5.group({"value": at[name], **moments})) for name in ELEMENTS if name in at
        }
        energy = groups.pop("potential_energy")
        edges = {"edges": groups.pop("edges")} if self._has_cell else {}
        box = self._append(hdf5.group(edges, self._box))
        trajectory = self._append(hdf5.group({"box": box, **groups, **self._fixed}))
        particles = self._append(hdf5.group({"trajectory": trajectory}))
        observables = self._append(hdf5.group({"potential_energy": energy}))
        groups = {"h5md": self._h5md, "particles": particles, "observables": observables}
        return hdf5.group(groups | self._parameters)

    def _append(self, data: bytes) -> int:
        """Write at the end, at a multiple of 8; where that is."""
        place = self._end
        self._put(hdf5.padded(data), place)
        self._end += len(hdf5.padded(data))
        return place

    def _put(self, data: bytes, place: int) -> None:
        write_at(self._file, data, place)


def _written(path: Path) -> tuple[int, int, list[int]]:
    """Frames in a file that is gone on with, how many there are in a block, and where the blocks stand."""
    import h5py

    if path.stat().st_size == 0:
        return 0, 0, []
    blocks: list[int] = []
    with h5py.File(path, "r", locking=False) as file:
        step = file["particles/trajectory/position/step"]  # the first dataset of each block
        step.id.chunk_iter(lambda chunk: blocks.append(chunk.byte_offset))
        return len(step), step.chunks[0], sorted(blocks)


def _parameters(atoms: Atoms) -> dict[str, str]:
    """JSON texts of what belongs to the structure as a whole, where there is any."""
    constraints, info = storable_copy(atoms).constraints, _encode_info(atoms.info)
    attributes = {"info": info} if info != "{}" else {}
    return attributes | ({"constraints": encode_constraints(constraints)} if constraints else {})


def _encode_info(info: dict[str, Any]) -> str:
    from ase.io.jsonio import encode

    kept = {}
    for key, value in info.items():
        with suppress(TypeError):
            encode({key: value})
            kept[key] = value
    return encode(kept)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name for this number
        return "unknown"

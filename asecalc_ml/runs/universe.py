"""Runs as MDAnalysis sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms
    from MDAnalysis import Universe

    from asecalc_ml.runs.frames import Frames


class RunOfFrames(Protocol):
    """A run in a directory or in memory."""

    @property
    def atoms(self) -> Atoms: ...

    @property
    def pbc(self) -> np.ndarray: ...

    @property
    def frame_interval_fs(self) -> float: ...

    def frame_chunks(self) -> Iterator[Frames]: ...


def universe_of(run: RunOfFrames) -> Universe:
    """A run's frames with elements, masses, bonds and cells, for MDAnalysis' own analyses.

    MDAnalysis keeps positions in single precision and in memory, times in ps and cells as lengths and
    angles. A cell that stands otherwise in space than lengths and angles say is turned there, and the atoms
    with it.

    Parameters
    ----------
    run : RunReader, or anything with the members of RunOfFrames
    """
    import MDAnalysis
    from MDAnalysis.coordinates.memory import MemoryReader

    symbols = np.array(run.atoms.get_chemical_symbols())
    universe = MDAnalysis.Universe.empty(len(symbols), trajectory=False)
    for name, values in (("names", symbols), ("types", symbols), ("elements", symbols)):
        universe.add_TopologyAttr(name, values)
    universe.add_TopologyAttr("masses", run.atoms.get_masses())
    bonds = sorted({tuple(sorted(pair)) for pair in _bonds(run).tolist() if pair[0] != pair[1]})
    if bonds:
        universe.add_TopologyAttr("bonds", bonds)
    positions, boxes = _coordinates(run)
    universe.load_new(
        positions,
        format=MemoryReader,
        order="fac",
        dimensions=boxes,
        dt=run.frame_interval_fs / 1000,
    )
    return universe


def _bonds(run: RunOfFrames) -> np.ndarray:
    from asecalc_ml.structure.topology.bonds import find_bonds

    return find_bonds(run.atoms)


def _coordinates(run: RunOfFrames) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions of all frames (n_frames, n_atoms, 3) in single precision, and boxes (n_frames, 6) or None."""
    positions, boxes = [np.empty((0, len(run.atoms), 3), np.float32)], []
    for frames in run.frame_chunks():
        coordinates = frames.positions
        if np.all(run.pbc):
            coordinates, box = _in_standard_cells(coordinates, frames.cells)
            boxes.append(box)
        positions.append(coordinates.astype(np.float32))
    return np.concatenate(positions), np.concatenate(boxes) if boxes else None


def _in_standard_cells(positions: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn positions into cells with a along x and b in the plane of x and y; lengths and angles of these."""
    from ase.geometry import cell_to_cellpar, cellpar_to_cell

    handed = np.sign(np.linalg.det(cells))[:, None, None]  # the opposite of a cell has the same lattice
    boxes = np.array([cell_to_cellpar(cell) for cell in cells])
    standard = np.array([cellpar_to_cell(box) for box in boxes])
    turns = np.linalg.inv(cells * handed) @ standard
    return positions @ turns, boxes.astype(np.float32)

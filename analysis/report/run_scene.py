"""What the viewer shows of a run: moments of dynamics, points of a scan, or how the runs of a test end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.report.viewer import DrawnMolecule, Picture, Scene, chosen_frames
from asecalc_ml.analysis.report.whole_molecules import WholeMolecules
from asecalc_ml.errors import AnalysisError
from asecalc_ml.runs import PROTOCOL, RunReader
from asecalc_ml.structure.topology.bonds import BROKEN_TOLERANCE

if TYPE_CHECKING:
    from ase import Atoms

OF_START = f"Bonds are those of the start, drawn up to {BROKEN_TOLERANCE} times the sum of covalent radii"
OF_EACH = "Each structure has bonds of its own"


def run_scene(run: RunReader) -> Scene:
    """Frames of a run, evenly spaced, or the structure that it began with where there are none."""
    if pictures := list(_ends(run)):
        title, shown, bonds = "How the runs end", "The last frame of every run", OF_START
    else:
        pictures = list(_frames(run))
        title, shown = "Structure and frames", _how_many(len(pictures), run.n_frames)
        bonds = OF_START if run.n_frames and _interval_fs(run) is not None else OF_EACH
    wrapped = "; molecules are put together where the cell cuts them" if run.pbc.any() else ""
    return Scene(key="frames", title=title, caption=f"{shown}. {bonds}{wrapped}.", frames=pictures)


def _how_many(n_shown: int, n_frames: int) -> str:
    if not n_frames:
        return "The structure; no frames were written"
    return f"{n_shown} of {n_frames:,} frames, evenly spaced" if n_frames > n_shown else "Every frame"


def _interval_fs(run: RunReader) -> float | None:
    """Time between frames; None where they are no moments in time, and may have bonds of their own."""
    try:
        return run.frame_interval_fs
    except AnalysisError:
        return None


Drawer = Callable[[str, np.ndarray, np.ndarray], Picture]  # of a label, positions and a cell


def _drawer(atoms: Atoms) -> Drawer:
    """Draws frames with the bonds of a structure."""
    whole = WholeMolecules(atoms)
    molecule = DrawnMolecule(atoms.get_chemical_symbols(), whole.bonds, whole.shifts)
    return lambda label, positions, cell: Picture(
        molecule, whole.place(positions, cell), cell, atoms.pbc, label
    )


def _frames(run: RunReader) -> Iterator[Picture]:
    n_frames, interval_fs = run.n_frames, _interval_fs(run)
    if n_frames == 0:
        relaxed = run.read_relaxed()
        atoms = relaxed or run.atoms
        yield _drawer(atoms)("relaxed" if relaxed else "start", atoms.positions, atoms.cell.array)
        return
    draw = _drawer(run.atoms)
    chosen, labels = set(chosen_frames(n_frames, 3 * len(run.atoms))), _labels(run, n_frames)
    for number, frame in enumerate(run.frame_chunks(1)):
        if number not in chosen:
            continue
        positions, cell = frame.positions[0], frame.cells[0]
        if interval_fs is None:
            draw = _drawer(_moved(run.atoms, positions, cell))
        yield draw(f"frame {number:,} of {n_frames - 1:,}{labels.get(number, '')}", positions, cell)


def _moved(atoms: Atoms, positions: np.ndarray, cell: np.ndarray) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(cell)
    atoms.set_positions(positions, apply_constraint=False)
    return atoms


def _labels(run: RunReader, n_frames: int) -> dict[int, str]:
    """What each frame of a run is, as far as it is known."""
    if run.read_scan() is not None:
        return _scan_labels(run)
    if (interval_fs := _interval_fs(run)) is None:
        return {}
    return {number: f", {number * interval_fs / 1000:.4g} ps" for number in range(n_frames)}


def _scan_labels(run: RunReader) -> dict[int, str]:
    """Calculator and value of each point that was computed, in the order of the frames."""
    table, about = run.read_scan_table(), run.read_scan()
    if about is None:
        return {}
    unit = "Å" if about["kind"] == "bond" else "°"
    names = [one["label"] for one in about["calculators"]]
    columns = (table[name] for name in ("calculator", "member", "value", "energy_eV"))
    texts = [
        f", {names[int(calculator)]}, {about['coordinate']} {value:.4g} {unit}"
        for calculator, member, value, energy in zip(*columns, strict=True)
        if member == -1 and np.isfinite(energy)
    ]
    return dict(enumerate(texts))


def _ends(run: RunReader) -> Iterator[Picture]:
    """The last frame of each run that a test consists of."""
    for directory in run.parts:
        if (directory / PROTOCOL).is_file() and (part := RunReader(directory)).n_frames:
            last = deque(part.frame_chunks(1), maxlen=1).pop()
            time_ps = (part.n_frames - 1) * part.frame_interval_fs / 1000
            name = directory.relative_to(run.directory)
            yield _drawer(part.atoms)(f"{name}, {time_ps:.4g} ps", last.positions[0], last.cells[0])

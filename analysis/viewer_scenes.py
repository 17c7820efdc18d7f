"""What the viewer shows of a run and of relevance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.numbers import minus
from asecalc_ml.analysis.relevance.results import MethodRelevance, RelevanceResult, Structure
from asecalc_ml.analysis.viewer import Molecule, Picture, Scene, Way, chosen_frames
from asecalc_ml.analysis.whole_molecules import WholeMolecules
from asecalc_ml.errors import AnalysisError
from asecalc_ml.topology import BROKEN_TOLERANCE

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import Result
    from asecalc_ml.rundir import RunReader


def scenes(run: RunReader, results: Iterable[Result]) -> list[Scene]:
    """Relevance, where it was asked for, then the run's frames."""
    return [*(relevance_scene(one) for one in results if isinstance(one, RelevanceResult)), run_scene(run)]


# ------------------------------------------------------------------------------------------------- a run


def run_scene(run: RunReader) -> Scene:
    """Frames of a run, evenly spaced, or the structure that it began with where there are none."""
    whole = WholeMolecules(run.atoms)
    molecule = Molecule(run.atoms.get_chemical_symbols(), whole.bonds, whole.shifts)
    frames = [
        Picture(molecule, whole.place(positions, cell), cell, run.pbc, label)
        for label, positions, cell in _frames(run)
    ]
    n_frames = run.n_frames
    some = f"{len(frames)} of {n_frames:,} frames, evenly spaced" if n_frames > len(frames) else "Every frame"
    shown = f"{some if n_frames else 'The structure; no frames were written'}. Bonds are those of the start"
    caption = f"{shown}, drawn up to {BROKEN_TOLERANCE} times the sum of covalent radii"
    wrapped = "; molecules are put together where the cell cuts them" if run.pbc.any() else ""
    return Scene(key="frames", title="Structure and frames", caption=f"{caption}{wrapped}.", frames=frames)


def _frames(run: RunReader) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Label, positions and cell."""
    n_frames = run.n_frames
    if n_frames == 0:
        relaxed = getattr(run, "relaxed", None)
        atoms = relaxed or run.atoms
        yield "relaxed" if relaxed else "start", atoms.positions, atoms.cell.array
        return
    chosen, labels = set(chosen_frames(n_frames, 3 * len(run.atoms))), _labels(run, n_frames)
    for number, frame in enumerate(run.frame_chunks(1)):
        if number in chosen:
            label = f"frame {number:,} of {n_frames - 1:,}{labels.get(number, '')}"
            yield label, frame.positions[0], frame.cells[0]


def _labels(run: RunReader, n_frames: int) -> dict[int, str]:
    """What each frame of a run is, as far as it is known."""
    if getattr(run, "scan", None) is not None:  # a run in memory has none
        return _scan_labels(run)
    try:
        interval_fs = run.frame_interval_fs
    except AnalysisError:  # frames are no moments in time
        return {}
    return {number: f", {number * interval_fs / 1000:.4g} ps" for number in range(n_frames)}


def _scan_labels(run: RunReader) -> dict[int, str]:
    """Calculator and value of each point that was computed, in the order of the frames."""
    table, about = run.scan_table, run.scan
    unit = "Å" if about["kind"] == "bond" else "°"
    names = [one["label"] for one in about["calculators"]]
    columns = (table[name] for name in ("calculator", "member", "value", "energy_eV"))
    texts = [
        f", {names[int(calculator)]}, {about['coordinate']} {value:.4g} {unit}"
        for calculator, member, value, energy in zip(*columns, strict=True)
        if member == -1 and np.isfinite(energy)
    ]
    return dict(enumerate(texts))


# --------------------------------------------------------------------------------------------- relevance


def relevance_scene(result: RelevanceResult) -> Scene:
    """Structures coloured by each method."""
    one = max(result.structures, key=lambda each: len(each.symbols))
    size = 3 * len(one.symbols) + len(result.methods) * (len(one.symbols) + len(one.pairs))
    numbers = chosen_frames(len(result.structures), size)
    frames = [_structure_frame(result, number) for number in numbers]
    ways = [_way(result, method, numbers, frames) for method in result.methods]
    n_all = len(result.structures)
    some = "" if n_all == len(frames) else f" {len(frames)} of {n_all:,} structures, evenly spaced."
    caption = (
        f"Atoms, and bonds where a method has values of pairs, coloured by their relevance for the "
        f"{result.what}. Vermilion raises it, blue lowers it, white is zero; the scale is one for all "
        f"structures.{some} Bonds in grey have no value."
    )
    title = f"Relevance for the {result.what}, {result.model}"
    return Scene(key="relevance", title=title, caption=caption, frames=frames, ways=ways)


def _structure_frame(result: RelevanceResult, number: int) -> Picture:
    one = result.structures[number]
    atoms = one.to_atoms()
    whole = WholeMolecules(atoms)
    molecule = Molecule(one.symbols, whole.bonds, whole.shifts)
    value = minus(f"{result.what} {one.value:.6g} {result.target_unit}")
    last = len(result.structures) - 1
    label = f"structure {number:,} of {last:,}, {value}" if last else value
    cell = atoms.cell.array
    return Picture(molecule, whole.place(atoms.positions, cell), cell, atoms.pbc, label)


def _way(result: RelevanceResult, method: MethodRelevance, numbers: list[int], frames: list[Picture]) -> Way:
    """A method's values; a bond has one where its pair is listed."""
    chosen = [method.frames[number] for number in numbers]
    bonds = [
        _of_bonds(result.structures[number], found.pairs)
        for number, found in zip(numbers, chosen, strict=True)
    ]
    return Way(method.title, method.unit, [found.atoms for found in chosen], bonds)


def _of_bonds(structure: Structure, values: list[float]) -> list[float | None] | None:
    """Values of a structure's bonds, in the order of :func:`~asecalc_ml.topology.find_bonds_and_shifts`."""
    from asecalc_ml.topology import find_bonds_and_shifts

    if not values:
        return None
    listed = zip(structure.pairs, structure.pair_shifts, values, strict=True)
    known = {}
    for (i, j), (a, b, c), value in listed:
        known[i, j, a, b, c] = known[j, i, -a, -b, -c] = value
    bonds, shifts = find_bonds_and_shifts(structure.to_atoms())
    return [known.get(tuple(row)) for row in np.hstack([bonds, shifts]).tolist()]

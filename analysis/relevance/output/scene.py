"""What the viewer of a page shows of relevance."""

from __future__ import annotations

import numpy as np

from asecalc_ml.analysis.number_text import minus
from asecalc_ml.analysis.relevance.output.results import MethodRelevance, RelevanceResult, Structure
from asecalc_ml.analysis.report.viewer import DrawnMolecule, Picture, Scene, Way, chosen_frames
from asecalc_ml.analysis.report.whole_molecules import WholeMolecules
from asecalc_ml.structure.topology.bonds import find_bonds_and_shifts
from asecalc_ml.units import number_with_unit


def relevance_scene(result: RelevanceResult) -> Scene:
    """Structures coloured by each method."""
    structure = max(result.structures, key=lambda candidate: len(candidate.symbols))
    size = 3 * len(structure.symbols) + len(result.methods) * (len(structure.symbols) + len(structure.pairs))
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
    structure = result.structures[number]
    atoms = structure.to_atoms()
    whole = WholeMolecules(atoms)
    molecule = DrawnMolecule(structure.symbols, whole.bonds, whole.shifts)
    value = minus(f"{result.what} {number_with_unit(f'{structure.value:.6g}', result.target_unit)}")
    last = len(result.structures) - 1
    label = f"structure {number:,} of {last:,}, {value}" if last else value
    cell = atoms.cell.array
    return Picture(molecule, whole.place(atoms.positions, cell), cell, atoms.pbc, label)


def _way(result: RelevanceResult, method: MethodRelevance, numbers: list[int], frames: list[Picture]) -> Way:
    """A method's values; a bond has one where its pair is listed."""
    chosen = [method.frames[number] for number in numbers]
    bonds = [
        _of_bonds(result.structures[number], frame.pairs)
        for number, frame in zip(numbers, chosen, strict=True)
    ]
    return Way(method.title, method.unit, [frame.atoms for frame in chosen], bonds)


def _of_bonds(structure: Structure, values: list[float]) -> list[float | None] | None:
    """Values of a structure's bonds, in the order of ``find_bonds_and_shifts``."""
    if not values:
        return None
    listed = zip(structure.pairs, structure.pair_shifts, values, strict=True)
    known = {}
    for (i, j), (a, b, c), value in listed:
        known[i, j, a, b, c] = known[j, i, -a, -b, -c] = value
    bonds, shifts = find_bonds_and_shifts(structure.to_atoms())
    return [known.get(tuple(row)) for row in np.hstack([bonds, shifts]).tolist()]

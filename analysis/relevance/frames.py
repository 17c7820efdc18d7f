"""From a batch's tensors to the numbers of each structure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Literal

import numpy as np
from ase import Atoms
from torch import Tensor

from asecalc_ml.analysis.relevance.methods.method_output import MethodOutput
from asecalc_ml.analysis.relevance.output.results import FrameRelevance, Structure, Walk
from asecalc_ml.analysis.relevance.subject import ExplainedBatch
from asecalc_ml.structure.topology.bonds import find_bonds_and_shifts

Pair = tuple[int, int, int, int, int]


def describe(
    frames: Sequence[Atoms], values: Tensor, subject: ExplainedBatch, pairs: Literal["bonds", "all", "none"]
) -> list[Structure]:
    """Structures with their listed pairs and the target's values."""
    edges = _edges(subject) if pairs == "all" else [None] * len(frames)
    structures = []
    for atoms, value, own in zip(frames, values.tolist(), edges, strict=True):
        listed = _listed(atoms, pairs, own)
        structures.append(
            Structure(
                symbols=atoms.get_chemical_symbols(),
                positions_A=atoms.positions.tolist(),
                cell_A=atoms.cell.array.tolist(),
                pbc=atoms.pbc.tolist(),
                value=value,
                pairs=[row[:2] for row in listed],
                pair_shifts=[row[2:] for row in listed],
            )
        )
    return structures


def split(
    output: MethodOutput, subject: ExplainedBatch, structures: Sequence[Structure], top_walks: int
) -> list[FrameRelevance]:
    """A batch's relevance, for each structure."""
    sizes = [len(structure.symbols) for structure in structures]
    atoms = _lists(output.atoms, sizes)
    blocks = {name: _lists(values, sizes) for name, values in output.blocks.items()}
    pairs = _pairs(output.edges, subject, structures)
    return [
        FrameRelevance(
            atoms=atoms[k],
            pairs=pairs[k],
            absorbed={name: float(values[k]) for name, values in output.absorbed.items()},
            blocks={name: values[k] for name, values in blocks.items()},
            walks=_largest({walk: float(values[k]) for walk, values in output.walks.items()}, top_walks),
        )
        for k in range(len(structures))
    ]


def _listed(atoms: Atoms, pairs: str, edges: Iterable[Pair] | None) -> list[Pair]:
    """Pairs i <= j with their shifts, each once."""
    if pairs == "none":
        return []
    if pairs == "bonds":
        bonds, shifts = find_bonds_and_shifts(atoms)
        return [tuple(row) for row in np.hstack([bonds, shifts]).tolist()]
    return [pair for pair in edges if pair <= _backwards(pair)]


def _backwards(pair: Pair) -> Pair:
    i, j, a, b, c = pair
    return (j, i, -a, -b, -c)


def _edges(subject: ExplainedBatch) -> list[list[Pair]]:
    """Edges of each structure as (i, j, shift), in their order; those beyond the cutoff left out."""
    parts = zip(_rows(subject), _seen(subject), strict=True)
    return [list(compress(rows, seen)) for rows, seen in parts]


def _rows(subject: ExplainedBatch) -> list[list[Pair]]:
    graph = subject.graph
    systems = graph.batch[graph.edge_index[0]]
    firsts = np.concatenate([[0], np.cumsum(np.bincount(graph.batch.cpu(), minlength=graph.n_systems))])
    index = graph.edge_index.T.cpu().numpy() - firsts[systems.cpu().numpy()][:, None]
    rows = np.hstack([index, graph.cell_shifts.cpu().numpy().round().astype(int)]).tolist()
    return _by_system([tuple(row) for row in rows], subject)


def _seen(subject: ExplainedBatch) -> list[list[bool]]:
    inside = subject.inputs.edge_index[0, : subject.graph.n_edges] < subject.n_atoms
    return _by_system(inside.tolist(), subject)


def _by_system(values: list, subject: ExplainedBatch) -> list[list]:
    systems = subject.graph.batch[subject.graph.edge_index[0]].cpu().numpy()
    ends = np.cumsum(np.bincount(systems, minlength=subject.n_systems))
    return [values[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _pairs(
    edges: Tensor | None, subject: ExplainedBatch, structures: Sequence[Structure]
) -> list[list[float]]:
    """Sums over both directions of each listed pair; zero for one that no edge joins."""
    if edges is None or not any(one.pairs for one in structures):
        return [[] for _ in structures]
    values = _by_system(edges.tolist(), subject)
    sums = []
    for rows, own, structure in zip(_rows(subject), values, structures, strict=True):
        by_pair = dict(zip(rows, own, strict=True))
        listed = [(*p, *s) for p, s in zip(structure.pairs, structure.pair_shifts, strict=True)]
        sums.append([by_pair.get(one, 0.0) + by_pair.get(_backwards(one), 0.0) for one in listed])
    return sums


def _lists(values: Tensor, sizes: Sequence[int]) -> list[list[float]]:
    return [part.tolist() for part in values.split(list(sizes))]


def _largest(walks: dict[tuple[int, ...], float], n_walks: int) -> list[Walk]:
    order = sorted(walks, key=lambda walk: (-abs(walks[walk]), walk))[:n_walks]
    return [Walk(atoms=list(walk), relevance=walks[walk]) for walk in order]

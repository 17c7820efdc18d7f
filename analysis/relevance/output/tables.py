"""A result as rows, for CSV files and reports, and as structures with columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.base import Table

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.relevance.output.results import RelevanceResult


def tables(result: RelevanceResult) -> list[Table]:
    """Agreement with occlusion, where it was measured."""
    if not result.correlations:
        return []
    return [
        Table(
            key="correlation",
            title="Rank correlation with occlusion",
            columns=["method", "mean", "lowest", "structures"],
            rows=[
                [correlation.method, correlation.mean, correlation.lowest, correlation.n_frames]
                for correlation in result.correlations
            ],
            caption="Spearman's rank correlation between sizes of relevance, over the atoms of a structure.",
        )
    ]


def data(result: RelevanceResult) -> list[Table]:
    """Every number: atoms, pairs, what is absorbed, blocks and walks, where there are any."""
    all_tables = [_atoms(result), _pairs(result), _absorbed(result), _blocks(result), _walks(result)]
    return [table for table in all_tables if table.rows]


def to_atoms(result: RelevanceResult) -> list[Atoms]:
    """Structures with an array ``relevance_METHOD`` for each method."""
    frames = []
    for k, structure in enumerate(result.structures):
        atoms = structure.to_atoms()
        atoms.info.update(
            model=result.model, target=result.target, value=structure.value, unit=result.target_unit
        )
        if result.model_hash is not None:
            atoms.info["model_hash"] = result.model_hash
        for method in result.methods:
            atoms.new_array(f"relevance_{method.method.replace('-', '_')}", np.array(method.frames[k].atoms))
        frames.append(atoms)
    return frames


def _headed(result: RelevanceResult) -> list[str]:
    return [method.heading for method in result.methods]


def _atoms(result: RelevanceResult) -> Table:
    rows = [
        [k, atom, symbol, *(method.frames[k].atoms[atom] for method in result.methods)]
        for k, structure in enumerate(result.structures)
        for atom, symbol in enumerate(structure.symbols)
    ]
    return Table(
        key="atoms",
        title="Relevance of atoms",
        columns=["structure", "atom", "element", *_headed(result)],
        rows=rows,
    )


def _pairs(result: RelevanceResult) -> Table:
    methods = [method for method in result.methods if any(frame.pairs for frame in method.frames)]
    rows = [
        [k, *pair, *structure.pair_shifts[n], *(method.frames[k].pairs[n] for method in methods)]
        for k, structure in enumerate(result.structures)
        for n, pair in enumerate(structure.pairs)
        if methods
    ]
    columns = ["structure", "first", "second", "shift_a", "shift_b", "shift_c"]
    headed = [method.heading for method in methods]
    return Table(key="pairs", title="Relevance of pairs", columns=[*columns, *headed], rows=rows)


def _absorbed(result: RelevanceResult) -> Table:
    rows = [
        [k, method.method, name, value, method.unit]
        for method in result.methods
        for k, frame in enumerate(method.frames)
        for name, value in frame.absorbed.items()
    ]
    columns = ["structure", "method", "absorbed by", "value", "unit"]
    return Table(key="absorbed", title="What no atom has", columns=columns, rows=rows)


def _blocks(result: RelevanceResult) -> Table:
    rows = [
        [k, method.method, block, atom, value, method.unit]
        for method in result.methods
        for k, frame in enumerate(method.frames)
        for block, values in frame.blocks.items()
        for atom, value in enumerate(values)
    ]
    columns = ["structure", "method", "block", "atom", "relevance", "unit"]
    return Table(key="blocks", title="Relevance of atoms by part of the network", columns=columns, rows=rows)


def _walks(result: RelevanceResult) -> Table:
    rows = [
        [k, "-".join(map(str, walk.atoms)), walk.relevance, method.unit]
        for method in result.methods
        for k, frame in enumerate(method.frames)
        for walk in frame.walks
    ]
    return Table(
        key="walks", title="Largest walks", columns=["structure", "atoms", "relevance", "unit"], rows=rows
    )

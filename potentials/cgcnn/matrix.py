"""Edges of crystals as a padded matrix: a row for each atom, with a fixed number of places for neighbors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from asecalc_ml.errors import ModelError
from asecalc_ml.model.potential import PotentialInput

#: Atomic number of padding atoms.
PADDING = 0


class NeighborMatrix(NamedTuple):
    """Atoms and neighbors of all structures, padded.

    Parameters
    ----------
    atomic_numbers : Tensor, shape (n_rows,), int64
        0 of padding atoms.
    batch : Tensor, shape (n_rows,), int64
        System of each row.
    rows : Tensor, shape (n_atoms,), int64
        Row of each atom.
    edge_index : Tensor, shape (2, n_rows n_places), int64
        Rows of centre and neighbor at each place, row after row. An empty place has the first atom of the
        structure as its neighbor.
    distances : Tensor, shape (n_rows n_places,), Å
        Of an empty place, a distance beyond the cutoff.
    filled : Tensor, shape (n_rows n_places,), bool
        False at empty places.
    """

    atomic_numbers: Tensor
    batch: Tensor
    rows: Tensor
    edge_index: Tensor
    distances: Tensor
    filled: Tensor


def neighbor_matrix(
    inputs: PotentialInput, distances: Tensor, n_places: int, n_rows: int | None, beyond_A: float
) -> NeighborMatrix:
    """Arrange the edges of each atom in a row, the nearest first.

    Parameters
    ----------
    inputs : PotentialInput
    distances : Tensor, shape (n_edges,), Å
    n_places : int
        Places for the neighbors of an atom. Images of one neighbor have a place each; the farthest neighbors
        are left out where there are more.
    n_rows : int or None
        Rows of a structure; None for as many as it has atoms.
    beyond_A : float
        Distance at empty places.

    Raises
    ------
    ModelError
        If a structure has more atoms than rows.
    """
    rows, batch, first_row = _rows(inputs, n_rows)
    atomic_numbers = torch.full_like(batch, PADDING).scatter(0, rows, inputs.atomic_numbers)
    # Place of each edge among those of its centre, in the order of distances.
    centres, neighbors = inputs.edge_index
    order = distances.detach().argsort(stable=True)
    order = order[centres[order].argsort(stable=True)]
    n_edges = torch.zeros_like(inputs.atomic_numbers).scatter_add(0, centres, torch.ones_like(centres))
    first_edge = n_edges.cumsum(0) - n_edges
    place = torch.arange(len(order), device=order.device) - first_edge[centres[order]]
    # One place more than there are takes the edges that are left out.
    n_all = len(batch) * n_places
    target = torch.where(place < n_places, rows[centres[order]] * n_places + place, n_all)
    empty = torch.cat([first_row[batch].repeat_interleave(n_places), batch.new_zeros(1)])
    columns = empty.scatter(0, target, rows[neighbors[order]])[:-1]
    lengths = distances.new_full((n_all + 1,), beyond_A).scatter(0, target, distances[order])[:-1]
    filled = torch.zeros_like(empty, dtype=torch.bool).scatter(0, target, True)[:-1]
    centre_rows = torch.arange(len(batch), device=batch.device).repeat_interleave(n_places)
    return NeighborMatrix(atomic_numbers, batch, rows, torch.stack([centre_rows, columns]), lengths, filled)


def _rows(inputs: PotentialInput, n_rows: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Row of each atom, system of each row, and first row of each system."""
    atoms = torch.arange(inputs.n_atoms, device=inputs.batch.device)
    n_atoms = torch.zeros_like(inputs.charge, dtype=torch.int64)
    n_atoms = n_atoms.scatter_add(0, inputs.batch, torch.ones_like(inputs.batch))
    first_atom = n_atoms.cumsum(0) - n_atoms
    if n_rows is None:
        return atoms, inputs.batch, first_atom
    if (largest := int(n_atoms.max())) > n_rows:
        raise ModelError(
            f"a structure has {largest} atoms, and the model's matrix has {n_rows} rows (model.max_atoms);",
            name="max_atoms",
            value=largest,
            allowed=f"up to {n_rows}",
            remedy="leave such structures out, or train a model with `adjacency: list`",
        )
    systems = torch.arange(inputs.n_systems, device=atoms.device)
    first_row = systems * n_rows
    rows = atoms - first_atom[inputs.batch] + first_row[inputs.batch]
    return rows, systems.repeat_interleave(n_rows), first_row

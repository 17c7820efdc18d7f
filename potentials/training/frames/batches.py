"""Batches: all frames of a part as joined tensors on the device, and slices of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.training.frames.labelled_graphs import (
    Batch,
    Label,
    LabelledGraph,
    epoch_order,
    has_all_pairs,
    one_shape,
)
from asecalc_ml.targets.target import Quantity

#: Batches that are put together at once.
BATCHES_AT_ONCE = 64

#: In place of the number of an atom, or of an edge: the ghost's.
GHOST = -1

#: Shape of a row of each label.
ROW = {"energy": (), "forces": (3,), "stress": (3, 3), "dipole": (3,)}


@dataclass(frozen=True)
class Ragged:
    """Rows of all frames, one frame after the other.

    Parameters
    ----------
    rows : Tensor, shape (n_rows, ...)
    first : Tensor, shape (n_frames,), int64
        Number of each frame's first row.
    n_rows : Tensor, shape (n_frames,), int64
    """

    rows: Tensor
    first: Tensor
    n_rows: Tensor

    @classmethod
    def of(cls, parts: Sequence[Tensor], device: torch.device) -> Ragged:
        """Join the rows of the frames."""
        n_rows = torch.tensor([len(part) for part in parts])
        first = n_rows.cumsum(0) - n_rows
        return cls(torch.cat(list(parts)).to(device), first.to(device), n_rows.to(device))

    def take(self, frames: Tensor) -> Ragged:
        """Rows of some frames, in their order.

        Parameters
        ----------
        frames : Tensor, shape (n,), int64
        """
        n_rows = self.n_rows[frames]
        first = n_rows.cumsum(0) - n_rows
        # row k of the result, which belongs to frame f: first row of f in this table + k − first row there
        moved = (self.first[frames] - first).repeat_interleave(n_rows)
        rows = torch.arange(len(moved), device=moved.device) + moved
        return Ragged(self.rows.index_select(0, rows), first, n_rows)


class StoredFrames:
    """Frames of a part, and the ghost as a frame of its own, as joined tensors on one device.

    A batch is a slice of the rows of an epoch, taken in the order of the epoch and with the ghost behind the
    frames of each batch. Numbers of atoms and edges are made anew for many batches at once, so that a step
    costs no more than slicing.

    Parameters
    ----------
    frames : sequence of LabelledGraph
    cutoff : float, Å
    labels : collection of str
        Labels that batches have.
    triplet_cutoff : float, Å, optional
    device : torch.device
    targets : sequence of (Quantity, float)
        Labels of other quantities than the energy, with the spread that their errors are divided by.

    Attributes
    ----------
    one_shape : bool
        All frames have the same numbers of atoms and edges.
    all_pairs : bool
        All frames are molecules of one size, whose edges are all pairs of atoms.
    """

    def __init__(
        self,
        frames: Sequence[LabelledGraph],
        cutoff: float,
        labels: Sequence[str] = tuple(ROW),
        triplet_cutoff: float | None = None,
        device: torch.device | str = "cpu",
        targets: Sequence[tuple[Quantity, float]] = (),
    ):
        self.n_frames, self.labels, self.one_shape = len(frames), tuple(labels), one_shape(frames)
        self.all_pairs = self.one_shape and all(has_all_pairs(frame.graph) for frame in frames)
        self.device = torch.device(device)
        self.targets = [quantity.name for quantity, _ in targets]
        spreads = torch.tensor([spread for _, spread in targets], dtype=torch.float64)
        self.spreads = spreads.to(self.device) if targets else None
        inputs = [with_ghost(frame.graph, cutoff, triplet_cutoff=triplet_cutoff) for frame in frames]
        ghost = _ghost_frame(inputs[0])
        own = [_without_ghost(one) for one in inputs]
        most = max(one["triplets"].shape[0] for one in own) if triplet_cutoff is not None else 0
        if self.one_shape and triplet_cutoff is not None:  # batches of one shape need triplets of one number
            own = [one | {"triplets": _padded(one["triplets"], most)} for one in own]
        tables = {name: [*(one[name] for one in own), ghost[name]] for name in ghost}
        tables |= self._label_tables(frames)
        for quantity, _ in targets:
            tables |= _target_tables(frames, quantity)
        self.tables = {name: Ragged.of(parts, self.device) for name, parts in tables.items()}

    def _label_tables(self, frames: Sequence[LabelledGraph]) -> dict[str, list[Tensor]]:
        """Values and weights of each label, and what dipoles and stresses are compared with."""
        tables: dict[str, list[Tensor]] = {}
        for label in self.labels:
            values = [getattr(frame, label) for frame in frames]
            n_rows = [frame.graph.n_atoms if label == "forces" else 1 for frame in frames]
            absent = [torch.zeros(n, *ROW[label], dtype=torch.float64) for n in (*n_rows, 1)]
            tables[label] = [
                zero if value is None else value for value, zero in zip((*values, None), absent, strict=True)
            ]
            tables[f"{label} weights"] = [
                torch.full((n,), float(value is not None), dtype=torch.float64)
                for value, n in zip((*values, None), (*n_rows, 1), strict=True)
            ]
        if "stress" in self.labels:
            one = torch.ones(1, dtype=torch.float64)
            stressed = [frame.stress is not None for frame in frames]
            volumes = [torch.linalg.det(frame.graph.cell).abs() for frame in frames]
            given = [v if has_stress else one for v, has_stress in zip(volumes, stressed, strict=True)]
            tables["volume"] = [*given, one]
        if "dipole" in self.labels:
            zeros = [torch.zeros(frame.graph.n_atoms, 3, dtype=torch.float64) for frame in frames]
            given = [
                zero if frame.from_centre is None else frame.from_centre
                for frame, zero in zip(frames, zeros, strict=True)
            ]
            tables["from_centre"] = [*given, torch.zeros(1, 3, dtype=torch.float64)]
        return tables

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[Batch]:
        """Batches of frames in an order; the last one may have fewer.

        Parameters
        ----------
        order : ndarray of int, shape (n,)
        batch_size : int
        """
        for start in range(0, len(order), BATCHES_AT_ONCE * batch_size):
            yield from self._joined(order[start : start + BATCHES_AT_ONCE * batch_size], batch_size)

    def _joined(self, order: np.ndarray, batch_size: int) -> Iterator[Batch]:
        """Batches of a few frames, whose rows are taken at once."""
        parts = np.split(order, range(batch_size, len(order), batch_size))
        with_ghosts = np.concatenate([np.append(part, self.n_frames) for part in parts])
        frames = torch.from_numpy(with_ghosts).to(self.device)
        taken = {name: table.take(frames) for name, table in self.tables.items()}
        n_systems = torch.tensor([len(part) + 1 for part in parts])
        # rows of each batch in each table
        bounds = {name: _bounds(table.n_rows.cpu(), n_systems) for name, table in taken.items()}
        bounds["batch"] = bounds["atomic_numbers"]
        rows = {name: table.rows for name, table in taken.items()} | _renumbered(taken, n_systems)
        for k in range(len(parts)):
            sliced = {name: rows[name][slice(*bounds[name][k : k + 2])] for name in rows}
            yield self._batch(sliced)

    def _batch(self, rows: dict[str, Tensor]) -> Batch:
        triplets = rows["triplets"].T.contiguous() if "triplets" in rows else None
        inputs = PotentialInput(
            atomic_numbers=rows["atomic_numbers"],
            edge_index=rows["edge_index"].T.contiguous(),
            edge_vectors=rows["edge_vectors"],
            batch=rows["batch"],
            charge=rows["charge"],
            spin=rows["spin"],
            triplets=triplets,
            reverse_edges=rows.get("reverse_edges"),
        )
        labels = {label: Label(rows[label], rows[f"{label} weights"]) for label in self.labels}
        extras = {name: rows[name] for name in ("volume", "from_centre") if name in rows}
        targets = tuple(Label(rows[_table(name)], rows[_table(name, "weights")]) for name in self.targets)
        return Batch(inputs, rows["n_atoms"], **labels, **extras, targets=targets, spreads=self.spreads)


class EpochBatches:
    """Batches of a part: in order, or shuffled anew in each epoch and without an incomplete last batch.

    Parameters
    ----------
    frames : StoredFrames
    batch_size : int
    shuffle_seed : int, optional
        Shuffle; the order depends on the seed and on the number of the epoch alone.
    """

    def __init__(self, frames: StoredFrames, batch_size: int, shuffle_seed: int | None = None):
        self.frames, self.batch_size, self.shuffle_seed = frames, batch_size, shuffle_seed

    def __len__(self) -> int:
        n_frames = self.frames.n_frames
        n_full, n_left = divmod(n_frames, self.batch_size)
        return n_full if n_full and self.shuffle_seed is not None else n_full + bool(n_left)

    def __iter__(self) -> Iterator[Batch]:
        return self.of_epoch(0)

    def of_epoch(self, epoch: int) -> Iterator[Batch]:
        """Batches of an epoch, counted from 0."""
        n_frames, seed = self.frames.n_frames, self.shuffle_seed
        order = np.arange(n_frames) if seed is None else epoch_order(n_frames, seed, epoch)
        return self.frames.batches(order[: len(self) * self.batch_size], self.batch_size)


def loader(
    frames: Sequence[LabelledGraph],
    cutoff: float,
    batch_size: int,
    shuffle_seed: int | None = None,
    triplet_cutoff: float | None = None,
) -> EpochBatches:
    """Batches of frames with all labels, on the CPU; see :class:`EpochBatches`."""
    stored = StoredFrames(frames, cutoff, triplet_cutoff=triplet_cutoff)
    return EpochBatches(stored, batch_size, shuffle_seed)


def _target_tables(frames: Sequence[LabelledGraph], quantity: Quantity) -> dict[str, list[Tensor]]:
    """Values and weights of a target, with a row for each frame and for the ghost, which has none."""
    values = [*(frame.targets.get(quantity.name) for frame in frames), None]
    absent = torch.zeros(1, *quantity.shape, dtype=torch.float64)
    return {
        _table(quantity.name): [absent if value is None else value for value in values],
        _table(quantity.name, "weights"): [
            torch.full((1,), float(value is not None), dtype=torch.float64) for value in values
        ],
    }


def _table(target: str, part: str = "values") -> str:
    """Name of a table of a target, which may be called like any other table."""
    return f"target {target} {part}"


def _without_ghost(inputs: PotentialInput) -> dict[str, Tensor]:
    """Rows of a frame, numbered within it; the ghost as an atom or an edge is GHOST."""
    ghost, n_edges = inputs.n_atoms - 1, inputs.edge_vectors.shape[0]
    rows = {
        "n_atoms": torch.tensor([ghost]),
        "atomic_numbers": inputs.atomic_numbers[:-1],
        "charge": inputs.charge[:-1],
        "spin": inputs.spin[:-1],
        "edge_index": torch.where(inputs.edge_index < ghost, inputs.edge_index, GHOST).T,
        "edge_vectors": inputs.edge_vectors,
    }
    if inputs.triplets is None or inputs.reverse_edges is None:
        return rows
    # with triplets the last edge is the ghost's, which each batch has once
    per_edge = {"edge_index": rows["edge_index"], "edge_vectors": rows["edge_vectors"]}
    rows |= {name: values[: n_edges - 1] for name, values in per_edge.items()}
    return rows | {"triplets": inputs.triplets.T, "reverse_edges": inputs.reverse_edges[: n_edges - 1]}


def _ghost_frame(example: PotentialInput) -> dict[str, Tensor]:
    """Rows of the ghost: an atom of an element that the frames have, and an edge where there are triplets."""
    n_edges = 0 if example.triplets is None else 1
    rows = {
        "n_atoms": torch.ones(1, dtype=torch.int64),
        "atomic_numbers": example.atomic_numbers[-1:],
        "charge": example.charge[-1:],
        "spin": example.spin[-1:],
        "edge_index": torch.full((n_edges, 2), GHOST),
        "edge_vectors": example.edge_vectors[len(example.edge_vectors) - n_edges :],
    }
    if n_edges == 0:
        return rows
    return rows | {"triplets": torch.empty(0, 2, dtype=torch.int64), "reverse_edges": torch.full((1,), GHOST)}


def _padded(triplets: Tensor, n_triplets: int) -> Tensor:
    """Triplets of the ghost's edge with itself up to a number, shape (n_triplets, 2)."""
    padding = triplets.new_full((n_triplets - len(triplets), 2), GHOST)
    return torch.cat([triplets, padding])


def _bounds(n_rows: Tensor, n_systems: Tensor) -> list[int]:
    """First row of each batch, and the end of the last."""
    ends = n_rows.cumsum(0)[n_systems.cumsum(0) - 1]
    return [0, *ends.tolist()]


def _renumbered(taken: dict[str, Ragged], n_systems: Tensor) -> dict[str, Tensor]:
    """Numbers of systems, atoms and edges within each batch, in place of those within each frame."""
    atoms, edges = taken["atomic_numbers"], taken["edge_vectors"]
    n_systems = n_systems.to(atoms.rows.device)
    last = n_systems.cumsum(0) - 1  # the ghost of each batch among all systems
    batch_of_system = torch.arange(len(n_systems), device=last.device).repeat_interleave(n_systems)
    # number of each system, and of its first atom and first edge, within its batch
    first_system = last - n_systems + 1
    system = torch.arange(len(batch_of_system), device=last.device) - first_system[batch_of_system]
    first_atom = atoms.first - atoms.first[first_system][batch_of_system]
    first_edge = edges.first - edges.first[first_system][batch_of_system]
    ghost_atom, ghost_edge = (first[last][batch_of_system] for first in (first_atom, first_edge))

    def number(name: str, first: Tensor, ghost: Tensor) -> Tensor:
        table = taken[name]
        offset, ghosts = (one.repeat_interleave(table.n_rows) for one in (first, ghost))
        shape = (-1, *[1] * (table.rows.dim() - 1))
        return torch.where(table.rows == GHOST, ghosts.view(shape), table.rows + offset.view(shape))

    numbers = {
        "batch": system.repeat_interleave(atoms.n_rows),
        "edge_index": number("edge_index", first_atom, ghost_atom),
    }
    for name in {"triplets", "reverse_edges"} & taken.keys():
        numbers[name] = number(name, first_edge, ghost_edge)
    return numbers

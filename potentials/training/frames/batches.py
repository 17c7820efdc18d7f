"""Batches: all frames of a part as joined tensors on the device, and slices of them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.training.frames.labelled_graphs import (
    Batch,
    Label,
    LabelledGraph,
    epoch_order,
    has_all_pairs,
)
from asecalc_ml.targets.target import Quantity

#: Batches that are put together at once.
BATCHES_AT_ONCE = 64

#: Frames whose graphs are in memory at once while they are stored.
FRAMES_AT_ONCE = 1000

#: In place of the number of an atom, or of an edge: the ghost's.
GHOST = -1

#: Shape of a row of each label.
ROW = {"energy": (), "forces": (3,), "stress": (3, 3), "dipole": (3,)}


@dataclass(frozen=True)
class Parts:
    """Parts of equal size that each batch is divided into, and those of them that this process computes.

    Parameters
    ----------
    n : int
        Parts of a batch.
    own : range
        Numbers of the parts that are computed here, one after the other.
    """

    n: int = 1
    own: range = range(1)

    def of(self, frames: np.ndarray) -> list[np.ndarray]:
        """The parts that are computed here, of the numbers of a batch's frames."""
        return [np.array_split(frames, self.n)[k] for k in self.own]


WHOLE = Parts()


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
    def of(cls, rows: Tensor, n_rows: Tensor | Sequence[int]) -> Ragged:
        """Rows of frames with these numbers of rows."""
        n_rows = torch.as_tensor(n_rows)
        return cls(rows, n_rows.cumsum(0) - n_rows, n_rows)

    def to(self, device: torch.device) -> Ragged:
        """The same rows on another device."""
        return Ragged(self.rows.to(device), self.first.to(device), self.n_rows.to(device))

    def padded(self, row: Tensor) -> Ragged:
        """As many rows for every frame as the longest has, others filled with a row."""
        most = int(self.n_rows.max())
        rows = row.expand(len(self.n_rows), most, *row.shape).clone()
        rows[torch.arange(most) < self.n_rows[:, None]] = self.rows
        return Ragged.of(rows.flatten(0, 1), torch.full_like(self.n_rows, most))

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


class GrowingRows:
    """Rows of frames that arrive in chunks, as one tensor: no row is in memory twice.

    Parameters
    ----------
    n_expected : int
        Rows for which there is room from the start; memory that no row takes is not used.
    """

    def __init__(self, n_expected: int = 0):
        self._n_expected, self._n = n_expected, 0
        self._rows = torch.empty(0)
        self._n_rows: list[Tensor] = []

    def add(self, part: Ragged) -> None:
        """Take the rows of more frames."""
        end = self._n + len(part.rows)
        if not self._n_rows or end > len(self._rows):
            room = part.rows.new_empty((max(end, self._n_expected, 2 * self._n), *part.rows.shape[1:]))
            if self._n:
                room[: self._n] = self._rows[: self._n]
            self._rows = room
        self._rows[self._n : end] = part.rows
        self._n = end
        self._n_rows.append(part.n_rows)

    @property
    def ragged(self) -> Ragged:
        """All rows."""
        return Ragged.of(self._rows[: self._n], torch.cat(self._n_rows))


class StoredFrames:
    """Frames of a part, and the ghost as a frame of its own, as joined tensors on one device.

    A batch is a slice of the rows of an epoch, taken in the order of the epoch and with the ghost behind the
    frames of each batch. Numbers of atoms and edges are made anew for many batches at once, so that a step
    costs no more than slicing.

    Parameters
    ----------
    frames : iterable of LabelledGraph
        Not kept, so that frames that are made one by one need no memory.
    cutoff : float, Å
    labels : collection of str
        Labels that batches have.
    triplet_cutoff : float, Å, optional
    device : torch.device
    targets : sequence of (Quantity, float)
        Labels of other quantities than the energy, with the spread that their errors are divided by.
    n_edges : int
        Edges of all frames, where they are known: memory is then reserved once.

    Attributes
    ----------
    one_shape : bool
        All frames have the same numbers of atoms and edges.
    all_pairs : bool
        All frames are molecules of one size, whose edges are all pairs of atoms.
    """

    def __init__(
        self,
        frames: Iterable[LabelledGraph],
        cutoff: float,
        labels: Sequence[str] = tuple(ROW),
        triplet_cutoff: float | None = None,
        device: torch.device | str = "cpu",
        targets: Sequence[tuple[Quantity, float]] = (),
        n_edges: int = 0,
    ):
        self.labels, self.device = tuple(labels), torch.device(device)
        self.targets = [quantity.name for quantity, _ in targets]
        spreads = torch.tensor([spread for _, spread in targets], dtype=torch.float64)
        self.spreads = spreads.to(self.device) if targets else None
        tables: dict[str, GrowingRows] = defaultdict(GrowingRows)
        tables |= {name: GrowingRows(n_edges + 1) for name in ("edge_index", "edge_vectors")}
        ghost: dict[str, Ragged] = {}
        shapes: set[tuple[int, int]] = set()
        self.n_frames, self.all_pairs = 0, True
        for chunk in _chunks(frames):
            self.n_frames += len(chunk)
            shapes |= {(frame.graph.n_atoms, frame.graph.n_edges) for frame in chunk}
            self.all_pairs = self.all_pairs and len(shapes) == 1
            self.all_pairs = self.all_pairs and all(has_all_pairs(frame.graph) for frame in chunk)
            own, of_ghost = _rows_of_graphs([frame.graph for frame in chunk], cutoff, triplet_cutoff)
            ghost = ghost or of_ghost
            own |= self._rows_of_labels(chunk, [quantity for quantity, _ in targets])
            for name, rows in own.items():
                tables[name].add(rows)
        self.one_shape = len(shapes) == 1
        if self.one_shape and triplet_cutoff is not None:  # batches of one shape need triplets of one number
            triplets = tables["triplets"].ragged.padded(torch.full((2,), GHOST))
            tables["triplets"] = GrowingRows()
            tables["triplets"].add(triplets)
        ghost["volume"] = Ragged.of(torch.ones(1, dtype=torch.float64), [1])  # divides its stress
        for name, table in tables.items():
            table.add(ghost[name] if name in ghost else _absent(table.ragged))
        self.tables = {name: table.ragged.to(self.device) for name, table in tables.items()}
        self.n_labelled = {name: _sums_by_frame(self.tables[name]) for name in self._tables_of_weights()}

    def _rows_of_labels(
        self, frames: Sequence[LabelledGraph], targets: Sequence[Quantity]
    ) -> dict[str, Ragged]:
        """Values and weights of each label, and what dipoles and stresses are compared with."""
        n_atoms, once = [frame.graph.n_atoms for frame in frames], [1] * len(frames)
        rows: dict[str, Ragged] = {}
        for label in self.labels:
            n_rows = n_atoms if label == "forces" else once
            values = [getattr(frame, label) for frame in frames]
            rows |= _with_weights(label, _weights(label), values, n_rows, ROW[label])
        for target in targets:
            values = [frame.targets.get(target.name) for frame in frames]
            rows |= _with_weights(
                _table(target.name), _table(target.name, "weights"), values, once, target.shape
            )
        if "stress" in self.labels:
            volumes = torch.linalg.det(torch.cat([frame.graph.cell for frame in frames])).abs()
            stressed = torch.tensor([frame.stress is not None for frame in frames])
            rows["volume"] = Ragged.of(torch.where(stressed, volumes, 1.0), once)
        if "dipole" in self.labels:
            centred = [frame.from_centre for frame in frames]
            rows["from_centre"] = Ragged.of(_filled(centred, n_atoms, (3,)), n_atoms)
        return rows

    def _tables_of_weights(self) -> list[str]:
        return [_weights(label) for label in self.labels] + [_table(name, "weights") for name in self.targets]

    def batches(
        self,
        order: np.ndarray,
        batch_size: int,
        n_skipped: int = 0,
        parts: Parts = WHOLE,
        of_all: bool = False,
    ) -> Iterator[Batch]:
        """Batches of frames in an order, or parts of them; the last one may have fewer frames.

        Parameters
        ----------
        order : ndarray of int, shape (n,)
        batch_size : int
        n_skipped : int
            Number of batches that are left out at the beginning. The others lie in memory as they would
            without, since the rounding of sums may depend on the alignment of their terms.
        parts : Parts
            Yield these parts of each batch in its place.
        of_all : bool
            Each batch is a part of all frames of the order, and knows their numbers of frames and labels, so
            that what batches contribute to a loss sums to the loss of all frames.
        """
        n_groups, n_skipped = divmod(n_skipped, BATCHES_AT_ONCE)
        n_frames = BATCHES_AT_ONCE * batch_size
        totals = self._numbers_of(order, np.zeros(len(order), dtype=int)) if of_all else None
        groups = (
            self._joined(order[start : start + n_frames], batch_size, parts, totals)
            for start in range(n_groups * n_frames, len(order), n_frames)
        )
        return itertools.islice(itertools.chain.from_iterable(groups), n_skipped * len(parts.own), None)

    def _numbers_of(self, order: np.ndarray, batch: np.ndarray) -> dict[str, Tensor]:
        """Numbers of frames, and of labels of each kind, in each batch, shape (n_batches,).

        Parameters
        ----------
        order, batch : ndarray of int, shape (n,)
            Frames, and the batch of each.
        """
        frames, groups = (torch.from_numpy(numbers).to(self.device) for numbers in (order, batch))
        numbers = {name: _sums(counts[frames], groups) for name, counts in self.n_labelled.items()}
        return numbers | {"n_frames": _sums(torch.ones_like(groups, dtype=torch.float64), groups)}

    def _joined(
        self, order: np.ndarray, batch_size: int, own: Parts, totals: dict[str, Tensor] | None
    ) -> Iterator[Batch]:
        """Parts of a few batches, whose rows are taken at once; with the numbers of all frames if given."""
        wholes = np.split(order, range(batch_size, len(order), batch_size))
        parts = [part for whole in wholes for part in own.of(whole)]
        if totals is None:
            of_whole = self._numbers_of(order, np.arange(len(order)) // batch_size)
        else:
            of_whole = {name: total.expand(len(wholes)) for name, total in totals.items()}
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
            yield self._batch(sliced, {name: sums[k // len(own.own)] for name, sums in of_whole.items()})

    def _batch(self, rows: dict[str, Tensor], of_whole: dict[str, Tensor]) -> Batch:
        """A part from its rows, and the numbers of frames and labels of the whole batch."""
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
            atom_features=rows.get("atom_features"),
            pair_features=rows.get("pair_features"),
        )
        weights = self._tables_of_weights()
        values = [*self.labels, *map(_table, self.targets)]
        found = [Label(rows[v], rows[w], of_whole[w]) for v, w in zip(values, weights, strict=True)]
        labels = dict(zip(self.labels, found, strict=False))
        extras = {name: rows[name] for name in ("volume", "from_centre") if name in rows}
        return Batch(
            inputs,
            rows["n_atoms"],
            of_whole["n_frames"],
            **labels,
            **extras,
            targets=tuple(found[len(labels) :]),
            spreads=self.spreads,
        )


class EpochBatches:
    """Batches of a part: in order, or shuffled anew in each epoch and without an incomplete last batch.

    Parameters
    ----------
    frames : StoredFrames
    batch_size : int
    shuffle_seed : int, optional
        Shuffle; the order depends on the seed and on the number of the epoch alone.
    parts : Parts
        Parts of each batch that are computed here; by default it is whole.
    of_all : bool
        Each batch is a part of all frames; see :meth:`StoredFrames.batches`.
    """

    def __init__(
        self,
        frames: StoredFrames,
        batch_size: int,
        shuffle_seed: int | None = None,
        parts: Parts = WHOLE,
        of_all: bool = False,
    ):
        self.frames, self.batch_size, self.shuffle_seed = frames, batch_size, shuffle_seed
        self.parts, self.of_all = parts, of_all

    def __len__(self) -> int:
        n_frames = self.frames.n_frames
        n_full, n_left = divmod(n_frames, self.batch_size)
        return n_full if n_full and self.shuffle_seed is not None else n_full + bool(n_left)

    def __iter__(self) -> Iterator[Batch]:
        return self.of_epoch(0)

    @property
    def n_frames_of_first(self) -> int:
        """Frames of the first batch, and of all others but an incomplete last one."""
        return min(self.batch_size, self.frames.n_frames)

    def of_epoch(self, epoch: int, n_skipped: int = 0) -> Iterator[Batch]:
        """Own parts of the batches of an epoch, counted from 0, without the first ``n_skipped`` batches."""
        n_frames, seed = self.frames.n_frames, self.shuffle_seed
        order = np.arange(n_frames) if seed is None else epoch_order(n_frames, seed, epoch)
        chosen = order[: len(self) * self.batch_size]
        return self.frames.batches(chosen, self.batch_size, n_skipped, self.parts, self.of_all)


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


def _chunks(frames: Iterable[LabelledGraph]) -> Iterator[list[LabelledGraph]]:
    remaining = iter(frames)
    while chunk := list(itertools.islice(remaining, FRAMES_AT_ONCE)):
        yield chunk


def _with_weights(
    name: str, weights: str, values: Sequence[Tensor | None], n_rows: Sequence[int], shape: tuple[int, ...]
) -> dict[str, Ragged]:
    """Values of frames, zero where a frame has none, and their weights, which are zero there."""
    known = torch.tensor([float(value is not None) for value in values], dtype=torch.float64)
    return {
        name: Ragged.of(_filled(values, n_rows, shape), n_rows),
        weights: Ragged.of(known.repeat_interleave(torch.tensor(n_rows)), n_rows),
    }


def _filled(values: Sequence[Tensor | None], n_rows: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Rows of all frames, zero where a frame has none."""
    rows = [
        torch.zeros(n, *shape, dtype=torch.float64) if value is None else value
        for value, n in zip(values, n_rows, strict=True)
    ]
    return torch.cat(rows)


def _absent(rows: Ragged) -> Ragged:
    """Row of the ghost in a table of labels, which it has none of."""
    return Ragged.of(rows.rows.new_zeros((1, *rows.rows.shape[1:])), [1])


def _weights(label: str) -> str:
    """Name of the table of a label's weights."""
    return f"{label} weights"


def _sums_by_frame(table: Ragged) -> Tensor:
    """Sum of the rows of each frame, shape (n_frames,)."""
    frames = torch.arange(len(table.n_rows), device=table.rows.device)
    return _sums(table.rows, frames.repeat_interleave(table.n_rows))


def _sums(values: Tensor, groups: Tensor) -> Tensor:
    """Sums of values by the number of their group; every group has at least one."""
    return values.new_zeros(int(groups[-1]) + 1).index_add_(0, groups, values)


def _table(target: str, part: str = "values") -> str:
    """Name of a table of a target, which may be called like any other table."""
    return f"target {target} {part}"


def _rows_of_graphs(
    graphs: Sequence[AtomGraph], cutoff: float, triplet_cutoff: float | None
) -> tuple[dict[str, Ragged], dict[str, Ragged]]:
    """Rows of frames, numbered within each; the ghost as an atom or an edge is GHOST. Rows of the ghost."""
    together = collate(graphs)
    inputs = with_ghost(together, cutoff, triplet_cutoff=triplet_cutoff)
    n_atoms = torch.tensor([graph.n_atoms for graph in graphs])
    n_edges = torch.tensor([graph.n_edges for graph in graphs])
    first_atom, first_edge = n_atoms.cumsum(0) - n_atoms, n_edges.cumsum(0) - n_edges
    # with triplets there is one more edge, the last one, which is the ghost's and not one of a frame
    frame = torch.arange(len(graphs)).repeat_interleave(n_edges)
    edge_index, ghost = inputs.edge_index[:, : len(frame)], inputs.n_atoms - 1
    own = {
        "n_atoms": Ragged.of(n_atoms, torch.ones_like(n_atoms)),
        "atomic_numbers": Ragged.of(inputs.atomic_numbers[:-1], n_atoms),
        "charge": Ragged.of(inputs.charge[:-1], torch.ones_like(n_atoms)),
        "spin": Ragged.of(inputs.spin[:-1], torch.ones_like(n_atoms)),
        "edge_index": Ragged.of(
            torch.where(edge_index < ghost, edge_index - first_atom[frame], GHOST).T.int().contiguous(),
            n_edges,
        ),
        "edge_vectors": Ragged.of(inputs.edge_vectors[: len(frame)], n_edges),
    }
    of_ghost = {
        "n_atoms": torch.ones(1, dtype=torch.int64),
        "atomic_numbers": inputs.atomic_numbers[-1:],
        "charge": inputs.charge[-1:],
        "spin": inputs.spin[-1:],
        "edge_index": torch.full((inputs.edge_index.shape[1] - len(frame), 2), GHOST, dtype=torch.int32),
        "edge_vectors": inputs.edge_vectors[len(frame) :],
    }
    if inputs.triplets is not None and inputs.reverse_edges is not None:
        of_edge = frame[inputs.triplets[0]]
        reverse = inputs.reverse_edges[: len(frame)] - first_edge[frame]
        n_triplets = torch.bincount(of_edge, minlength=len(graphs))
        own["triplets"] = Ragged.of((inputs.triplets - first_edge[of_edge]).T.contiguous(), n_triplets)
        own["reverse_edges"] = Ragged.of(reverse, n_edges)
        of_ghost |= {
            "triplets": torch.empty(0, 2, dtype=torch.int64),
            "reverse_edges": torch.full((1,), GHOST),
        }
    if inputs.atom_features is not None and inputs.pair_features is not None:
        own["atom_features"] = Ragged.of(inputs.atom_features[:-1], n_atoms)
        own["pair_features"] = Ragged.of(inputs.pair_features[: len(frame)], n_edges)
        of_ghost |= {
            "atom_features": inputs.atom_features[-1:],
            "pair_features": inputs.pair_features[len(frame) :],
        }
    return own, {name: Ragged.of(rows, [len(rows)]) for name, rows in of_ghost.items()}


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

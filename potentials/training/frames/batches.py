"""Labelled graphs and the batches made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.triplets import pad_triplets
from asecalc_ml.model.dipoles import from_centre_of_mass
from asecalc_ml.model.potential import PotentialInput


@dataclass(frozen=True)
class LabelledGraph:
    """A structure with the labels that it has, float64.

    Parameters
    ----------
    graph : AtomGraph
    energy : Tensor, shape (1,), eV, or None
    forces : Tensor, shape (n_atoms, 3), eV/Å, or None
    stress : Tensor, shape (1, 3, 3), eV/Å³, or None
    dipole : Tensor, shape (1, 3), e Å, or None
    from_centre : Tensor, shape (n_atoms, 3), Å, or None
        Positions relative to the centre of mass, which make a dipole of charges; where there is a dipole.
    """

    graph: AtomGraph
    energy: Tensor | None = None
    forces: Tensor | None = None
    stress: Tensor | None = None
    dipole: Tensor | None = None
    from_centre: Tensor | None = None

    @classmethod
    def from_atoms(
        cls, atoms: Atoms, cutoff: float, labels: Collection[str] = ("energy", "forces")
    ) -> LabelledGraph:
        """A frame with those of the named labels that it has."""
        found = {label: atoms.calc.results[label] for label in labels if label in atoms.calc.results}
        if "stress" in found:
            found["stress"] = voigt_6_to_full_3x3_stress(found["stress"])
        rows = {label: np.asarray(values, dtype=np.float64) for label, values in found.items()}
        tensors = {
            label: torch.from_numpy(values if label == "forces" else values[None])
            for label, values in rows.items()
        }
        if "dipole" in tensors:
            tensors["from_centre"] = torch.from_numpy(from_centre_of_mass(atoms))
        return cls(AtomGraph.from_atoms(atoms, cutoff), **tensors)


class Label(NamedTuple):
    """A label of the frames of a batch that have it.

    Parameters
    ----------
    values : Tensor, shape (n_labelled, ...)
        A row for each frame, or for each atom of the frames, that have the label.
    rows : Tensor, shape (n_labelled,), int64
        Numbers of these frames, or atoms, in the batch.
    """

    values: Tensor
    rows: Tensor

    @classmethod
    def of(cls, values: Sequence[Tensor | None], n_rows: Sequence[int], shape: tuple[int, ...] = ()) -> Label:
        """Join the values of frames.

        Parameters
        ----------
        values : sequence of Tensor or None
            None for a frame that lacks the label.
        n_rows : sequence of int
            Number of rows that each frame has, or would have.
        shape : tuple of int
            Shape of a row.
        """
        has_label = torch.tensor([one is not None for one in values])
        # rows of the batch that belong to a frame with the label
        rows = has_label.repeat_interleave(torch.tensor(n_rows)).nonzero().flatten()
        there = [one for one in values if one is not None]
        return cls(torch.cat(there) if there else torch.empty(0, *shape, dtype=torch.float64), rows)

    def to(self, device: torch.device) -> Label:
        return Label(self.values.to(device), self.rows.to(device))

    def errors(self, predicted: Tensor) -> Tensor:
        """Predicted less labelled values where there is a label, shape (n_labelled, ...).

        Parameters
        ----------
        predicted : Tensor, shape (n_rows, ...)
            Of all frames or atoms.
        """
        return predicted.index_select(0, self.rows) - self.values


@dataclass(frozen=True)
class Batch:
    """Padded input and labels; the ghost system has none.

    Parameters
    ----------
    inputs : PotentialInput
    energy : Label, rows of shape (), eV
    forces : Label, rows of shape (3,), eV/Å
    stress : Label, rows of shape (3, 3), eV/Å³
    dipole : Label, rows of shape (3,), e Å
    volume : Tensor, shape (n_systems,), Å³
    from_centre : Tensor, shape (n_atoms, 3), Å
        Positions relative to the centre of mass of the system; zero where the system has no dipole.
    """

    inputs: PotentialInput
    energy: Label
    forces: Label
    stress: Label
    dipole: Label
    volume: Tensor
    from_centre: Tensor

    @classmethod
    def of(cls, inputs: PotentialInput, frames: Sequence[LabelledGraph]) -> Batch:
        """Batch from graphs of frames and the frames' labels."""
        once, n_atoms = [1] * len(frames), [frame.graph.n_atoms for frame in frames]
        centred = (frame.from_centre for frame in frames)
        return cls(
            inputs=inputs,
            energy=Label.of([frame.energy for frame in frames], once),
            forces=Label.of([frame.forces for frame in frames], n_atoms, (3,)),
            stress=Label.of([frame.stress for frame in frames], once, (3, 3)),
            dipole=Label.of([frame.dipole for frame in frames], once, (3,)),
            volume=torch.cat([torch.linalg.det(frame.graph.cell).abs() for frame in frames]),
            from_centre=torch.cat(
                [
                    torch.zeros(n, 3, dtype=torch.float64) if one is None else one
                    for one, n in zip(centred, n_atoms, strict=True)
                ]
            ),
        )

    @property
    def n_systems(self) -> int:
        """Number of frames, without the ghost."""
        return self.inputs.n_systems - 1

    @property
    def atoms_per_system(self) -> Tensor:
        return torch.bincount(self.inputs.batch)[:-1]

    def to(self, device: torch.device) -> Batch:
        inputs = PotentialInput(*(tensor.to(device) for tensor in self.inputs.tensors))
        labels = {one.name: getattr(self, one.name).to(device) for one in fields(self)[1:]}
        return Batch(inputs, **labels)


class EpochShuffle(Sampler[int]):
    """A new order in every epoch, that depends on seed and epoch alone: a resumed training sees the same."""

    def __init__(self, n_frames: int, seed: int):
        self.n_frames, self.seed, self.epoch = n_frames, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_frames

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.n_frames).tolist())


def loader(
    frames: Sequence[LabelledGraph],
    cutoff: float,
    batch_size: int,
    shuffle_seed: int | None = None,
    triplet_cutoff: float | None = None,
) -> DataLoader:
    """Batches of frames: in order, or shuffled anew in each epoch and without an incomplete last batch."""
    most_triplets = _most_triplets(frames, cutoff, triplet_cutoff)

    def join(part: list[LabelledGraph]) -> Batch:
        inputs = with_ghost(collate([frame.graph for frame in part]), cutoff, triplet_cutoff=triplet_cutoff)
        if most_triplets is not None:
            inputs = pad_triplets(inputs, len(part) * most_triplets)
        return Batch.of(inputs, part)

    if shuffle_seed is None:
        return DataLoader(frames, batch_size, collate_fn=join)
    sampler = EpochShuffle(len(frames), shuffle_seed)
    full_batches = len(frames) >= batch_size
    return DataLoader(frames, batch_size, sampler=sampler, collate_fn=join, drop_last=full_batches)


def _most_triplets(
    frames: Sequence[LabelledGraph], cutoff: float, triplet_cutoff: float | None
) -> int | None:
    """Room for triplets that frames of one shape need for batches of one shape; None for others."""
    if triplet_cutoff is None or not one_shape(frames):
        return None
    inputs = (with_ghost(frame.graph, cutoff, triplet_cutoff=triplet_cutoff) for frame in frames)
    return max(one.triplets.shape[1] for one in inputs)


def one_shape(frames: Sequence[LabelledGraph]) -> bool:
    """Whether all frames have the same number of atoms and edges, so that all batches have one shape."""
    return len({(frame.graph.n_atoms, frame.graph.n_edges) for frame in frames}) == 1

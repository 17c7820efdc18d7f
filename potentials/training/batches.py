"""Labelled graphs and the batches made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from asecalc_ml.dipoles import from_centre_of_mass
from asecalc_ml.ghost import with_ghost
from asecalc_ml.graph import AtomGraph, collate
from asecalc_ml.potential import PotentialInput
from asecalc_ml.triplets import pad_triplets


@dataclass(frozen=True)
class DipoleLabels:
    """Dipoles, and the positions that make dipoles of charges.

    Parameters
    ----------
    dipole : Tensor, shape (n_systems, 3), e Å
    positions : Tensor, shape (n_atoms, 3), Å
        Relative to the centre of mass of the system.
    """

    dipole: Tensor
    positions: Tensor

    @classmethod
    def from_atoms(cls, atoms: Atoms) -> DipoleLabels:
        dipole = torch.from_numpy(np.asarray(atoms.calc.results["dipole"], dtype=np.float64))
        return cls(dipole[None], torch.from_numpy(from_centre_of_mass(atoms)))

    @classmethod
    def joined(cls, frames: Sequence[LabelledGraph]) -> DipoleLabels | None:
        """Labels of frames that have dipoles; None for frames that were read without."""
        if any(frame.dipole is None for frame in frames):
            return None
        parts = [frame.dipole for frame in frames]
        return cls(torch.cat([one.dipole for one in parts]), torch.cat([one.positions for one in parts]))

    def to(self, device: torch.device) -> DipoleLabels:
        return DipoleLabels(self.dipole.to(device), self.positions.to(device))


@dataclass(frozen=True)
class LabelledGraph:
    """A structure with its labels, float64.

    Parameters
    ----------
    graph : AtomGraph
    energy : Tensor, shape (1,), eV
    forces : Tensor, shape (n_atoms, 3), eV/Å, or None
    stress : Tensor, shape (1, 3, 3), eV/Å³, or None
    dipole : DipoleLabels or None
    """

    graph: AtomGraph
    energy: Tensor
    forces: Tensor | None = None
    stress: Tensor | None = None
    dipole: DipoleLabels | None = None

    @classmethod
    def from_atoms(
        cls, atoms: Atoms, cutoff: float, labels: Collection[str] = ("energy", "forces")
    ) -> LabelledGraph:
        """A frame with some of its labels; the energy is always there."""
        forces, stress = None, None
        if "forces" in labels:
            forces = torch.from_numpy(np.asarray(atoms.get_forces(), dtype=np.float64))
        if "stress" in labels:
            stress = torch.from_numpy(atoms.get_stress(voigt=False))[None]
        energy = torch.tensor([atoms.get_potential_energy()], dtype=torch.float64)
        dipole = DipoleLabels.from_atoms(atoms) if "dipole" in labels else None
        return cls(AtomGraph.from_atoms(atoms, cutoff), energy, forces, stress, dipole)


@dataclass(frozen=True)
class StressLabels:
    """Stress of each frame, and the volume that makes it an energy.

    Parameters
    ----------
    stress : Tensor, shape (n_systems, 3, 3), eV/Å³
    volume : Tensor, shape (n_systems, 1, 1), Å³
    """

    stress: Tensor
    volume: Tensor

    @classmethod
    def of(cls, frames: Sequence[LabelledGraph]) -> StressLabels | None:
        """Labels of frames that have stress; None for frames that were read without."""
        if any(frame.stress is None for frame in frames):
            return None
        volume = torch.cat([torch.linalg.det(frame.graph.cell).abs() for frame in frames])
        return cls(torch.cat([frame.stress for frame in frames]), volume[:, None, None])


@dataclass(frozen=True)
class Batch:
    """Padded input and labels; the ghost system has none.

    Parameters
    ----------
    inputs : PotentialInput
    energies : Tensor, shape (n_systems,), eV
    forces : Tensor, shape (n_atoms, 3), eV/Å, or None
    stress : StressLabels or None
    dipole : DipoleLabels or None
    """

    inputs: PotentialInput
    energies: Tensor
    forces: Tensor | None
    stress: StressLabels | None = None
    dipole: DipoleLabels | None = None

    @property
    def atoms_per_system(self) -> Tensor:
        return torch.bincount(self.inputs.batch)[:-1]

    def to(self, device: torch.device) -> Batch:
        inputs = PotentialInput(*(tensor.to(device) for tensor in self.inputs.tensors))
        forces, stress = self.forces, self.stress
        if forces is not None:
            forces = forces.to(device)
        if stress is not None:
            stress = StressLabels(stress.stress.to(device), stress.volume.to(device))
        dipole = None if self.dipole is None else self.dipole.to(device)
        return Batch(inputs, self.energies.to(device), forces, stress, dipole)


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
        return Batch(
            inputs if most_triplets is None else pad_triplets(inputs, len(part) * most_triplets),
            torch.cat([frame.energy for frame in part]),
            _forces(part),
            StressLabels.of(part),
            DipoleLabels.joined(part),
        )

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


def _forces(frames: Sequence[LabelledGraph]) -> Tensor | None:
    """Forces of all atoms; None for frames that were read without."""
    if any(frame.forces is None for frame in frames):
        return None
    return torch.cat([frame.forces for frame in frames])


def one_shape(frames: Sequence[LabelledGraph]) -> bool:
    """Whether all frames have the same number of atoms and edges, so that all batches have one shape."""
    return len({(frame.graph.n_atoms, frame.graph.n_edges) for frame in frames}) == 1

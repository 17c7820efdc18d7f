"""Labelled graphs, and what a batch of them consists of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.neighbors.pairs import all_pairs
from asecalc_ml.model.dipoles import from_centre_of_mass
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.datasets.labels import label_of


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
    targets : dict of Tensor, shape (1, ...), or None
        Values of other targets by name, in their units; of a target that the frame lacks None.
    """

    graph: AtomGraph
    energy: Tensor | None = None
    forces: Tensor | None = None
    stress: Tensor | None = None
    dipole: Tensor | None = None
    from_centre: Tensor | None = None
    targets: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms,
        cutoff: float,
        labels: Collection[str] = ("energy", "forces"),
        targets: Collection[str] = (),
    ) -> LabelledGraph:
        """A frame with those of the named labels, or targets, that it has, and pairs within a cutoff (Å)."""
        return cls.of(AtomGraph.from_atoms(atoms, cutoff), atoms, labels, targets)

    @classmethod
    def of(
        cls, graph: AtomGraph, atoms: Atoms, labels: Collection[str] = (), targets: Collection[str] = ()
    ) -> LabelledGraph:
        """A frame whose graph is known, with those of the named labels, or targets, that it has."""
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
        values = {name: label_of(atoms, name) for name in targets}
        of_targets = {
            name: torch.from_numpy(np.asarray(value, dtype=np.float64)[None])
            for name, value in values.items()
            if value is not None
        }
        return cls(graph, **tensors, targets=of_targets)


class Label(NamedTuple):
    """A label of all rows of a batch, with weight 0 where there is none.

    Parameters
    ----------
    values : Tensor, shape (n_rows, ...)
        A row for each system or each atom; zero where the label is absent.
    weights : Tensor, shape (n_rows,)
        1 for a row that has the label, 0 for others, among which the ghost's is.
    n_labelled : Tensor, shape ()
        Rows that have the label in the whole batch, of which this may be a part.
    """

    values: Tensor
    weights: Tensor
    n_labelled: Tensor

    def errors(self, predicted: Tensor) -> Tensor:
        """Predicted less labelled values; zero where there is no label, shape (n_rows, ...).

        Parameters
        ----------
        predicted : Tensor, shape (n_rows, ...)
        """
        return (predicted - self.values) * self._as_factor(predicted)

    def mean(self, numbers: Tensor) -> Tensor:
        """Contribution to the mean over the rows of the whole batch that have the label.

        The contributions of its parts sum to the mean; zero, with a derivative of zero, if no row has it.

        Parameters
        ----------
        numbers : Tensor, shape (n_rows, ...)
            Penalties or sizes of the errors.
        """
        n_components = self.n_labelled * numbers[:1].numel()
        return (numbers * self._as_factor(numbers)).sum() / n_components.clamp(min=1)

    def n_components(self, numbers: Tensor) -> Tensor:
        """Number of components of the rows that have the label, shape ()."""
        return self.weights.sum() * (numbers[:1].numel())

    def _as_factor(self, values: Tensor) -> Tensor:
        return self.weights.view(-1, *[1] * (values.dim() - 1))


class Batch(NamedTuple):
    """Padded input and labels of a batch, or of a part of it. The last atom and system are the ghost's.

    Parameters
    ----------
    inputs : PotentialInput
    n_atoms : Tensor, shape (n_systems,), int64
        Number of atoms of each system.
    n_frames : Tensor, shape ()
        Frames of the whole batch, without the ghost.
    energy : Label, rows of shape (), eV, or None
    forces : Label, rows of shape (3,), eV/Å, or None
    stress : Label, rows of shape (3, 3), eV/Å³, or None
    dipole : Label, rows of shape (3,), e Å, or None
        A label that is not fitted is None.
    volume : Tensor, shape (n_systems,), Å³, or None
        1 for a system without a stress; present with labels of stress.
    from_centre : Tensor, shape (n_atoms, 3), Å, or None
        Positions relative to the centre of mass of the system, zero where the system has no dipole; present
        with labels of dipoles.
    targets : tuple of Label, rows of the shape of each target
        Labels of other targets than the energy, in the order of the model's heads.
    spreads : Tensor, shape (n_targets,), or None
        What errors of these targets are divided by in the loss, in their units; present with them.
    """

    inputs: PotentialInput
    n_atoms: Tensor
    n_frames: Tensor
    energy: Label | None = None
    forces: Label | None = None
    stress: Label | None = None
    dipole: Label | None = None
    volume: Tensor | None = None
    from_centre: Tensor | None = None
    targets: tuple[Label, ...] = ()
    spreads: Tensor | None = None

    @property
    def n_systems(self) -> int:
        """Number of frames, without the ghost."""
        return self.inputs.n_systems - 1

    @property
    def tensors(self) -> list[Tensor]:
        """Those that are present, in order."""
        return [leaf for leaf in tree_leaves(self) if leaf is not None]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Batch:
        """Return a batch of other tensors of the same kinds, in the order of :attr:`tensors`."""
        given = iter(tensors)
        leaves, structure = tree_flatten(self)
        return tree_unflatten([None if leaf is None else next(given) for leaf in leaves], structure)


def epoch_order(n_frames: int, seed: int, epoch: int) -> np.ndarray:
    """Order of the frames in an epoch, from these numbers alone: a resumed training repeats it."""
    return np.random.default_rng([seed, epoch]).permutation(n_frames)


def has_all_pairs(graph: AtomGraph) -> bool:
    """Return True for a molecule whose edges are all pairs of its atoms, in their order."""
    edges = all_pairs(graph.n_atoms, graph.edge_index.device).edge_index
    return torch.equal(graph.edge_index, edges) and not bool(graph.cell_shifts.any())

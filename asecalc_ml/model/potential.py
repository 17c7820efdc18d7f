"""The contract that every architecture fulfils."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor, nn

#: Parts of a network of one kind, in the order of their calls.
Modules = Sequence[nn.Module] | nn.ModuleList


class PotentialInput(NamedTuple):
    """What a potential sees: atoms and edge vectors, never positions.

    Parameters
    ----------
    atomic_numbers : Tensor, shape (n_atoms,), int64
    edge_index : Tensor, shape (2, n_edges), int64
        Row 0 the centre i, row 1 the neighbor j.
    edge_vectors : Tensor, shape (n_edges, 3), Å
        From i to j, all inside the cutoff.
    batch : Tensor, shape (n_atoms,), int64
    charge, spin : Tensor, shape (n_systems,)
        Total charge in e; number of unpaired electrons.
    triplets : Tensor, shape (2, n_triplets), int64, or None
        Numbers of two different edges of one centre, each pair once, for a potential with a
        ``triplet_cutoff``; None for others. An edge with itself is padding, and a ghost's.
    reverse_edges : Tensor, shape (n_edges,), int64, or None
        Number of the edge from j back to i, given with triplets.
    self_pairs : Tensor, shape (n_edges,), bool, or None
        Where edges are all pairs of a molecule's atoms in an array (n_atoms, n_atoms): the diagonal, pairs of
        an atom with itself. No sum counts them. An architecture with self loops may put these there, where
        others append them to the edges.
    atom_features : Tensor, shape (n_atoms, 21), or None
        Of a molecular graph, for a potential that takes one; see
        :mod:`asecalc_ml.structure.molecular_graph.features`. Zero for the ghost.
    pair_features : Tensor, shape (n_edges, 12), or None
        Of the two atoms of each edge, given with them: those of the table but the spatial distance, which is
        the length of the edge vector. Zero for edges of the ghost.
    """

    atomic_numbers: Tensor
    edge_index: Tensor
    edge_vectors: Tensor
    batch: Tensor
    charge: Tensor
    spin: Tensor
    triplets: Tensor | None = None
    reverse_edges: Tensor | None = None
    self_pairs: Tensor | None = None
    atom_features: Tensor | None = None
    pair_features: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """Those that are present, in order, without ``self_pairs``."""
        return [tensor for tensor in self._replace(self_pairs=None) if tensor is not None]

    def with_tensors(self, tensors: Iterable[Tensor]) -> PotentialInput:
        """Return an input of other tensors of the same kinds, in the order of :attr:`tensors`."""
        names = [
            name for name, value in self._replace(self_pairs=None)._asdict().items() if value is not None
        ]
        return PotentialInput(**dict(zip(names, tensors, strict=True)))

    @property
    def n_atoms(self) -> int:
        return self.atomic_numbers.shape[0]

    @property
    def n_systems(self) -> int:
        return self.charge.shape[0]


class AtomOutput(NamedTuple):
    """What a potential returns.

    Parameters
    ----------
    features : Tensor, shape (n_atoms, n_features)
        The last hidden layer.
    contributions : Tensor, shape (n_atoms, n_outputs), or None
        ``features @ w + b``; pooled over a system's atoms they are its value.
    vectors : Tensor, shape (n_atoms, 3, n_vectors), or None
        Equivariant features, where the architecture has them.
    system : Tensor, shape (n_systems, n_outputs), or None
        The value itself, in place of contributions, where the published readout is not additive.
    charges : Tensor, shape (n_atoms,), e, or None
        Partial charges that sum to the system's total charge, where the architecture has them.
    electrostatics : Tensor, shape (n_atoms,), eV, or None
        Energy on top of the contributions, which no scale is fitted to.
    penalty : Tensor, shape (n_systems,), or None
        What the architecture adds to the loss of a training.
    """

    features: Tensor
    contributions: Tensor | None = None
    vectors: Tensor | None = None
    system: Tensor | None = None
    charges: Tensor | None = None
    electrostatics: Tensor | None = None
    penalty: Tensor | None = None


class Neighborhood(NamedTuple):
    """Some atoms of a structure and all their edges, as a :data:`Stage` sees them.

    Parameters
    ----------
    atomic_numbers : Tensor, shape (n_atoms,), int64
    neighbor_numbers : Tensor, shape (n_edges,), int64
        Atomic number of the neighbor of each edge, which may be none of these atoms.
    centres : Tensor, shape (n_edges,), int64
        The place of each edge's centre among these atoms.
    edge_vectors : Tensor, shape (n_edges, 3), Å
        From centre to neighbor.
    charge, spin : Tensor, shape (n_atoms,)
        Those of each atom's system.
    """

    atomic_numbers: Tensor
    neighbor_numbers: Tensor
    centres: Tensor
    edge_vectors: Tensor
    charge: Tensor
    spin: Tensor


#: Features of atoms between two stages, each of shape (n_atoms, ...). The first are those that neighbors see.
Rows: TypeAlias = tuple[Tensor, ...]

#: A part of a potential: the rows of some atoms after it, from their neighborhood, their rows before it, and
#: what their neighbors send, shape (n_edges, ...), which is the first of the neighbors' rows. The first stage
#: is given no rows and None; the last one returns the contributions alone, shape (n_atoms, 1).
Stage: TypeAlias = Callable[[Neighborhood, Rows, Tensor | None], Rows]


class Potential(nn.Module, ABC):
    """A function of atomic numbers, edges, charge and spin.

    An architecture never sees positions, masks, or an edge beyond its cutoff, and never takes a
    derivative: :mod:`asecalc_ml.model.derivative` does, in one place. Its parts have names, so that hooks
    can record or replace hidden states for every architecture alike.

    Attributes
    ----------
    cutoff : float, Å
    triplet_cutoff : float, Å, or None
        Edges up to this length come with triplets; None where the potential needs no angles.
    molecular_graph : bool
        Whether the inputs have features of atoms and pairs. Its edges are then all pairs of a molecule's
        atoms, and it is not continuous: the features change abruptly with the bonds.
    continuous : bool
        Whether the energy is continuous where an atom crosses the cutoff. Dynamics refuses a
        potential for which it is not.
    takes : frozenset of {"charge", "spin"}
        Which of the two the energy depends on. A training on one composition in several charges refuses
        an architecture that does not take the charge.
    partial_charges : bool
        Whether the output holds charges of atoms.
    n_vectors : int
        Number of vectors of each atom in the output, 0 where it has none.
    atom_features : bool
        False where the last hidden layer is that of the whole structure.
    """

    cutoff: float
    triplet_cutoff: float | None = None
    molecular_graph: bool = False
    continuous: bool = True
    takes: frozenset[str] = frozenset()
    partial_charges: bool = False
    n_vectors: int = 0
    atom_features: bool = True

    @property
    def stages(self) -> Sequence[Stage] | None:
        """The potential as a chain of stages, for large structures; None if it can only be computed whole.

        Together they give the contributions of :meth:`forward`, which has no other term of the energy.
        """
        return None

    @abstractmethod
    def forward(self, inputs: PotentialInput) -> AtomOutput:
        """Contributions and features of each atom."""

    @property
    @abstractmethod
    def embeddings(self) -> Modules:
        """Modules that turn atomic numbers into vectors; empty where there are none."""

    @property
    @abstractmethod
    def interactions(self) -> Modules:
        """The message-passing blocks, in order."""

    @property
    def attentions(self) -> Modules:
        """Modules whose output is the attention weights, one for each layer that has attention.

        Of shape (n_edges, n_heads); where atoms attend to themselves, n_atoms more rows follow.
        """
        return ()

    @property
    @abstractmethod
    def readout(self) -> nn.Module:
        """The module that turns atom features into contributions."""

    @property
    @abstractmethod
    def last_linear(self) -> tuple[Tensor, Tensor]:
        """Weight (n_outputs, n_features) and bias (n_outputs,) of the last linear map."""

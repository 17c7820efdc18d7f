r"""Targets: the energy or another scalar, a force component that turns with the molecule, a charge.

========================= ================================================================ =======
``energy``                energy of the structure                                          eV
``homo``                  another scalar that the model predicts, by its name              its own
``force:3``               force on atom 3 along its own direction, F·F/|F|                 eV/Å
``force:3-5``             force on atom 3 along the direction to atom 5                    eV/Å
``charge:3``              partial charge of atom 3, where the architecture has charges     e
========================= ================================================================ =======

Atoms are counted from 0, as in ASE. A direction is that of the structure, held fixed: it turns with the
molecule, and has no derivative of its own. A force component is linear in the energy,

.. math:: F_a \cdot u = -\frac{d}{d\varepsilon} E(x_a + \varepsilon u)
          = -\sum_{ij} g_{ij} \cdot (u_j - u_i), \qquad u_k = \delta_{ka} u,

so that whatever splits the energy into shares splits the force into the shares' slopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from asecalc_ml.analysis.relevance.subject import ExplainedBatch, Run, gradients
from asecalc_ml.analysis.relevance.target_text import TargetText, parse_text
from asecalc_ml.errors import AnalysisError
from asecalc_ml.graph.segments import segment_sum
from asecalc_ml.model.derivative import forces
from asecalc_ml.structure.minimum_image import minimum_image
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.targets.target import ENERGY, Quantity

SMALLEST_FORCE_EV_A = 1e-9  # below it a force has no direction


def parse_target(text: str, quantity: Quantity) -> Target:
    """A target by its name, for a model of one scalar.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    kind, atom, towards = parse_text(text)
    of_atoms = {"charge": partial(Charge, atom), "force": partial(Force, atom, towards)}
    return of_atoms[kind]() if kind in of_atoms else Energy(name=quantity.name, unit=quantity.unit)


@dataclass(frozen=True)
class Target:
    """Base: a number for each structure.

    Attributes
    ----------
    unit : str
    additive : bool
        Whether shares of the energy make shares of it.
    """

    unit: ClassVar[str] = "eV"
    additive: ClassVar[bool] = True

    @property
    def atoms(self) -> tuple[int, ...]:
        """Atoms that it names."""
        return ()

    def bind(self, subject: ExplainedBatch) -> Target:
        """The same target with what it takes from the structures, such as a direction.

        Raises
        ------
        AnalysisError
            If it does not exist for these structures or this model.
        """
        return self

    def value(self, run: Run) -> Tensor:
        """The number of each structure, shape (n_systems,); it can be differentiated."""
        raise NotImplementedError

    def shares(self, shares: Tensor, run: Run) -> Tensor:
        """What shares of the energy are as shares of the target, same shape."""
        raise NotImplementedError

    def traced(self, atoms: Tensor, systems: Tensor, charges: Tensor) -> Tensor:
        """The numbers whose relevance is propagated; for a force the energies, whose slopes are taken later.

        Arguments include the ghost's.
        """
        return systems[:-1]

    def readouts(self, subject: ExplainedBatch, atoms: Tensor, systems: Tensor, charges: Tensor) -> Tensor:
        """Target of a single structure by the atom it is read out at, shape (n_atoms,).

        Of shape (1,) where no atom has a share.
        """
        if not atoms.requires_grad:  # a readout that is not additive
            return systems[:1]
        return atoms[: subject.n_atoms] * subject.weights

    def on_copies(self, copies: ExplainedBatch) -> Target:
        """Bound to copies of the structures it is bound to, in their order; copies may lack some edges."""
        return self


@dataclass(frozen=True)
class Energy(Target):
    """Energy of a structure, or another scalar that the model predicts."""

    name: str = ENERGY
    unit: str = "eV"

    def __str__(self) -> str:
        return self.name

    def value(self, run: Run) -> Tensor:
        return run.energies

    def shares(self, shares: Tensor, run: Run) -> Tensor:
        return shares


@dataclass(frozen=True)
class Force(Target):
    """Force on an atom along a direction that turns with the molecule, in eV/Å."""

    unit: ClassVar[str] = "eV/Å"

    atom: int
    towards: int | None = None
    motion: Tensor | None = None  # unit vector at the atom, zero elsewhere, shape (n_atoms, 3)

    def __str__(self) -> str:
        return str(TargetText("force", self.atom, self.towards))

    @property
    def atoms(self) -> tuple[int, ...]:
        return (self.atom,) if self.towards is None else (self.atom, self.towards)

    def bind(self, subject: ExplainedBatch) -> Force:
        if not subject.model.predicts_energy:
            name = subject.model.quantities[0].name
            raise AnalysisError(
                f"target is {str(self)!r}, and the model predicts {name}, which has no forces;",
                name="target",
                value=str(self),
                allowed=[name],
                remedy=f"explain {name}, or a model of energies",
            )
        rows = first_atoms(subject) + self.atom
        vectors = self._net(subject)[rows] if self.towards is None else self._bond(subject)
        sizes = vectors.norm(dim=1, keepdim=True)
        if (sizes < SMALLEST_FORCE_EV_A).any():
            raise AnalysisError(
                f"target is {str(self)!r}, and the force on atom {self.atom} is zero in a structure, so it "
                "has no direction;",
                name="target",
                value=str(self),
                remedy=f"give one, such as force:{self.atom}-{0 if self.atom else 1}",
            )
        motion = torch.zeros(subject.n_atoms, 3, dtype=torch.float64, device=vectors.device)
        motion[rows] = vectors / sizes
        return Force(self.atom, self.towards, motion)

    def _net(self, subject: ExplainedBatch) -> Tensor:
        run = subject.run()
        gradient = run.gradient(run.energies)
        return forces(gradient, subject.inputs.edge_index, subject.n_atoms + 1)[:-1]

    def _bond(self, subject: ExplainedBatch) -> Tensor:
        """Nearest image of the other atom, seen from the atom; all pairs lie within the graph's own cell."""
        graph, starts = subject.graph, first_atoms(subject)
        pairs = (starts + self.atom).cpu().numpy(), (starts + self.towards).cpu().numpy()
        vectors = pair_vectors(graph.positions.cpu().numpy(), pairs)
        near = [
            minimum_image(vector, cell.cpu().numpy(), pbc.cpu().numpy())
            for vector, cell, pbc in zip(vectors, graph.cell, graph.pbc, strict=True)
        ]
        return torch.stack([graph.positions.new_tensor(vector) for vector in near])

    def value(self, run: Run) -> Tensor:
        along = -(run.gradient(run.energies, create_graph=True) * self._edges(run)).sum(dim=1)
        inputs = run.subject.inputs
        return segment_sum(along, inputs.batch[inputs.edge_index[0]], inputs.n_systems)[:-1]

    def shares(self, shares: Tensor, run: Run) -> Tensor:
        """Minus the shares' slopes along the motion, by differentiating twice.

        ∂(Σ w_k s_k)/∂r is linear in w; its product with the motion, differentiated by w, has the slope of
        each s_k.
        """
        ones = torch.ones_like(shares, requires_grad=True)
        gradient = run.gradient(shares * ones, create_graph=True)
        (slopes,) = gradients((gradient * self._edges(run)).sum(), [ones])
        return -slopes

    def on_copies(self, copies: ExplainedBatch) -> Force:
        return Force(self.atom, self.towards, self.motion.repeat(copies.n_atoms // len(self.motion), 1))

    def _edges(self, run: Run) -> Tensor:
        """How each edge vector changes with the motion, u_j − u_i; nothing for the ghost's."""
        i, j = run.subject.inputs.edge_index
        motion = torch.cat([self.motion, self.motion.new_zeros(1, 3)])
        return motion[j] - motion[i]


@dataclass(frozen=True)
class Charge(Target):
    """Partial charge of an atom, in e."""

    unit: ClassVar[str] = "e"
    additive: ClassVar[bool] = False

    atom: int
    rows: Tensor | None = None

    def __str__(self) -> str:
        return str(TargetText("charge", self.atom))

    @property
    def atoms(self) -> tuple[int, ...]:
        return (self.atom,)

    def bind(self, subject: ExplainedBatch) -> Charge:
        if not subject.model.potential.partial_charges:
            raise AnalysisError(
                f"target is {str(self)!r}, and this model has no partial charges;",
                name="target",
                value=str(self),
                remedy="explain its energy or a force, or take a model with charges, such as one of physnet",
            )
        return Charge(self.atom, first_atoms(subject) + self.atom)

    def value(self, run: Run) -> Tensor:
        return run.output.potential.charges[self.rows].double()

    def traced(self, atoms: Tensor, systems: Tensor, charges: Tensor) -> Tensor:
        return charges[self.rows].double()

    def readouts(self, subject: ExplainedBatch, atoms: Tensor, systems: Tensor, charges: Tensor) -> Tensor:
        return self.traced(atoms, systems, charges)

    def on_copies(self, copies: ExplainedBatch) -> Charge:
        return self.bind(copies)


def first_atoms(subject: ExplainedBatch) -> Tensor:
    """Number of the first atom of each structure of a batch."""
    sizes = torch.bincount(subject.graph.batch, minlength=subject.n_systems)
    return sizes.cumsum(0) - sizes

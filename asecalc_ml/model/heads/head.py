"""The base of all heads, and the head that takes the architecture's own readout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from asecalc_ml.graph.segments import segment_mean, segment_sum
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.targets.target import ENERGY, Quantity


class QuantityHead(nn.Module, ABC):
    r"""Base: contributions of atoms to one quantity, and how they become its value.

    With contributions c, a scale s and a shift e per element, and the identity I of the quantity's kind
    (1 of a scalar, the unit matrix of a rank-2 tensor, 0 of vectors and rank-3 tensors)

    .. math:: y = \operatorname{pool}_i \left( s_{Z_i} c_i + e_{Z_i} I \right)

    Parameters
    ----------
    quantity : Quantity
    """

    def __init__(self, quantity: Quantity):
        super().__init__()
        self.quantity = quantity

    @property
    def pooling(self) -> Literal["sum", "mean"]:
        """How scaled contributions of atoms become the value of a structure: "sum" or "mean".

        A softmax-weighted average is the mean of contributions that hold the weights.
        """
        return "sum" if self.quantity.pooling == "sum" else "mean"

    @property
    def n_values(self) -> int:
        """Number of components of a value."""
        return len(self.quantity.components)

    @abstractmethod
    def forward(self, output: AtomOutput, inputs: PotentialInput) -> AtomOutput:
        """Contributions of each atom, shape (n_atoms, n_components), or a value of each system.

        They are ``contributions`` or ``system`` of what is returned.
        """

    def identity(self, like: Tensor) -> Tensor:
        """Factors of an atom's shift in each component, shape (n_components,)."""
        return like.new_ones(1)

    def pool(self, atoms: Tensor, inputs: PotentialInput) -> Tensor:
        """Sum, or mean, of values of atoms over each system, shape (n_systems, ...)."""
        pool = segment_mean if self.pooling == "mean" else segment_sum
        return pool(atoms, inputs.batch, inputs.n_systems)

    def finish(self, systems: Tensor) -> Tensor:
        """From pooled components to values, shape (n_systems, n_values)."""
        return systems

    @abstractmethod
    def sizes(self, output: AtomOutput, inputs: PotentialInput, potential: Potential) -> Tensor:
        """Sums of the absolute values of the terms of each contribution (or value of a system).

        Shape (n_atoms, n_components), or (n_systems, n_components). Rounding errors are proportional to it.
        """


class ScalarHead(QuantityHead):
    """Base of heads of scalars, whose contributions are ``features @ w + b``."""

    @abstractmethod
    def last_linear(self, potential: Potential) -> tuple[Tensor, Tensor]:
        """Weight (1, n_features) and bias (1,) of the last linear map."""

    def sizes(self, output: AtomOutput, inputs: PotentialInput, potential: Potential) -> Tensor:
        readout = self(output, inputs)
        if readout.contributions is None:
            assert readout.system is not None  # one of the two is there: the model has checked it
            return readout.system[:, :1].abs()
        weight, bias = self.last_linear(potential)
        return readout.features.abs() @ weight.abs().T + bias.abs()


class OwnReadout(ScalarHead):
    """The architecture's own readout, for a single scalar."""

    def forward(self, output: AtomOutput, inputs: PotentialInput) -> AtomOutput:
        """Output of the potential; electrostatic energies are part of an energy alone."""
        return output if self.quantity.name == ENERGY else output._replace(electrostatics=None)

    def last_linear(self, potential: Potential) -> tuple[Tensor, Tensor]:
        weight, bias = potential.last_linear
        return weight[:1], bias[:1]

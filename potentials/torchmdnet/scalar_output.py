"""torchmd-net's Scalar output, with the hidden layer kept as features, and potentials that end in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.torchmdnet.upstream import layers

if TYPE_CHECKING:
    from asecalc_ml.potentials.torchmdnet.options import TorchMDNetOptions


class ScalarOutput(nn.Module):
    """A two-layer network from atom features to one number per atom."""

    def __init__(self, options: TorchMDNetOptions):
        super().__init__()
        width = options.hidden_channels
        self.output_network = layers().utils.MLP(width, 1, width // 2, options.activation)
        self.output_network.reset_parameters()

    def forward(self, x: Tensor) -> AtomOutput:
        features = self.output_network.layers[:-1](x)
        return AtomOutput(features=features, contributions=self.output_network.layers[-1](features))

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        linear = self.output_network.layers[-1]
        return linear.weight, linear.bias


class ScalarPotential(Potential):
    """A representation of torchmd-net's followed by its Scalar output.

    A subclass sets ``representation_model``, and names its embeddings and interactions.
    """

    representation_model: nn.Module

    def __init__(self, options: TorchMDNetOptions):
        super().__init__()
        self.cutoff = options.cutoff_A
        self.output_model = ScalarOutput(options)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        return self.output_model(self.representation_model(inputs))

    @property
    def readout(self) -> nn.Module:
        return self.output_model

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        return self.output_model.last_linear

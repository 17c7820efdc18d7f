"""Schnetpack's Atomwise readout, with the hidden layer kept as features, and potentials that end in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.schnetpack.activations import use_activation
from asecalc_ml.potentials.schnetpack.upstream import layers

if TYPE_CHECKING:
    from asecalc_ml.potentials.schnetpack.options import SchNetPackOptions


class Atomwise(nn.Module):
    """Two layers, n_atom_basis to half of it to one number per atom; sums over atoms lie outside."""

    def __init__(self, options: SchNetPackOptions):
        super().__init__()
        outnet = layers().nn.build_mlp(n_in=options.n_atom_basis, n_out=1, n_layers=2)
        self.outnet = use_activation(outnet, options.readout_activation)

    def forward(self, x: Tensor, vectors: Tensor | None = None) -> AtomOutput:
        features = self.outnet[:-1](x)
        return AtomOutput(features=features, contributions=self.outnet[-1](features), vectors=vectors)


class SchNetPackPotential(Potential):
    """A representation followed by Atomwise, named as in schnetpack's ``NeuralNetworkPotential``.

    A subclass sets ``representation``, which returns scalars (n_atoms, n_atom_basis) and vectors
    (n_atoms, 3, n_atom_basis) or None, and names its interactions. All names of parameters and buffers are
    schnetpack's: ``representation.*`` and ``output_modules.0.outnet.*``.
    """

    representation: nn.Module

    def __init__(self, options: SchNetPackOptions):
        super().__init__()
        self.cutoff = options.cutoff_A
        self.output_modules = nn.ModuleList([Atomwise(options)])

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        return self.readout(*self.representation(inputs))

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.representation.embedding]

    @property
    def readout(self) -> Atomwise:
        return self.output_modules[0]

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        linear = self.readout.outnet[-1]
        return linear.weight, linear.bias


def embedding(options: SchNetPackOptions) -> nn.Embedding:
    """A vector for each element; zero for ASE's dummy atom X, number 0."""
    return nn.Embedding(options.max_atomic_number + 1, options.n_atom_basis, padding_idx=0)

"""The blocks of DimeNet++, on edges and pairs of edges."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.potential import PotentialInput

if TYPE_CHECKING:
    from asecalc_ml.potentials.dimenet.options import DimeNetPlusPlus


class Directions(NamedTuple):
    """Which message k→j enters which message j→i, and what the basis says about the two.

    Parameters
    ----------
    sources, targets : Tensor, shape (n,), int64
        Numbers of the edges that carry k→j and j→i; a message lies on the edge whose centre it goes to.
    basis : Tensor, shape (n, n_spherical n_radial)
    """

    sources: Tensor
    targets: Tensor
    basis: Tensor


class Embedding(nn.Module):
    """m_ji = σ([h_i ∥ h_j ∥ e] W + b); equation (9) of arXiv:2003.03123."""

    def __init__(self, options: DimeNetPlusPlus):
        super().__init__()
        width = options.hidden_channels
        self.elements = nn.Embedding(options.max_atomic_number + 1, width)
        nn.init.uniform_(self.elements.weight, -math.sqrt(3), math.sqrt(3))
        self.radial = nn.Sequential(linear(options.n_radial, width), nn.SiLU())
        self.combine = nn.Sequential(linear(3 * width, width), nn.SiLU())

    def forward(self, inputs: PotentialInput, radial: Tensor) -> Tensor:
        elements = self.elements(inputs.atomic_numbers)
        ends = [take(elements, atoms) for atoms in inputs.edge_index]
        return self.combine(torch.cat([*ends, self.radial(radial)], dim=1))


class DirectionalInteraction(nn.Module):
    """Interaction block: messages k→j, times both bases, enter j→i; figure 1 of arXiv:2011.14115."""

    def __init__(self, options: DimeNetPlusPlus):
        super().__init__()
        width, inner, narrow = options.hidden_channels, options.triplet_channels, options.basis_channels
        n_functions = options.n_spherical * options.n_radial
        self.own = nn.Sequential(linear(width, width), nn.SiLU())
        self.incoming = nn.Sequential(linear(width, width), nn.SiLU())
        self.radial = _filter(options.n_radial, narrow, width)
        self.down = nn.Sequential(linear(width, inner, bias=False), nn.SiLU())
        self.spherical = _filter(n_functions, narrow, inner)
        self.up = nn.Sequential(linear(inner, width, bias=False), nn.SiLU())
        self.before_skip = _residuals(options.n_before_skip, width)
        self.skip = nn.Sequential(linear(width, width), nn.SiLU())
        self.after_skip = _residuals(options.n_after_skip, width)

    def forward(self, messages: Tensor, radial: Tensor, directions: Directions) -> Tensor:
        # Messages k→j times the radial basis, projected to fewer channels.
        incoming = self.down(self.incoming(messages) * self.radial(radial))
        # Times the spherical basis of each pair of edges, and summed over all k for each message j→i.
        turned = take(incoming, directions.sources) * self.spherical(directions.basis)
        summed = self.up(segment_sum(turned, directions.targets, messages.shape[0]))
        # Added to the transformed message itself; residual layers before and after the skip connection.
        updated = self.before_skip(self.own(messages) + summed)
        return self.after_skip(messages + self.skip(updated))


class PostActivationResidual(nn.Module):
    """Two layers and a skip connection: x + σ(W₂ σ(W₁ x + b₁) + b₂)."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(linear(width, width), nn.SiLU(), linear(width, width), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class OutputBlock(nn.Module):
    """An atom's messages, weighted by distance and summed, through a network without its last layer."""

    def __init__(self, options: DimeNetPlusPlus):
        super().__init__()
        width = options.output_channels
        self.radial = linear(options.n_radial, options.hidden_channels, bias=False)
        layers: list[nn.Module] = [linear(options.hidden_channels, width, bias=False)]
        for _ in range(options.n_output_layers):
            layers += [linear(width, width), nn.SiLU()]
        self.network = nn.Sequential(*layers)

    def forward(self, messages: Tensor, radial: Tensor, centres: Tensor, n_atoms: int) -> Tensor:
        """Hidden features of each atom, shape (n_atoms, output_channels)."""
        return self.network(segment_sum(self.radial(radial) * messages, centres, n_atoms))


def _residuals(n_blocks: int, width: int) -> nn.Sequential:
    return nn.Sequential(*(PostActivationResidual(width) for _ in range(n_blocks)))


def _filter(n_functions: int, narrow: int, width: int) -> nn.Sequential:
    return nn.Sequential(linear(n_functions, narrow, bias=False), linear(narrow, width, bias=False))


def linear(n_in: int, n_out: int, bias: bool = True) -> nn.Linear:
    """Orthogonal weights, scaled to the variance of Glorot's: what the authors start from."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.orthogonal_(layer.weight)
    with torch.no_grad():
        layer.weight *= torch.sqrt(2.0 / ((n_in + n_out) * layer.weight.square().mean()))
        if bias:
            layer.bias.zero_()
    return layer


__getattr__ = renamed(
    __name__,
    {"Interaction": "DirectionalInteraction", "Residual": "PostActivationResidual", "Output": "OutputBlock"},
)

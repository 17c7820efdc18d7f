"""ANI on our edges and triplets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ase.data import atomic_numbers as number_of
from torch import Tensor, nn

from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.ani.symmetry_functions import EnvironmentVectors

if TYPE_CHECKING:
    from asecalc_ml.potentials.ani.options import ANI

CELU_ALPHA = 0.1


class ANIPotential(Potential):
    """ANI of Smith, Isayev and Roitberg, Chem. Sci. 8, 3192 (2017).

    ======================================== ====================================
    paper                                    code
    ======================================== ====================================
    atomic environment vectors, eqs. (2)-(4) ``environments``
    E = Σ_i E_{Z_i}(G_i), eq. (1)            ``networks``, one for each element
    ======================================== ====================================

    The first publication's networks are 128-128-64 with Gaussian activation; these are ANI-1x's, with CELU.

    Parameters
    ----------
    options : ANI
    """

    def __init__(self, options: ANI):
        super().__init__()
        self.cutoff, self.triplet_cutoff = options.cutoff_A, options.angular_cutoff_A
        self.environments = EnvironmentVectors(options)
        self.networks = ElementNetworks(options, self.environments.n_features)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        return self.networks(self.environments(inputs), inputs.atomic_numbers)

    @property
    def embeddings(self) -> list[nn.Module]:
        return []

    @property
    def interactions(self) -> list[nn.Module]:
        return [self.environments]

    @property
    def readout(self) -> nn.Module:
        return self.networks

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        return self.networks.last_linear


class ElementNetworks(nn.Module):
    """A network for each element; every atom goes through all of them and one output is taken.

    Shapes then do not depend on the elements. Features are the last hidden layers side by side, zero
    but for the atom's own element, and then ones and zeros that tell the element and carry its bias.

    Parameters
    ----------
    options : ANI
    n_inputs : int
        Length of an environment vector.
    """

    def __init__(self, options: ANI, n_inputs: int):
        super().__init__()
        self.hidden = nn.ModuleDict(
            {symbol: _hidden(n_inputs, options.widths(symbol)) for symbol in options.elements}
        )
        self.last = nn.ModuleDict(
            {symbol: nn.Linear(options.widths(symbol)[-1], 1) for symbol in options.elements}
        )
        numbers = torch.tensor([number_of[symbol] for symbol in options.elements])
        self.numbers: Tensor
        self.register_buffer("numbers", numbers, persistent=False)

    def forward(self, environments: Tensor, atomic_numbers: Tensor) -> AtomOutput:
        # One-hot elements, shape (n_atoms, n_elements).
        own = (atomic_numbers[:, None] == self.numbers).to(environments.dtype)
        # Every atom goes through the networks of all elements ...
        hidden = [network(environments) for network in self.hidden.values()]
        outputs = [last(features) for last, features in zip(self.last.values(), hidden, strict=True)]
        # ... and the one-hot vector keeps what the network of its own element gives: E_i = E_{Z_i}(G_i).
        kept = [features * own[:, k : k + 1] for k, features in enumerate(hidden)]
        return AtomOutput(
            features=torch.cat([*kept, own], dim=1),
            contributions=(torch.cat(outputs, dim=1) * own).sum(dim=1, keepdim=True),
        )

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        layers = list(self.last.values())
        weights = [layer.get_parameter("weight")[0] for layer in layers]
        biases = [layer.get_parameter("bias") for layer in layers]
        weight = torch.cat([*weights, *biases])[None]
        return weight, weight.new_zeros(1)


def _hidden(n_inputs: int, widths: list[int]) -> nn.Sequential:
    layers = []
    for n_in, n_out in zip([n_inputs, *widths], widths, strict=False):
        layers += [nn.Linear(n_in, n_out), nn.CELU(CELU_ALPHA)]
    return nn.Sequential(*layers)

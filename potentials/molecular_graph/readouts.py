"""From the last atom layer to contributions, or to a value of the whole molecule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.potential import AtomOutput, PotentialInput

if TYPE_CHECKING:
    from asecalc_ml.potentials.molecular_graph.options import GraphConvolutions

#: Centres and widths of the membership functions, of which each covers an eleventh of a normal distribution.
CENTRES = (-1.645, -1.080, -0.739, -0.468, -0.228, 0.0, 0.228, 0.468, 0.739, 1.080, 1.645)
WIDTHS = (0.283, 0.170, 0.134, 0.118, 0.114, 0.114, 0.114, 0.118, 0.134, 0.170, 0.283)


class AtomReadout(nn.Module):
    """A hidden layer and a linear map of each atom, whose values are summed or averaged outside."""

    def __init__(self, options: GraphConvolutions):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(options.atom_channels, options.final_channels), nn.ReLU())
        self.output = nn.Linear(options.final_channels, 1)

    def forward(self, x: Tensor, inputs: PotentialInput) -> AtomOutput:
        features = self.hidden(x)
        return AtomOutput(features=features, contributions=self.output(features))


class MoleculeReadout(nn.Module):
    """The final atom layer, summed or counted in Gaussian bins, then a hidden layer and a linear map."""

    def __init__(self, options: GraphConvolutions):
        super().__init__()
        counts, width = options.readout == "histogram", options.final_channels
        self.final = nn.Sequential(
            nn.Linear(options.atom_channels, width), nn.Tanh() if counts else nn.ReLU()
        )
        self.histogram = GaussianHistogram() if counts else None
        n_features = width * len(CENTRES) if counts else width
        self.hidden = nn.Sequential(nn.Linear(n_features, options.readout_channels), nn.ReLU())
        self.output = nn.Linear(options.readout_channels, 1)

    def forward(self, x: Tensor, inputs: PotentialInput) -> AtomOutput:
        atoms = self.final(x)
        if self.histogram is not None:
            atoms = self.histogram(atoms)
        hidden = self.hidden(segment_sum(atoms, inputs.batch, inputs.n_systems))
        # The last hidden layer is the molecule's, and so the same for all of its atoms.
        return AtomOutput(features=take(hidden, inputs.batch), system=self.output(hidden))


class GaussianHistogram(nn.Module):
    """Membership of each feature in eleven Gaussian bins that sum to 1, as in arXiv:1603.00856."""

    centres: Tensor
    widths: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", torch.tensor(CENTRES), persistent=False)
        self.register_buffer("widths", torch.tensor(WIDTHS), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """From shape (n_atoms, n_features) to (n_atoms, 11 n_features)."""
        scaled = (x[:, :, None] - self.centres) / self.widths
        members = (-0.5 * scaled**2).exp()
        return (members / members.sum(dim=2, keepdim=True)).flatten(1)

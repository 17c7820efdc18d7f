"""From atom features to contributions, or to a value of the whole structure."""

import torch
from torch import Tensor, nn

from asecalc_ml.graph.segments import segment_softmax, segment_sum, take
from asecalc_ml.model.potential import AtomOutput, PotentialInput
from asecalc_ml.potentials.mpnn.layers import LongShortTermMemory


class GatedReadout(nn.Module):
    r"""Equation (4), :math:`\sum_i \sigma(i(h_i, h_i^0)) \odot j(h_i)`, ended by a linear map to one value.

    A linear map of the sum is the sum of the atoms' linear maps, so each atom has its contribution.
    """

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width), nn.Sigmoid()
        )
        self.value = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.output = nn.Linear(width, 1)

    def forward(self, x: Tensor, start: Tensor, inputs: PotentialInput) -> AtomOutput:
        features = self.gate(torch.cat([x, start], dim=1)) * self.value(x)
        return AtomOutput(features=features, contributions=self.output(features))


class SetReadout(nn.Module):
    """Set2set on a projection of each atom's pair (h, h⁰), then two layers; section 5.3 of the paper."""

    def __init__(self, width: int, n_steps: int):
        super().__init__()
        self.projection = nn.Linear(2 * width, width)
        self.set2set = Set2Set(width, n_steps)
        self.hidden = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU())
        self.output = nn.Linear(width, 1)

    def forward(self, x: Tensor, start: Tensor, inputs: PotentialInput) -> AtomOutput:
        atoms = self.projection(torch.cat([x, start], dim=1))
        hidden = self.hidden(self.set2set(atoms, inputs.batch, inputs.n_systems))
        # The last hidden layer is the structure's, and so the same for all of its atoms.
        return AtomOutput(features=take(hidden, inputs.batch), system=self.output(hidden))


class Set2Set(nn.Module):
    r"""An order-free summary of a set, Vinyals et al., arXiv:1511.06391.

    :math:`q \leftarrow \mathrm{LSTM}(q^*)`, :math:`a_i = \mathrm{softmax}(x_i \cdot q)`,
    :math:`q^* = (q, \sum_i a_i x_i)`, n_steps times; as torch-geometric's.

    Parameters
    ----------
    width : int
        Of a member; the summary has twice as many.
    n_steps : int
    """

    def __init__(self, width: int, n_steps: int):
        super().__init__()
        self.n_steps = n_steps
        self.lstm = LongShortTermMemory(2 * width, width)

    def forward(self, x: Tensor, batch: Tensor, n_systems: int) -> Tensor:
        query = memory = x.new_zeros(n_systems, x.shape[1])
        summary = x.new_zeros(n_systems, 2 * x.shape[1])
        for _ in range(self.n_steps):
            # q from the last summary q*, a_i over the atoms of each structure, and q* = (q, Σ_i a_i x_i).
            query, memory = self.lstm(summary, query, memory)
            attention = segment_softmax((x * take(query, batch)).sum(dim=1), batch, n_systems)
            summary = torch.cat([query, segment_sum(attention[:, None] * x, batch, n_systems)], dim=1)
        return summary

"""Heads of scalars: a small network of a target's own, and averages with learned weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asecalc_ml.graph.segments import segment_mean, segment_softmax, segment_sum, take
from asecalc_ml.model.heads.head import ScalarHead
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.targets.target import Quantity


class NetworkHead(ScalarHead):
    """Two layers on the last hidden layer of the shared body, for one of several targets.

    Parameters
    ----------
    quantity : Quantity
    n_features : int
        Of the potential's last hidden layer.
    """

    def __init__(self, quantity: Quantity, n_features: int):
        super().__init__(quantity)
        self.hidden = nn.Sequential(nn.Linear(n_features, n_features), nn.SiLU())
        self.output = nn.Linear(n_features, 1)

    def forward(self, output: AtomOutput, inputs: PotentialInput) -> AtomOutput:
        features = self.hidden(output.features)
        contributions = self.output(features)
        if output.contributions is not None:
            return AtomOutput(features=features, contributions=contributions)
        # the features are those of the structure, the same for all of its atoms
        return AtomOutput(
            features=features, system=segment_mean(contributions, inputs.batch, inputs.n_systems)
        )

    def last_linear(self, potential: Potential) -> tuple[Tensor, Tensor]:
        return self.output.weight, self.output.bias


class SoftmaxHead(ScalarHead):
    r"""An average with learned weights, :math:`y = \sum_i w_i c_i` with :math:`w_i` a softmax over the atoms.

    Contributions are :math:`N w_i c_i`, whose mean over the N atoms is the value. A readout of the whole
    structure has no contributions and stays as it is.

    Parameters
    ----------
    inner : ScalarHead
        QuantityHead that gives the contributions c.
    n_features : int
        Of the potential's last hidden layer.
    """

    def __init__(self, inner: ScalarHead, n_features: int):
        super().__init__(inner.quantity)
        self.inner = inner
        self.score = nn.Linear(n_features, 1, bias=False)
        nn.init.zeros_(self.score.weight)  # the mean, to start with

    def forward(self, output: AtomOutput, inputs: PotentialInput) -> AtomOutput:
        inner = self.inner(output, inputs)
        if inner.contributions is None:
            return inner
        weights = self._weights(output, inputs)
        features = torch.cat([weights * inner.features, weights], dim=1)
        return inner._replace(features=features, contributions=weights * inner.contributions)

    def _weights(self, output: AtomOutput, inputs: PotentialInput) -> Tensor:
        """N w_i, shape (n_atoms, 1)."""
        weights = segment_softmax(self.score(output.features), inputs.batch, inputs.n_systems)
        n_atoms = segment_sum(torch.ones_like(weights), inputs.batch, inputs.n_systems)
        return weights * take(n_atoms, inputs.batch)

    def last_linear(self, potential: Potential) -> tuple[Tensor, Tensor]:
        """Last linear layer: weights of the inner head, and its bias as the weight of the last feature."""
        weight, bias = self.inner.last_linear(potential)
        return torch.cat([weight, bias[:, None]], dim=1), torch.zeros_like(bias)

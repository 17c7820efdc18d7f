"""All trainable parameters of a model as one tensor, so that optimizer and average are one kernel each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from asecalc_ml.model.model import Model


class FlatWeights:
    """Trainable parameters, joined; those of the model become views of them.

    Parameters
    ----------
    model : Model
        Its parameters are on their device and of their type already.

    Attributes
    ----------
    values : nn.Parameter, shape (n_weights,)
    """

    def __init__(self, model: Model):
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.parameters, self.names = list(trainable.values()), list(trainable)
        self.shapes = [parameter.shape for parameter in self.parameters]
        self.sizes = [parameter.numel() for parameter in self.parameters]
        self.values = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in self.parameters]))
        for parameter, values in zip(self.parameters, self.views(self.values.data), strict=True):
            parameter.data = values

    def views(self, flat: Tensor) -> list[Tensor]:
        """Parts of a flat tensor in the shapes of the parameters."""
        return [part.view(shape) for part, shape in zip(flat.split(self.sizes), self.shapes, strict=True)]

    def flatten(self, named: dict[str, Tensor]) -> Tensor:
        """Join tensors that are named like the parameters; zeros for those that are absent."""
        zeros = dict(zip(self.names, self.views(torch.zeros_like(self.values.data)), strict=True))
        return torch.cat([named.get(name, zeros[name]).to(self.values).reshape(-1) for name in self.names])

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Copies of the parts of a flat tensor, by the names of the parameters."""
        parts = zip(self.names, self.views(flat.detach()), strict=True)
        return {name: part.clone() for name, part in parts}

    @contextmanager
    def replaced_by(self, flat: Tensor) -> Iterator[None]:
        """Give the model other weights for a while."""
        own = self.values.data.clone()
        self.values.data.copy_(flat)
        try:
            yield
        finally:
            self.values.data.copy_(own)

    def release(self) -> None:
        """Give the parameters memory of their own again."""
        for parameter in self.parameters:
            parameter.data = parameter.data.clone()

"""Passes that share their weights and still have a name each."""

from torch import Tensor, nn


class SharedPass(nn.Module):
    """One of several passes through the same layer.

    The layer is the network's own and is handed in: a module with two names could not be saved. Hooks
    on a pass see the atoms before and after it.
    """

    def forward(self, x: Tensor, layer: nn.Module, *edges) -> Tensor:
        return layer(x, *edges)

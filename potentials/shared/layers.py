"""Layers that several architectures share: an activation, exact constants, passes with shared weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class ShiftedSoftplus(nn.Softplus):
    """ssp(x) = ln(½ eˣ + ½) = ln(eˣ + 1) − ln 2, which is zero at zero."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - math.log(2)


class ExactConstants(nn.Module):
    """Constants in the type of the network around them, always rounded from float64 and never twice.

    They are no part of a model file.

    Parameters
    ----------
    exact : ndarray, float64
    """

    values: Tensor

    def __init__(self, exact: np.ndarray):
        super().__init__()
        self._exact = torch.from_numpy(exact)
        self.register_buffer("values", self._exact.to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ExactConstants:
        """Round the constants anew after a change of type: a cast to float32 and back would lose digits."""
        super()._apply(fn, recurse)
        self.values = self._exact.to(self.values)
        return self


class SharedPass(nn.Module):
    """One of several passes through the same layer, with a name of its own.

    The layer is the network's own and is handed in: a module with two names could not be saved. Hooks
    on a pass see the atoms before and after it.
    """

    def forward(self, x: Tensor, layer: nn.Module, *edges: Any) -> Tensor:
        return layer(x, *edges)

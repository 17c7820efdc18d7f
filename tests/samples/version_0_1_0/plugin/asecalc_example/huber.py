"""The Huber loss: quadratic below the scale s, linear above (Ann. Math. Statist. 35, 73 (1964))."""

from __future__ import annotations

import torch
from torch import Tensor

from asecalc_ml.potentials.training.losses import Penalty


def huber(errors: Tensor, scale: float) -> Tensor:
    """Penalty of each error, in its unit: Δ² / 2s up to the scale s, and the size of Δ less s / 2 beyond."""
    zeros = torch.zeros_like(errors)
    return torch.nn.functional.huber_loss(errors, zeros, reduction="none", delta=scale) / scale


HUBER = Penalty(huber, atoms_power=1.0)

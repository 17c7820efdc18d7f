"""The exponential moving average of the weights: what is validated, stored and shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

#: Name in a checkpoint, that of Lightning's callback: earlier versions stored their state under it.
STATE_KEY = "WeightAveraging"


class ExponentialAverage:
    """Averages the weights after every step with a decay that rises to its final value.

    The decay of the t-th average is min(decay, (1 + t)/(10 + t)), as in TensorFlow's
    ``tf.train.ExponentialMovingAverage`` with ``num_updates``. While it rises, step s has a share that is
    proportional to (s/t)⁸: the average lags by a tenth of the steps, however few there are. From step
    (10 decay - 1)/(1 - decay) on, 8990 for 0.999 and 890 for 0.99, the decay is constant and the average
    lags by 1/(1 - decay) steps.

    A checkpoint keeps the rule. One of an earlier version, whose decay was constant from the first step, is
    resumed with a constant decay.

    Parameters
    ----------
    decay : float
        Final decay, between 0 and 1.
    rises : bool
        False for a decay that is constant from the first step.

    Attributes
    ----------
    values : Tensor, shape (n_weights,)
    n_averaged : int
        Number of steps that the average is made of.
    """

    def __init__(self, decay: float, rises: bool = True):
        self.decay, self.rises = decay, rises
        self.values, self.n_averaged = torch.empty(0), 0

    def decay_at(self, step: int) -> float:
        """Weight of the former average when the weights of one more step are taken in.

        Parameters
        ----------
        step : int
            Number of steps that the former average is made of.
        """
        return min(self.decay, (1 + step) / (10 + step)) if self.rises else self.decay

    @torch.no_grad()
    def update(self, weights: Tensor) -> None:
        """Take in the weights of one more step, shape (n_weights,)."""
        if self.n_averaged == 0:
            self.values = weights.detach().clone()
        else:
            self.values.lerp_(weights, 1 - self.decay_at(self.n_averaged))
        self.n_averaged += 1


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a training stored, on the CPU."""
    return torch.load(path, map_location="cpu", weights_only=True)


def weights_of(stored: dict[str, Any], averaged: bool) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by the model's names: averaged ones, or those of its last step."""
    tensors = stored["state_dict" if averaged else "current_model_state"]
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


def decay_rises(stored: dict[str, Any]) -> bool:
    """Return False for checkpoints of earlier versions, whose decay was constant from the first step."""
    return stored["callbacks"][STATE_KEY].get("rises", False)

"""Optimizers on the joined weights of a model, and what checkpoints keep of their states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.options import OptimizerOptions

#: What is known of each parameter: moments in its shape, and single numbers such as the count of steps.
NamedState = dict[str, dict[str, Tensor]]


class WeightOptimizer:
    """Changes the joined weights by an optimizer of torch or of pytorch-optimizer.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of the joined weights as one tensor, or of the parameters of the model.
    weights : FlatWeights
    """

    def __init__(self, optimizer: torch.optim.Optimizer, weights: FlatWeights):
        self._optimizer, self._weights = optimizer, weights
        (self._group,) = optimizer.param_groups
        self._is_joined = self._group["params"][0] is weights.values

    def step(self, gradient: Tensor, rate: float) -> None:
        """Change the weights by a gradient, shape (n_weights,), with this learning rate."""
        parts = [gradient] if self._is_joined else self._weights.views(gradient)
        for parameter, part in zip(self._group["params"], parts, strict=True):
            parameter.grad = part
        self._group["lr"] = rate
        self._optimizer.step()

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return self._group["lr"]

    @property
    def n_steps(self) -> int | None:
        """Number of steps, of optimizers that count them once for all parameters."""
        return self._group.get("step")

    def state(self) -> NamedState:
        """Copies of what the optimizer keeps of each parameter, by the parameter's name."""
        weights = self._weights
        if not self._is_joined:
            states = [self._optimizer.state[parameter] for parameter in weights.parameters]
            return {name: _copied(state) for name, state in zip(weights.names, states, strict=True)}
        state = self._optimizer.state[weights.values]
        named: NamedState = {name: {} for name in weights.names}
        for key, value in state.items():
            is_moment = value.shape == weights.values.shape
            parts = weights.named(value) if is_moment else {name: value.clone() for name in weights.names}
            for name, part in parts.items():
                named[name][key] = part
        return named

    def load(self, named: Mapping[str, Mapping[str, Any]], n_steps: int | None) -> None:
        """Put back what a checkpoint has kept; parameters that are absent have moments of zero."""
        weights, device = self._weights, self._weights.values.device
        if n_steps is not None:
            self._group["step"] = n_steps
        if not self._is_joined:
            for name, parameter in zip(weights.names, weights.parameters, strict=True):
                self._optimizer.state[parameter] = {
                    key: value.to(device) for key, value in named.get(name, {}).items()
                }
            return
        shapes = dict(zip(weights.names, weights.shapes, strict=True))
        moments: dict[str, dict[str, Tensor]] = {}
        numbers: dict[str, float] = {}
        for name, state in named.items():
            for key, value in state.items():
                if key == "step":
                    numbers[key] = max(float(value), numbers.get(key, 0.0))
                elif value.shape == shapes[name]:
                    moments.setdefault(key, {})[name] = value
        self._optimizer.state[weights.values] = {
            **{key: torch.tensor(value, device=device) for key, value in numbers.items()},
            **{key: weights.flatten(parts) for key, parts in moments.items()},
        }


def _copied(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in state.items() if isinstance(value, Tensor)}


def make_optimizer(options: OptimizerOptions, weights: FlatWeights) -> WeightOptimizer:
    """Make the optimizer that a training names.

    All but LAMB treat every weight alike, and have the joined weights as one tensor. LAMB scales the change
    of each layer by the norm of its weights (Y. You et al., ICLR 2020), and has the parameters of the model.
    Yogi: M. Zaheer et al., NeurIPS 2018.
    """
    rates: dict[str, Any] = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    joined = [weights.values]
    if options.algorithm == "adamw":
        return WeightOptimizer(torch.optim.AdamW(joined, fused=True, **rates), weights)
    if options.algorithm == "adam":
        return WeightOptimizer(torch.optim.Adam(joined, fused=True, **rates), weights)
    if options.algorithm == "sgd":
        return WeightOptimizer(
            torch.optim.SGD(joined, momentum=options.momentum, fused=True, **rates), weights
        )
    import pytorch_optimizer

    if options.algorithm == "lamb":
        return WeightOptimizer(pytorch_optimizer.Lamb(weights.parameters, **rates), weights)
    return WeightOptimizer(pytorch_optimizer.Yogi(joined, **rates), weights)

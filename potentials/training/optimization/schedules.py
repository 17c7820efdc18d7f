"""How the learning rate goes over the steps of a training, as a factor of its peak."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from asecalc_ml.potentials.training.options import OptimizerOptions

Factor = Callable[[int], float]

#: Where a one-cycle schedule peaks, is back at the minimum, and ends, as parts of a cycle.
CYCLE = (0.0, 0.45, 0.9, 1.0)


def cosine(options: OptimizerOptions, n_steps: int, steps_per_epoch: int) -> Factor:
    """Rises linearly to 1 over the warm-up, then falls to 0 along half a cosine."""
    warmup_steps = options.warmup_steps

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, n_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor


def one_cycle(options: OptimizerOptions, n_steps: int, steps_per_epoch: int) -> Factor:
    """From the minimum linearly to the peak at 45 % of a cycle, back at 90 %, then on to the final rate.

    L. N. Smith, arXiv:1803.09820 (2018), as NeuralIL and JAT have it: their cycle is one epoch, and the next
    epoch begins the next.
    """
    n_cycle = n_steps if options.cycle_epochs is None else options.cycle_epochs * steps_per_epoch
    low = options.minimum_learning_rate
    rates = np.array([low, options.learning_rate, low, options.final_learning_rate])
    return lambda step: float(np.interp(step % n_cycle / n_cycle, CYCLE, rates / options.learning_rate))


SCHEDULES: dict[str, Callable[[OptimizerOptions, int, int], Factor]] = {
    "cosine": cosine,
    "one-cycle": one_cycle,
}

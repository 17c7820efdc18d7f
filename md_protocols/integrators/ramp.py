"""The temperature of a thermostat as a function of the step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from asecalc_ml.runs.production import Line, straightened

MOST_POINTS = 201  # of a temperature that a subclass of Ramp computes


@dataclass(frozen=True)
class Ramp:
    """A temperature that goes from one value to another, linearly with the step.

    A subclass with another course overrides :meth:`at`; everything else follows from it.
    """

    start_K: float
    end_K: float
    n_steps: int

    @cached_property
    def points(self) -> Line:
        """Steps and temperatures in K between which the temperature is linear, of at most 201 steps."""
        steps = np.unique(np.linspace(0, self.n_steps, MOST_POINTS).round()).astype(int)
        return straightened([(int(step), float(self.at(int(step)))) for step in steps])

    @classmethod
    def constant(cls, temperature_K: float) -> Ramp:
        """No ramp at all."""
        return cls(temperature_K, temperature_K, 1)

    @cached_property
    def is_constant(self) -> bool:
        """True if the temperature never changes."""
        return len({kelvin for _, kelvin in self.points}) == 1

    @property
    def mean(self) -> float:
        """Mean over all steps, K."""
        lines = pairwise(self.points)
        area = sum(0.5 * (first[1] + last[1]) * (last[0] - first[0]) for first, last in lines)
        return area / self.n_steps

    @property
    def highest(self) -> float:
        """Highest temperature, K."""
        return max(kelvin for _, kelvin in self.points)

    def at(self, step: int) -> float:
        """Temperature in K after so many steps."""
        return self.start_K + (self.end_K - self.start_K) * min(step / self.n_steps, 1.0)

"""The space of a search: which options of the training vary, and how their values are distributed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.objectives import SearchedParameter
from asecalc_ml.objectives.search_record import place_among

Range = Annotated[list[float], Field(min_length=2, max_length=2)]
IntegerRange = Annotated[list[int], Field(min_length=2, max_length=2)]

#: Ranges of which both ends are above zero.
LOGARITHMIC = ("log_uniform", "log_integer")


class NormalDistribution(Options):
    """A normal distribution, cut off at two bounds."""

    mean: float = Field(description="mean of the distribution that is not cut off")
    standard_deviation: float = Field(gt=0, description="its standard deviation")
    low: float = Field(description="lowest value")
    high: float = Field(description="highest value")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> NormalDistribution:
        _check_order([self.low, self.high])
        return self


class Parameter(Options):
    """Distribution of one option; exactly one of these."""

    uniform: Range | None = Field(None, description="lowest and highest value, as in [0, 0.1]")
    log_uniform: Range | None = Field(
        None, description="lowest and highest value of a uniform distribution of the logarithm"
    )
    integer: IntegerRange | None = Field(None, description="lowest and highest whole number")
    log_integer: IntegerRange | None = Field(
        None,
        description="lowest and highest whole number, those of one decade as likely as those of the next",
    )
    normal: NormalDistribution | None = Field(None, description="normal distribution between two bounds")
    categorical: list[bool | int | float | str] | None = Field(
        None, description="values of which each is as likely, as in [adamw, lamb]"
    )

    @model_validator(mode="after")
    def _one_distribution(self) -> Parameter:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"it has {len(given)} distributions, and needs one of {names}")
        (kind,) = given
        if kind == "categorical":
            _check_choices(self.choices)
        elif kind != "normal":
            _check_order(self.bounds)
            if kind in LOGARITHMIC and self.bounds[0] <= 0:
                raise ValueError(
                    f"{kind} goes from {self.bounds[0]:g} to {self.bounds[1]:g}: a logarithm needs a lowest "
                    "value above 0"
                )
        return self

    @property
    def kind(self) -> str:
        """Name of the distribution."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def choices(self) -> list[Any]:
        """Values of a categorical parameter; none of the others."""
        return self.categorical or []

    @property
    def bounds(self) -> Sequence[float]:
        """Lowest and highest value; none of a categorical parameter."""
        if self.normal is not None:
            return [self.normal.low, self.normal.high]
        return self.uniform or self.log_uniform or self.integer or self.log_integer or []

    @property
    def extremes(self) -> list[Any]:
        """Values that together show whether the option takes the whole distribution."""
        if self.kind == "categorical" or "integer" in self.kind:
            return self.choices or [int(bound) for bound in self.bounds]
        low, high = self.bounds
        return [low, low + (high - low) / math.pi, high]  # between them no whole number

    def quantile(self, fraction: float) -> float:
        """Value of a normal distribution below which lies this fraction of it."""
        from scipy.stats import truncnorm

        assert self.normal is not None
        mean, width = self.normal.mean, self.normal.standard_deviation
        low, high = ((bound - mean) / width for bound in self.bounds)
        value = float(truncnorm.ppf(fraction, low, high, loc=mean, scale=width))
        return min(max(value, self.normal.low), self.normal.high)

    def fraction(self, value: Any) -> float:
        """Fraction of the distribution that lies below a value; half of an integer or category counts.

        Of a normal distribution the inverse of :meth:`quantile`.
        """
        if self.kind == "categorical":
            return (place_among(self.choices, value) + 0.5) / len(self.choices)
        if self.normal is not None:
            return min(max(self._normal_fraction(value), 0.0), 1.0)
        half = 0.5 if "integer" in self.kind else 0.0  # an integer stands for the range around it
        scale = math.log if self.kind in LOGARITHMIC else float
        low, high = scale(self.bounds[0] - half), scale(self.bounds[1] + half)
        return min(max((scale(value) - low) / (high - low), 0.0), 1.0)

    def _normal_fraction(self, value: float) -> float:
        from scipy.stats import truncnorm

        assert self.normal is not None
        mean, width = self.normal.mean, self.normal.standard_deviation
        low, high = ((bound - mean) / width for bound in self.bounds)
        return float(truncnorm.cdf(value, low, high, loc=mean, scale=width))

    def record(self, name: str) -> SearchedParameter:
        """Distribution of an option as plain data."""
        low, high = self.bounds or (None, None)
        return SearchedParameter(
            name=name,
            distribution=f"{self.kind.replace('_', '-')}: {self._limits}",
            low=low,
            high=high,
            is_logarithmic=self.kind in LOGARITHMIC,
            is_integer="integer" in self.kind,
            choices=self.choices,
        )

    @property
    def _limits(self) -> str:
        if self.kind == "categorical":
            return ", ".join(map(str, self.choices))
        low, high = self.bounds
        limits = f"{low:g} to {high:g}"
        if self.normal is None:
            return limits
        return f"mean {self.normal.mean:g}, standard deviation {self.normal.standard_deviation:g}, {limits}"


def _check_order(bounds: Sequence[float]) -> None:
    low, high = bounds
    if low > high:
        raise ValueError(f"the lowest value {low:g} is above the highest, {high:g}")
    if low == high or not math.isfinite(high - low):
        raise ValueError(f"the range from {low:g} to {high:g} is empty: set the option itself to {low:g}")


def _check_choices(choices: list[Any]) -> None:
    if len(choices) < 2:
        raise ValueError("categorical needs two values or more; set the option itself to a single one")
    if len({(type(value), value) for value in choices}) < len(choices):
        raise ValueError(f"categorical names a value twice: {choices}")

"""Distribution of bond angles along a run."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.distributions.distribution import DistributionOptions
from asecalc_ml.analysis.distributions.distribution_result import DistributionResult
from asecalc_ml.analysis.distributions.internal_coordinates import AnglePattern


class AnglesResult(DistributionResult):
    """Distributions of angles in degrees, with the training data's where a card tells."""

    analysis: Literal["angles"] = "angles"
    quantity: ClassVar[str] = "angle"
    group: ClassVar[str] = "angle"
    unit: ClassVar[str] = "°"
    digits: ClassVar[int] = 2


class Angles(DistributionOptions):
    """Distribution of the angles between two bonds of an atom by pattern.

    See :mod:`asecalc_ml.structure.topology.patterns`.

    Bonds are those of the starting structure, see :func:`asecalc_ml.structure.topology.bonds.find_bonds`.
    Bonds across a periodic boundary are followed through the images.

    Examples
    --------
    >>> Angles(patterns=["O-C-C"]).patterns
    ['C-C-O']
    """

    result: ClassVar = AnglesResult
    n_atoms: ClassVar[int] = 3

    patterns: list[AnglePattern] | None = Field(
        None, min_length=1, description="such as [C-C-O, CH3-CH2-CH2]; empty for all without hydrogen"
    )
    bin_deg: float = Field(1.0, ge=0.01, le=90, description="width of a histogram's bin, degrees")

    @property
    def width(self) -> float:
        """Width of a histogram's bin, degrees."""
        return self.bin_deg

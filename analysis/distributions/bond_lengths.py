"""Distribution of bond lengths along a run."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.distributions.distribution import DistributionOptions
from asecalc_ml.analysis.distributions.distribution_result import DistributionResult
from asecalc_ml.analysis.distributions.internal_coordinates import BondPattern


class BondLengthsResult(DistributionResult):
    """Distributions of bond lengths in Å, with the training data's where a card tells."""

    analysis: Literal["bond-lengths"] = "bond-lengths"
    quantity: ClassVar[str] = "bond length"
    group: ClassVar[str] = "bond"
    unit: ClassVar[str] = "Å"
    digits: ClassVar[int] = 4


class BondLengths(DistributionOptions):
    """Distribution of bond lengths by pattern, see :mod:`asecalc_ml.structure.topology.patterns`.

    Bonds are those of the starting structure, see :func:`asecalc_ml.structure.topology.bonds.find_bonds`. A
    bond across a periodic boundary is followed through the images.

    Examples
    --------
    >>> BondLengths(patterns=["C-C", "O-C"]).patterns
    ['C-C', 'C-O']
    """

    result: ClassVar = BondLengthsResult
    n_atoms: ClassVar[int] = 2

    patterns: list[BondPattern] | None = Field(
        None, min_length=1, description="such as [C-O, CH3-CH2, 0-1]; empty for all without hydrogen"
    )
    bin_A: float = Field(0.01, ge=1e-4, le=1, description="width of a histogram's bin, Å")

    @property
    def width(self) -> float:
        """Width of a histogram's bin, Å."""
        return self.bin_A

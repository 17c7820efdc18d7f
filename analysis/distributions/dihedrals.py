"""Distribution of dihedral angles along a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from asecalc_ml.analysis.distributions.distribution import DistributionOptions
from asecalc_ml.analysis.distributions.distribution_result import DistributionResult
from asecalc_ml.analysis.distributions.internal_coordinates import DihedralPattern

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class DihedralsResult(DistributionResult):
    """Distributions of dihedrals in degrees from -180 to 180, the mean and its error around the circle."""

    analysis: Literal["dihedrals"] = "dihedrals"
    quantity: ClassVar[str] = "dihedral"
    group: ClassVar[str] = "dihedral"
    unit: ClassVar[str] = "°"
    digits: ClassVar[int] = 1
    period: ClassVar[float | None] = 360.0

    def _draw(self, ax: Axes, panel: str) -> None:
        super()._draw(ax, panel)
        ax.set(xlim=(-180, 180), xticks=range(-180, 181, 60))


class Dihedrals(DistributionOptions):
    """Distribution of dihedral angles by pattern, see :mod:`asecalc_ml.structure.topology.patterns`.

    The sign is IUPAC's: positive where the bond in front has to be turned clockwise to cover the one behind.

    Examples
    --------
    >>> Dihedrals(patterns=["O-C-C-C"]).patterns
    ['C-C-C-O']
    """

    result: ClassVar = DihedralsResult
    n_atoms: ClassVar[int] = 4

    patterns: list[DihedralPattern] | None = Field(
        None, min_length=1, description="such as [C-C-C-O, '*-CH2-OH-H']; empty for all without hydrogen"
    )
    bin_deg: float = Field(
        5.0, ge=0.01, le=120, description="width of a histogram's bin, degrees; a divisor of 180"
    )

    @field_validator("bin_deg")
    @classmethod
    def _divides_half_the_circle(cls, width: float) -> float:
        if abs(round(180 / width) * width - 180) > 1e-9:
            raise ValueError(
                f"bin_deg: 180 degrees are not a whole number of bins of {width:g}; take 5 or 10"
            )
        return width

    @property
    def width(self) -> float:
        """Width of a histogram's bin, degrees."""
        return self.bin_deg

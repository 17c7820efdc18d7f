"""Hyperparameters of ANI; the defaults are those of ANI-1x."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A, Length_A
from asecalc_ml.potentials.shared.elements import Elements

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential

#: Widths of ANI-1x: Smith, Nebgen, Lubbers, Isayev, Roitberg, J. Chem. Phys. 148, 241733 (2018).
ANI_1X = {"H": [160, 128, 96], "C": [144, 112, 96], "N": [128, 112, 96], "O": [128, 112, 96]}


class ANI(Options):
    """ANI: radial and angular symmetry functions, one network for each element (Chem. Sci. 8, 3192)."""

    citation: ClassVar[str] = (
        "J. S. Smith, O. Isayev, A. E. Roitberg, Chem. Sci. 8, 3192 (2017), doi:10.1039/C6SC05720A; "
        "J. S. Smith et al., J. Chem. Phys. 148, 241733 (2018), doi:10.1063/1.5023802"
    )

    elements: Elements = Field(
        list(ANI_1X), description="elements that have a network, in the order of the blocks"
    )
    cutoff_A: Cutoff_A = Field(5.2, description="distance beyond which atoms do not see each other, Å")
    angular_cutoff_A: Cutoff_A = Field(3.5, description="distance up to which neighbors form angles, Å")
    radial_start_A: Length_A = Field(0.9, description="first shift of the radial functions, Å")
    n_radial: int = Field(16, ge=1, description="number of radial functions for each element")
    radial_eta_per_A2: float = Field(
        16.0, gt=0, le=1e4, description="width parameter of radial functions, 1/Å²"
    )
    angular_start_A: Length_A = Field(0.9, description="first radial shift of the angular functions, Å")
    n_angular_shifts: int = Field(4, ge=1, description="number of radial shifts of the angular functions")
    n_sections: int = Field(8, ge=1, description="number of angles of the angular functions")
    angular_eta_per_A2: float = Field(
        8.0, gt=0, le=1e4, description="radial width parameter of angular ones, 1/Å²"
    )
    zeta: float = Field(32.0, ge=2, description="exponent that narrows the angular functions")
    hidden_channels: dict[str, list[int]] | list[int] = Field(
        ANI_1X, description="widths of the hidden layers, for each element or one list for all"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> ANI:
        if max(self.angular_cutoff_A, self.radial_start_A) > self.cutoff_A:
            raise ValueError("angular_cutoff_A and radial_start_A must not be above cutoff_A")
        if self.angular_start_A > self.angular_cutoff_A:
            raise ValueError("angular_start_A must not be above angular_cutoff_A")
        for symbol in self.elements:
            if min(self.widths(symbol), default=0) < 1:
                raise ValueError(
                    f"hidden_channels has no widths for {symbol}: add `{symbol}: [160, 128, 96]`, or give "
                    "one list for all elements"
                )
        return self

    def widths(self, symbol: str) -> list[int]:
        """Widths of the hidden layers of an element's network; empty where none are given."""
        hidden = self.hidden_channels
        return hidden.get(symbol, []) if isinstance(hidden, dict) else hidden

    def build(self) -> Potential:
        """Networks with random weights from torch's generator."""
        from asecalc_ml.potentials.ani.network import ANIPotential

        return ANIPotential(self)

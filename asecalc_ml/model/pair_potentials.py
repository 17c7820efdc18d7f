"""Options of the analytic pair potentials: oracles for everything above them, and a repulsive core."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Length_A

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential


class LennardJones(Options):
    """Lennard-Jones pairs, smooth at the cutoff."""

    citation: ClassVar[str] = "J. E. Jones, Proc. R. Soc. Lond. A 106, 463 (1924)"

    epsilon_eV: float = Field(
        0.0103, gt=0, le=1000, description="depth of the well, eV; the default is argon's"
    )
    sigma_A: Length_A = Field(3.40, gt=0, description="distance at which the pair energy is zero, Å")
    cutoff_A: Length_A = Field(10.0, gt=0, description="distance at which the pair energy ends, Å")

    def build(self) -> Potential:
        """The potential; nothing in it is trained."""
        from asecalc_ml.model.pair_modules import LennardJonesPotential

        return LennardJonesPotential(self)


class Morse(Options):
    """Morse pairs, smooth at the cutoff."""

    citation: ClassVar[str] = "P. M. Morse, Phys. Rev. 34, 57 (1929)"

    depth_eV: float = Field(2.0, gt=0, le=1000, description="depth of the well, eV")
    steepness_per_A: float = Field(1.5, gt=0, le=100, description="width parameter of the well, 1/Å")
    r0_A: Length_A = Field(1.2, gt=0, description="distance at the bottom of the well, Å")
    cutoff_A: Length_A = Field(6.0, gt=0, description="distance at which the pair energy ends, Å")

    def build(self) -> Potential:
        """The potential; nothing in it is trained."""
        from asecalc_ml.model.pair_modules import MorsePotential

        return MorsePotential(self)


class ZBL(Options):
    """The universal screened repulsion of nuclei, for distances that no training data hold."""

    citation: ClassVar[str] = (
        "J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Solids (1985), "
        "doi:10.1007/978-3-642-68779-2_5"
    )

    reach: float = Field(
        0.7,
        gt=0,
        description="distance at which the repulsion of a pair ends, as a multiple of the sum of covalent "
        "radii; at 0.7 bonds, triple bonds included, do not feel it",
    )

    def build(self) -> Potential:
        """The potential; nothing in it is trained."""
        from asecalc_ml.model.pair_modules import ZBLPotential

        return ZBLPotential(self)

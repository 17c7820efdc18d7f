"""Relaxation to the nearest minimum."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.config.quantities import Fmax_eV_A
from asecalc_ml.md_protocols import stages
from asecalc_ml.md_protocols.options import ProtocolOptions


class RelaxOptions(ProtocolOptions):
    """What protocols that relax the structure have in common."""

    relax_fmax_eV_A: Fmax_eV_A = Field(0.01, description="largest force on any atom of a relaxed structure")
    relax_steps: int = Field(500, ge=1, description="steps after which relaxation gives up")

    def relaxation(self, is_all: bool = False) -> list:
        """The stage, as a list."""
        return [stages.RelaxOnRecord(self.relax_fmax_eV_A, self.relax_steps, is_all)]


class Relax(RelaxOptions):
    """Go to the nearest minimum of the energy, the cell as it is.

    BFGS, or FIRE beyond 100 atoms. Atoms that a constraint of the structure holds stay where they are.
    """

    protocol: Literal["relax"] = Field("relax", description="relaxation to the nearest minimum")
    default_analyses: ClassVar[tuple[str, ...]] = ("relaxation",)

    def stages(self) -> list:
        """One relaxation, whose steps are the frames."""
        return self.relaxation(is_all=True)

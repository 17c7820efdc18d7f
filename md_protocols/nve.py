"""Dynamics at constant energy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.md_protocols import integrators, stages
from asecalc_ml.md_protocols.dynamics import EnsembleOptions

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.stages import Produce


class NVE(EnsembleOptions):
    """Relax, equilibrate at a temperature, then run at constant energy with velocity Verlet.

    A relaxed structure has no potential energy to share, so that velocities drawn at T would run near T/2.
    Langevin dynamics fill the vibrations first; the production then starts without translation and rotation,
    at the mean total energy of the equilibration.
    """

    protocol: Literal["nve"] = Field("nve", description="dynamics at constant energy")
    equilibrates_to_average: ClassVar = True

    def production(self, is_equilibrated: bool) -> Produce:
        """Velocity Verlet."""
        ramp = self.first_temperature
        draws = self.draws_velocities and not is_equilibrated
        return stages.ProduceAtConstantEnergy(
            partial(integrators.VelocityVerlet, ramp=ramp),
            self.steps,
            self.timestep_fs,
            ramp,
            draws,
            is_equilibrated,
        )

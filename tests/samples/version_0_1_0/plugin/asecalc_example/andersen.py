"""The Andersen thermostat, as a protocol of one ensemble.

A thermostat has options of its own, such as the probability of a collision, and therefore is a protocol: it
derives from ``ThermostatOptions`` and names its integrator. Protocol ``sequence`` takes it as an ensemble.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml.errors import StructureError
from asecalc_ml.md_protocols.nvt import ThermostatOptions

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.stages.time_steps import MakeIntegrator


class Andersen(ThermostatOptions):
    """Relax, equilibrate, then run with stochastic collisions at constant volume."""

    protocol: Literal["andersen"] = Field("andersen", description="dynamics with Andersen's thermostat")
    collision_probability: float = Field(
        0.01, gt=0, le=1, description="probability that a velocity component is drawn anew in a step"
    )

    def check_start(self, atoms: Atoms) -> None:
        """Refuse constraints, which drawn velocities would break."""
        super().check_start(atoms)
        if atoms.constraints:
            raise StructureError("Andersen's thermostat keeps no constraints: use protocol nvt")

    def integrator(self) -> MakeIntegrator:
        """Velocity Verlet with collisions."""
        from asecalc_example.andersen_integrator import AndersenCollisions

        return partial(AndersenCollisions, ramp=self.ramp, probability=self.collision_probability)

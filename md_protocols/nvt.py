"""Dynamics at constant volume and temperature."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml.errors import StructureError
from asecalc_ml.md_protocols.dynamics import EnsembleOptions
from asecalc_ml.quantities import Friction_per_ps, Temperature_K, Timestep_fs

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.integrators import Ramp
    from asecalc_ml.md_protocols.stages.produce import Produce
    from asecalc_ml.md_protocols.stages.time_steps import MakeIntegrator


class ThermostatOptions(EnsembleOptions):
    """Dynamics whose production has a temperature, constant or going from one to another."""

    temperature_K: Temperature_K = Field(
        300.0, gt=0, description="temperature; of a ramp, that of its beginning"
    )
    temperature_end_K: Temperature_K | None = Field(
        None, gt=0, description="temperature at the end of a linear ramp; empty for none"
    )
    timestep_fs: Timestep_fs = Field(0.5, description="time step of the production")
    friction_per_ps: Friction_per_ps = Field(
        1.0, description="friction of Langevin dynamics in the production"
    )

    @property
    def ramp(self) -> Ramp:
        """Temperature of the production."""
        from asecalc_ml.md_protocols.integrators import Ramp

        end = self.temperature_K if self.temperature_end_K is None else self.temperature_end_K
        return Ramp(self.temperature_K, end, self.steps)

    def production(self, is_equilibrated: bool) -> Produce:
        """Time steps of the ensemble's integrator."""
        from asecalc_ml.md_protocols.stages.produce import Produce

        draws = self.draws_velocities and not is_equilibrated
        integrator = self.integrator()
        return Produce(integrator, self.steps, self.timestep_fs, self.ramp, draws, is_equilibrated)

    def integrator(self) -> MakeIntegrator:
        """That of the production."""
        raise NotImplementedError


class NVT(ThermostatOptions):
    """Relax, equilibrate with Langevin dynamics, then run with a thermostat at constant volume.

    Every thermostat keeps the centre of mass at rest. Velocity rescaling and the Nosé-Hoover chain keep a
    molecule from turning too, and conserve an energy that tells how good the time step is. Langevin dynamics
    let it turn, and forget fastest where parts of a system hardly exchange energy.
    """

    protocol: Literal["nvt"] = Field("nvt", description="dynamics at constant volume and temperature")
    thermostat: Literal["bussi", "langevin", "nose-hoover-chain"] = Field(
        "bussi", description="stochastic velocity rescaling, Langevin dynamics, or a Nosé-Hoover chain"
    )
    thermostat_time_fs: float = Field(
        100.0,
        ge=1,
        le=1e7,
        description="time constant of bussi and nose-hoover-chain; langevin has friction_per_ps",
    )

    def check_start(self, atoms: Atoms) -> None:
        """Velocities that can be scaled, and no constraints that the thermostat would break."""
        from asecalc_ml.md_protocols.temperature import internal_kinetic_energy

        super().check_start(atoms)
        is_given = self.velocities == "structure" and self.equilibration_ps == 0
        if self.thermostat == "bussi" and is_given and internal_kinetic_energy(atoms) == 0:
            raise StructureError(
                "the bussi thermostat scales velocities, and beside translation and rotation the structure "
                "has none: use velocities: thermal, or thermostat: langevin"
            )
        if self.thermostat == "nose-hoover-chain" and atoms.constraints:
            names = ", ".join(sorted({type(one).__name__ for one in atoms.constraints}))
            raise StructureError(
                f"ASE's Nosé-Hoover chain does not keep {names}: use thermostat: bussi or langevin"
            )

    def integrator(self) -> MakeIntegrator:
        """That of the thermostat."""
        from asecalc_ml.md_protocols import integrators

        if self.thermostat == "langevin":
            return partial(integrators.Langevin, ramp=self.ramp, friction_per_ps=self.friction_per_ps)
        kinds = {"bussi": integrators.Bussi, "nose-hoover-chain": integrators.NoseHooverChain}
        return partial(kinds[self.thermostat], ramp=self.ramp, time_fs=self.thermostat_time_fs)

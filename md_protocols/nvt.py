"""Dynamics at constant volume and temperature."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from asecalc_ml.config.quantities import Friction_per_ps, Temperature_K, Timestep_fs
from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.md_protocols import integrators, stages
from asecalc_ml.md_protocols.dynamics import EnsembleOptions
from asecalc_ml.md_protocols.integrators.thermostat_choice import AUTO, FEW_ATOMS, OF_FEW_ATOMS, OF_MANY_ATOMS

if TYPE_CHECKING:
    from typing import Self

    from ase import Atoms

    from asecalc_ml.md_protocols.integrators import Ramp
    from asecalc_ml.md_protocols.stages import MakeIntegrator, Produce


#: The option of its own that each thermostat has.
OWN_OPTIONS = {
    "langevin": "friction_per_ps",
    "bussi": "thermostat_time_fs",
    "nose-hoover-chain": "thermostat_time_fs",
}


class ThermostatOptions(EnsembleOptions):
    """Dynamics whose production has a temperature, constant or going from one to another."""

    temperature_K: Temperature_K = Field(
        300.0, gt=0, description="temperature; of a ramp, that of its beginning"
    )
    temperature_end_K: Temperature_K | None = Field(
        None, description="temperature at the end of a linear ramp, 0 or more; empty for none"
    )
    timestep_fs: Timestep_fs = Field(0.5, description="time step of the production")
    friction_per_ps: Friction_per_ps = Field(
        1.0, description="friction of Langevin dynamics in the production"
    )

    @property
    def ramp(self) -> Ramp:
        """Temperature of the production."""
        end = self.temperature_K if self.temperature_end_K is None else self.temperature_end_K
        return integrators.Ramp(self.temperature_K, end, self.steps)

    def production(self, is_equilibrated: bool) -> Produce:
        """Time steps of the ensemble's integrator."""
        draws = self.draws_velocities and not is_equilibrated
        integrator = self.integrator()
        return stages.Produce(integrator, self.steps, self.timestep_fs, self.ramp, draws, is_equilibrated)

    def integrator(self) -> MakeIntegrator:
        """That of the production."""
        raise NotImplementedError(f"{type(self).__name__} does not define `integrator`")


class NVT(ThermostatOptions):
    """Relax, equilibrate with Langevin dynamics, then run with a thermostat at constant volume.

    Every thermostat keeps the centre of mass at rest. Langevin dynamics exchange energy with every vibration,
    which small molecules need: the others act on the total kinetic energy, and leave the share of each
    vibration to the molecule itself. They keep a molecule from turning, and conserve an energy that shows how
    good the time step is.
    """

    protocol: Literal["nvt"] = Field("nvt", description="dynamics at constant volume and temperature")
    thermostat: Literal["auto", "langevin", "bussi", "nose-hoover-chain"] = Field(
        AUTO,
        description="Langevin dynamics, stochastic velocity rescaling (bussi), or a Nosé-Hoover chain; auto: "
        f"{OF_FEW_ATOMS} below {FEW_ATOMS} atoms, {OF_MANY_ATOMS} from there on",
    )
    thermostat_time_fs: float = Field(
        100.0,
        ge=1,
        le=1e7,
        description="time constant of bussi and nose-hoover-chain; langevin has friction_per_ps",
    )

    def with_thermostat(self, name: str) -> Self:
        """Return these options with the named thermostat in place of ``auto``."""
        return self.model_copy(update={"thermostat": name}) if self.thermostat == AUTO else self

    def unused(self) -> dict[str, str]:
        """Options of thermostats other than the chosen one, too."""
        owners: dict[str, list[str]] = {}
        for thermostat, option in OWN_OPTIONS.items():
            owners.setdefault(option, []).append(thermostat)
        return super().unused() | {
            option: f"thermostat: {' or '.join(names)}"
            for option, names in owners.items()
            if self.thermostat not in (AUTO, *names)
        }

    def check_start(self, atoms: Atoms) -> None:
        """Velocities that can be scaled, and no constraints that the thermostat would break."""
        from asecalc_ml.md_protocols.integrators.degrees_of_freedom import internal_kinetic_energy

        super().check_start(atoms)
        is_given = self.velocities == "structure" and self.equilibration_ps == 0
        if self.thermostat == "bussi" and is_given and internal_kinetic_energy(atoms) == 0:
            raise StructureError(
                "the bussi thermostat scales velocities, and beside translation and rotation the structure "
                "has none",
                name="thermostat",
                value=self.thermostat,
                remedy="use velocities: thermal, or thermostat: langevin",
            )
        if self.thermostat == "nose-hoover-chain" and atoms.constraints:
            names = ", ".join(sorted({type(constraint).__name__ for constraint in atoms.constraints}))
            raise StructureError(
                f"ASE's Nosé-Hoover chain does not keep {names}",
                name="thermostat",
                value=self.thermostat,
                allowed=["bussi", "langevin"],
                remedy="use thermostat: bussi or langevin",
            )

    def integrator(self) -> MakeIntegrator:
        """That of the thermostat.

        Raises
        ------
        ConfigError
            If the thermostat has not been chosen yet.
        """
        if self.thermostat == AUTO:
            raise ConfigError(
                "thermostat: auto is chosen by the number of atoms when a run starts;",
                name="thermostat",
                value=AUTO,
                remedy="name one before asking for the stages of a run, or use with_thermostat",
            )
        makers: dict[str, Any] = {
            "langevin": integrators.Langevin,
            "bussi": integrators.Bussi,
            "nose-hoover-chain": integrators.NoseHooverChain,
        }
        option = OWN_OPTIONS[self.thermostat]
        own = {option.removeprefix("thermostat_"): getattr(self, option)}
        return partial(makers[self.thermostat], ramp=self.ramp, **own)

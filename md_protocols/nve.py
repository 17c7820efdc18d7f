"""Dynamics at constant energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from asecalc_ml.errors import StructureError
from asecalc_ml.md_protocols.options import ProtocolOptions

if TYPE_CHECKING:
    from ase import Atoms


class NVE(ProtocolOptions):
    """Relax, equilibrate at a temperature, then run at constant energy with velocity Verlet.

    A relaxed structure has no potential energy to share, so that velocities drawn at T would run near T/2.
    Langevin dynamics fill the vibrations first; the production then starts without translation and rotation,
    at the mean total energy of the equilibration.
    """

    protocol: Literal["nve"] = Field("nve", description="dynamics at constant energy")
    temperature_K: float = Field(300.0, ge=0, description="temperature of equilibration and first velocities")
    timestep_fs: float = Field(0.1, gt=0, le=20, description="time step of the production")
    steps: int = Field(20_000, ge=1, description="steps of the production")
    relax: bool = Field(True, description="relax the structure first")
    relax_fmax_eV_A: float = Field(0.02, gt=0, description="largest force on any atom of a relaxed structure")
    relax_steps: int = Field(500, ge=1, description="steps after which relaxation gives up")
    velocities: Literal["thermal", "structure"] = Field(
        "thermal",
        description="draw first velocities at temperature_K, or take those of the structure; production "
        "starts without translation and rotation in either case",
    )
    equilibration_ps: float = Field(1.0, ge=0, description="length of the Langevin equilibration; 0 for none")
    equilibration_timestep_fs: float = Field(0.5, gt=0, le=20, description="time step of the equilibration")
    friction_per_ps: float = Field(20.0, gt=0, description="friction of the Langevin thermostat")

    @model_validator(mode="after")
    def _own_velocities_are_those_of_this_structure(self) -> NVE:
        if self.velocities == "structure" and self.relax:
            raise ValueError(
                "velocities: structure needs relax: false, since relaxation changes the structure"
            )
        return self

    def check_start(self, atoms: Atoms) -> None:
        """Own velocities have to be there."""
        if self.velocities == "structure" and not atoms.has("momenta"):
            raise StructureError(
                "velocities: structure, and the structure has no momenta: give one that has (a frame of a "
                "run, trajectory.traj@-1), or use velocities: thermal"
            )

    def stages(self) -> list:
        """Relax, Equilibrate, Produce, as far as they are wanted."""
        from asecalc_ml.md_protocols.stages import Equilibrate, Produce, Relax

        n_equilibration = round(1000 * self.equilibration_ps / self.equilibration_timestep_fs)
        draws = self.velocities == "thermal"
        wanted = [
            (self.relax, Relax(self.relax_fmax_eV_A, self.relax_steps)),
            (
                n_equilibration > 0,
                Equilibrate(
                    self.temperature_K,
                    n_equilibration,
                    self.equilibration_timestep_fs,
                    self.friction_per_ps,
                    draws,
                ),
            ),
            (
                True,
                Produce(self.temperature_K, self.steps, self.timestep_fs, draws, n_equilibration > 0),
            ),
        ]
        return [stage for is_wanted, stage in wanted if is_wanted]

    @property
    def frame_interval_fs(self) -> float:
        """Time from frame to frame of the trajectory."""
        return self.timestep_fs * self.write_every

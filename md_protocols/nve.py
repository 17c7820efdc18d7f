"""NVE: constant energy, after relaxation and an equilibration at temperature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from asecalc_ml.md_protocols.options import ProtocolOptions

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.rundir import RunReader


class NVE(ProtocolOptions):
    """Relax, equilibrate with a Langevin thermostat, then run velocity Verlet at constant energy.

    A relaxed structure that is given velocities at T runs at about T/2, since half of the kinetic energy
    goes into the bonds; so production follows an equilibration at T.
    """

    protocol: Literal["nve"] = Field("nve", description="this protocol")
    temperature_K: float = Field(300.0, gt=0, description="temperature of the equilibration")
    timestep_fs: float = Field(0.1, gt=0, le=10, description="time step of production")
    steps: int = Field(20_000, ge=1, description="steps of production")
    relax: bool = Field(True, description="minimise the energy first")
    relax_fmax_eV_A: float = Field(0.01, gt=0, description="relaxed when no force is larger")
    relax_steps: int = Field(500, ge=1, description="stop relaxing after so many steps, relaxed or not")
    equilibration_ps: float = Field(1.0, ge=0, description="Langevin dynamics before production; 0: none")
    equilibration_timestep_fs: float = Field(0.5, gt=0, le=10, description="time step of the equilibration")
    friction_per_ps: float = Field(10.0, gt=0, description="friction of the Langevin thermostat")
    write_every: int = Field(10, ge=1, description="steps between frames of the trajectory")
    thermo_every: int = Field(10, ge=1, description="steps between rows of thermo.csv")
    checkpoint_every: int = Field(
        1000, ge=1, description="steps between checkpoints; a multiple of both above"
    )

    @model_validator(mode="after")
    def _checkpoints_meet_frames(self) -> NVE:
        for name in ("write_every", "thermo_every"):
            if self.checkpoint_every % getattr(self, name):
                raise ValueError(f"checkpoint_every must be a multiple of {name} ({getattr(self, name)})")
        return self

    def run(
        self,
        atoms: Atoms | None = None,
        directory: str | Path | None = None,
        overwrite: bool = False,
        quiet: bool = False,
    ) -> RunReader:
        """Run the protocol; see :meth:`ProtocolOptions.run`."""
        from asecalc_ml.md_protocols.engine import start_run

        return start_run(self, atoms, Path(directory or self.run_directory), overwrite, quiet)

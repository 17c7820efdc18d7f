"""What the protocols of molecular dynamics have in common: relax, equilibrate, produce."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from asecalc_ml.config.quantities import (
    Duration_ps,
    Fmax_eV_A,
    Friction_per_ps,
    Temperature_K,
    Timestep_fs,
    check_has_steps,
)
from asecalc_ml.errors import ConfigError, PluginError, StructureError
from asecalc_ml.md_protocols import integrators
from asecalc_ml.md_protocols import stages as stage_classes
from asecalc_ml.md_protocols.options import ProtocolOptions
from asecalc_ml.md_protocols.watch.stopping import FlagOptions, StopOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from asecalc_ml.md_protocols.integrators import Ramp
    from asecalc_ml.md_protocols.stages import MakeIntegrator, Produce
    from asecalc_ml.runs import RunPlan


class DynamicsOptions(ProtocolOptions):
    """Relax, equilibrate with Langevin dynamics, then produce as a subclass says."""

    default_analyses: ClassVar[tuple[str, ...]] = (
        "connectivity",
        "energy-drift",
        "temperature",
        "committee-deviation",
        "bond-lengths",
        "angles",
    )
    remedy: ClassVar = (
        "A smaller timestep_fs, a structure without strain, or a calculator made for it may help."
    )

    write_every: int = Field(10, ge=1, description="steps from frame to frame of the trajectory")
    trajectory_format: Literal["traj", "extxyz", "h5md"] = Field(
        "traj", description="ASE's own format, extended XYZ (text), or H5MD (HDF5)"
    )
    thermo_every: int = Field(10, ge=1, description="steps from row to row of thermo.csv")
    checkpoint_every: int = Field(1000, ge=1, description="steps from checkpoint to checkpoint")
    temperature_K: Temperature_K = Field(
        300.0, description="temperature of equilibration and first velocities"
    )
    timestep_fs: Timestep_fs = Field(0.1, description="time step of the production")
    relax: bool = Field(True, description="relax the structure first")
    relax_fmax_eV_A: Fmax_eV_A = Field(0.02, description="largest force on any atom of a relaxed structure")
    relax_steps: int = Field(500, ge=1, description="steps after which relaxation gives up")
    velocities: Literal["thermal", "structure"] = Field(
        "thermal",
        description="draw first velocities at temperature_K, or take those of the structure; production "
        "starts without translation and rotation in either case",
    )
    equilibration_ps: Duration_ps = Field(1.0, description="length of the Langevin equilibration; 0 for none")
    equilibration_timestep_fs: Timestep_fs = Field(0.5, description="time step of the equilibration")
    equilibration_friction_per_ps: Friction_per_ps = Field(20.0, description="friction of the equilibration")

    stop: StopOptions = Field(StopOptions(), description="what ends the run before its last step")
    flag: FlagOptions = Field(FlagOptions(), description="which frames are kept for labelling")

    @model_validator(mode="after")
    def _equilibrates_or_not(self) -> DynamicsOptions:
        check_has_steps("equilibration_ps", self.equilibration_ps, self.equilibration_timestep_fs)
        return self

    @model_validator(mode="after")
    def _own_velocities_are_those_of_this_structure(self) -> DynamicsOptions:
        if self.velocities == "structure" and self.relax:
            raise ValueError(
                "velocities: structure needs relax: false, since relaxation changes the structure"
            )
        return self

    def unused(self) -> dict[str, str]:
        """Options of a relaxation or an equilibration that is left out."""
        names: dict[str, str] = {}
        if not self.relax:
            names |= dict.fromkeys(("relax_fmax_eV_A", "relax_steps"), "relax: true")
        if self.equilibration_ps == 0:
            own = ("equilibration_timestep_fs", "equilibration_friction_per_ps")
            names |= dict.fromkeys(own, "an equilibration_ps above 0")
        return super().unused() | names

    def check_start(self, atoms: Atoms) -> None:
        """Constraints that are kept, own velocities, and an energy that can be conserved."""
        from asecalc_ml.calculators.protocol import offered
        from asecalc_ml.structure.constraints import check_constraints

        check_constraints(atoms)
        if not offered(atoms.calc).continuous:
            raise ConfigError(
                "the energy of this model jumps where an atom crosses the cutoff, and dynamics cannot "
                "conserve it",
                remedy="use a model trained with `envelope: true`",
            )
        if self.velocities == "structure" and not atoms.has("momenta"):
            raise StructureError(
                "velocities: structure, and the structure has no momenta",
                name="velocities",
                value=self.velocities,
                remedy="give one that has (a frame of a run, trajectory.traj@-1), or use velocities: thermal",
            )
        self._check_stop(atoms)

    @property
    def frame_format(self) -> str:
        """Format of the trajectory."""
        return self.trajectory_format

    @property
    def wall_time_limit_h(self) -> float | None:
        """Hours after which the run pauses."""
        return self.stop.wall_time_h

    def plan(self) -> RunPlan:
        """With the frames and rows of all productions, the first one of each at their beginning."""
        plan, stages = super().plan(), self.checked_stages()
        self._check_time_steps(stages)
        return replace(
            plan,
            n_frames=plan.n_steps // self.write_every + 1,
            n_rows=plan.n_steps // self.thermo_every + 1,
            columns=columns_of(stages),
        )

    def _check_time_steps(self, stages: list) -> None:
        """Refuse productions of which times and frames would not be evenly spaced."""
        for stage in stages:
            if stage.produced_steps and stage.timestep_fs != self.timestep_fs:
                raise PluginError(
                    f"a production of {self.protocol} has a time step of {stage.timestep_fs:g} fs, and its "
                    f"timestep_fs is {self.timestep_fs:g}: frames would not be evenly spaced.",
                    name="timestep_fs",
                    value=stage.timestep_fs,
                    allowed=[self.timestep_fs],
                    remedy="Give every production the protocol's timestep_fs",
                )

    def _check_stop(self, atoms: Atoms) -> None:
        """Conditions that can be looked at with this calculator and ensemble."""
        from asecalc_ml.md_protocols.watch.suspicions import make_signs

        for options in (self.stop, self.flag):
            make_signs(options, atoms, atoms.calc)
        if self.stop.energy_change_eV_atom is None:
            return
        if any(stage.conserved is None for stage in self.productions(is_equilibrated=False)):
            raise ConfigError(
                "stop.energy_change_eV_atom needs an energy that is conserved",
                name="stop.energy_change_eV_atom",
                value=self.stop.energy_change_eV_atom,
                remedy="use protocol nve, or nvt with thermostat bussi or nose-hoover-chain, the latter "
                "without a ramp",
            )

    def stages(self) -> list:
        """Relax, Equilibrate, Produce, as far as they are wanted."""
        relaxation = [stage_classes.RelaxStage(self.relax_fmax_eV_A, self.relax_steps)] if self.relax else []
        equilibration = self._equilibration()
        return [*relaxation, *equilibration, *self.productions(is_equilibrated=bool(equilibration))]

    def _equilibration(self) -> list:
        n_steps = round(1000 * self.equilibration_ps / self.equilibration_timestep_fs)
        if n_steps == 0:
            return []
        return [
            stage_classes.Equilibrate(
                self.equilibration_integrator(),
                n_steps,
                self.equilibration_timestep_fs,
                self.first_temperature,
                self.draws_velocities,
                self.equilibrates_to_average,
            )
        ]

    #: Whether the equilibration ends where the potential energy is not above its mean.
    equilibrates_to_average: ClassVar[bool] = False

    @property
    def draws_velocities(self) -> bool:
        """Whether first velocities are drawn."""
        return self.velocities == "thermal"

    @property
    def first_temperature(self) -> Ramp:
        """Temperature of the equilibration."""
        return integrators.Ramp.constant(self.temperature_K)

    def equilibration_integrator(self) -> MakeIntegrator:
        """Langevin dynamics at constant volume."""
        friction = self.equilibration_friction_per_ps
        return partial(integrators.Langevin, ramp=self.first_temperature, friction_per_ps=friction)

    def productions(self, is_equilibrated: bool) -> Sequence[Produce]:
        """The stages whose frames are kept."""
        raise NotImplementedError(f"{type(self).__name__} does not define `productions`")

    @property
    def frame_interval_fs(self) -> float | None:
        """Time from frame to frame of the trajectory."""
        return self.timestep_fs * self.write_every


class EnsembleOptions(DynamicsOptions):
    """Base of the protocols with one ensemble."""

    steps: int = Field(20_000, ge=1, description="steps of the production")

    @property
    def why_not_longer(self) -> str:
        """A temperature that follows from the number of steps; empty if it is constant."""
        segments = self.plan().production.segments
        kelvin = [value for segment in segments for _, value in segment.temperature_K]
        if len(set(kelvin)) < 2:
            return ""
        return (
            f"the temperature goes from {kelvin[0]:g} to {kelvin[-1]:g} K over the steps, and in a longer "
            "run it would have been another one at every step"
        )

    def productions(self, is_equilibrated: bool) -> Sequence[Produce]:
        """The one production."""
        return [self.production(is_equilibrated)]

    def production(self, is_equilibrated: bool) -> Produce:
        """The stage whose frames are kept."""
        raise NotImplementedError(f"{type(self).__name__} does not define `production`")


def columns_of(stages: Sequence) -> tuple[str, ...]:
    """Columns that the productions of a run add to thermo.csv, each once."""
    return tuple(dict.fromkeys(name for stage in stages for name in getattr(stage, "own_columns", ())))

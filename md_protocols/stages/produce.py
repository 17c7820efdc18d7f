"""The stages whose frames are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ase import units

from asecalc_ml.md_protocols.integrators.degrees_of_freedom import (
    degrees_of_freedom,
    remove_rigid_motion,
    set_kinetic_energy,
)
from asecalc_ml.md_protocols.stages.deviation_column import DeviationColumns
from asecalc_ml.md_protocols.stages.frames import FrameObserver
from asecalc_ml.md_protocols.stages.time_steps import TimeSteps, integrator_and_options, settled
from asecalc_ml.md_protocols.watch.watches import (
    Flags,
    FrameBounds,
    HeatWatch,
    ThermoBounds,
    TotalEnergyWatch,
)
from asecalc_ml.runs import THERMO, TRAJECTORY, EventKind, RunReader, Segment
from asecalc_ml.runs.production import TOTAL, Line, straightened

if TYPE_CHECKING:
    from collections.abc import Callable

    from asecalc_ml.md_protocols.engine.engine import Engine, Observers

WARN_BEYOND = 0.15  # of the target temperature


@dataclass(frozen=True)
class Produce(TimeSteps):
    """Dynamics with frames, thermo.csv and a watch on the bonds.

    Parameters
    ----------
    is_equilibrated : bool
        Whether a stage before has brought the system to its temperature.
    columns : tuple of str
        Columns of thermo.csv that other productions of the run have.
    is_last : bool
        Whether the run ends with it.
    """

    is_equilibrated: bool = False
    columns: tuple[str, ...] = ()
    is_last: bool = True
    name: ClassVar[str] = "production"
    writes: ClassVar[tuple[str, ...]] = (THERMO, TRAJECTORY)

    @property
    def produced_steps(self) -> int:  # type: ignore[override]  # computed here
        """Steps that count on in thermo.csv."""
        return self.n_steps

    @property
    def has_target(self) -> bool:
        """False at constant energy with the velocities of the structure, or of the production before."""
        return super().has_target or self.is_equilibrated

    @property
    def conserved(self) -> str | None:
        """Column of thermo.csv that is conserved; None where nothing is."""
        kind, options = integrator_and_options(self.make_integrator)
        return kind.conserves(**options)

    @property
    def own_columns(self) -> tuple[str, ...]:
        """Columns that its integrator adds to thermo.csv."""
        return self.integrator_class.columns

    def segment(self, start_step: int) -> Segment:
        """Return what is conserved, and the temperature and pressure that are asked for."""
        kind, options = integrator_and_options(self.make_integrator)
        start_fs, pressure = start_step * self.timestep_fs, kind.target_pressure(**options)
        return Segment(
            start_fs=start_fs,
            conserved=self.conserved,
            temperature_K=self._temperature_line(start_step) if self.has_target else (),
            pressure_GPa=() if pressure is None else ((start_fs, pressure),),
        )

    def _temperature_line(self, start_step: int) -> Line:
        points = [point for point in self.ramp.points if point[0] < self.n_steps]
        points.append((self.n_steps, self.ramp.at(self.n_steps)))
        return straightened([((start_step + step) * self.timestep_fs, kelvin) for step, kelvin in points])

    def begin(self, engine: Engine) -> None:
        """Start without translation and rotation."""
        super().begin(engine)
        remove_rigid_motion(engine.atoms, engine.state.linear)

    def observers(self, engine: Engine) -> Observers:
        """Rows and frames, what looks at them, and a watch before a checkpoint would keep a bad state."""

        def row() -> None:
            engine.write_row(THERMO, self.timestep_fs, self.columns, deviation())

        options, watch, deviation = engine.options, self.watch(engine), DeviationColumns(engine)
        at_rows = [row, watch]
        at_frames = [FrameObserver(engine)]
        if options.flag.is_on:
            at_frames.append(Flags(engine, self.timestep_fs))
        if options.stop.is_on or options.stop.bond_change:
            at_frames.append(FrameBounds(engine))
        return [
            *((options.thermo_every, observer) for observer in at_rows),
            *((options.write_every, observer) for observer in at_frames),
            (options.thermo_every, ThermoBounds(engine)),  # after the frame of this moment: a run may go on
            (options.checkpoint_every, watch),
        ]

    def watch(self, engine: Engine) -> Callable[[], None]:
        """What stops a run that has blown up: at constant energy the total energy tells at once."""
        return TotalEnergyWatch(engine) if self.conserved == TOTAL else HeatWatch(engine, self.ramp)

    def conclude(self, engine: Engine) -> None:
        """Say which temperature the run had, and warn where it is not the one asked for."""
        n_degrees = engine.integrator.n_degrees
        rows = RunReader(engine.directory).read_thermo()
        mean = float(rows["temperature_K"][rows["step"] >= engine.state.produced].mean())
        target = self.target
        aim = f"target {target:g} K, " if target is not None else ""
        text = f"mean temperature {mean:.1f} K ({aim}{n_degrees} degrees of freedom)"
        kind = EventKind.FINISHED if self.is_last else EventKind.STAGE
        engine.note(kind, text, mean_temperature_K=mean, degrees_of_freedom=n_degrees)
        engine.progress.say(text)
        if self.is_last and engine.flagged_text:
            engine.progress.say(engine.flagged_text)
        if target and abs(mean - target) > WARN_BEYOND * target:
            engine.note(EventKind.WARNING, f"{text}: more than {WARN_BEYOND:.0%} off. {self.advice()}")

    def advice(self) -> str:
        """What brings the mean temperature nearer to the target."""
        if self.integrator_class.has_thermostat:
            return "A longer run, or a stronger thermostat, comes nearer."
        if self.is_equilibrated:
            return "A longer equilibration_ps, or another seed, comes nearer."
        return "Without equilibration a relaxed structure runs near half of it: set equilibration_ps."


@dataclass(frozen=True)
class ProduceAtConstantEnergy(Produce):
    """Production without a thermostat, at the energy that belongs to the temperature."""

    def begin(self, engine: Engine) -> None:
        """Scale momenta so that the total energy is the canonical mean, where that is known.

        The energy of one canonical sample scatters: a run at the energy of ethanol's would have a mean
        temperature off by 22 %, 1/sqrt(n) with n degrees of freedom. The mean kinetic energy is known,
        n kB T / 2. The mean potential energy is the equilibration's, less what its kinetic energy was too
        high: the two share slow fluctuations equally, exactly so in a harmonic molecule.
        """
        super().begin(engine)
        if not self.is_equilibrated:
            return
        # mean kinetic energy of the canonical ensemble, <K> = n kB T / 2
        n_degrees = degrees_of_freedom(engine.atoms, engine.state.linear)
        thermal = 0.5 * n_degrees * units.kB * self.ramp.start_K
        # by how much the equilibration's mean kinetic energy was too high
        excess = 0.5 * n_degrees * units.kB * settled(engine, "temperature_K") - thermal
        # K = <K> + <U> - excess - U, which gives the mean total energy; <K> where that would be negative
        kinetic = thermal + settled(engine, "potential_eV") - excess - engine.energy()
        set_kinetic_energy(engine.atoms, kinetic if kinetic > 0 else thermal)

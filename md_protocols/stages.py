"""The stages that protocols are made of: relax, equilibrate, produce."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from ase import units

from asecalc_ml.calculators import identity
from asecalc_ml.md_protocols import temperature
from asecalc_ml.md_protocols.bond_watch import BondWatch
from asecalc_ml.rundir import EQUILIBRATION, RELAXED, THERMO, EventKind, RunReader
from asecalc_ml.topology import bond_changes

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine import Engine, Observers, Step

WARN_BEYOND = 0.15  # of the target temperature
BFGS_UP_TO = 100  # atoms; its matrices grow with the square
UNSETTLED = 0.25  # part of an equilibration that is left out of its means
BLOWN_UP_EV = 1.0  # per atom: no chemistry releases that much, and no sound integration drifts so far


@dataclass(frozen=True)
class Relax:
    """Go to the nearest minimum: BFGS, or FIRE beyond 100 atoms. Killed, it begins again from the start."""

    fmax_eV_A: float
    n_steps: int
    name: ClassVar[str] = "relaxation"

    def run(self, engine: Engine) -> None:
        """Relax, and note how far it came."""
        optimizer = self._optimizer(engine.atoms)
        try:
            for _ in optimizer.irun(fmax=self.fmax_eV_A, steps=self.n_steps):
                engine.progress.update(optimizer.nsteps)
                if not np.isfinite(engine.atoms.get_forces()).all():
                    raise ArithmeticError("forces are not finite")
        except Exception as error:  # a calculator may raise anything
            engine.atoms.set_positions(RunReader(engine.writer.directory).atoms.positions)
            engine.stop(f"relaxation failed: {error or type(error).__name__}", error)
        self._conclude(engine, optimizer.nsteps)

    def _optimizer(self, atoms):
        from ase.optimize import BFGS, FIRE

        return (BFGS if len(atoms) <= BFGS_UP_TO else FIRE)(atoms, logfile=None)

    def _conclude(self, engine: Engine, n_steps: int) -> None:
        state, atoms = engine.state, engine.atoms
        largest = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        state.forces, state.energy = atoms.get_forces(md=True), None
        state.linear = temperature.is_linear(atoms)
        engine.writer.write_structure(RELAXED, atoms)
        converged = largest <= self.fmax_eV_A
        text = f"relaxation: {n_steps} steps, {engine.energy():.6f} eV, largest force {largest:.4f} eV/Å"
        if converged:
            engine.note(EventKind.RELAXED, text)
        else:
            engine.note(EventKind.WARNING, f"{text}: not converged to {self.fmax_eV_A}")
        self._compare_bonds(engine)

    def _compare_bonds(self, engine: Engine) -> None:
        """Warn where relaxing made another molecule: a strained start, or lengths in a wrong unit."""
        broken, formed = bond_changes(RunReader(engine.writer.directory).bonds, engine.atoms)
        if broken or formed:
            engine.note(
                EventKind.WARNING,
                f"relaxing broke {len(broken)} bonds of the structure and formed {len(formed)}; the analyses "
                "take the bonds of the structure as it was given: check it, and the unit of its lengths",
            )


class Dynamics:
    """Base of the stages that make time steps."""

    name: ClassVar[str]
    n_steps: int

    def run(self, engine: Engine) -> None:
        """Go on from the state's step to the end."""
        step, observers = self.stepper(engine), self.observers(engine)
        if not engine.state.begun:
            self.begin(engine)
            for _, observe in observers:
                observe()
            engine.state.begun = True
        engine.integrate(step, self.n_steps, observers)
        engine.writer.flush()
        self.conclude(engine, step)

    def begin(self, engine: Engine) -> None:
        """Prepare momenta."""

    def stepper(self, engine: Engine) -> Step:
        """What makes one step, given forces of shape (n_atoms, 3), and returns the next ones."""
        raise NotImplementedError

    def observers(self, engine: Engine) -> Observers:
        """What is written, and how often."""
        raise NotImplementedError

    def conclude(self, engine: Engine, step: Step) -> None:
        """Say what came out."""


@dataclass(frozen=True)
class Equilibrate(Dynamics):
    """Langevin dynamics at a temperature, the centre of mass at rest (ASE's ``Langevin`` and ``FixCom``)."""

    temperature_K: float
    n_steps: int
    timestep_fs: float
    friction_per_ps: float
    draws_velocities: bool
    name: ClassVar[str] = "equilibration"

    def run(self, engine: Engine) -> None:
        """Equilibrate, and let the centre of mass go at the end."""
        own = list(engine.atoms.constraints)
        super().run(engine)
        engine.atoms.set_constraint(own)

    def begin(self, engine: Engine) -> None:
        """Draw first momenta."""
        if self.draws_velocities:
            state = engine.state
            temperature.set_thermal_momenta(state.atoms, self.temperature_K, state.rng, state.linear)

    def stepper(self, engine: Engine) -> Step:
        from ase.constraints import FixCom
        from ase.md.langevin import Langevin

        atoms = engine.atoms
        if temperature.moves_freely(atoms):
            atoms.set_constraint([*atoms.constraints, FixCom()])
        return Langevin(
            atoms,
            self.timestep_fs * units.fs,
            temperature_K=self.temperature_K,
            friction=self.friction_per_ps / (1000 * units.fs),
            fixcm=False,  # FixCom samples the right distribution, fixcm does not quite
            rng=engine.state.rng,
        ).step

    def observers(self, engine: Engine) -> Observers:
        n_degrees = temperature.degrees_of_freedom(engine.atoms, engine.state.linear, rotates=True)

        def row() -> None:
            engine.write_row(EQUILIBRATION, self.timestep_fs, n_degrees)

        def watch() -> None:
            kinetic = temperature.kinetic_energy(engine.atoms.get_momenta(), engine.masses)
            thermal = 1.5 * units.kB * self.temperature_K * len(engine.atoms)
            _stop_if_blown_up(engine, "kinetic energy", kinetic - 10 * thermal)

        every = min(engine.options.thermo_every, 1 + self.n_steps // 100)
        return [(every, row), (every, watch), (engine.options.checkpoint_every, watch)]

    def conclude(self, engine: Engine, step: Step) -> None:
        """Go on until the potential energy is not above its mean, note the mean temperature.

        From there the production can have the mean total energy, whatever the size of the molecule.
        """
        potential = settled(engine, "potential_eV")
        while engine.energy() > potential and engine.state.step < 2 * self.n_steps:
            engine.integrate(step, engine.state.step + 1, [])
        mean = settled(engine, "temperature_K")
        text = f"equilibration: mean temperature {mean:.1f} K"
        engine.note(EventKind.EQUILIBRATED, text, mean_temperature_K=mean)


def _stop_if_blown_up(engine: Engine, what: str, excess: float) -> None:
    """Stop where an energy, eV, went beyond all bounds; the last checkpoint is from before."""
    per_atom = excess / len(engine.atoms)
    if per_atom > BLOWN_UP_EV:
        engine.stop(
            f"the {what} is off by {per_atom:.1f} eV per atom, so the run has blown up", is_good=False
        )


def settled(engine: Engine, column: str) -> float:
    """Mean of a column of the equilibration, its first quarter left out."""
    rows = RunReader(engine.writer.directory).equilibration
    return float(rows[column][rows["step"] >= UNSETTLED * rows["step"][-1]].mean())


@dataclass(frozen=True)
class Produce(Dynamics):
    """Velocity Verlet at constant energy, with frames, thermo.csv and a watch on the bonds."""

    temperature_K: float
    n_steps: int
    timestep_fs: float
    draws_velocities: bool
    is_equilibrated: bool
    name: ClassVar[str] = "production"

    def begin(self, engine: Engine) -> None:
        """Start without translation and rotation, at the energy that belongs to the temperature."""
        state = engine.state
        if self.draws_velocities and not self.is_equilibrated:
            temperature.set_thermal_momenta(state.atoms, self.temperature_K, state.rng, state.linear)
            return
        temperature.remove_rigid_motion(state.atoms, state.linear)
        if self.is_equilibrated:
            self._set_total_energy(engine)

    def _set_total_energy(self, engine: Engine) -> None:
        """Scale momenta so that the total energy is the canonical mean.

        The energy of one canonical sample scatters: a run at the energy of ethanol's would have a mean
        temperature off by 22 %, 1/sqrt(n) with n degrees of freedom. The mean kinetic energy is known,
        n kB T / 2. The mean potential energy is the equilibration's, less what its kinetic energy was too
        high: the two share slow fluctuations equally, exactly so in a harmonic molecule.
        """
        n_degrees = temperature.degrees_of_freedom(engine.atoms, engine.state.linear)
        thermal = 0.5 * n_degrees * units.kB * self.temperature_K
        excess = 0.5 * n_degrees * units.kB * settled(engine, "temperature_K") - thermal
        kinetic = thermal + settled(engine, "potential_eV") - excess - engine.energy()
        temperature.set_kinetic_energy(engine.atoms, kinetic if kinetic > 0 else thermal)

    def stepper(self, engine: Engine) -> Step:
        from ase.md.verlet import VelocityVerlet

        return VelocityVerlet(engine.atoms, self.timestep_fs * units.fs).step

    def observers(self, engine: Engine) -> Observers:
        n_degrees = temperature.degrees_of_freedom(engine.atoms, engine.state.linear)
        frame = _FrameObserver(engine)

        def row() -> None:
            engine.write_row(THERMO, self.timestep_fs, n_degrees)

        watch, options = _TotalEnergyWatch(engine), engine.options
        watched = [(options.thermo_every, watch), (options.checkpoint_every, watch)]
        return [(options.thermo_every, row), (options.write_every, frame), *watched]

    def conclude(self, engine: Engine, step: Step) -> None:
        """Say which temperature the run had, and warn where it is not the one asked for."""
        n_degrees = temperature.degrees_of_freedom(engine.atoms, engine.state.linear)
        mean = float(RunReader(engine.writer.directory).thermo["temperature_K"].mean())
        target = self.temperature_K
        text = f"mean temperature {mean:.1f} K (target {target:g} K, {n_degrees} degrees of freedom)"
        engine.note(EventKind.FINISHED, text, mean_temperature_K=mean, degrees_of_freedom=n_degrees)
        engine.progress.say(text)
        if target > 0 and abs(mean - target) > WARN_BEYOND * target:
            engine.note(EventKind.WARNING, f"{text}: more than {WARN_BEYOND:.0%} off. {self._advice()}")

    def _advice(self) -> str:
        if self.is_equilibrated:
            return "A longer equilibration_ps, or another seed, comes nearer."
        return "Without equilibration a relaxed structure runs near half of it: set equilibration_ps."


class _TotalEnergyWatch:
    """Stops a run at constant energy whose energy is anything but constant, before a checkpoint keeps it."""

    def __init__(self, engine: Engine):
        self._engine = engine
        written = RunReader(engine.writer.directory).thermo["total_eV"]  # of a run that is resumed
        self._first = float(written[0]) if len(written) else None

    def __call__(self) -> None:
        engine = self._engine
        total = engine.energy() + temperature.kinetic_energy(engine.atoms.get_momenta(), engine.masses)
        if self._first is None:
            self._first = total
        _stop_if_blown_up(engine, "total energy", abs(total - self._first))


class _FrameObserver:
    """Writes a frame and looks at its bonds."""

    def __init__(self, engine: Engine):
        start = RunReader(engine.writer.directory)
        self._engine, self._every = engine, engine.options.write_every
        self._watch = BondWatch(start.atoms, start.bonds)
        calculator = engine.atoms.calc
        self._name = getattr(calculator, "name", None) or type(calculator).__name__
        self._parameters = identity(calculator)

    def __call__(self) -> None:
        engine = self._engine
        engine.writer.frame(engine.atoms, engine.energy(), engine.state.forces, self._name, self._parameters)
        changed = self._watch.changes(engine.atoms, engine.state.step // self._every)
        if changed is not None and changed != engine.state.changed_bonds:
            engine.state.changed_bonds = changed
            engine.note(EventKind.BONDS, self._say(*changed), broken=changed[0], formed=changed[1])

    @cached_property
    def _symbols(self) -> list[str]:
        return self._engine.atoms.get_chemical_symbols()

    def _say(self, broken: list, formed: list) -> str:
        if not broken and not formed:
            return "all bonds as at the start again"
        lists = [("broken", broken), ("formed", formed)]
        return "bonds " + "; ".join(f"{what}: {self._names(pairs)}" for what, pairs in lists if pairs)

    def _names(self, pairs: list) -> str:
        return ", ".join(f"{self._symbols[i]}{i}-{self._symbols[j]}{j}" for i, j in pairs)

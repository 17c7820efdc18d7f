"""What all stages that make time steps have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ase import units

from asecalc_ml.md_protocols.temperature import kinetic_energy, set_thermal_momenta
from asecalc_ml.rundir import RunReader

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.checkpoint import State
    from asecalc_ml.md_protocols.engine import Engine, Observers
    from asecalc_ml.md_protocols.integrators import Integrator, Ramp

BLOWN_UP_EV = 1.0  # per atom: no chemistry releases that much, and no sound integration drifts so far
HOT = 10  # times the thermal energy, beyond which a thermostat has lost its system

MakeIntegrator = Callable[["State", float], "Integrator"]  # of a state and a time step in fs


@dataclass(frozen=True)
class TimeSteps(ABC):
    """Base of the stages that make time steps.

    Parameters
    ----------
    make_integrator : callable
        Called when the stage begins, and again when a run is resumed in it.
    n_steps : int
    timestep_fs : float
    ramp : Ramp
        Temperature that the stage is meant to have.
    draws_velocities : bool
        Whether it begins with momenta drawn at that temperature.
    """

    make_integrator: MakeIntegrator
    n_steps: int
    timestep_fs: float
    ramp: Ramp
    draws_velocities: bool
    name: ClassVar[str]

    def run(self, engine: Engine) -> None:
        """Go on from the state's step to the end."""
        state = engine.state
        if not state.begun:
            self.begin(engine)
        engine.integrator = self.make_integrator(state, self.timestep_fs)
        if state.begun:
            engine.integrator.remember(state.memory)
        observers = self.observers(engine)
        if not state.begun:
            for _, observe in observers:
                observe()
            state.begun = True
        engine.integrate(self.n_steps, observers)
        engine.writer.flush()
        self.conclude(engine)

    def begin(self, engine: Engine) -> None:
        """Prepare momenta."""
        if self.draws_velocities:
            state = engine.state
            set_thermal_momenta(state.atoms, self.ramp.start_K, state.rng, state.linear)

    @abstractmethod
    def observers(self, engine: Engine) -> Observers:
        """What is written, and how often."""

    @abstractmethod
    def conclude(self, engine: Engine) -> None:
        """Say what came out."""


class HeatWatch:
    """Stops a stage with a thermostat whose kinetic energy went beyond all bounds."""

    def __init__(self, engine: Engine, ramp: Ramp):
        hottest = max(ramp.start_K, ramp.end_K)
        self._engine, self._limit = engine, HOT * 1.5 * units.kB * hottest * len(engine.atoms)

    def __call__(self) -> None:
        engine = self._engine
        kinetic = kinetic_energy(engine.atoms.get_momenta(), engine.masses)
        stop_if_blown_up(engine, "kinetic energy", kinetic - self._limit)


def stop_if_blown_up(engine: Engine, what: str, excess: float) -> None:
    """Stop where an energy, eV, went beyond all bounds; the last checkpoint is from before."""
    per_atom = excess / len(engine.atoms)
    if per_atom > BLOWN_UP_EV:
        engine.stop(
            f"the {what} is off by {per_atom:.1f} eV per atom, so the run has blown up", is_good=False
        )


def settled(engine: Engine, column: str) -> float:
    """Mean of a column of the equilibration, its first quarter left out."""
    rows = RunReader(engine.writer.directory).equilibration
    return float(rows[column][rows["step"] >= 0.25 * rows["step"][-1]].mean())

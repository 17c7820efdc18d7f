"""What all stages that make time steps have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from asecalc_ml.md_protocols.stages.stage import Stage
from asecalc_ml.md_protocols.temperature import set_thermal_momenta
from asecalc_ml.rundir import EventKind, RunReader

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.checkpoint import State
    from asecalc_ml.md_protocols.engine import Engine, Observers
    from asecalc_ml.md_protocols.integrators import Integrator, Ramp

LONG_FS = 2.0  # for a hydrogen of its natural mass
HEAVY_HYDROGEN_AMU = 2.5

MakeIntegrator = Callable[["State", float], "Integrator"]  # of a state and a time step in fs


@dataclass(frozen=True)
class TimeSteps(Stage):
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

    @property
    def target(self) -> float | None:
        """Temperature that the stage is meant to have, K; None where its energy is simply given."""
        return self.ramp.mean

    def summary(self) -> str:
        """Number and length of the steps, and the temperature."""
        length_ps = self.n_steps * self.timestep_fs / 1000
        steps = f"{self.n_steps:,} steps of {self.timestep_fs:g} fs ({length_ps:g} ps)"
        if self.target is None:
            return steps
        ends = [self.ramp.start_K] if self.ramp.is_constant else [self.ramp.start_K, self.ramp.end_K]
        return f"{steps}, {' to '.join(f'{end:g}' for end in ends)} K"

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
            state.begun = True  # an observer may stop the run, and what it has written is not written again
            self._warn_of_long_steps(engine)
            if state.produced == 0:  # else the stage before has written this moment
                for _, observe in observers:
                    observe()
        engine.integrate(self.n_steps, observers)
        engine.writer.flush()
        self.conclude(engine)

    def _warn_of_long_steps(self, engine: Engine) -> None:
        hydrogens = engine.masses[engine.atoms.numbers == 1]
        if self.timestep_fs > LONG_FS and hydrogens.min(initial=np.inf) < HEAVY_HYDROGEN_AMU:
            engine.note(
                EventKind.WARNING,
                f"{self.name}: a time step of {self.timestep_fs:g} fs is too long for hydrogen, which swings "
                f"within 10 fs; {LONG_FS:g} fs at most, 0.5 fs for energies that are conserved well",
            )

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


def settled(engine: Engine, column: str) -> float:
    """Mean of a column of the equilibration, its first quarter left out."""
    rows = RunReader(engine.directory).equilibration
    return float(rows[column][rows["step"] >= 0.25 * rows["step"][-1]].mean())

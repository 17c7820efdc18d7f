"""What all stages that make time steps have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from asecalc_ml.errors import PluginError
from asecalc_ml.md_protocols.integrators.degrees_of_freedom import set_thermal_momenta
from asecalc_ml.md_protocols.integrators.integrator import Integrator
from asecalc_ml.md_protocols.stages.stage import Stage
from asecalc_ml.runs import EventKind, RunReader

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.checkpoint import State
    from asecalc_ml.md_protocols.engine.engine import Engine, Observers
    from asecalc_ml.md_protocols.integrators.ramp import Ramp

LONG_FS = 2.0  # for a hydrogen of its natural mass
HEAVY_HYDROGEN_AMU = 2.5
MOST_TURNS = 5  # temperatures of a summary; of a longer list the ends

MakeIntegrator = Callable[["State", float], Integrator]  # of a state and a time step in fs


@dataclass(frozen=True)
class TimeSteps(Stage):
    """Base of the stages that make time steps.

    Parameters
    ----------
    make_integrator : callable
        A class of integrators, or a ``functools.partial`` of one with its options. Called when the
        stage begins, and again when a run is resumed in it.
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
    def integrator_class(self) -> type[Integrator]:
        """Class of the integrator, which is not made yet."""
        return integrator_and_options(self.make_integrator)[0]

    @property
    def has_target(self) -> bool:
        """False where the energy is simply given: without a thermostat, and with velocities from before."""
        return self.integrator_class.has_thermostat or self.draws_velocities

    @property
    def target(self) -> float | None:
        """Mean temperature that the stage is meant to have, K; None where its energy is simply given."""
        return self.ramp.mean if self.has_target else None

    def summary(self) -> str:
        """Number and length of the steps, and the temperature."""
        length_ps = self.n_steps * self.timestep_fs / 1000
        steps = f"{self.n_steps:,} steps of {self.timestep_fs:g} fs ({length_ps:g} ps)"
        if self.target is None:
            return steps
        kelvin = [value for _, value in self.ramp.points[: 1 if self.ramp.is_constant else None]]
        kelvin = kelvin if len(kelvin) <= MOST_TURNS else [kelvin[0], kelvin[-1]]
        return f"{steps}, {' to '.join(f'{value:g}' for value in kelvin)} K"

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


def integrator_and_options(make: MakeIntegrator) -> tuple[type[Integrator], dict[str, Any]]:
    """Return the class of an integrator that is not made yet, and the options that it will be made with.

    Raises
    ------
    PluginError
        If a function makes it, so that the run could not state what it conserves.
    """
    options: dict[str, Any] = {}
    while isinstance(make, partial):
        make, options = make.func, make.keywords | options
    if not (isinstance(make, type) and issubclass(make, Integrator)):
        name = getattr(make, "__qualname__", type(make).__name__)
        raise PluginError(
            f"make_integrator is {name}, from which the run cannot state what is conserved",
            name="make_integrator",
            value=name,
            remedy="pass a class of integrators with its options, as in "
            "functools.partial(VelocityVerlet, ramp=...)",
        )
    return make, options


def settled(engine: Engine, column: str) -> float:
    """Mean of a column over the last equilibration, its first quarter left out."""
    rows = RunReader(engine.directory).read_equilibration()
    steps = rows["step"]
    first = np.flatnonzero(np.diff(steps, prepend=np.inf) <= 0)[-1]  # a later equilibration counts anew
    steps = steps[first:] - steps[first]
    return float(rows[column][first:][steps >= 0.25 * steps[-1]].mean())

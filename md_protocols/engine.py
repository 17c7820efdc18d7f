"""Runs stages one after the other, and keeps what can be kept when something goes wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import RunError
from asecalc_ml.md_protocols.checkpoint import State, pack
from asecalc_ml.md_protocols.temperature import kinetic_energy, temperature
from asecalc_ml.rundir import CHECKPOINT, THERMO_COLUMNS, EventKind

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.integrators import Integrator
    from asecalc_ml.md_protocols.options import ProtocolOptions
    from asecalc_ml.progress import Progress
    from asecalc_ml.rundir import RunWriter

Observers = Sequence[tuple[int, Callable[[], None]]]  # every so many steps, what is done


class Engine:
    """Carries a state through stages.

    Parameters
    ----------
    options : ProtocolOptions
    state : State
        From which the run goes on; its forces are known.
    writer : RunWriter
    progress : Progress
    """

    def __init__(self, options: ProtocolOptions, state: State, writer: RunWriter, progress: Progress):
        self.options, self.state, self.writer, self.progress = options, state, writer, progress
        self.atoms = state.atoms
        self.masses = state.atoms.get_masses()
        self.integrator: Integrator | None = None  # of the stage, where it makes time steps

    def run(self, stages: Sequence) -> None:
        """Run what is left of the stages."""
        while self.state.stage < len(stages):
            stage = stages[self.state.stage]
            self.progress.start(stage.name, stage.n_steps, self.state.step)
            stage.run(self)
            self.progress.end()
            self._to_next_stage()
            self._checkpoint_between()

    def _to_next_stage(self) -> None:
        state = self.state
        state.stage, state.step, state.begun, state.memory = state.stage + 1, 0, False, {}
        self.integrator = None

    # ------------------------------------------------------------------------------------------ steps

    def integrate(self, n_steps: int, observers: Observers) -> None:
        """Make steps up to ``n_steps``, and call each observer when it is due."""
        state = self.state
        observers = [*observers, (self.options.checkpoint_every, self._checkpoint_between)]
        while state.step < n_steps:
            due = min(every - state.step % every for every, _ in observers)
            self._advance(min(due, n_steps - state.step))
            for every, observe in observers:
                if state.step % every == 0:
                    observe()
            self.progress.update(state.step)

    def _advance(self, n_steps: int) -> None:
        """The inner loop; what it costs beside the step shows in every run."""
        state, integrator = self.state, self.integrator
        for _ in range(n_steps):
            good = self._moment()
            try:
                forces = integrator.step(state.forces)
            except Exception as error:  # a calculator may raise anything, and the run must not be lost
                self._back_to(good)
                self.stop(f"the calculator failed: {error or type(error).__name__}", error)
            if not math.isfinite(np.vdot(forces, forces) + self._known_energy()):
                self._back_to(good)
                self.stop("energy or forces are not finite")
            state.forces, state.energy = forces, None
            state.step += 1

    def _known_energy(self) -> float:
        """Energy that the calculator has found with the forces; 0 where it did not."""
        return getattr(self.atoms.calc, "results", {}).get("energy", 0.0)

    def _moment(self) -> tuple:
        """Everything that a step changes."""
        atoms = self.atoms
        memory, random = self.integrator.memory(), self.state.rng.bit_generator.state
        return atoms.get_positions(), atoms.get_momenta(), atoms.cell.array.copy(), random, memory

    def _back_to(self, moment: tuple) -> None:
        positions, momenta, cell, random, memory = moment
        self.atoms.set_cell(cell, apply_constraint=False)
        self.atoms.set_positions(positions, apply_constraint=False)
        self.atoms.set_momenta(momenta, apply_constraint=False)
        self.state.rng.bit_generator.state = random
        self.integrator.remember(memory)

    # ------------------------------------------------------------------------------------------ values

    def energy(self) -> float:
        """Potential energy of the state, eV."""
        if self.state.energy is None:
            adds = any(hasattr(one, "adjust_potential_energy") for one in self.atoms.constraints)
            found = None if adds else getattr(self.atoms.calc, "results", {}).get("energy")
            self.state.energy = float(self.atoms.get_potential_energy() if found is None else found)
        return self.state.energy

    def write_row(self, table: str, timestep_fs: float) -> None:
        """Append a row of step, time, energies, temperature, and what else the integrator knows."""
        potential = self.energy()
        kinetic = kinetic_energy(self.atoms.get_momenta(), self.masses)
        total, kelvin = potential + kinetic, temperature(kinetic, self.integrator.n_degrees)
        step = self.state.step
        values = (step, step * timestep_fs, potential, kinetic, total, kelvin)
        columns = dict(zip(THERMO_COLUMNS, values, strict=True))
        self.writer.row(table, columns | self.integrator.extras(total))

    # ------------------------------------------------------------------------------------------ keeping

    def checkpoint(self) -> None:
        """Put the state on disk."""
        self.state.memory = self.integrator.memory() if self.integrator else {}
        marks = self.writer.sync()
        self.writer.write_checkpoint(pack(self.state, marks))

    def _checkpoint_between(self) -> None:
        """A checkpoint with the energy, which a resumed run then need not compute."""
        self.energy()
        self.checkpoint()

    def note(self, kind: str, message: str, **fields) -> None:
        """Put an event into events.jsonl, and a warning before the user's eyes."""
        self.writer.event(kind, message, **{"stage": self.state.stage, "step": self.state.step, **fields})
        if kind == EventKind.WARNING:
            self.progress.warn(message)

    def stop(self, reason: str, cause: Exception | None = None, is_good: bool = True) -> None:
        """End the run at the last good state, which is kept.

        Parameters
        ----------
        is_good : bool
            Whether that is the present state; otherwise it is the one of the last checkpoint.

        Raises
        ------
        RunError
            Always.
        """
        self.note(EventKind.STOPPED, reason)
        if is_good:
            self.checkpoint()
        directory = self.writer.directory
        reason = reason if reason.endswith("?") else reason.rstrip(".") + "."
        raise RunError(
            f"{directory}: stopped after step {self.state.step} of {self.progress.stage}: {reason} The last "
            f"good state is in {directory / CHECKPOINT}, and what led there in the trajectory. "
            f"{self.options.remedy}"
        ) from cause

"""Runs stages one after the other, and keeps what can be kept when something goes wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from asecalc_ml.calculators.protocol import offered
from asecalc_ml.contracts import is_inside, located, plugin_code, returned
from asecalc_ml.errors import PluginError, RunError, RunPausedError
from asecalc_ml.md_protocols.engine.checkpoint import State, pack
from asecalc_ml.md_protocols.engine.differences import other_calculator
from asecalc_ml.md_protocols.integrators.degrees_of_freedom import kinetic_energy, temperature
from asecalc_ml.runs import CHECKPOINT, FLAGGED, THERMO_COLUMNS, EventKind
from asecalc_ml.sources import changed

if TYPE_CHECKING:
    from pathlib import Path

    from asecalc_ml.md_protocols.integrators.integrator import Integrator
    from asecalc_ml.md_protocols.options import ProtocolOptions
    from asecalc_ml.runs import RunWriter
    from asecalc_ml.terminal.progress import Progress

EMPTY: Mapping[str, float] = MappingProxyType({})
ASKED_FOR = "That is one of the conditions that `stop` in the options names."
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
    allow_different : bool
        Go on with other calculators than the run began with.
    """

    def __init__(
        self,
        options: ProtocolOptions,
        state: State,
        writer: RunWriter,
        progress: Progress,
        allow_different: bool = False,
    ):
        self.options, self.state, self.writer, self.progress = options, state, writer, progress
        self._allow_different = allow_different
        self.atoms = state.atoms
        self.masses = state.atoms.get_masses()
        self.integrator: Integrator | None = None  # of the stage, where it makes time steps
        self.terminated = False  # set by the system's signal; looked at between steps
        self._began = time.monotonic()

    @property
    def directory(self) -> Path:
        """Of the run."""
        return self.writer.directory

    def run(self, stages: Sequence) -> None:
        """Run what is left of the stages."""
        while self.state.stage < len(stages):
            self.stage = stages[self.state.stage]
            self.progress.start(self.stage.name, self.stage.n_steps, self.state.step)
            self._run_stage()
            self.progress.end()
            self._to_next_stage()
            self._checkpoint_between()

    def _run_stage(self) -> None:
        """Run a stage; where its code is wrong, what it has written is kept, and the run can be resumed."""
        try:
            with plugin_code(f"stage {self.stage.name} ({type(self.stage).__name__})"):
                self.stage.run(self)
        except PluginError as error:
            self.writer.flush()
            self.note(EventKind.STOPPED, str(error), is_asked_for=False)
            raise PluginError(
                f"{self.directory}: {error}.",
                name=error.name,
                value=error.value,
                allowed=error.allowed,
                remedy=f"When the mistake is mended, `asecalc-md resume {self.directory} --allow-different` "
                "continues from the last checkpoint",
            ) from error

    def _to_next_stage(self) -> None:
        state = self.state
        state.produced += self.stage.produced_steps
        state.stage, state.step, state.begun, state.memory = state.stage + 1, 0, False, {}
        state.first_conserved = None
        self.integrator = None

    @property
    def production_step(self) -> int:
        """Steps of this and earlier productions."""
        return self.state.produced + self.state.step

    def check_same(self, name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
        """Refuse to go on with a further calculator that has changed since, or note it where that is allowed.

        Parameters
        ----------
        name : str
            Of the calculator.
        before, now : dict
            Descriptions, see :func:`asecalc_ml.calculators.factory.describe_calculator`.

        Raises
        ------
        RunError
            If it has changed, and that is not allowed.
        """
        differences = [*other_calculator(before, now), *changed(before["versions"], now["versions"])]
        if not differences:
            return
        what = f"{name} is not what the run began with ({'; '.join(differences)})"
        if not self._allow_different:
            raise RunError(
                f"{self.directory}: {what}",
                name=name,
                value=differences,
                remedy="bring it back, start a new run, or go on all the same with --allow-different",
            )
        self.note(EventKind.WARNING, f"{what}; the run goes on all the same")

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
            self.pause_if_asked()

    def pause_if_asked(self) -> None:
        """Pause where the system or the clock wants the process to end."""
        if self.terminated:
            self.pause("the system asked the run to end (SIGTERM)")
        limit = self.options.wall_time_limit_h
        if limit is not None and time.monotonic() - self._began > 3600 * limit:
            self.pause(f"the wall time of {limit:g} h is over")

    def _advance(self, n_steps: int) -> None:
        """The inner loop; what it costs beside the step shows in every run."""
        state, integrator = self.state, self.integrator
        for _ in range(n_steps):
            good = self._moment()
            try:
                forces = integrator.step(state.forces)
            except Exception as error:  # a calculator may raise anything, and the run must not be lost
                self._back_to(good)
                self.stop(self._why_no_step(error), error)
            if np.shape(forces) != np.shape(state.forces):
                self._back_to(good)
                wanted = f"the next forces, of shape {np.shape(state.forces)}, and not {np.shape(forces)}"
                self.stop(str(returned(f"{type(integrator).__name__}.step()", forces, wanted)))
            if not math.isfinite(np.vdot(forces, forces) + self._known_energy()):
                self._back_to(good)
                self.stop("energy or forces are not finite")
            state.forces, state.energy = forces, None
            state.step += 1

    def _why_no_step(self, error: Exception) -> str:
        if is_inside(error, self.atoms.calc):
            return f"the calculator failed: {error or type(error).__name__}"
        return f"{type(self.integrator).__name__}.step() raised {located(error)}"

    def _known_energy(self) -> float:
        """Energy that the calculator has found with the forces; 0 where it did not."""
        return offered(self.atoms.calc).results.get("energy", 0.0)

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
            constraints = self.atoms.constraints
            adds_energy = any(hasattr(constraint, "adjust_potential_energy") for constraint in constraints)
            known = None if adds_energy else offered(self.atoms.calc).results.get("energy")
            self.state.energy = float(self.atoms.get_potential_energy() if known is None else known)
        return self.state.energy

    def total_energy(self) -> float:
        """Potential and kinetic energy of the state, eV."""
        return self.energy() + kinetic_energy(self.atoms.get_momenta(), self.masses)

    def write_row(
        self,
        table: str,
        timestep_fs: float,
        columns: Sequence[str] = (),
        of_calculator: Mapping[str, float] = EMPTY,
    ) -> None:
        """Append a row of step, time, energies, temperature, and what else the integrator knows.

        Parameters
        ----------
        columns : sequence of str
            Further columns of the table, with nan where the integrator does not know them.
        of_calculator : mapping
            Columns and values that the calculator adds.
        """
        potential = self.energy()
        kinetic = kinetic_energy(self.atoms.get_momenta(), self.masses)
        total, kelvin = potential + kinetic, temperature(kinetic, self.integrator.n_degrees)
        step = self.production_step
        values = (step, step * timestep_fs, potential, kinetic, total, kelvin)
        row = dict(zip(THERMO_COLUMNS, values, strict=True)) | dict.fromkeys(columns, np.nan)
        extras, declared = self.integrator.extras(total), self.integrator.columns
        if set(extras) != set(declared):
            raise PluginError(
                f"{type(self.integrator).__name__}.extras() returns the columns {sorted(extras)}, and its "
                f"`columns` name {sorted(declared)}",
                name=f"{type(self.integrator).__name__}.extras()",
                value=sorted(extras),
                allowed=sorted(declared),
                remedy="name the same columns in both",
            )
        self.writer.row(table, row | extras | of_calculator)

    # ------------------------------------------------------------------------------------------ keeping

    def checkpoint(self) -> None:
        """Put the state on disk."""
        self.state.memory = self.integrator.memory() if self.integrator else {}
        marks = self.writer.sync()
        try:
            packed = pack(self.state, marks)
        except OSError as error:  # of a calculator whose memory goes through a file
            raise RunError(
                f"{self.directory}: the calculator cannot give its memory for a checkpoint ({error})",
                name=str(self.directory),
                value=str(error),
                remedy=f"free space for temporary files, and `asecalc-md resume {self.directory}` continues",
            ) from error
        self.writer.write_checkpoint(packed)

    def _checkpoint_between(self) -> None:
        """A checkpoint with the energy, which a resumed run then need not compute."""
        self.energy()
        self.checkpoint()

    def flag(self, reason: str) -> None:
        """Keep the present structure for labelling."""
        step, flagged = self.production_step, self.state.flagged_steps
        if step not in flagged:
            self.writer.flag(self.atoms, {"step": step, "reason": reason})
            flagged.append(step)

    @property
    def flagged_text(self) -> str:
        """Sentence on the frames that were kept for labelling; empty without any."""
        path, n_flagged = self.directory / FLAGGED, len(self.state.flagged_steps)
        if n_flagged == 0:
            return ""
        frames = "1 frame" if n_flagged == 1 else f"{n_flagged:,} frames"
        return f"{frames} flagged for labelling: `asecalc-ml data label {path}`."

    def pause(self, reason: str) -> None:
        """End the process's part of the run at the present state, to be resumed.

        Raises
        ------
        RunPausedError
            Always.
        """
        self.note(EventKind.INTERRUPTED, reason)
        if self.integrator is not None:  # anything else begins anew
            self._checkpoint_between()
        raise RunPausedError(
            f"{self.directory}: {reason}, after step {self.state.step} of {self.progress.stage}.",
            name=str(self.directory),
            value=reason,
            remedy=f"`asecalc-md resume {self.directory}` continues from there.",
        )

    def note(self, kind: str, message: str, **fields: Any) -> None:
        """Put an event into events.jsonl, and a warning before the user's eyes."""
        self.writer.event(kind, message, **{"stage": self.state.stage, "step": self.state.step, **fields})
        if kind == EventKind.WARNING:
            self.progress.warn(message)

    def stop(
        self, reason: str, cause: Exception | None = None, is_good: bool = True, is_asked_for: bool = False
    ) -> None:
        """End the run at the last good state, which is kept.

        Parameters
        ----------
        is_good : bool
            Whether that is the present state; otherwise it is the one of the last checkpoint.
        is_asked_for : bool
            Whether the options name this as a reason to stop.

        Raises
        ------
        RunError
            Always.
        """
        self.writer.flush()  # who reads that it has stopped finds all frames
        self.note(EventKind.STOPPED, reason, is_asked_for=is_asked_for)
        if is_good:
            self.checkpoint()
        reason = reason if reason.endswith("?") else reason.rstrip(".") + "."
        raise RunError(
            f"{self.directory}: stopped after step {self.state.step} of {self.progress.stage}: {reason} "
            f"The last good state is in {self.directory / CHECKPOINT}, and what led there in the trajectory.",
            name=str(self.directory),
            value=reason,
            remedy=f"{ASKED_FOR if is_asked_for else self.options.remedy} {self.flagged_text}".rstrip(),
        ) from cause

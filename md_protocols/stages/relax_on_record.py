"""A relaxation whose path is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.md_protocols.engine.record import EvaluationRecord, Recorded
from asecalc_ml.md_protocols.stages.relax import RelaxStage
from asecalc_ml.runs import RELAXATION, RELAXED, TRAJECTORY, EventKind, RunReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from asecalc_ml.md_protocols.engine.engine import Engine

LABEL = "relaxation"


@dataclass(frozen=True)
class RelaxOnRecord(RelaxStage):
    """Go to the nearest minimum. Killed, it goes on where it was.

    Parameters
    ----------
    is_all : bool
        Whether there is nothing after it, so that its steps are the frames of the run.
    """

    is_all: bool = False

    @property
    def writes(self) -> tuple[str, ...]:  # type: ignore[override]  # computed here
        """Table, last structure, and frames where these are wanted."""
        return (RELAXED, RELAXATION, *([TRAJECTORY] if self.is_all else []))

    def run(self, engine: Engine) -> None:
        """Relax, with the answers on record."""
        calculator = engine.atoms.calc
        engine.atoms.calc = Recorded(calculator, LABEL, EvaluationRecord(engine.writer))
        try:
            super().run(engine)
        finally:
            engine.atoms.calc = calculator
        engine.writer.flush()
        if self.is_all:
            self._finish(engine)

    def _finish(self, engine: Engine) -> None:
        steps = RunReader(engine.directory).read_relaxation()
        text = (
            f"relaxation, {len(steps['step']) - 1} steps to {steps['energy_eV'][-1]:.6f} eV, largest force "
            f"{steps['largest_force_eV_A'][-1]:.4f} eV/Å"
        )
        engine.note(EventKind.FINISHED, text)
        engine.progress.say(text)

    def observer(self, engine: Engine) -> Callable[[int], None]:
        """Writes a row, and a frame where these are wanted, of each step that was not written before."""
        atoms, writer, state = engine.atoms, engine.writer, engine.state
        n_written = state.step  # before it failed, with the rows of earlier relaxations before these

        def observe(step: int) -> None:
            engine.progress.update(step)
            if step < n_written:
                return
            energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
            largest = float(np.linalg.norm(forces, axis=1).max())
            if self.is_all:
                writer.frame(atoms, energy, atoms.get_forces(md=True))
            writer.row(RELAXATION, {"step": step, "energy_eV": energy, "largest_force_eV_A": largest})
            state.step = step + 1

        return observe

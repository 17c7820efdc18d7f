"""The stage that goes to the nearest minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from ase.optimize import BFGS, FIRE

from asecalc_ml._lazy import renamed
from asecalc_ml.errors import RunError
from asecalc_ml.md_protocols.stages.stage import Stage
from asecalc_ml.runs import RELAXED, EventKind
from asecalc_ml.structure.rigid_motions import is_linear
from asecalc_ml.structure.topology.bonds import bond_changes, find_bonds

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms
    from ase.optimize.optimize import Optimizer

    from asecalc_ml.md_protocols.engine.engine import Engine

BFGS_UP_TO = 100  # atoms; its matrices grow with the square


@dataclass(frozen=True)
class RelaxStage(Stage):
    """Go to the nearest minimum: BFGS, or FIRE beyond 100 atoms.

    Killed, it begins again from the structure that the stage began with, which is that of the checkpoint.
    """

    fmax_eV_A: float
    n_steps: int
    name: ClassVar[str] = "relaxation"
    writes: ClassVar[tuple[str, ...]] = (RELAXED,)

    def summary(self) -> str:
        """Its end."""
        return f"until the largest force is {self.fmax_eV_A:g} eV/Å, {self.n_steps:,} steps at most"

    def run(self, engine: Engine) -> None:
        """Relax, and note how far it came; where it fails, the structure is that of the beginning again."""
        start = engine.atoms.copy()
        optimizer, observe = optimizer_for(engine.atoms), self.observer(engine)
        try:
            for _ in optimizer.irun(fmax=self.fmax_eV_A, steps=self.n_steps):
                if not np.isfinite(engine.atoms.get_forces()).all():
                    raise ArithmeticError("forces are not finite")
                observe(optimizer.nsteps)
                engine.pause_if_asked()
        except RunError:
            raise
        except Exception as error:  # a calculator may raise anything
            engine.atoms.set_positions(start.positions, apply_constraint=False)
            engine.stop(f"relaxation failed: {error or type(error).__name__}", error)
        self._conclude(engine, start, optimizer.nsteps)

    def observer(self, engine: Engine) -> Callable[[int], None]:
        """What is called with the number of steps done, forces known."""
        return engine.progress.update

    def _conclude(self, engine: Engine, start: Atoms, n_steps: int) -> None:
        state, atoms = engine.state, engine.atoms
        largest = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        state.forces, state.energy = atoms.get_forces(md=True), None
        state.linear = is_linear(atoms)
        engine.writer.write_structure(RELAXED, atoms)
        converged = largest <= self.fmax_eV_A
        text = f"relaxation: {n_steps} steps, {engine.energy():.6f} eV, largest force {largest:.4f} eV/Å"
        if converged:
            engine.note(EventKind.RELAXED, text)
        else:
            engine.note(EventKind.WARNING, f"{text}: not converged to {self.fmax_eV_A}")
        self._compare_bonds(engine, start)

    def _compare_bonds(self, engine: Engine, start: Atoms) -> None:
        """Warn where relaxing made another molecule: a strained start, or lengths in a wrong unit."""
        broken, formed = bond_changes(find_bonds(start), engine.atoms)
        if not (broken or formed):
            return
        advice = "" if engine.state.produced else ": check it, and the unit of its lengths"
        engine.note(
            EventKind.WARNING,
            f"relaxing broke {len(broken)} bonds of the structure and formed {len(formed)}; the analyses "
            f"take the bonds of the structure as it was given{advice}",
        )


def optimizer_for(atoms: Atoms) -> Optimizer:
    """BFGS, or FIRE for large systems."""
    return (BFGS if len(atoms) <= BFGS_UP_TO else FIRE)(atoms, logfile=None)


__getattr__ = renamed(__name__, {"Relax": "RelaxStage"})

"""Writes frames of a production."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from asecalc_ml.calculators.factory import identity
from asecalc_ml.calculators.protocol import offered
from asecalc_ml.md_protocols.watch.bond_watch import BondWatch
from asecalc_ml.runs import EventKind, RunReader
from asecalc_ml.runs.trajectories.writer import Origin

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.engine import Engine


class FrameObserver:
    """Writes a frame and looks at its bonds."""

    def __init__(self, engine: Engine):
        start = RunReader(engine.directory)
        self._engine, self._every = engine, engine.options.write_every
        self._watch = BondWatch(start.atoms, start.bonds)
        calculator = engine.atoms.calc
        self._origin = Origin(offered(calculator).name, identity(calculator))

    def __call__(self) -> None:
        engine = self._engine
        step = engine.production_step
        time_fs = step * engine.options.timestep_fs
        engine.writer.frame(engine.atoms, engine.energy(), engine.state.forces, step, time_fs, self._origin)
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

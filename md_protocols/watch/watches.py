"""What looks at a run while it goes on: it stops the run, or keeps a frame for labelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import units

from asecalc_ml._lazy import renamed
from asecalc_ml.md_protocols.integrators.degrees_of_freedom import kinetic_energy, temperature
from asecalc_ml.md_protocols.watch.suspicions import first_sign, make_signs
from asecalc_ml.runs import EventKind, RunReader

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.engine import Engine
    from asecalc_ml.md_protocols.integrators.ramp import Ramp

BLOWN_UP_EV = 1.0  # per atom: no chemistry releases that much, and no sound integration drifts so far
HOT = 10  # times the thermal energy, beyond which a thermostat has lost its system


class HeatWatch:
    """Stops a stage with a thermostat whose kinetic energy went beyond all bounds."""

    def __init__(self, engine: Engine, ramp: Ramp):
        self._engine, self._limit = engine, HOT * 1.5 * units.kB * ramp.highest * len(engine.atoms)

    def __call__(self) -> None:
        engine = self._engine
        kinetic = kinetic_energy(engine.atoms.get_momenta(), engine.masses)
        _stop_if_blown_up(engine, "kinetic energy", kinetic - self._limit)


class TotalEnergyWatch:
    """Stops a run at constant energy whose energy is anything but constant, before a checkpoint keeps it."""

    def __init__(self, engine: Engine):
        self._engine = engine
        thermo = RunReader(engine.directory).read_thermo()  # of a run that is resumed, or of parts before
        written = thermo["total_eV"][thermo["step"] >= engine.state.produced]
        self._first = float(written[0]) if len(written) else np.nan

    def __call__(self) -> None:
        total = self._engine.total_energy()
        if np.isnan(self._first):
            self._first = total
        _stop_if_blown_up(self._engine, "total energy", abs(total - self._first))


def _stop_if_blown_up(engine: Engine, what: str, excess: float) -> None:
    """Stop where an energy, eV, went beyond all bounds; the last checkpoint is from before."""
    per_atom = excess / len(engine.atoms)
    if per_atom > BLOWN_UP_EV:
        engine.stop(
            f"the {what} is off by {per_atom:.1f} eV per atom, so the run has blown up", is_good=False
        )


class ThermoBounds:
    """Stops a run whose temperature or conserved energy leaves the bounds that its user gave."""

    def __init__(self, engine: Engine):
        self._engine, self._options = engine, engine.options.stop

    def __call__(self) -> None:
        self._look_at_temperature()
        self._look_at_energy()

    def _look_at_temperature(self) -> None:
        engine, limit = self._engine, self._options.temperature_above_K
        if limit is None:
            return
        kinetic = kinetic_energy(engine.atoms.get_momenta(), engine.masses)
        kelvin = temperature(kinetic, engine.integrator.n_degrees)
        if kelvin > limit:
            reason = f"the temperature is {kelvin:.0f} K (temperature_above_K: {limit:g})"
            engine.stop(reason, is_asked_for=True)

    def _look_at_energy(self) -> None:
        engine, limit = self._engine, self._options.energy_change_eV_atom
        if limit is None:
            return
        now = engine.integrator.conserved(engine.total_energy())
        if engine.state.first_conserved is None:
            engine.state.first_conserved = now
        change = (now - engine.state.first_conserved) / len(engine.atoms)
        if abs(change) > limit:
            engine.stop(
                f"the conserved energy has changed by {change:+.4f} eV per atom "
                f"(energy_change_eV_atom: {limit:g})",
                is_asked_for=True,
            )


class FrameBounds:
    """Stops a run at a frame whose bonds have changed, or that a model may not know."""

    def __init__(self, engine: Engine):
        self._engine, self._options = engine, engine.options.stop
        start = RunReader(engine.directory).atoms
        self._signs = make_signs(self._options, start, engine.atoms.calc)

    def __call__(self) -> None:
        engine = self._engine
        if self._options.bond_change and any(engine.state.changed_bonds):
            said = [event["message"] for event in RunReader(engine.directory).read_events()]
            self._stop(next(text for text in reversed(said) if text.startswith("bonds ")))
        reason = first_sign(self._signs, engine.atoms)
        if reason is not None:
            self._stop(reason)

    def _stop(self, reason: str) -> None:
        self._engine.flag(reason)
        self._engine.stop(reason, is_asked_for=True)


class Flags:
    """Keeps frames that a model may not know, some time apart, up to a number."""

    def __init__(self, engine: Engine, timestep_fs: float):
        self._engine, self._options = engine, engine.options.flag
        start = RunReader(engine.directory).atoms
        self._signs = make_signs(self._options, start, engine.atoms.calc)
        self._apart = self._options.interval_fs / timestep_fs

    def __call__(self) -> None:
        engine, flagged = self._engine, self._engine.state.flagged_steps
        if len(flagged) >= self._options.at_most or (
            flagged and engine.production_step < flagged[-1] + self._apart
        ):
            return
        reason = first_sign(self._signs, engine.atoms)
        if reason is None:
            return
        if not flagged:
            engine.note(EventKind.WARNING, f"the first flagged frame: {reason}")
        engine.flag(reason)


__getattr__ = renamed(__name__, {"Bounds": "ThermoBounds"})

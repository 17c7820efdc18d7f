"""Velocity Verlet at constant energy, with what is written on the way."""

from __future__ import annotations

import contextlib
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units

from asecalc_ml.md_protocols.checkpoint import Checkpoint
from asecalc_ml.md_protocols.equilibration import check_finite
from asecalc_ml.md_protocols.temperature import degrees_of_freedom, temperature
from asecalc_ml.progress import progress
from asecalc_ml.rundir import RunReader, RunWriter, ThermoFile
from asecalc_ml.topology import bond_changes, find_bonds

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.nve import NVE

#: Achieved and wanted temperature may differ by this much before the run warns.
TEMPERATURE_TOLERANCE = 0.15


class Production:
    """The production stage of a run, from its start or from a checkpoint.

    Parameters
    ----------
    options : NVE
    atoms : Atoms
        With momenta and calculator.
    writer : RunWriter
    step : int
        Steps done before.
    """

    def __init__(self, options: NVE, atoms: Atoms, writer: RunWriter, step: int = 0):
        from ase.md.verlet import VelocityVerlet

        self.options, self.atoms, self.writer, self.step = options, atoms, writer, step
        self.dynamics = VelocityVerlet(atoms, options.timestep_fs * units.fs)
        self.n_free = degrees_of_freedom(atoms)
        self.bonds = find_bonds(RunReader(writer.path).atoms)
        self.changed: set[tuple[str, int, int]] = set()

    def run(self, quiet: bool) -> None:
        """Run to the last step, and record the temperature that was achieved."""
        from ase.io.trajectory import Trajectory

        label = f"NVE, {self.options.steps * self.options.timestep_fs / 1000:g} ps"
        thermo = ThermoFile(self.writer.thermo_file)
        with (
            contextlib.closing(thermo),
            Trajectory(self.writer.trajectory_file, "a" if self.step else "w", self.atoms) as trajectory,
            progress(label, self.options.steps, quiet, done=self.step) as advance,
        ):
            if self.step == 0:
                self._write(thermo, trajectory)
            while self.step < self.options.steps:
                advance(self._advance())
                self._write(thermo, trajectory)
        self._finish()

    def _advance(self) -> int:
        """Steps until something is to be written."""
        options = self.options
        interval = gcd(options.write_every, options.thermo_every)
        n_steps = min(interval, options.steps - self.step)
        for _ in range(n_steps):
            self.dynamics.step()
        self.step += n_steps
        return n_steps

    def _write(self, thermo: ThermoFile, trajectory) -> None:
        options, last = self.options, self.step == self.options.steps
        if self.step % options.thermo_every == 0 or last:
            check_finite(self.atoms, f"step {self.step} of production")
            thermo.write(*self._thermo_row())
        if self.step % options.write_every == 0:
            trajectory.write()
            self._note_bond_changes()
        if self.step % options.checkpoint_every == 0 or last:
            thermo.flush()
            Checkpoint.of(self.atoms, self.step).write(self.writer.checkpoint_file)

    def _thermo_row(self) -> tuple[float, ...]:
        potential = float(self.atoms.get_potential_energy())
        kinetic = float(self.atoms.get_kinetic_energy())
        time_fs = self.step * self.options.timestep_fs
        kelvin = float(temperature(self.atoms, self.n_free))
        return self.step, time_fs, potential, kinetic, potential + kinetic, kelvin

    def _note_bond_changes(self) -> None:
        """An event for each bond that broke or formed, the first time it does."""
        for kind, pairs in zip(
            ("bond broken", "bond formed"), bond_changes(self.bonds, self.atoms), strict=True
        ):
            for i, j in pairs:
                if (kind, i, j) not in self.changed:
                    self.changed.add((kind, i, j))
                    time_fs = self.step * self.options.timestep_fs
                    self.writer.event(kind, atoms=[int(i), int(j)], step=self.step, time_fs=time_fs)

    def _finish(self) -> None:
        mean = float(np.mean(RunReader(self.writer.path).thermo["temperature_K"]))
        wanted = self.options.temperature_K
        if abs(mean - wanted) > TEMPERATURE_TOLERANCE * wanted:
            self.writer.event(
                "warning",
                message=f"mean temperature {mean:.0f} K, wanted {wanted:g} K: lengthen equilibration_ps, or "
                "relax and equilibrate if the run did not",
            )
        self.writer.event("finished", steps=self.step, mean_temperature_K=mean)

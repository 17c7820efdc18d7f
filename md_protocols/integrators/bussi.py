"""Stochastic velocity rescaling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ase import units
from ase.md import bussi

from asecalc_ml.md_protocols.integrators.integrator import Integrator
from asecalc_ml.runs.production import CONSERVED

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.checkpoint import State
    from asecalc_ml.md_protocols.integrators.ramp import Ramp


class Bussi(Integrator):
    """Stochastic velocity rescaling (ASE's ``Bussi``; J. Chem. Phys. 126, 014101 (2007))."""

    remembered = ("transferred_energy",)
    columns = (CONSERVED,)

    def __init__(self, state: State, timestep_fs: float, ramp: Ramp, time_fs: float):
        self._time = time_fs * units.fs
        super().__init__(state, timestep_fs, ramp)

    def _make(self, timestep: float) -> bussi.Bussi:
        dynamics = bussi.Bussi(self.atoms, timestep, self._ramp.start_K, self._time, rng=self._state.rng)
        # N_f and the target K = N_f kB T / 2 of Eq. (A7), of the degrees of freedom that move
        dynamics.ndof = self.n_degrees
        dynamics.target_kinetic_energy = 0.5 * self.n_degrees * units.kB * self._ramp.start_K
        return dynamics

    def _set_temperature(self, temperature_K: float) -> None:
        self._dynamics.temp = units.kB * temperature_K
        self._dynamics.target_kinetic_energy = 0.5 * self.n_degrees * units.kB * temperature_K

    def conserved(self, total_eV: float) -> float:
        # the total energy less the energy that the thermostat has brought in
        return total_eV - self._dynamics.transferred_energy

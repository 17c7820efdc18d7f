"""Nosé–Hoover chains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units
from ase.md.nose_hoover_chain import NoseHooverChainNVT, NoseHooverChainThermostat

from asecalc_ml.md_protocols.integrators.integrator import Integrator
from asecalc_ml.runs.production import CONSERVED

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.checkpoint import State
    from asecalc_ml.md_protocols.integrators.ramp import Ramp


class NoseHooverChain(Integrator):
    """Nosé–Hoover chain of three (ASE's ``NoseHooverChainNVT``; J. Chem. Phys. 97, 2635 (1992))."""

    remembered = ("_eta", "_p_eta", "_Q", "_kT")
    columns = (CONSERVED,)

    def __init__(self, state: State, timestep_fs: float, ramp: Ramp, time_fs: float):
        self._time = time_fs * units.fs
        super().__init__(state, timestep_fs, ramp)

    def _make(self, timestep: float) -> NoseHooverChainNVT:
        dynamics = NoseHooverChainNVT(self.atoms, timestep, self._ramp.start_K, self._time)
        dynamics._thermostat = self._chain(self._ramp.start_K)
        return dynamics

    def _chain(self, temperature_K: float) -> NoseHooverChainThermostat:
        """ASE's chain takes 3 N kT for the kinetic energy that it is to have; N need not be whole."""
        masses = self.atoms.get_masses()[:, None]
        return NoseHooverChainThermostat(self.n_degrees / 3, masses, temperature_K, self._time)

    def _step(self, forces: np.ndarray) -> np.ndarray:
        self._dynamics.step()
        return self.atoms.get_forces(md=True)

    def _set_temperature(self, temperature_K: float) -> None:
        chain, old = self._chain(temperature_K), self._dynamics._thermostat
        # the masses Q are proportional to T; p_η scales with √Q, which keeps the kinetic energies p_η² / 2Q
        chain._eta, chain._p_eta = old._eta, old._p_eta * np.sqrt(chain._Q / old._Q)
        self._dynamics._thermostat = chain

    def conserved(self, total_eV: float) -> float:
        if self.conserves(ramp=self._ramp) is None:
            return np.nan
        return total_eV + self._dynamics._thermostat.get_thermostat_energy()

    @classmethod
    def conserves(cls, **options: Any) -> str | None:
        """Return the column of the chain's energy, which is that at one temperature."""
        return CONSERVED if options["ramp"].is_constant else None

    @property
    def _memory_of(self) -> Any:
        return self._dynamics._thermostat

    def remember(self, memory: dict[str, Any]) -> None:
        super().remember(memory)
        self._dynamics._q, self._dynamics._p = self.atoms.get_positions(), self.atoms.get_momenta()

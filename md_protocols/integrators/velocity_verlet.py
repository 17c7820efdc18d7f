"""Dynamics at constant energy."""

from __future__ import annotations

from ase.md import verlet

from asecalc_ml.md_protocols.integrators.integrator import Integrator


class VelocityVerlet(Integrator):
    """Constant energy (ASE's ``VelocityVerlet``)."""

    has_thermostat = False

    def _make(self, timestep: float) -> verlet.VelocityVerlet:
        return verlet.VelocityVerlet(self.atoms, timestep)

    def _set_temperature(self, temperature_K: float) -> None:
        """There is no thermostat."""

    def conserved(self, total_eV: float) -> float:
        return total_eV

"""Time steps with Andersen's thermostat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ase.md.andersen import Andersen

from asecalc_ml.md_protocols.integrators import Integrator

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.checkpoint import State
    from asecalc_ml.md_protocols.integrators import Ramp


class AndersenCollisions(Integrator):
    """Velocity components are drawn anew at random (ASE's ``Andersen``; J. Chem. Phys. 72, 2384 (1980)).

    Parameters
    ----------
    state : State
        Its random numbers are part of the checkpoint, so that a resumed run is the same.
    timestep_fs : float
    ramp : Ramp
        Temperature over the steps.
    probability : float
        Of a collision, for each component and step.
    """

    rotates = True  # 3N - 3 degrees of freedom carry temperature

    def __init__(self, state: State, timestep_fs: float, ramp: Ramp, probability: float):
        self._probability = probability
        super().__init__(state, timestep_fs, ramp)

    def _make(self, timestep: float) -> Andersen:
        return Andersen(
            self.atoms,
            timestep,
            temperature_K=self._ramp.start_K,
            andersen_prob=self._probability,
            rng=self._state.rng,
        )

    def _set_temperature(self, temperature_K: float) -> None:
        self._dynamics.set_temperature(temperature_K)

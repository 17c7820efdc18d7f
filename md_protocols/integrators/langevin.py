"""Langevin dynamics at constant volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import units
from ase.md import langevin

from asecalc_ml.md_protocols.integrators.integrator import Integrator
from asecalc_ml.structure.rigid_motions import translations

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.engine.checkpoint import State
    from asecalc_ml.md_protocols.integrators.ramp import Ramp


class CentreAtRest:
    """ASE's ``FixCom`` along some directions.

    Parameters
    ----------
    directions : ndarray, shape (n, 3)
        Orthonormal; the centre of mass moves at right angles to them.
    """

    def __init__(self, directions: np.ndarray):
        self._projector = directions.T @ directions  # P, onto the directions

    def adjust_positions(self, atoms: Atoms, new: np.ndarray) -> None:
        """Shift new positions so that the centre stays."""
        # shift of the centre of mass, R_old - R_new, along the directions of P
        masses = atoms.get_masses()
        new += (atoms.get_center_of_mass() - masses @ new / masses.sum()) @ self._projector

    def adjust_momenta(self, atoms: Atoms, momenta: np.ndarray) -> None:
        """Take the centre's velocity away from every atom."""
        # velocity of the centre of mass, V = Σ p_i / M, along the directions of P: p_i -= m_i V
        masses = atoms.get_masses()
        momenta -= masses[:, None] * (momenta.sum(axis=0) / masses.sum() @ self._projector)


class Langevin(Integrator):
    """Friction and noise on every atom, the centre of mass at rest (ASE's ``Langevin``)."""

    rotates = True

    def __init__(self, state: State, timestep_fs: float, ramp: Ramp, friction_per_ps: float):
        self._friction = friction_per_ps / (1000 * units.fs)
        # ASE's fixcm would not sample the right distribution, and its FixCom knows no directions
        directions = translations(state.atoms)
        self._centre = [CentreAtRest(directions)] if len(directions) else []
        super().__init__(state, timestep_fs, ramp)

    def _make(self, timestep: float) -> langevin.Langevin:
        return langevin.Langevin(
            self.atoms,
            timestep,
            temperature_K=self._ramp.start_K,
            friction=self._friction,
            fixcm=False,
            rng=self._state.rng,
        )

    def _step(self, forces: np.ndarray) -> np.ndarray:
        # for the time of the step the centre of mass is a constraint like the structure's own
        own = self.atoms.constraints
        self.atoms.constraints = [*own, *self._centre]
        try:
            return self._dynamics.step(forces)
        finally:
            self.atoms.constraints = own

    def _set_temperature(self, temperature_K: float) -> None:
        self._dynamics.set_temperature(temperature_K=temperature_K)

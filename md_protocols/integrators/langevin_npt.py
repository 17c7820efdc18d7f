"""Langevin dynamics of atoms and cell at constant pressure."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.md.langevinbaoab import LangevinBAOAB

from asecalc_ml.md_protocols.integrators.integrator import Integrator

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.checkpoint import State
    from asecalc_ml.md_protocols.integrators.ramp import Ramp

VOLUME, PRESSURE = "volume_A3", "pressure_GPa"  # columns of thermo.csv


class LangevinNPT(Integrator):
    """Langevin dynamics of atoms and cell (ASE's ``LangevinBAOAB``; J. Chem. Phys. 120, 11432 (2004)).

    Parameters
    ----------
    pressure_GPa : float
    barostat_time_fs : float
        Time after which the cell's velocity is forgotten; the cell's mass follows from it. Averages depend
        on neither.
    isotropic : bool
        The cell keeps its shape.
    """

    remembered = ("p_eps", "force_eps")
    columns = (VOLUME, PRESSURE)

    def __init__(
        self,
        state: State,
        timestep_fs: float,
        ramp: Ramp,
        friction_per_ps: float,
        pressure_GPa: float,
        barostat_time_fs: float,
        isotropic: bool,
    ):
        self._time = 1000 * units.fs / friction_per_ps
        self._stress = -pressure_GPa * units.GPa
        self._barostat_time, self._isotropic = barostat_time_fs * units.fs, isotropic
        super().__init__(state, timestep_fs, ramp)

    def _make(self, timestep: float) -> CentredLangevinBAOAB:
        with warnings.catch_warnings():  # that the cell's mass is a heuristic, and no choice of the user's
            warnings.filterwarnings("ignore", message="Using heuristic P_mass")
            return CentredLangevinBAOAB(
                self.atoms,
                timestep,
                n_degrees=self.n_degrees,
                temperature_K=self._ramp.start_K,
                externalstress=self._stress,
                hydrostatic=self._isotropic,
                T_tau=self._time,
                P_tau=self._barostat_time,
                rng=self._state.rng,
            )

    def _step(self, forces: np.ndarray) -> np.ndarray:
        self._dynamics.step()
        return self.atoms.get_forces(md=True)

    def _set_temperature(self, temperature_K: float) -> None:
        self._dynamics.set_temperature(temperature_K)

    @classmethod
    def target_pressure(cls, **options: Any) -> float:
        return options["pressure_GPa"]

    def extras(self, total_eV: float) -> dict[str, float]:
        # P = -Tr(σ) / 3, with the kinetic part Σ p_i p_i / m_i V in the stress
        stress = self.atoms.get_stress(include_ideal_gas=True)
        return {VOLUME: self.atoms.get_volume(), PRESSURE: -stress[:3].mean() / units.GPa}

    def remember(self, memory: dict[str, Any]) -> None:
        super().remember(memory)
        # a step begins with the accelerations of the last one, a = F / m
        self._dynamics.accel = self._state.forces / self.atoms.get_masses()[:, None]


class CentredLangevinBAOAB(LangevinBAOAB):
    """``LangevinBAOAB`` whose noise does not push the centre of mass.

    Noise and friction act on momenta alone and alike on all directions of mass-weighted space, so that
    taking the total momentum away after them samples exactly the distribution without it, with 3N - 3
    degrees of freedom.

    Parameters
    ----------
    n_degrees : int
        Degrees of freedom that carry temperature.
    **options
        As of ASE's class.
    """

    def __init__(self, atoms: Atoms, timestep: float, n_degrees: int, **options: Any):
        self._n_degrees = n_degrees
        super().__init__(atoms, timestep, **options)

    def _set_barostat_mass(self, *mass: float) -> None:
        self.Ndof = self._n_degrees  # ASE has counted 3N just before
        super()._set_barostat_mass(*mass)

    def _BAOAB_OU(self, drag_gamma_mod: float | np.ndarray = 0.0) -> None:  # noqa: N802
        super()._BAOAB_OU(drag_gamma_mod)
        # velocity of the centre of mass, V = Σ p_i / M: p_i -= m_i V
        momenta, masses = self.atoms.get_momenta(), self.atoms.get_masses()[:, None]
        self.atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())

    def _barostat_BAOAB_OU_gamma_mod(self) -> float | np.ndarray:  # noqa: N802
        """Drag of the atoms by the cell's velocity: J. Chem. Phys. 120, 11432 (2004), Eq. (5b), second term.

        ASE adds the trace to all nine elements instead of the diagonal.
        """
        if self.hydrostatic:
            return super()._barostat_BAOAB_OU_gamma_mod()
        # (p_g + Tr(p_g) / N_f 1) / W, with p_g the momentum of the cell and W its mass
        trace = np.trace(self.p_eps) / self.Ndof * np.identity(3)
        return (self.p_eps + trace) / self.barostat_mass

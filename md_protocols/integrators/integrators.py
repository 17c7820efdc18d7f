"""ASE's integrators, one step at a time: with the degrees of freedom that move, and a state to keep.

ASE counts 3N degrees of freedom where a system's centre of mass, or a molecule's rotation, is at rest; its
thermostats then heat what does move by 3N over their number, 17 % too hot for ethanol. Every integrator here
is given the number that moves. What an integrator remembers between steps goes into the checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import units

from asecalc_ml.md_protocols.integrators import degrees_of_freedom as temperature
from asecalc_ml.runs.production import CONSERVED, TOTAL, Line, straightened
from asecalc_ml.structure.rigid_motions import translations

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.engine.checkpoint import State

VOLUME, PRESSURE = "volume_A3", "pressure_GPa"  # columns of thermo.csv
MOST_POINTS = 201  # of a temperature that a subclass of Ramp computes


@dataclass(frozen=True)
class Ramp:
    """A temperature that goes from one value to another, linearly with the step.

    A subclass with another course overrides :meth:`at`; everything else follows from it.
    """

    start_K: float
    end_K: float
    n_steps: int

    @cached_property
    def points(self) -> Line:
        """Steps and temperatures in K between which the temperature is linear, of at most 201 steps."""
        steps = np.unique(np.linspace(0, self.n_steps, MOST_POINTS).round()).astype(int)
        return straightened([(int(step), float(self.at(int(step)))) for step in steps])

    @classmethod
    def constant(cls, temperature_K: float) -> Ramp:
        """No ramp at all."""
        return cls(temperature_K, temperature_K, 1)

    @cached_property
    def is_constant(self) -> bool:
        """True if the temperature never changes."""
        return len({kelvin for _, kelvin in self.points}) == 1

    @property
    def mean(self) -> float:
        """Mean over all steps, K."""
        lines = pairwise(self.points)
        area = sum(0.5 * (first[1] + last[1]) * (last[0] - first[0]) for first, last in lines)
        return area / self.n_steps

    @property
    def highest(self) -> float:
        """Highest temperature, K."""
        return max(kelvin for _, kelvin in self.points)

    def at(self, step: int) -> float:
        """Temperature in K after so many steps."""
        return self.start_K + (self.end_K - self.start_K) * min(step / self.n_steps, 1.0)


class Integrator(ABC):
    """Moves the atoms of a state, one time step at a time.

    Parameters
    ----------
    state : State
    timestep_fs : float
    ramp : Ramp
        Temperature of the thermostat.
    """

    #: Whether a molecule keeps turning, so that rotation carries temperature.
    rotates: ClassVar[bool] = False
    #: Whether it holds a temperature.
    has_thermostat: ClassVar[bool] = True
    #: Columns of thermo.csv that it adds, those of :meth:`extras`.
    columns: ClassVar[tuple[str, ...]] = ()
    #: Attributes of ASE's object that its next step depends on, beside atoms, forces and random numbers.
    remembered: ClassVar[tuple[str, ...]] = ()

    def __init__(self, state: State, timestep_fs: float, ramp: Ramp):
        self._state, self._ramp = state, ramp
        self.atoms = state.atoms
        self.n_degrees = temperature.degrees_of_freedom(self.atoms, state.linear, rotates=self.rotates)
        self._dynamics = self._make(timestep_fs * units.fs)

    @abstractmethod
    def _make(self, timestep: float) -> Any:
        """ASE's object."""

    def step(self, forces: np.ndarray) -> np.ndarray:
        """Make a step.

        Parameters
        ----------
        forces : ndarray, shape (n_atoms, 3), eV/Å
            At the present positions.

        Returns
        -------
        ndarray, shape (n_atoms, 3), eV/Å
            At the next ones.
        """
        if not self._ramp.is_constant:
            self._set_temperature(self._ramp.at(self._state.step))
        return self._step(forces)

    def _step(self, forces: np.ndarray) -> np.ndarray:
        return self._dynamics.step(forces)

    @abstractmethod
    def _set_temperature(self, temperature_K: float) -> None:
        """Follow the ramp."""

    def conserved(self, total_eV: float) -> float:
        """The energy, eV, that does not change but by the time step's error; nan where there is none."""
        return np.nan

    @classmethod
    def conserves(cls, **options: Any) -> str | None:
        """Return the column of thermo.csv that stays constant but for the time step's error; None for none.

        By default that of a class that defines :meth:`conserved`: conserved_eV where it has this column, else
        the total energy.

        Parameters
        ----------
        **options
            As of the constructor, such as ``ramp``.
        """
        if cls.conserved is Integrator.conserved:
            return None
        return CONSERVED if CONSERVED in cls.columns else TOTAL

    @classmethod
    def target_pressure(cls, **options: Any) -> float | None:
        """Return the pressure of the barostat, GPa; None without one. Options are the constructor's."""
        return None

    def extras(self, total_eV: float) -> dict[str, float]:
        """Return the values of :attr:`columns` now, given the total energy in eV."""
        return {CONSERVED: self.conserved(total_eV)} if CONSERVED in self.columns else {}

    def memory(self) -> dict[str, Any]:
        """What :attr:`remembered` names, as numbers and lists."""
        return {name: np.asarray(getattr(self._memory_of, name)).tolist() for name in self.remembered}

    def remember(self, memory: dict[str, Any]) -> None:
        """Go on from where :meth:`memory` was asked, with the state as it is now."""
        for name, value in memory.items():
            setattr(self._memory_of, name, np.array(value) if isinstance(value, list) else value)

    @property
    def _memory_of(self) -> Any:
        return self._dynamics


class VelocityVerlet(Integrator):
    """Constant energy (ASE's ``VelocityVerlet``)."""

    has_thermostat = False

    def _make(self, timestep: float):
        from ase.md.verlet import VelocityVerlet

        return VelocityVerlet(self.atoms, timestep)

    def _set_temperature(self, temperature_K: float) -> None:
        """There is no thermostat."""

    def conserved(self, total_eV: float) -> float:
        return total_eV


class CentreAtRest:
    """ASE's ``FixCom`` along some directions.

    Parameters
    ----------
    directions : ndarray, shape (n, 3)
        Orthonormal; the centre of mass moves at right angles to them.
    """

    def __init__(self, directions: np.ndarray):
        self._projector = directions.T @ directions

    def adjust_positions(self, atoms: Atoms, new: np.ndarray) -> None:
        """Shift new positions so that the centre stays."""
        masses = atoms.get_masses()
        new += (atoms.get_center_of_mass() - masses @ new / masses.sum()) @ self._projector

    def adjust_momenta(self, atoms: Atoms, momenta: np.ndarray) -> None:
        """Take the centre's velocity away from every atom."""
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

    def _make(self, timestep: float):
        from ase.md.langevin import Langevin

        return Langevin(
            self.atoms,
            timestep,
            temperature_K=self._ramp.start_K,
            friction=self._friction,
            fixcm=False,
            rng=self._state.rng,
        )

    def _step(self, forces: np.ndarray) -> np.ndarray:
        own = self.atoms.constraints
        self.atoms.constraints = [*own, *self._centre]
        try:
            return self._dynamics.step(forces)
        finally:
            self.atoms.constraints = own

    def _set_temperature(self, temperature_K: float) -> None:
        self._dynamics.set_temperature(temperature_K=temperature_K)


class Bussi(Integrator):
    """Stochastic velocity rescaling (ASE's ``Bussi``; J. Chem. Phys. 126, 014101 (2007))."""

    remembered = ("transferred_energy",)
    columns = (CONSERVED,)

    def __init__(self, state: State, timestep_fs: float, ramp: Ramp, time_fs: float):
        self._time = time_fs * units.fs
        super().__init__(state, timestep_fs, ramp)

    def _make(self, timestep: float):
        from ase.md.bussi import Bussi

        dynamics = Bussi(self.atoms, timestep, self._ramp.start_K, self._time, rng=self._state.rng)
        dynamics.ndof = self.n_degrees
        dynamics.target_kinetic_energy = 0.5 * self.n_degrees * units.kB * self._ramp.start_K
        return dynamics

    def _set_temperature(self, temperature_K: float) -> None:
        self._dynamics.temp = units.kB * temperature_K
        self._dynamics.target_kinetic_energy = 0.5 * self.n_degrees * units.kB * temperature_K

    def conserved(self, total_eV: float) -> float:
        return total_eV - self._dynamics.transferred_energy


class NoseHooverChain(Integrator):
    """Nosé–Hoover chain of three (ASE's ``NoseHooverChainNVT``; J. Chem. Phys. 97, 2635 (1992))."""

    remembered = ("_eta", "_p_eta", "_Q", "_kT")
    columns = (CONSERVED,)

    def __init__(self, state: State, timestep_fs: float, ramp: Ramp, time_fs: float):
        self._time = time_fs * units.fs
        super().__init__(state, timestep_fs, ramp)

    def _make(self, timestep: float):
        from ase.md.nose_hoover_chain import NoseHooverChainNVT

        dynamics = NoseHooverChainNVT(self.atoms, timestep, self._ramp.start_K, self._time)
        dynamics._thermostat = self._chain(self._ramp.start_K)
        return dynamics

    def _chain(self, temperature_K: float):
        """ASE's chain takes 3 N kT for the kinetic energy that it is to have; N need not be whole."""
        from ase.md.nose_hoover_chain import NoseHooverChainThermostat

        masses = self.atoms.get_masses()[:, None]
        return NoseHooverChainThermostat(self.n_degrees / 3, masses, temperature_K, self._time)

    def _step(self, forces: np.ndarray) -> np.ndarray:
        self._dynamics.step()
        return self.atoms.get_forces(md=True)

    def _set_temperature(self, temperature_K: float) -> None:
        chain, old = self._chain(temperature_K), self._dynamics._thermostat
        chain._eta, chain._p_eta = old._eta, old._p_eta * np.sqrt(chain._Q / old._Q)  # at the same rates
        self._dynamics._thermostat = chain

    def conserved(self, total_eV: float) -> float:
        if self.conserves(ramp=self._ramp) is None:
            return np.nan
        return total_eV + self._dynamics._thermostat.get_thermostat_energy()

    @classmethod
    def conserves(cls, ramp: Ramp, **options: Any) -> str | None:
        """Return the column of the chain's energy, which is that at one temperature."""
        return CONSERVED if ramp.is_constant else None

    @property
    def _memory_of(self) -> Any:
        return self._dynamics._thermostat

    def remember(self, memory: dict[str, Any]) -> None:
        super().remember(memory)
        self._dynamics._q, self._dynamics._p = self.atoms.get_positions(), self.atoms.get_momenta()


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

    def _make(self, timestep: float):
        import warnings

        from asecalc_ml.md_protocols.integrators.langevin_npt import CentredLangevinBAOAB

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
    def target_pressure(cls, pressure_GPa: float, **options: Any) -> float:
        return pressure_GPa

    def extras(self, total_eV: float) -> dict[str, float]:
        stress = self.atoms.get_stress(include_ideal_gas=True)
        return {VOLUME: self.atoms.get_volume(), PRESSURE: -stress[:3].mean() / units.GPa}

    def remember(self, memory: dict[str, Any]) -> None:
        super().remember(memory)
        self._dynamics.accel = self._state.forces / self.atoms.get_masses()[:, None]

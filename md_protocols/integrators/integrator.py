"""What every integrator does: one time step after the other, with the degrees of freedom that move.

ASE counts 3N degrees of freedom even where the centre of mass, or the rotation of a molecule, is at rest. Its
thermostats then heat the moving degrees of freedom by 3N over their number, 17 % too hot for ethanol. Every
integrator here is given the number that moves. What an integrator remembers between steps is stored in the
checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import units

from asecalc_ml.md_protocols.integrators.degrees_of_freedom import degrees_of_freedom
from asecalc_ml.runs.production import CONSERVED, TOTAL

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.checkpoint import State
    from asecalc_ml.md_protocols.integrators.ramp import Ramp


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
        self.n_degrees = degrees_of_freedom(self.atoms, state.linear, rotates=self.rotates)
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

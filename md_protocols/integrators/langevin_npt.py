"""ASE's Langevin dynamics at constant pressure, with the centre of mass at rest."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.md.langevinbaoab import LangevinBAOAB


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

    def __init__(self, atoms: Atoms, timestep: float, n_degrees: int, **options):
        self._n_degrees = n_degrees
        super().__init__(atoms, timestep, **options)

    def _set_barostat_mass(self, *mass) -> None:
        self.Ndof = self._n_degrees  # ASE has counted 3N just before
        super()._set_barostat_mass(*mass)

    def _BAOAB_OU(self, drag_gamma_mod=0.0) -> None:  # noqa: N802
        super()._BAOAB_OU(drag_gamma_mod)
        momenta, masses = self.atoms.get_momenta(), self.atoms.get_masses()[:, None]
        self.atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())

    def _barostat_BAOAB_OU_gamma_mod(self):  # noqa: N802
        """Drag by the cell's velocity; ASE adds its trace to all nine elements instead of the diagonal."""
        if self.hydrostatic:
            return super()._barostat_BAOAB_OU_gamma_mod()
        trace = np.trace(self.p_eps) / self.Ndof * np.identity(3)
        return (self.p_eps + trace) / self.barostat_mass

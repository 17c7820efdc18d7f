"""Temperature, and velocities that have one."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units

from asecalc_ml.errors import RunError

# Second singular value of the centred positions over the first, below which a molecule is linear.
LINEAR = 1e-3


def degrees_of_freedom(atoms: Atoms) -> int:
    """Degrees of freedom that share the kinetic energy.

    3N − 6 for a molecule, 3N − 5 for a linear one, 3N − 3 under periodic boundaries, where angular
    momentum is left alone. With constraints: what ASE counts, and nothing is removed.

    Raises
    ------
    RunError
        If there are none, as for a single atom.
    """
    if atoms.constraints:
        n_free = int(atoms.get_number_of_degrees_of_freedom())
    elif atoms.pbc.any():
        n_free = 3 * len(atoms) - 3
    else:
        n_free = 3 * len(atoms) - (5 if is_linear(atoms) else 6)
    if n_free < 1:
        raise RunError(
            "the structure has no internal degrees of freedom: there is nothing to run dynamics on"
        )
    return n_free


def is_linear(atoms: Atoms) -> bool:
    """Whether all atoms lie on a line."""
    centred = atoms.positions - atoms.positions.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    return len(singular) < 2 or bool(singular[1] <= LINEAR * singular[0])


def temperature(atoms: Atoms, n_free: int) -> float:
    """Kinetic temperature over so many degrees of freedom, K."""
    return 2 * atoms.get_kinetic_energy() / (n_free * units.kB)


def set_maxwell_boltzmann(atoms: Atoms, temperature_K: float, rng: np.random.Generator) -> None:
    """Draw momenta, remove drift and rotation, and scale them to exactly this temperature."""
    thermal = np.sqrt(atoms.get_masses() * units.kB * temperature_K)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * thermal[:, None])
    remove_drift(atoms)
    scale_kinetic_energy(atoms, 0.5 * degrees_of_freedom(atoms) * units.kB * temperature_K)


def remove_drift(atoms: Atoms) -> None:
    """Take out the motion that :func:`degrees_of_freedom` does not count."""
    from ase.md.velocitydistribution import Stationary, ZeroRotation

    if atoms.constraints:
        return
    Stationary(atoms, preserve_temperature=False)
    if not atoms.pbc.any():
        ZeroRotation(atoms, preserve_temperature=False)


def scale_kinetic_energy(atoms: Atoms, energy: float) -> None:
    """Scale all momenta to this kinetic energy, eV."""
    atoms.set_momenta(atoms.get_momenta() * np.sqrt(energy / atoms.get_kinetic_energy()))

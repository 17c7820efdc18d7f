"""The stages before production: to the minimum, then to the temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units

from asecalc_ml.errors import RunError
from asecalc_ml.md_protocols.temperature import (
    degrees_of_freedom,
    remove_drift,
    scale_kinetic_energy,
    set_maxwell_boltzmann,
)
from asecalc_ml.progress import progress
from asecalc_ml.rundir import RunWriter, ThermoFile

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.nve import NVE

ROWS = 200


def relax(options: NVE, atoms: Atoms, writer: RunWriter, quiet: bool) -> None:
    """Minimise the energy with BFGS, where the options ask for it."""
    if not options.relax:
        return
    from ase.optimize import BFGS

    optimizer = BFGS(atoms, logfile=None)
    with progress("relax", options.relax_steps, quiet) as advance:
        optimizer.attach(lambda: advance(1))
        converged = optimizer.run(fmax=options.relax_fmax_eV_A, steps=options.relax_steps)
    check_finite(atoms, "relaxing")
    writer.event(
        "relaxed" if converged else "warning",
        message=None if converged else f"not relaxed after {options.relax_steps} steps: raise relax_steps",
        steps=optimizer.nsteps,
        energy_eV=float(atoms.get_potential_energy()),
        largest_force_eV_A=float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
    )


def equilibrate(options: NVE, atoms: Atoms, writer: RunWriter, quiet: bool) -> None:
    """Langevin dynamics, after which the total energy is set to its mean over the second half.

    The total energy of a small molecule fluctuates in contact with a thermostat, by a fifth for nine
    atoms; production keeps the one it starts with. Its mean is the one that belongs to the temperature.
    Momenta that the structure brought are kept where there is no equilibration.
    """
    rng = np.random.default_rng(options.seed)
    n_steps = round(1000 * options.equilibration_ps / options.equilibration_timestep_fs)
    if n_steps == 0 and np.any(atoms.get_momenta()):
        return
    set_maxwell_boltzmann(atoms, options.temperature_K, rng)
    if n_steps == 0:
        return
    total = _langevin(options, atoms, writer, n_steps, rng, quiet)
    remove_drift(atoms)
    kinetic = float(np.mean(total[len(total) // 2 :])) - atoms.get_potential_energy()
    if kinetic > 0:
        scale_kinetic_energy(atoms, kinetic)
    writer.event("equilibrated", steps=n_steps, total_eV=float(np.mean(total[len(total) // 2 :])))


def _langevin(
    options: NVE, atoms: Atoms, writer: RunWriter, n_steps: int, rng: np.random.Generator, quiet: bool
) -> list[float]:
    """Run the thermostat, write equilibration.csv, and return the total energies (internal motion), eV."""
    dynamics = _thermostat(options, atoms, rng)
    n_free, interval = degrees_of_freedom(atoms), max(1, n_steps // ROWS)
    writer.equilibration_file.unlink(missing_ok=True)
    thermo, totals = ThermoFile(writer.equilibration_file), []
    with progress(f"equilibrate at {options.temperature_K:g} K", n_steps, quiet) as advance:
        for done in range(interval, n_steps + 1, interval):
            for _ in range(interval):
                dynamics.step()
            check_finite(atoms, f"step {done} of the equilibration")
            advance(interval)
            potential, kinetic = atoms.get_potential_energy(), _internal_kinetic_energy(atoms)
            totals.append(potential + kinetic)
            time_fs = done * options.equilibration_timestep_fs
            kelvin = 2 * kinetic / (n_free * units.kB)
            thermo.write(done, time_fs, float(potential), kinetic, float(totals[-1]), kelvin)
    thermo.close()
    return totals


def _thermostat(options: NVE, atoms: Atoms, rng: np.random.Generator):
    from ase.md.langevin import Langevin

    return Langevin(
        atoms,
        options.equilibration_timestep_fs * units.fs,
        temperature_K=options.temperature_K,
        friction=options.friction_per_ps / (1000 * units.fs),
        fixcm=False,  # drift and rotation are warmed too, and taken out at the end
        rng=rng,
    )


def _internal_kinetic_energy(atoms: Atoms) -> float:
    """Kinetic energy without drift and rotation, eV."""
    copy = atoms.copy()
    remove_drift(copy)
    return float(copy.get_kinetic_energy())


def check_finite(atoms: Atoms, when: str) -> None:
    """Stop at NaN or infinity.

    Raises
    ------
    RunError
    """
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(atoms.positions).all()):
        raise RunError(
            f"energy, forces or positions are not finite at {when}; shorten the time step, or look at the last "
            "frames for atoms that left what the model was trained on"
        )

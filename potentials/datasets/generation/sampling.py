"""Langevin dynamics that yields labelled, decorrelated frames. Needs tblite."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator, CalculationFailed, InputError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, ZeroRotation

from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.errors import DatasetError, ModelError
from asecalc_ml.structure.charge_and_spin import charge_and_spin, check_spin_is_stated, set_charge_and_spin
from asecalc_ml.structure.loading import load_structure

if TYPE_CHECKING:
    from asecalc_ml.potentials.datasets.generation.generate import GenerateOptions

STEPS_PER_REPORT = 100
#: Of the self-consistent field, tblite's own: forces are off by 0.02 meV/Å, and the thermostat makes up for
#: the energy that is lost. So the frames that shipped models were trained on come out again to the last bit.
ACCURACY = 1.0
MILDER = "use a shorter timestep_fs, a lower temperature, or a better starting structure"


def sample(options: GenerateOptions, advance: Callable[[int], None]) -> Iterator[Atoms]:
    """Frames of all temperatures in turn.

    Parameters
    ----------
    options : GenerateOptions
    advance : callable
        Told the number of time steps done.

    Raises
    ------
    DatasetError
        If tblite is missing, or a calculation fails or leaves the finite numbers.
    """
    start = starting_structure(options)
    generators = np.random.default_rng(options.seed).spawn(len(options.temperatures_K))
    for index, temperature in enumerate(options.temperatures_K):
        dynamics = _dynamics(start.copy(), options, temperature, generators[index])
        _advance(dynamics, options.equilibration_steps, advance)
        for _ in range(options.frames_at(index)):
            _advance(dynamics, options.steps_between_frames, advance)
            yield _labelled(dynamics, options, temperature)


def starting_structure(options: GenerateOptions) -> Atoms:
    """The structure with the options' charge and spin, momenta and calculator left out."""
    atoms = load_structure(options.structure)
    start = _bare(atoms)
    set_charge_and_spin(atoms, options.charge, options.spin)
    check_spin_is_stated(atoms)
    start.info["charge"], start.info["spin"] = charge_and_spin(atoms)
    return start


def _bare(atoms: Atoms) -> Atoms:
    """Elements, positions, cell and masses alone."""
    masses = atoms.arrays.get("masses")
    return Atoms(atoms.numbers, positions=atoms.positions, masses=masses, cell=atoms.cell, pbc=atoms.pbc)


def evaluated(options: GenerateOptions) -> Atoms:
    """The structure at the start, its energy and forces computed once.

    Raises
    ------
    DatasetError
        If tblite is missing or cannot compute the structure.
    StructureError
        If the structure is not found, or charge and spin do not fit it.
    """
    atoms = starting_structure(options)
    atoms.calc = _calculator(options)
    try:
        atoms.get_forces()
    except (CalculationFailed, InputError) as error:
        problem = f"GFN2-xTB cannot compute {options.structure}: {error}"
        raise DatasetError(problem, name=options.structure) from error
    return atoms


def _calculator(options: GenerateOptions) -> BaseCalculator:
    try:
        return make_calculator({options.method: {"accuracy": ACCURACY}})
    except ModelError as error:
        raise error.as_kind(DatasetError).at(f"labelling with {options.method} failed") from None


def _dynamics(
    atoms: Atoms, options: GenerateOptions, temperature: float, rng: np.random.Generator
) -> Langevin:
    """ASE's integrator; a constraint holds the centre of mass, which keeps the canonical distribution."""
    atoms.calc = _calculator(options)
    thermal = np.sqrt(atoms.get_masses() * (units.kB * temperature))
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * thermal[:, None])
    Stationary(atoms)
    ZeroRotation(atoms)
    atoms.set_constraint(FixCom())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # fixcm=True is ASE's old default; we do not use it
        return Langevin(
            atoms,
            options.timestep_fs * units.fs,
            temperature_K=temperature,
            friction=1e-3 * options.friction_per_ps / units.fs,
            fixcm=False,
            rng=rng,
        )


def _advance(dynamics: Langevin, steps: int, advance: Callable[[int], None]) -> None:
    while steps > 0:
        piece = min(steps, STEPS_PER_REPORT)
        try:
            dynamics.run(piece)
        except (CalculationFailed, InputError) as error:
            problem = f"GFN2-xTB failed after {dynamics.nsteps} steps ({error})"
            raise DatasetError(problem, remedy=MILDER) from error
        _check_finite(dynamics)
        advance(piece)
        steps -= piece


def _check_finite(dynamics: Langevin) -> None:
    atoms = dynamics.atoms
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.calc.results["forces"]).all()):
        raise DatasetError(
            f"positions or forces are not finite after {dynamics.nsteps} steps of dynamics",
            remedy=MILDER,
        )


def _labelled(dynamics: Langevin, options: GenerateOptions, temperature: float) -> Atoms:
    atoms = dynamics.atoms
    frame = _bare(atoms)
    frame.info = {
        "charge": atoms.info["charge"],
        "spin": atoms.info["spin"],
        "temperature_K": temperature,
        "kinetic_temperature_K": atoms.get_temperature(),
        "time_fs": dynamics.nsteps * options.timestep_fs,
        "method": "GFN2-xTB",
        "program": f"tblite {importlib.metadata.version('tblite')}",
        "structure": options.structure,
        "seed": options.seed,
    }
    forces = atoms.get_forces(apply_constraint=False)
    frame.calc = SinglePointCalculator(frame, energy=atoms.get_potential_energy(), forces=forces)
    if not atoms.pbc.any():
        frame.calc.results["dipole"] = _dipole(atoms)
    return frame


def _dipole(atoms: Atoms) -> np.ndarray:
    """Dipole, e Å, from tblite's, which takes the origin: of an ion relative to its centre of mass."""
    return atoms.calc.results["dipole"] - atoms.info["charge"] * atoms.get_center_of_mass()

"""Constant-energy dynamics: what the laws add up to over many steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator

from asecalc_ml.conformance.bounds import DRIFT_OF_PRECISION, DRIFT_meV_ATOM_PS, SPREAD_meV_ATOM
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.structures import SEED
from asecalc_ml.conformance.subject import CalculatorUnderTest
from asecalc_ml.statistics.time_series import linear_drift

TEMPERATURE_K = 300.0
SIGMAS = 3.0
UNIT = "meV/atom/ps"


def drift_short_step(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Velocity Verlet, 0.1 fs."""
    yield from _judged(subject, 0.1)


def drift_long_step(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Velocity Verlet, 0.5 fs."""
    yield from _judged(subject, 0.5)


def precision_of_dynamics(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """The same trajectory in float32 and in float64, and what single precision adds to the drift."""
    single, double = (subject.in_precision(dtype) for dtype in ("float32", "float64"))
    first, second = (_total_energies(subject, calculator, 0.5) for calculator in (single, double))
    slope, error = _drift(first - second, 0.5)
    measured = _drift_within(DRIFT_OF_PRECISION, slope, error)
    advice = {
        "passed": "float32 is enough",
        "failed": "use float64",
        "undecided": "the run is too short to tell",
    }
    note = f"float32 adds {slope:+.4f} ± {error:.4f}: {advice[measured.verdict]}"
    yield (
        replace(measured, note=note) if subject.dtype == "float32" else Measured(abs(slope), None, UNIT, note)
    )


def _judged(subject: CalculatorUnderTest, timestep_fs: float) -> Iterator[Measured]:
    energies = _total_energies(subject, subject.another(), timestep_fs)
    slope, error = _drift(energies, timestep_fs)
    yield _drift_within(DRIFT_meV_ATOM_PS, slope, error)
    spread = float(np.ptp(energies))
    if spread > SPREAD_meV_ATOM:  # told where it is the trouble
        yield Measured(spread, SPREAD_meV_ATOM, "meV/atom", "the total energy wanders")


def _total_energies(
    subject: CalculatorUnderTest, calculator: BaseCalculator, timestep_fs: float
) -> np.ndarray:
    """Total energy at each step, meV per atom, from the given structure at 300 K."""
    from ase.md.verlet import VelocityVerlet

    atoms = warm(subject.structures.given)
    atoms.calc = calculator
    energies = []
    dynamics = VelocityVerlet(atoms, timestep_fs * units.fs)
    dynamics.attach(lambda: energies.append(float(np.squeeze(atoms.get_total_energy()))))
    dynamics.run(subject.effort.dynamics_steps)
    return 1000 * np.array(energies) / len(atoms)


def warm(atoms: Atoms) -> Atoms:
    """A copy with velocities at 300 K, at rest as a whole."""
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

    moving = atoms.copy()
    moving.set_constraint()
    MaxwellBoltzmannDistribution(moving, temperature_K=TEMPERATURE_K, rng=np.random.default_rng(SEED))
    Stationary(moving)
    return moving


def _drift(energies: np.ndarray, timestep_fs: float) -> tuple[float, float]:
    """Slope per ps with an error; that of a run too short for blocks is what one slow wave could feign."""
    time = np.arange(len(energies)) * timestep_fs / 1000
    slope, error = linear_drift(time, energies)
    if error is None:
        residuals = energies - np.polyval(np.polyfit(time, energies, 1), time)
        error = float(np.std(residuals) * np.sqrt(12) / time[-1])
    return slope, error


def _drift_within(limit: float, slope: float, error: float) -> Measured:
    """A drift that its error may explain passes, unless the error could hide one as large as the limit."""
    note = f"{slope:+.4f} ± {error:.4f}"
    return Measured(abs(slope), limit + SIGMAS * error, UNIT, note, decided=SIGMAS * error <= limit)

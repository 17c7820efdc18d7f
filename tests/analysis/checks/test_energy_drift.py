"""Energies with a known slope, temperatures with a known mean, and molecules that fall apart."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from raising import told

from asecalc_ml.analysis.checks.connectivity import Connectivity
from asecalc_ml.analysis.checks.energy_drift import EnergyDrift
from asecalc_ml.analysis.checks.temperature import Temperature
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.errors import AnalysisError

WATER = molecule("H2O")


def run_with(n_points: int = 5000, target: float | None = 300.0, **columns) -> MemoryRun:
    time_fs = np.arange(n_points) * 2.0
    options = {"temperature_K": target} if target else {}
    thermo = {"time_fs": time_fs, **{name: make(time_fs) for name, make in columns.items()}}
    return MemoryRun(WATER, WATER.positions[None], thermo=thermo, options=options)


def total(slope_meV_atom_ps: float, noise: float = 0.0):
    """Total energy in eV, at -4000 eV, with a slope and a vibration of 9 fs."""
    rng = np.random.default_rng(0)

    def energy(time_fs):
        per_atom = slope_meV_atom_ps * time_fs / 1000 + noise * np.sin(2 * np.pi * time_fs / 9)
        return -4000 + len(WATER) * (per_atom + noise * rng.normal(size=len(time_fs))) / 1000

    return energy


@pytest.mark.parametrize("slope", [0.0, 0.03, -2.0])
def test_constructed_slope(slope):
    result = EnergyDrift().run(run_with(total_eV=total(slope, noise=0.2)))
    assert result.slope_meV_atom_ps == pytest.approx(slope, abs=4 * result.error_meV_atom_ps)
    assert 0 < result.error_meV_atom_ps < 0.01
    assert result.fluctuation_meV_atom == pytest.approx(0.2 * np.sqrt(1.5), rel=0.05)
    assert result.verdicts()[0].status == ("passed" if abs(slope) < 0.1 else "failed")


def test_exact_line_is_found_exactly():
    result = EnergyDrift().run(run_with(total_eV=total(5.0)))
    assert result.slope_meV_atom_ps == pytest.approx(5.0, rel=1e-6)  # -4000 eV leaves 1e-12 relative
    assert result.status == "failed"


def test_neither_passed_nor_failed_where_the_error_reaches_across_the_limit():
    result = EnergyDrift(limit_meV_atom_ps=0.1).run(run_with(n_points=300, total_eV=total(0.1, noise=0.3)))
    assert result.status == "undecided"
    assert "run longer" in result.verdicts()[0].text


def test_too_short_to_tell():
    result = EnergyDrift().run(run_with(n_points=4, total_eV=total(0.0, noise=0.1)))
    assert result.error_meV_atom_ps is None
    assert result.status == "undecided"
    with pytest.raises(AnalysisError, check=told(name="thermo.csv", remedy="run longer")):
        EnergyDrift().run(run_with(n_points=1, total_eV=total(0.0)))


def test_missing_column_and_empty_file():
    with pytest.raises(AnalysisError, check=told(name="total_eV", remedy=True)):
        EnergyDrift().run(run_with())
    with pytest.raises(AnalysisError, check=told(name="thermo.csv", remedy="run longer")):
        EnergyDrift().run(run_with(n_points=0, total_eV=total(0.0)))


def temperature(mean: float):
    return lambda time_fs: mean + 60 * np.random.default_rng(1).normal(size=len(time_fs))


@pytest.mark.parametrize(
    ("mean", "target", "status"), [(310, 300.0, "passed"), (350, 300.0, "failed"), (240, 300.0, "failed")]
)
def test_mean_temperature_beside_its_target(mean, target, status):
    result = Temperature().run(run_with(temperature_K=temperature(mean), target=target))
    assert result.mean_K == pytest.approx(mean, abs=4 * result.error_K)
    assert result.std_K == pytest.approx(60, rel=0.05)
    assert result.verdicts()[0].status == status


def test_no_verdict_without_a_target():
    assert Temperature().run(run_with(temperature_K=temperature(300), target=None)).verdicts() == []


def test_band_keeps_the_extremes():
    result = Temperature().run(run_with(temperature_K=temperature(300)))
    values = temperature(300)(np.arange(5000))
    assert (min(result.band.low), max(result.band.high)) == (values.min(), values.max())
    assert len(result.band.mean) == 250  # of 20 points each


def test_bond_that_breaks_and_one_that_forms():
    positions = np.repeat(WATER.positions[None], 10, axis=0)
    positions[6:, 1] += (
        WATER.positions[1] - WATER.positions[0]
    )  # O-H at twice its length, 2.0 times the radii
    positions[8:, 2] = positions[8:, 1] + [0, 0, 0.6]  # H-H, and with it the other O-H is gone
    result = Connectivity().run(MemoryRun(WATER, positions, frame_interval_fs=5.0))
    found = [(one.pattern, one.atoms, one.change, one.time_fs) for one in result.changes]
    expected = [
        ("H-O", [0, 1], "broke", 30.0),
        ("H-O", [0, 2], "broke", 40.0),
        ("H-H", [1, 2], "formed", 40.0),
    ]
    assert sorted(found) == sorted(expected)
    assert result.verdicts()[0].status == "failed"


@pytest.mark.parametrize("pbc", [False, True])
def test_vibration_breaks_nothing(pbc):
    water = WATER.copy()
    water.set_cell([6, 6, 6])
    water.pbc = pbc
    positions = water.positions + np.random.default_rng(0).normal(scale=0.05, size=(50, 3, 3))
    result = Connectivity().run(MemoryRun(water, positions))
    assert result.changes == []
    assert (result.n_bonds, result.n_frames, result.n_frames_checked) == (2, 50, 50)
    assert result.verdicts()[0].status == "passed"


@pytest.mark.parametrize("pbc", [False, True])
def test_atoms_without_bonds(pbc):
    argon = Atoms("Ar2", [[1.0, 1, 1], [1, 1, 6]], cell=[9, 9, 9], pbc=pbc)
    result = Connectivity().run(MemoryRun(argon, np.repeat(argon.positions[None], 5, axis=0)))
    assert (result.n_bonds, result.largest_stretch, result.changes) == (0, None, [])

"""Pressures, volumes and densities with known means; ramps of temperature; what a thermostat conserves."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from raising import told

from asecalc_ml.analysis.checks.energy_drift import EnergyDrift
from asecalc_ml.analysis.checks.pressure import Pressure, PressureResult
from asecalc_ml.analysis.checks.temperature import Temperature
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.errors import AnalysisError

RNG = np.random.default_rng(0)
N = 4000


def run_with(columns: dict, **options) -> MemoryRun:
    copper = bulk("Cu", cubic=True)
    thermo = {"time_fs": np.arange(N) * 2.0, **columns}
    return MemoryRun(copper, copper.positions[None], thermo=thermo, options=options)


def pressure(mean: float, std: float = 0.5) -> dict:
    return {"pressure_GPa": mean + std * RNG.normal(size=N), "volume_A3": 48.0 + RNG.normal(size=N)}


def test_means_and_density():
    result = Pressure().run(run_with(pressure(1.0)))
    assert result["pressure"].mean == pytest.approx(1.0, abs=5 * result["pressure"].error)
    assert result["pressure"].error == pytest.approx(0.5 / np.sqrt(N), rel=0.5)
    assert result["volume"].mean == pytest.approx(48, abs=0.1)
    assert result["density"].mean == pytest.approx(4 * 63.546 / 0.602214076 / 48, rel=2e-3)
    assert result.verdicts() == []


@pytest.mark.parametrize(
    ("mean", "std", "status"),
    [(0.101, 0.5, "passed"), (0.3, 0.5, "failed"), (0.14, 0.5, "undecided"), (0.1, 30, "undecided")],
)
def test_mean_beside_its_target(mean, std, status):
    values = pressure(0.0, std)
    values["pressure_GPa"] += mean - values["pressure_GPa"].mean()
    result = Pressure().run(run_with(values, pressure_GPa=0.1))
    assert [one.status for one in result.verdicts()] == [status]


def test_a_run_that_kept_its_cell():
    with pytest.raises(AnalysisError, check=told(name="thermo.csv", remedy="npt")):
        Pressure().run(run_with({}))


def test_written_read_and_drawn(tmp_path):
    result = Pressure().run(run_with(pressure(0.1), pressure_GPa=0.1))
    paths = result.write(tmp_path)
    assert PressureResult.model_validate_json(paths[0].read_text()) == result
    assert result.plot(panel="volume").get_ylabel() == "volume (Å³)"
    assert len(result.plot().get_legend().get_texts()) == 1


# ---------------------------------------------------------------------------------------------- ramps


def ramped(found: np.ndarray, **options) -> MemoryRun:
    columns = {"time_fs": np.arange(len(found)) * 2.0, "temperature_K": found}
    water = molecule("H2O")
    defaults = {"temperature_K": 300.0, "temperature_end_K": 600.0, "steps": 2 * (N - 1), "timestep_fs": 1.0}
    return MemoryRun(water, water.positions[None], thermo=columns, options=defaults | options)


def test_a_ramp_that_was_followed():
    result = Temperature().run(ramped(np.linspace(300, 600, N) + 40 * RNG.normal(size=N)))
    assert result.mean_K == pytest.approx(450, abs=5)
    assert (result.target_K, result.target_end_K) == pytest.approx((300, 600))
    assert result.std_K == pytest.approx(40, rel=0.1)  # from the line, not from the mean
    assert [one.status for one in result.verdicts()] == ["passed"]
    assert "the ramp from 300 to 600 K" in result.verdicts()[0].text


def test_a_level_is_no_ramp():
    result = Temperature().run(ramped(450 + 40 * RNG.normal(size=N)))
    assert result.deviation == pytest.approx(0.2, abs=0.01)
    assert [one.status for one in result.verdicts()] == ["failed"]


def test_a_ramp_that_stopped_half_way():
    result = Temperature().run(ramped(np.linspace(300, 450, N // 2) + 10 * RNG.normal(size=N // 2)))
    assert result.target_end_K == pytest.approx(450, abs=0.1)
    assert result.deviation == pytest.approx(0, abs=0.01)
    assert Temperature().run(ramped(np.full(N, 300.0), temperature_end_K=None)).target_end_K is None
    line = result.plot().lines[-1]
    assert line.get_ydata() == pytest.approx([300, 450], abs=0.1)


# ------------------------------------------------------------------------------------ what is conserved


def drift_of(protocol: str | None, **columns) -> str:
    options = {"protocol": protocol} if protocol else {}
    return EnergyDrift().run(run_with(columns, **options)).quantity


def test_the_conserved_quantity_is_what_drifts():
    level, climbing = RNG.normal(scale=1e-3, size=N), np.linspace(0, 10, N)
    assert drift_of("nvt", total_eV=climbing, conserved_eV=level) == "conserved quantity"
    assert drift_of("nve", total_eV=level) == "total energy"
    assert drift_of(None, total_eV=level) == "total energy"
    result = EnergyDrift().run(run_with({"total_eV": climbing, "conserved_eV": level}, protocol="nvt"))
    assert abs(result.slope_meV_atom_ps) < 0.1
    assert result.verdicts()[0].check == "the conserved quantity was conserved"
    for columns in ({"total_eV": level}, {"total_eV": level, "conserved_eV": np.full(N, np.nan)}):
        with pytest.raises(AnalysisError, check=told(remedy="nve")):
            drift_of("nvt", **columns)


@pytest.mark.parametrize(
    "options",
    [{"protocol": "sequence"}, {"protocol": "nve", "velocities": "structure", "equilibration_ps": 0.0}],
)
def test_no_temperature_was_asked_for(options):
    result = Temperature().run(ramped(np.full(N, 641.0) + 40 * RNG.normal(size=N), **options))
    assert (result.target_K, result.verdicts()) == (None, [])
    result.plot()

"""Thermostats and barostats against distributions that are known exactly."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLengths
from ase.stress import full_3x3_to_voigt_6_stress
from raising import told
from scipy import stats

from asecalc_ml.analysis.checks.temperature import Temperature
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.npt import NPT
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.runs import RunReader

ETHANE = {
    "structure": "C2H6",
    "calculator": {"toy_calculators:Springs": {"molecule_name": "C2H6", "stiffness": 2.0}},
    "relax": False,
    "equilibration_ps": 0.2,
}
DEGREES = {"bussi": 18, "langevin": 21, "nose-hoover-chain": 18}  # 3N - 6, and 3N - 3 where it turns
THERMOSTATS = tuple(DEGREES)
GAS = {"calculator": "toy_calculators:IdealGas", "relax": False, "equilibration_ps": 0}
CELL = {"calculator": "toy_calculators:ElasticCell", "relax": False, "equilibration_ps": 0}


def box(n_atoms: int, edge: float, symbol: str = "Ar") -> Atoms:
    positions = np.random.default_rng(0).uniform(0, edge, (n_atoms, 3))
    return Atoms(f"{symbol}{n_atoms}", positions, cell=[edge] * 3, pbc=True)


def thinned(series: np.ndarray) -> np.ndarray:
    """Values that hardly know of each other."""
    return series[len(series) // 10 :: 10]


# ---------------------------------------------------------------------- constant temperature


@pytest.mark.parametrize("thermostat", THERMOSTATS)
def test_kinetic_energy_is_canonical(thermostat, tmp_path):
    """A chi-square distribution of the degrees of freedom that move, at the temperature asked for.

    With ASE's own count, 3N, the mean would be 33 % (bussi, chain) too high.
    """
    options = NVT(
        **ETHANE,
        thermostat=thermostat,
        thermostat_time_fs=30,
        friction_per_ps=20,
        timestep_fs=1.0,
        steps=6000,
        thermo_every=4,
        write_every=1000,
    )
    run = options.run(directory=tmp_path / "run", quiet=True)
    n = DEGREES[thermostat]
    scaled = 2 * run.read_thermo()["kinetic_eV"] / (units.kB * 300)
    assert scaled.mean() == pytest.approx(n, rel=0.04)
    assert scaled.var() == pytest.approx(2 * n, rel=0.3)
    assert stats.kstest(thinned(scaled), stats.chi2(n).cdf).pvalue > 1e-3
    assert run.read_thermo()["temperature_K"] == pytest.approx(300 * scaled / n)
    nearly_harmonic = 18 / 2 * units.kB * 300
    assert run.read_thermo()["potential_eV"].mean() == pytest.approx(nearly_harmonic, rel=0.1)


@pytest.mark.parametrize("thermostat", ["bussi", "nose-hoover-chain"])
def test_conserved_energy_is_conserved(thermostat, tmp_path):
    """Its error falls with the square of the time step, while the total energy goes up and down."""
    errors = []
    for step in (1.0, 0.5):
        options = NVT(
            **ETHANE, thermostat=thermostat, timestep_fs=step, steps=round(400 / step), thermo_every=1
        )
        thermo = options.run(directory=tmp_path / str(step), quiet=True).read_thermo()
        errors.append(np.ptp(thermo["conserved_eV"]))
        assert np.ptp(thermo["total_eV"]) > 10 * errors[-1]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.5)


@pytest.mark.parametrize("thermostat", THERMOSTATS)
def test_a_ramp_leads_from_one_temperature_to_the_other(thermostat, tmp_path):
    options = NVT(
        **ETHANE,
        thermostat=thermostat,
        thermostat_time_fs=20,
        friction_per_ps=50,
        temperature_end_K=900,
        timestep_fs=1.0,
        steps=3000,
    )
    run = options.run(directory=tmp_path / "run", quiet=True)
    kelvin = run.read_thermo()["temperature_K"]
    slope = np.polyfit(np.linspace(0, 1, len(kelvin)), kelvin, 1)[0]
    assert slope == pytest.approx(600, rel=0.3)
    assert kelvin.mean() == pytest.approx(600, rel=0.12)
    if thermostat == "nose-hoover-chain":
        assert np.isnan(run.read_thermo()["conserved_eV"]).all()


@pytest.mark.parametrize("thermostat", [*THERMOSTATS, "npt"])
def test_a_ramp_to_zero_kelvin_ends_cold(thermostat, tmp_path):
    """The atoms follow the thermostat, and the temperature is judged in the report."""
    common = {"temperature_end_K": 0, "friction_per_ps": 50, "timestep_fs": 1.0, "steps": 3000}
    if thermostat == "npt":
        options = NPT(**CELL | common | {"steps": 600, "write_every": 100})
        run = options.run(box(4, 5.0), directory=tmp_path / "run", quiet=True)
    else:
        options = NVT(**ETHANE | common, thermostat=thermostat, thermostat_time_fs=20)
        run = options.run(directory=tmp_path / "run", quiet=True)
    kelvin = run.read_thermo()["temperature_K"]
    assert np.isfinite(kelvin).all()
    assert kelvin[:5].mean() > 150
    assert kelvin[-1] < 30
    result = Temperature().run(run)
    assert (result.target_K, result.target_end_K) == (300, 0)
    (verdict,) = result.verdicts()
    assert "from the ramp from 300 to 0 K" in verdict.text
    assert np.isfinite(result.deviation)


def test_a_ramp_to_zero_kelvin_in_few_rows_is_judged_by_the_others(tmp_path):
    """The second half of two rows is the last one, whose target is zero."""
    options = NVT(**ETHANE, thermostat="langevin", temperature_end_K=0, steps=20, thermo_every=20)
    result = Temperature().run(options.run(directory=tmp_path / "run", quiet=True))
    assert result.n_points == 2
    assert np.isfinite(result.deviation)


def test_temperatures_below_zero_kelvin_are_refused():
    with pytest.raises(ConfigError, check=told(name="temperature_end_K", value=-1, allowed="0")):
        parse_options({"temperature_end_K": -1}, NVT)


@pytest.mark.parametrize("thermostat", THERMOSTATS)
def test_what_stays_at_rest(thermostat, tmp_path):
    run = NVT(**ETHANE, thermostat=thermostat, steps=300).run(directory=tmp_path / "run", quiet=True)
    *_, last = run.frames()
    assert last.get_center_of_mass() == pytest.approx(run.atoms.get_center_of_mass(), abs=1e-9)
    turns = np.abs(last.get_angular_momentum()).max() > 1e-6
    assert turns == (DEGREES[thermostat] == 21)
    assert last.constraints == []


@pytest.mark.parametrize("thermostat", ["bussi", "langevin"])
def test_fixed_atoms_stay_and_the_others_have_the_temperature(thermostat, tmp_path):
    atoms = molecule("C2H6")
    atoms.set_constraint(FixAtoms([0, 1]))
    options = NVT(
        **ETHANE | {"structure": None},
        thermostat=thermostat,
        thermostat_time_fs=30,
        friction_per_ps=20,
        timestep_fs=1.0,
        steps=2000,
    )
    run = options.run(atoms, tmp_path / "run", quiet=True)
    *_, last = run.frames()
    assert np.array_equal(last.positions[:2], atoms.positions[:2])
    assert run.read_thermo()["temperature_K"].mean() == pytest.approx(300, rel=0.1)


@pytest.mark.parametrize("constraint", [FixAtoms([0]), FixBondLengths([[0, 1]])])
def test_a_chain_refuses_constraints(constraint, tmp_path):
    """ASE's keeps momenta of its own, to which those of fixed atoms go on to be added."""
    atoms = molecule("C2H6")
    atoms.set_constraint(constraint)
    options = NVT(**ETHANE | {"structure": None}, thermostat="nose-hoover-chain", steps=1)
    is_said = told(name="thermostat", value="nose-hoover-chain", allowed=["bussi", "langevin"], remedy=True)
    with pytest.raises(StructureError, check=is_said):
        options.run(atoms, tmp_path / "run", quiet=True)


def test_rescaling_needs_something_to_scale(tmp_path):
    atoms = molecule("C2H6")
    atoms.set_momenta(np.zeros((8, 3)))
    options = NVT(
        **ETHANE | {"structure": None, "equilibration_ps": 0},
        thermostat="bussi",
        velocities="structure",
        steps=1,
    )
    with pytest.raises(StructureError, check=told(value="bussi", remedy="velocities: thermal")):
        options.run(atoms, tmp_path / "run", quiet=True)


# ---------------------------------------------------------------------- constant pressure


def test_volume_of_an_ideal_gas(tmp_path):
    """V^(N-1) exp(-PV/kT) for a centre of mass at rest: a gamma distribution."""
    pressure, n_atoms = 0.1, 20
    mean = n_atoms * units.kB * 300 / (pressure * units.GPa)
    options = NPT(
        **GAS,
        pressure_GPa=pressure,
        timestep_fs=2.0,
        friction_per_ps=20,
        barostat_time_fs=100,
        steps=5000,
        write_every=1000,
    )
    run = options.run(box(n_atoms, mean ** (1 / 3)), tmp_path / "run", quiet=True)
    volume = run.read_thermo()["volume_A3"]
    assert volume.mean() == pytest.approx(mean, rel=0.06)
    assert volume.std() == pytest.approx(mean / np.sqrt(n_atoms), rel=0.2)
    assert run.read_thermo()["pressure_GPa"].mean() == pytest.approx(pressure, rel=0.08)
    assert run.read_thermo()["temperature_K"].mean() == pytest.approx(300, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "n_strains"), [("full", 6), ("isotropic", 1)])
def test_every_strain_has_its_half_kt(cell, n_strains, tmp_path):
    """Six strains of a cell that may change its shape, one of a cell that may not."""
    options = NPT(
        **CELL,
        cell=cell,
        timestep_fs=2.0,
        friction_per_ps=20,
        barostat_time_fs=100,
        steps=20_000,
        write_every=1000,
    )
    run = options.run(box(4, 5.0), tmp_path / "run", quiet=True)
    elastic = run.read_thermo()["potential_eV"].mean()
    assert elastic == pytest.approx(n_strains / 2 * units.kB * 300, rel=0.12)
    *_, last = run.frames()
    keeps_shape = np.allclose(last.cell.angles(), 90) and np.ptp(last.cell.lengths()) < 1e-9
    assert keeps_shape == (cell == "isotropic")


def test_the_toy_cell_has_the_stress_of_its_energy():
    from toy_calculators import ElasticCell

    atoms = box(3, 5.0)
    atoms.set_cell(atoms.cell.array + np.random.default_rng(1).normal(scale=0.2, size=(3, 3)))
    atoms.calc = ElasticCell()

    def energy(strain):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + strain))
        strained.calc = ElasticCell()
        return strained.get_potential_energy()

    numeric = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[i, j] += 5e-6
        strain[j, i] += 5e-6
        numeric[i, j] = (energy(strain) - energy(-strain)) / (2e-5 * atoms.get_volume())
    assert atoms.get_stress() == pytest.approx(full_3x3_to_voigt_6_stress(numeric), abs=1e-8)


def test_a_molecule_has_no_pressure(tmp_path):
    with pytest.raises(StructureError, check=told(value=[False] * 3, remedy="protocol nvt")):
        NPT(**ETHANE, steps=1).run(directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_calculator_without_stress_is_refused(tmp_path):
    atoms = molecule("C2H6", cell=[9] * 3, pbc=True)
    with pytest.raises(StructureError, check=told(name="stress", remedy="calculator")):
        NPT(**ETHANE | {"structure": None}, steps=1).run(atoms, tmp_path / "run", quiet=True)


def test_fixed_atoms_and_a_moving_cell_are_refused(tmp_path):
    atoms = box(4, 5.0)
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(StructureError, check=told(name="FixAtoms", remedy="remove constraints")):
        NPT(**CELL, steps=1).run(atoms, tmp_path / "run", quiet=True)


# ---------------------------------------------------------------------- killed and resumed

ENSEMBLES = {
    "bussi": NVT(**ETHANE | {"equilibration_ps": 0.02}, thermostat="bussi", steps=60),
    "langevin": NVT(**ETHANE | {"equilibration_ps": 0.02}, thermostat="langevin", steps=60),
    "chain": NVT(**ETHANE | {"equilibration_ps": 0.02}, thermostat="nose-hoover-chain", steps=60),
    "ramp": NVT(
        **ETHANE | {"equilibration_ps": 0.02}, thermostat="nose-hoover-chain", temperature_end_K=600, steps=60
    ),
    "isotropic": NPT(**CELL | {"equilibration_ps": 0.02}, steps=60),
    "full": NPT(**CELL | {"equilibration_ps": 0.02}, cell="full", temperature_end_K=400, steps=60),
}


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("checkpoint_every", [7, 1000])
def test_resumed_bit_for_bit(ensemble, checkpoint_every, tmp_path, monkeypatch):
    options = ENSEMBLES[ensemble].model_copy(
        update={"checkpoint_every": checkpoint_every, "write_every": 3, "thermo_every": 2}
    )
    atoms = box(4, 5.0) if isinstance(options, NPT) else None
    straight = options.run(atoms, tmp_path / "straight", quiet=True)
    broken_off(options, atoms, tmp_path / "run", monkeypatch)
    run = resume_run(tmp_path / "run", quiet=True)
    for name in ("trajectory.traj", "thermo.csv", "equilibration.csv"):
        assert (run.directory / name).read_bytes() == (straight.directory / name).read_bytes(), name
    assert RunReader(run.directory).read_thermo()["step"].tolist() == list(range(0, 61, 2))


def broken_off(options, atoms, directory: Path, monkeypatch) -> None:
    """Interrupt a run after the 80th call, in the production."""
    import toy_calculators

    kind = toy_calculators.ElasticCell if isinstance(options, NPT) else toy_calculators.Springs
    calculate = kind.calculate

    def interrupted(self, *args, **kwargs):
        calculate(self, *args, **kwargs)
        if self.calls == 80:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kind, "calculate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            options.run(atoms, directory, quiet=True)

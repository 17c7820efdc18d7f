"""NVE against analytic answers, conservation laws and its own options."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from pydantic import ValidationError
from raising import told

import asecalc_ml
from asecalc_ml.config.options import load_options
from asecalc_ml.errors import StructureError
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.runs import RunReader

PLAIN = {"relax": False, "equilibration_ps": 0}
WATER = {"structure": "H2O", "calculator": "toy_calculators:Springs"}


def positions_of(run: RunReader) -> np.ndarray:
    return np.concatenate(list(run.chunks()))


def stretched(by: float) -> Atoms:
    """N2 in ASE's g2 geometry, stretched and at rest."""
    atoms = molecule("N2")
    atoms.positions *= 1 + by
    atoms.set_momenta(np.zeros((2, 3)))
    return atoms


def run_diatomic(directory: Path, by=0.01, **options) -> RunReader:
    spring = {"toy_calculators:Springs": {"molecule_name": "N2", "stiffness": 50.0}}
    given = PLAIN | {"calculator": spring, "velocities": "structure", "write_every": 1, "thermo_every": 1}
    return NVE(**given | options).run(stretched(by), directory, quiet=True)


@pytest.mark.smoke
def test_frequency_of_a_diatomic_is_the_analytic_one(tmp_path):
    """A spring, ω = √(k/μ); velocity Verlet runs at 2/Δt asin(ω Δt / 2)."""
    step = 0.5
    positions = positions_of(run_diatomic(tmp_path / "run", steps=2000, timestep_fs=step))
    lengths = np.linalg.norm(positions[:, 1] - positions[:, 0], axis=1)
    omega = np.sqrt(50.0 / (molecule("N2").get_masses()[0] / 2)) * units.fs
    signal = lengths - lengths.mean()
    upward = np.flatnonzero((signal[:-1] < 0) & (signal[1:] >= 0))
    exact = upward - signal[upward] / (signal[upward + 1] - signal[upward])
    measured = 2 * np.pi / (np.diff(exact).mean() * step)
    assert measured == pytest.approx(2 / step * np.arcsin(omega * step / 2), rel=1e-4)
    assert measured != pytest.approx(omega, rel=1e-4)  # the difference is resolved


def test_energy_error_falls_with_the_square_of_the_time_step(tmp_path):
    spread = [
        run_diatomic(tmp_path / str(step), steps=round(200 / step), timestep_fs=step)
        .read_thermo()["total_eV"]
        .std()
        for step in (0.4, 0.2)
    ]
    assert spread[0] / spread[1] == pytest.approx(4.0, rel=0.05)


def test_reversed_momenta_lead_back(tmp_path):
    there = NVE(**WATER, steps=500, timestep_fs=0.5, equilibration_ps=0.1).run(
        directory=tmp_path / "there", quiet=True
    )
    first, *_, last = there.frames()
    last.set_momenta(-last.get_momenta())
    options = NVE(**WATER | PLAIN, velocities="structure", steps=500, timestep_fs=0.5)
    *_, end = options.run(last, tmp_path / "back", quiet=True).frames()
    assert end.positions == pytest.approx(first.positions, abs=1e-9)
    assert -end.get_momenta() == pytest.approx(first.get_momenta(), abs=1e-9)


def test_momentum_and_angular_momentum_stay_zero(tmp_path):
    run = NVE(**WATER, steps=300, equilibration_ps=0.1).run(directory=tmp_path / "run", quiet=True)
    *_, last = run.frames()
    assert np.abs(last.get_momenta().sum(axis=0)).max() < 1e-12
    assert np.abs(last.get_angular_momentum()).max() < 1e-10


@pytest.mark.parametrize("seed", [0, 1])
def test_relax_equilibrate_produce_has_the_temperature(seed, tmp_path):
    """A crystal with enough atoms that its temperature says something; without equilibration it has half."""
    atoms = bulk("Cu", cubic=True) * 2
    atoms.calc = EMT()
    options = NVE(steps=300, timestep_fs=4.0, equilibration_timestep_fs=4.0, equilibration_ps=1.6, seed=seed)
    run = options.run(atoms, tmp_path / "run", quiet=True)
    assert run.read_thermo()["temperature_K"].mean() == pytest.approx(300, rel=0.1)
    assert [event["degrees_of_freedom"] for event in run.read_events() if "degrees_of_freedom" in event] == [
        93
    ]


@pytest.mark.slow
def test_small_molecule_has_the_temperature_too(tmp_path):
    """Seeds scatter by far less than the 58 % (1/√3) that canonical energies of three modes would."""
    means = []
    for seed in range(8):
        options = NVE(**WATER, steps=400, timestep_fs=0.5, seed=seed)
        run = options.run(directory=tmp_path / str(seed), quiet=True)
        means.append(run.read_thermo()["temperature_K"].mean())
    assert np.mean(means) == pytest.approx(300, rel=0.1)
    assert np.std(means) < 0.25 * 300


def test_relaxed_without_equilibration_gets_half_and_is_told(tmp_path, capsys):
    options = NVE(**WATER, steps=2000, timestep_fs=0.5, equilibration_ps=0)
    run = options.run(directory=tmp_path / "run")
    assert run.read_thermo()["temperature_K"][0] == pytest.approx(300)
    assert run.read_thermo()["temperature_K"].mean() == pytest.approx(150, rel=0.15)
    printed = capsys.readouterr()
    assert "mean temperature 1" in printed.out
    assert "set equilibration_ps" in printed.err


def test_total_energy_is_the_canonical_mean(tmp_path):
    """n kB T / 2, and the mean potential energy of the equilibration less its excess of kinetic energy."""
    run = NVE(**WATER, steps=1, equilibration_ps=0.5).run(directory=tmp_path / "run", quiet=True)
    rows = run.read_equilibration()
    settled = rows["step"] >= 250
    excess = 1.5 * units.kB * (rows["temperature_K"][settled].mean() - 300)
    potential = rows["potential_eV"][settled].mean()
    assert run.read_thermo()["total_eV"][0] == pytest.approx(1.5 * units.kB * 300 + potential - excess)


def test_equilibration_does_not_drift(tmp_path):
    run = NVE(**WATER, steps=1).run(directory=tmp_path / "run", quiet=True)
    first = next(run.frames())
    assert first.get_center_of_mass() == pytest.approx(run.atoms.get_center_of_mass(), abs=1e-9)


def test_relaxation_stops_where_the_forces_are_small(tmp_path):
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    run = NVE(calculator=WATER["calculator"], steps=1, equilibration_ps=0).run(
        atoms, tmp_path / "run", quiet=True
    )
    assert run.read_thermo()["potential_eV"][0] < 1e-4
    assert np.array_equal(run.atoms.positions, atoms.positions)  # the start is kept as given


def test_fixed_atoms_stay(tmp_path):
    atoms = molecule("H2O")
    atoms.set_constraint(FixAtoms([0]))
    run = NVE(calculator=WATER["calculator"], steps=50, equilibration_ps=0.05).run(
        atoms, tmp_path / "run", quiet=True
    )
    *_, last = run.frames()
    assert np.array_equal(last.positions[0], atoms.positions[0])
    assert not np.array_equal(last.positions[1], atoms.positions[1])


# ---------------------------------------------------------------------- options


def test_yaml_and_python_give_the_same_trajectory(tmp_path):
    (tmp_path / "nve.yaml").write_text(
        "protocol: nve\nstructure: H2O\ncalculator: toy_calculators:Springs\n"
        "steps: 5e1\nequilibration_ps: 0.02\nseed: 3\n"
    )
    from_yaml = load_options(tmp_path / "nve.yaml", NVE)
    in_python = NVE(**WATER, steps=50, equilibration_ps=0.02, seed=3)
    assert from_yaml == in_python
    runs = [o.run(directory=tmp_path / n, quiet=True) for n, o in (("a", from_yaml), ("b", in_python))]
    assert np.array_equal(*map(positions_of, runs))


def test_seed_decides(tmp_path):
    runs = [
        NVE(**WATER, steps=10, equilibration_ps=0.02, seed=seed).run(directory=tmp_path / str(k), quiet=True)
        for k, seed in enumerate((0, 0, 1))
    ]
    first, same, other = map(positions_of, runs)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_how_often_things_are_written_does_not_change_the_trajectory(tmp_path):
    every = [(1, 1, 7), (5, 3, 4), (100, 100, 1000)]
    ends = []
    for k, (frames, rows, checkpoints) in enumerate(every):
        options = NVE(
            **WATER | PLAIN, steps=100, write_every=frames, thermo_every=rows, checkpoint_every=checkpoints
        )
        ends.append(positions_of(options.run(directory=tmp_path / str(k), quiet=True))[-1])
    assert all(np.array_equal(a, b) for a, b in itertools.pairwise(ends))


def test_frames_and_rows_fall_on_the_steps_asked_for(tmp_path):
    options = NVE(**WATER | PLAIN, steps=25, write_every=5, thermo_every=2, timestep_fs=0.5)
    run = options.run(directory=tmp_path / "run", quiet=True)
    assert (run.n_frames, run.frame_interval_fs) == (6, 2.5)
    assert run.read_thermo()["step"].tolist() == list(range(0, 25, 2))
    assert run.read_thermo()["time_fs"].tolist() == list(range(13))
    assert [len(chunk) for chunk in run.chunks(4)] == [4, 2]


def test_frames_hold_what_thermo_says(tmp_path):
    run = NVE(**WATER | PLAIN, steps=30).run(directory=tmp_path / "run", quiet=True)
    for frame, potential, kinetic in zip(
        run.frames(), run.read_thermo()["potential_eV"], run.read_thermo()["kinetic_eV"], strict=True
    ):
        assert frame.get_potential_energy() == potential
        assert frame.get_kinetic_energy() == pytest.approx(kinetic)
        assert frame.get_forces().shape == (3, 3)


def test_callers_structure_and_calculator_are_left(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = EMT()
    before = atoms.copy()
    NVE(steps=5, equilibration_ps=0.01).run(atoms, tmp_path / "run", quiet=True)
    assert atoms == before
    assert isinstance(atoms.calc, EMT)


def test_quiet_prints_nothing(tmp_path, capfd):
    NVE(**WATER, steps=5, equilibration_ps=0.01, temperature_K=0).run(directory=tmp_path / "run", quiet=True)
    assert capfd.readouterr() == ("", "")


def test_default_directory_has_the_names_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = NVE(**WATER | PLAIN, steps=1).run(quiet=True)
    assert run.directory == Path("runs/nve-H2O")
    assert NVE(structure="smiles:C#N").default_directory() == Path("runs/nve-smiles-C-N")


def test_own_velocities_of_a_structure_that_is_relaxed_make_no_sense():
    with pytest.raises(ValidationError, match="needs relax: false"):
        NVE(velocities="structure")


def test_own_velocities_have_to_be_there(tmp_path):
    options = NVE(**WATER | PLAIN, velocities="structure", steps=1)
    with pytest.raises(StructureError, check=told(name="velocities", value="structure", remedy="thermal")):
        options.run(directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_options_need_neither_torch_nor_dynamics():
    code = (
        "import sys; from asecalc_ml.md_protocols.nve import NVE; NVE.model_json_schema();"
        "print([m for m in ('torch', 'ase.md', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(asecalc_ml.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"


def test_relaxing_into_another_molecule_is_told(tmp_path):
    """Two argon atoms so close that they count as bonded, as if their distance were in another unit."""
    atoms = Atoms("Ar2", [[0, 0, 0], [2.6, 0, 0]])
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0103, rc=20.0)
    run = NVE(steps=1, equilibration_ps=0, temperature_K=1).run(atoms, tmp_path / "run", quiet=True)
    messages = [event["message"] for event in run.read_events() if event["kind"] == "warning"]
    assert any("relaxing broke 1 bonds" in message for message in messages)

"""Normal modes against analytic answers, against ASE's, and between autograd and finite differences."""

import os
from pathlib import Path

import numpy as np
import pytest
import toy_calculators
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLengths, FixCom, Hookean
from raising import told
from typer.testing import CliRunner

from asecalc_ml.analysis.functions.harmonic import normal_modes, rigid_motions, zero_point_energy
from asecalc_ml.analysis.functions.normal_modes import NormalModes
from asecalc_ml.analysis.pipeline import run_analyses
from asecalc_ml.analysis.report.report import write_report
from asecalc_ml.calculators.batches import many
from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.cli import md
from asecalc_ml.errors import AnalysisError, ConfigError, RunError, StructureError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.vibrations import Vibrations
from asecalc_ml.runs import EVALUATIONS, HESSIAN, RunReader
from asecalc_ml.structure.rigid_motions import rotations

STIFFNESS = 50.0
SPRING = {"toy_calculators:Springs": {"molecule_name": "N2", "stiffness": STIFFNESS}}
EMT = "ase.calculators.emt:EMT"


def vibrations(directory: Path, atoms: Atoms, calculator, **options) -> RunReader:
    given = {"calculator": calculator, "relax_fmax_eV_A": 1e-5} | options
    return Vibrations(**given).run(atoms, directory, quiet=True)


# ---------------------------------------------------------------------- answers known beforehand


@pytest.mark.smoke
def test_a_diatomic_has_one_mode_at_the_root_of_k_over_mu(tmp_path):
    run = vibrations(tmp_path / "run", molecule("N2"), SPRING)
    result = NormalModes().run(run)
    mass = molecule("N2").get_masses()[0]
    omega = np.sqrt(STIFFNESS / (mass / 2)) * units._hbar * 1e10 / np.sqrt(units._e * units._amu)  # eV
    assert result.frequencies_per_cm == pytest.approx([omega / units.invcm], rel=1e-6)
    assert result.zero_point_energy_eV == pytest.approx(omega / 2, rel=1e-6)
    along = np.array(result.modes[0]).reshape(2, 3)
    assert along[0] == pytest.approx(-along[1], abs=1e-9)


@pytest.mark.parametrize(("name", "n_modes"), [("H2O", 3), ("CO2", 4), ("C2H2", 7), ("CH4", 9)])
def test_number_of_modes(name, n_modes, tmp_path):
    pytest.importorskip("tblite")
    result = NormalModes().run(vibrations(tmp_path / "run", molecule(name), "gfn2-xtb", relax_fmax_eV_A=1e-3))
    assert len(result.frequencies_per_cm) == n_modes
    assert min(result.frequencies_per_cm) > 300
    assert max(np.abs(result.rigid_per_cm)) < 60


def test_a_bend_of_a_linear_molecule_is_no_rotation():
    """Of a nearly linear molecule the turn about its axis looks like a bend, which must not be lost."""
    atoms = molecule("CO2")
    atoms.positions[0, 0] += 0.01
    rigid = rigid_motions(atoms.positions, atoms.get_masses(), rotations(atoms, linear=True))
    assert len(rigid) == 5
    assert rigid @ rigid.T == pytest.approx(np.eye(5), abs=1e-12)
    bend = np.zeros((3, 3))
    masses = atoms.get_masses()
    bend[:, 0] = [1, *(-0.5 * masses[0] / masses[1:])]
    weighted = (np.sqrt(atoms.get_masses())[:, None] * bend).ravel()
    assert np.linalg.norm(rigid @ weighted) < 0.05 * np.linalg.norm(weighted)


@pytest.mark.parametrize(
    ("lowest", "rigid", "status"), [(10.0, 3.0, "passed"), (-1.5, 3.0, "undecided"), (-80.0, 3.0, "failed")]
)
def test_an_imaginary_frequency_within_the_noise_decides_nothing(lowest, rigid, status, tmp_path):
    """What is left of translations and rotations is the noise of the Hessian and of the forces."""
    result = NormalModes().run(vibrations(tmp_path / "run", molecule("N2"), SPRING))
    changed = {"frequencies_per_cm": [lowest, 1600.0], "rigid_per_cm": [-rigid, 0.5]}
    verdict = result.model_copy(update=changed).verdicts()[1]
    assert verdict.status == status, verdict.text


def test_a_crystal_turns_not(tmp_path):
    run = vibrations(tmp_path / "run", bulk("Cu", cubic=True), EMT)
    result = NormalModes().run(run)
    assert len(result.frequencies_per_cm) == 3 * 4 - 3
    assert result.rigid_per_cm == pytest.approx([0, 0, 0], abs=1)
    assert result.imaginary == []


def test_held_atoms_take_no_part(tmp_path):
    """Of a spring with one end held, the other moves with k/m, in one direction of three."""
    atoms = molecule("N2")
    atoms.set_constraint(FixAtoms([0]))
    result = NormalModes().run(vibrations(tmp_path / "run", atoms, SPRING))
    omega = np.sqrt(STIFFNESS / atoms.get_masses()[1])
    scale = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm
    assert result.frequencies_per_cm[-1] == pytest.approx(omega * scale, rel=1e-5)
    assert len(result.frequencies_per_cm) == 3
    assert result.atoms == ["N1"]


@pytest.mark.parametrize("constraint", [FixBondLengths([[0, 1]]), FixCom(), Hookean(0, 1, 5.0, 1.2)])
def test_other_constraints_are_refused(constraint, tmp_path):
    atoms = molecule("N2")
    atoms.set_constraint(constraint)
    name = type(constraint).__name__
    with pytest.raises(StructureError, check=told(name=name, allowed=["FixAtoms"], remedy=True)):
        vibrations(tmp_path / "run", atoms, SPRING)


def test_modes_solve_the_eigenvalue_problem():
    """H x = ω² M x for each mode, for any symmetric matrix without rigid motions."""
    rng, masses = np.random.default_rng(0), np.array([1.0, 12.0, 16.0])
    hessian = rng.normal(size=(9, 9))
    hessian += hessian.T
    found = normal_modes(hessian, masses, np.zeros((0, 9)))
    scale = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm
    for wavenumber, mode, shares in zip(found.per_cm, found.modes, found.kinetic, strict=True):
        square = np.sign(wavenumber) * (wavenumber / scale) ** 2
        x = mode.ravel()
        assert hessian @ x == pytest.approx(square * np.repeat(masses, 3) * x, abs=1e-9)
        weights = masses * (mode**2).sum(axis=1)
        assert shares == pytest.approx(weights / weights.sum())
    assert zero_point_energy(np.array([-100.0, 1000.0])) == pytest.approx(500 * units.invcm)


# ---------------------------------------------------------------------- against others


def test_water_is_that_of_ase(tmp_path):
    pytest.importorskip("tblite")
    from ase.vibrations import Vibrations as AseVibrations

    run = vibrations(tmp_path / "run", molecule("H2O"), "gfn2-xtb", relax_fmax_eV_A=1e-3)
    result = NormalModes().run(run)
    atoms = run.read_relaxed()
    from asecalc_ml.calculators.xtb import GFN2

    atoms.calc = GFN2(accuracy=0.01)
    theirs = AseVibrations(atoms, delta=0.005, name=str(tmp_path / "ase"))
    theirs.run()
    expected = theirs.get_frequencies().real[-3:]
    assert result.frequencies_per_cm == pytest.approx(expected, abs=1.0)
    assert result.zero_point_energy_eV == pytest.approx(0.5 * units.invcm * expected.sum(), rel=1e-3)


def test_autograd_is_finite_differences(tiny_model, tmp_path):
    model = {tiny_model: {"dtype": "float64", "compile": "never"}}
    atoms = molecule("H2O")
    found = {}
    for method in ("autograd", "finite-differences"):
        options = {"hessian": method, "displacement_A": 1e-4, "relax": False}
        run = vibrations(tmp_path / method, atoms, model, **options)
        assert str(run.read_hessian()["method"]) == method
        found[method] = run.read_hessian()["hessian"]
    assert found["autograd"] == pytest.approx(found["finite-differences"], abs=1e-4)
    assert np.abs(found["autograd"]).max() > 1e-2


def test_autograd_of_a_model_is_taken_where_there_is_one(tiny_model, tmp_path):
    model = {tiny_model: {"compile": "never"}}
    run = vibrations(tmp_path / "run", molecule("H2O"), model, relax=False)
    assert str(run.read_hessian()["method"]) == "autograd"
    assert run.read_evaluations() == []


# ---------------------------------------------------------------------- what goes wrong


def test_a_maximum_has_an_imaginary_frequency_and_fails_its_check(tmp_path):
    """Planar ammonia, relaxed in its plane."""
    pytest.importorskip("tblite")
    atoms = Atoms("NH3", [[0, 0, 0], *([np.cos(a), np.sin(a), 0] for a in np.radians([0, 120, 240]))])
    run = vibrations(tmp_path / "run", atoms, "gfn2-xtb", relax_fmax_eV_A=1e-3)
    result = NormalModes().run(run)
    assert len(result.imaginary) == 1
    assert [verdict.status for verdict in result.verdicts()] == ["passed", "failed"]
    assert "imaginary" in result.verdicts()[1].text
    assert result.tables()[1].rows[0][1] == f"{result.imaginary[0]:.1f}i"


def test_a_strained_structure_is_told(tmp_path):
    atoms = molecule("N2")
    atoms.positions *= 1.05
    run = vibrations(tmp_path / "run", atoms, SPRING, relax=False)
    (warning,) = [event for event in run.read_events() if event["kind"] == "warning"]
    assert "no minimum" in warning["message"]
    assert NormalModes().run(run).verdicts()[0].status == "failed"


@pytest.mark.parametrize("call", [8, 14])
def test_killed_it_goes_on_with_the_next_displacement(call, tmp_path, monkeypatch):
    straight = vibrations(tmp_path / "straight", molecule("H2O"), "toy_calculators:Springs")
    monkeypatch.setenv("TOY_BREAKS_AT", str(call))
    with pytest.raises(KeyboardInterrupt):
        vibrations(tmp_path / "run", molecule("H2O"), "toy_calculators:KilledSprings")
    done = (tmp_path / "run" / EVALUATIONS).read_bytes()
    assert done
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    run = resume_run(tmp_path / "run", quiet=True)
    assert (run.directory / EVALUATIONS).read_bytes().startswith(done)
    assert len(run.read_evaluations()) == len(straight.read_evaluations())
    assert (run.read_hessian()["hessian"] == straight.read_hessian()["hessian"]).all()


def test_a_calculator_that_fails_stops_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_AT", "7")
    with pytest.raises(RunError, check=told(value="no Hessian")):
        vibrations(tmp_path / "run", molecule("H2O"), "toy_calculators:BreakingSprings", relax=False)
    with pytest.raises(AnalysisError, check=told(remedy="protocol vibrations")):
        NormalModes().run(RunReader(tmp_path / "run"))


def test_autograd_that_is_not_there_names_the_remedy(tmp_path):
    with pytest.raises(ConfigError, check=told(name="hessian", remedy="finite-differences")):
        vibrations(tmp_path / "run", molecule("N2"), SPRING, hessian="autograd")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------- the whole way


def test_command_line_and_report(tmp_path):
    file = tmp_path / "vibrations.yaml"
    file.write_text(f"protocol: vibrations\nstructure: H2O\ncalculator: {EMT}\nrelax_fmax_eV_A: 0.01\n")
    directory = tmp_path / "run"
    result = CliRunner().invoke(md.app, ["run", str(file), "--directory", str(directory), "--quiet"])
    assert result.exit_code == 0, result.output
    assert os.path.getsize(directory / HESSIAN)
    page = write_report(directory).read_text()
    assert "The run is complete: second derivatives for 3 atoms by finite differences" in page
    assert "zero-point energy" in page
    names = [one.analysis for one in run_analyses(directory)]
    assert names == ["normal-modes", "relaxation"]


# ---------------------------------------------------------------------- displacements computed together


@pytest.fixture
def sizes(monkeypatch):
    """Numbers of structures of each batch, at most two coordinates of water each."""
    monkeypatch.setattr(many, "ATOMS_AT_ONCE", 12)
    toy_calculators.BatchedSprings.batches.clear()
    return toy_calculators.BatchedSprings.batches


def test_displacements_are_computed_in_batches(sizes, tmp_path):
    together = vibrations(tmp_path / "together", molecule("H2O"), "toy_calculators:BatchedSprings")
    assert sizes == [4, 4, 4, 4, 2]
    alone = vibrations(tmp_path / "alone", molecule("H2O"), "toy_calculators:Springs")
    assert together.read_hessian()["hessian"] == pytest.approx(alone.read_hessian()["hessian"], abs=1e-12)
    assert len(together.read_evaluations()) == len(alone.read_evaluations())


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_killed_in_a_batch_it_gives_the_same_hessian(batch, sizes, tmp_path, monkeypatch):
    straight = vibrations(tmp_path / "straight", molecule("H2O"), "toy_calculators:BatchedSprings")
    sizes.clear()
    monkeypatch.setenv("TOY_BREAKS_AT", str(batch))
    with pytest.raises(KeyboardInterrupt):
        vibrations(tmp_path / "run", molecule("H2O"), "toy_calculators:BatchedSprings")
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    sizes.clear()
    run = resume_run(tmp_path / "run", quiet=True)
    assert sizes == [4, 4, 4, 4, 2][batch - 1 :]
    assert (run.read_hessian()["hessian"] == straight.read_hessian()["hessian"]).all()
    assert (run.directory / EVALUATIONS).read_bytes() == (straight.directory / EVALUATIONS).read_bytes()


def test_held_atoms_stay_in_a_batch(sizes, tmp_path):
    atoms = molecule("H2O")
    atoms.set_constraint(FixAtoms([0]))
    run = vibrations(tmp_path / "run", atoms, "toy_calculators:BatchedSprings")
    assert sizes == [4, 4, 4]
    alone = vibrations(tmp_path / "alone", atoms, "toy_calculators:Springs")
    assert run.read_hessian()["hessian"] == pytest.approx(alone.read_hessian()["hessian"], abs=1e-12)


def test_differences_of_a_model_are_one_batch(tiny_model, tmp_path, monkeypatch):
    model = {tiny_model: {"dtype": "float64", "compile": "never"}}
    options = {"hessian": "finite-differences", "relax": False}
    batches, calculate_many = [], MLCalculator.calculate_many

    def counted(self, structures):
        batches.append(len(structures))
        return calculate_many(self, structures)

    with monkeypatch.context() as patch:
        patch.setattr(MLCalculator, "calculate_many", counted)
        run = vibrations(tmp_path / "together", molecule("H2O"), model, **options)
    assert batches == [18]
    monkeypatch.setattr(many, "computes_together", lambda calculator: False)
    alone = vibrations(tmp_path / "alone", molecule("H2O"), model, **options)
    largest = np.abs(alone.read_hessian()["hessian"]).max()
    assert run.read_hessian()["hessian"] == pytest.approx(alone.read_hessian()["hessian"], abs=1e-9 * largest)

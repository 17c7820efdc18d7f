"""The exchange of energy between modes, on oscillators whose energies are known, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLengths
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from asecalc_ml.analysis.checks.energy_exchange import ExchangeMeasurement, exchange_verdict
from asecalc_ml.analysis.comparing.compare import compare
from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.structure.rigid_motions import rotations, translations

KT, INTERVAL_FS, N_FRAMES = 300 * units.kB, 5.0, 1200


def inner_modes(atoms: Atoms, rng: np.random.Generator) -> np.ndarray:
    """Random orthonormal directions without translation and rotation, mass-weighted, (3 n, 3 n - 6)."""
    roots = np.sqrt(atoms.get_masses())[:, None]
    centred = atoms.positions - atoms.get_center_of_mass()
    rigid = [roots * axis for axis in translations(atoms)]
    rigid += [roots * np.cross(axis, centred) for axis in rotations(atoms, linear=False)]
    _, sizes, rows = np.linalg.svd(np.reshape(rigid, (len(rigid), -1)))
    basis = rows[len(sizes) :].T
    return basis @ np.linalg.qr(rng.normal(size=(basis.shape[1],) * 2))[0]


def oscillators(seed: int, n_draws: int, name: str = "CH3CH2OH", n_frames: int = N_FRAMES) -> MemoryRun:
    """A molecule whose normal modes each take so many energies and phases, canonically distributed."""
    rng, atoms = np.random.default_rng(seed), molecule(name)
    modes = inner_modes(atoms, rng)
    n_modes = modes.shape[1]
    energies, starts = (
        np.repeat(one, n_frames // n_draws, axis=0)
        for one in (
            rng.exponential(KT, (n_draws, n_modes)),
            rng.uniform(0, 2 * np.pi, (n_draws, n_modes)),
        )
    )
    omegas = 2 * np.pi / (rng.uniform(9, 300, n_modes) * units.fs)
    times = np.arange(len(energies))[:, None] * INTERVAL_FS * units.fs
    phases = omegas * times + starts
    shifts, velocities = (
        np.sqrt(2 * energies) / omegas * np.sin(phases),
        np.sqrt(2 * energies) * np.cos(phases),
    )
    shape, roots = (len(energies), len(atoms), 3), np.sqrt(atoms.get_masses())[:, None]
    return MemoryRun(
        atoms,
        atoms.positions + 0.05 * (shifts @ modes.T).reshape(shape) / roots,
        INTERVAL_FS,
        momenta=(velocities @ modes.T).reshape(shape) * roots,
    )


def draws(run, size: int | None = None) -> float | None:
    """Independent values of a mode's energy; None where they are not known."""
    measurement = ExchangeMeasurement(run)
    for frames in run.frame_chunks(size):
        measurement.frames(frames)
    found = measurement.conclude()
    return found and found.n_draws


@pytest.mark.parametrize("n_draws", [1, 2, 5])
def test_number_of_values_of_an_energy(n_draws):
    """The mean of 1/N over many molecules is known; energies that are never exchanged are always noticed."""
    found = np.array([draws(oscillators(seed, n_draws)) for seed in range(60)])
    assert np.mean(1 / found) == pytest.approx(1 / n_draws, rel=0.25)
    if n_draws == 1:
        assert (found < 5).mean() > 0.98


@pytest.mark.parametrize(("name", "n_frames"), [("CH3CH2OH", 300), ("H2O", 600)])
def test_white_noise_is_exchanged_at_once(name, n_frames):
    found = [draws(oscillators(seed, n_frames, name, n_frames)) for seed in range(40)]
    assert np.mean(np.array(found) < 5) <= 0.05


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700))
def test_turning_moving_and_reading_change_nothing(seed, size):
    """A molecule that tumbles and drifts, atoms in another order, and chunks of another size."""
    run, rng = oscillators(3, 4), np.random.default_rng(seed)
    turns = Rotation.random(len(run.positions), rng).as_matrix()
    order = rng.permutation(len(run.atoms))
    masses = run.atoms.get_masses()[:, None]
    spins = np.cross(rng.normal(size=(len(turns), 1, 3)), run.positions - run.atoms.get_center_of_mass())
    momenta = run.momenta + masses * (0.1 * spins + rng.normal(size=(len(turns), 1, 3)))
    moved = MemoryRun(
        run.atoms[order],
        (run.positions @ turns + rng.normal(size=(len(turns), 1, 3)))[:, order],
        run.frame_interval_fs,
        momenta=(momenta @ turns)[:, order],
    )
    assert draws(moved, size) == pytest.approx(draws(run), rel=0.02)


def test_what_is_not_known():
    """Frames without velocities, few frames, one mode, constraints of other kinds than FixAtoms."""
    run = oscillators(0, 1)
    without = MemoryRun(run.atoms, run.positions, run.frame_interval_fs)
    assert draws(without) is None
    assert BondLengths().run(without).exchange is None
    assert draws(MemoryRun(run.atoms, run.positions[:99], 5.0, momenta=run.momenta[:99])) is None
    held = run.atoms.copy()
    held.set_constraint(FixBondLengths([[0, 1]]))
    assert draws(MemoryRun(held, run.positions, 5.0, momenta=run.momenta)) is None
    nitrogen = molecule("N2")
    alone = np.random.default_rng(0).normal(size=(200, 1, 3)) * [[[1.0]], [[-1.0]]][0]
    momenta = np.concatenate([alone, -alone], axis=1)
    assert (
        draws(MemoryRun(nitrogen, np.broadcast_to(nitrogen.positions, (200, 2, 3)), momenta=momenta)) is None
    )


def relaxing(seed: int, time_fs: float, fixed: bool) -> MemoryRun:
    """Atoms of a crystal whose velocities forget exponentially: an Ornstein-Uhlenbeck process, 6 ps of it."""
    rng, atoms = np.random.default_rng(seed), bulk("Ar", cubic=True) * (2, 2, 2)
    velocities = np.empty((N_FRAMES, len(atoms), 3))
    kept, velocities[0] = np.exp(-INTERVAL_FS / time_fs), rng.normal(size=velocities.shape[1:])
    for k in range(1, N_FRAMES):
        noise = rng.normal(size=velocities.shape[1:])
        velocities[k] = kept * velocities[k - 1] + np.sqrt(1 - kept**2) * noise
    if fixed:
        atoms.set_constraint(FixAtoms([0, 1]))
        velocities[:, :2] = 0
    else:
        velocities -= velocities.mean(axis=1, keepdims=True)
    positions = np.broadcast_to(atoms.positions, velocities.shape)
    return MemoryRun(atoms, positions, INTERVAL_FS, momenta=velocities * atoms.get_masses()[:, None])


@pytest.mark.parametrize("fixed", [False, True])
def test_many_atoms_that_exchange_energy_fast(fixed):
    """A liquid's velocities forget within 100 fs; those of a stiff, cold crystal keep their energies."""
    assert min(draws(relaxing(seed, 100, fixed)) for seed in range(3)) > 5
    assert draws(relaxing(0, 20, fixed)) > 15
    assert draws(relaxing(0, 1e5, fixed)) < 1.5


@pytest.mark.slow
def test_a_crystal_exchanges_more_energy_when_hot(tmp_path):
    """Phonons of copper live for picoseconds, the shorter the hotter; friction of 10/ps ends them."""
    found = {}
    for name, options in (
        ("cold", {"thermostat": "bussi", "temperature_K": 100}),
        ("hot", {"thermostat": "bussi", "temperature_K": 1000}),
        ("friction", {"thermostat": "langevin", "temperature_K": 100, "friction_per_ps": 10}),
    ):
        atoms = bulk("Cu", cubic=True) * (2, 2, 1)
        atoms.calc = EMT()
        whole = NVT(
            **options, timestep_fs=4, steps=2500, write_every=5, relax=False, equilibration_timestep_fs=4,
            analyses={},
        )  # fmt: skip
        found[name] = draws(whole.run(atoms, tmp_path / name, quiet=True))
    assert found["cold"] < 3 < found["hot"]
    assert found["friction"] > 15


def test_frames_without_motion_say_nothing():
    run = oscillators(0, 1)
    for scale in (0.0, 1e200):
        assert draws(MemoryRun(run.atoms, run.positions, 5.0, momenta=scale * run.momenta)) is None


# ---------------------------------------------------------------------------------------- what is said of it


def noisy(seed: int, n_draws: int) -> MemoryRun:
    """The oscillators, with bonds that scatter enough for an error."""
    run, rng = oscillators(seed, n_draws), np.random.default_rng(seed)
    positions = run.atoms.positions + rng.normal(0, 0.03, run.positions.shape)
    return MemoryRun(run.atoms, positions, run.frame_interval_fs, momenta=run.momenta)


def test_errors_that_are_too_small_say_so_everywhere():
    """In text, table, figures, numbers for tables of many runs, JSON and the verdict."""
    good, bad = (BondLengths(patterns=["C-O"]).run(noisy(1, n)) for n in (1200, 1))
    assert (good.has_small_errors, bad.has_small_errors) == (False, True)
    assert bad.measured(bad["C-O"].average).endswith("(error too small)")
    assert not good.measured(good["C-O"].average).endswith("small)")
    assert bad.tables()[0].rows[0][3].endswith("(too small)")
    assert isinstance(good.tables()[0].rows[0][3], float)
    assert "Errors are too small" in bad.tables()[0].caption + bad.panels()[0].caption
    assert bad.scalars()["C-O.error_A"] is None
    assert good.scalars()["C-O.error_A"] > 0
    read = type(bad).model_validate_json(bad.model_dump_json())
    assert read.exchange == bad.exchange


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_a_comparison_with_such_a_run_is_undecided(shift):
    """A distance beyond noise that is too small decides nothing; one within it is not seen all the same."""
    good, other, bad = noisy(1, 1200), noisy(2, 1200), noisy(3, 1)
    stretched = bad.positions + shift * np.eye(9)[2][:, None] * [1.0, 1.0, 0.0]  # the oxygen
    bad = MemoryRun(bad.atoms, stretched, bad.frame_interval_fs, momenta=bad.momenta)
    comparison = compare({"good": good, "other": other, "bad": bad}, ["C-O"])
    agreement = {one.first: one.agreement for one in comparison["C-O"].distances}
    assert agreement["bad"] == ("undecided" if shift else "passed")
    caption = comparison.tables()[0].caption
    assert "bad: about" in caption
    assert "good: about" not in caption
    assert "langevin" in caption
    rows = {row[1]: row[3] for row in comparison.tables()[1].rows}
    assert str(rows["bad"]).endswith("(too small)")
    assert ("undecided: errors of bad are too small" in comparison.panels()[0].caption) == bool(shift)


def test_a_comparison_names_runs_of_which_it_is_not_known():
    good, other = noisy(1, 1200), noisy(2, 1200)
    without = MemoryRun(other.atoms, other.positions, other.frame_interval_fs)
    for runs, is_said in (({"good": good, "other": other}, False), ({"good": good, "old": without}, True)):
        caption = compare(runs, ["C-O"]).tables()[0].caption
        assert ("is not known of old: if they did not, errors are too small" in caption) == is_said


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (NVE(temperature_K=30), "undecided"),
        (NVT(temperature_K=30, thermostat="bussi"), "undecided"),
        (NVT(thermostat="langevin", friction_per_ps=20), "passed"),
    ],
)
def test_a_report_says_so_once(options, status, tmp_path):
    """Methane keeps the energies of its vibrations at constant energy, and with a common thermostat."""
    from asecalc_ml.analysis.pipeline import run_analyses

    atoms = molecule("CH4")
    atoms.calc = EMT()
    short = {"steps": 1000, "write_every": 4, "timestep_fs": 1.0, "equilibration_ps": 0.2}
    options.model_copy(update=short).run(atoms, tmp_path / "run", quiet=True)
    results = run_analyses(
        tmp_path / "run", {"bond-lengths": {}, "angles": {}, "radial-distribution": {"pairs": ["C-H"]}}
    )
    found = exchange_verdict(results)
    assert [one.status for one in found] == [status]
    assert ("thermostat: langevin" in found[0].text) == (status == "undecided")
    assert len({one.exchange for one in results}) == 1

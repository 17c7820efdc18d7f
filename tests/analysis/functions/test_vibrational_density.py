"""Spectra of oscillators whose frequencies, temperature and number are known."""

import functools
import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLengths, FixedPlane
from ase.md.velocitydistribution import Stationary, ZeroRotation
from raising import told

from asecalc_ml.analysis.functions.peaks import spectrum_peaks
from asecalc_ml.analysis.functions.rigid_motion import RigidMotion
from asecalc_ml.analysis.functions.vibrational_density import (
    CM1_FS,
    VibrationalDensity,
    VibrationalResult,
    segment_length,
)
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.errors import AnalysisError
from asecalc_ml.structure.stretching import fastest_stretch_per_cm

T = 300.0
CM1 = units.invcm / units._hbar * units._e * 1e-15  # angular frequency in 1/fs of one 1/cm


def oscillators(
    frequencies_per_cm, n_frames=20_000, interval_fs=2.0, seed=0, damping_per_cm=0.0
) -> MemoryRun:
    """One argon atom for every three frequencies, its coordinates harmonic with energies of temperature T.

    With damping, each is an Ornstein-Uhlenbeck process: its amplitude and phase wander.
    """
    rng = np.random.default_rng(seed)
    frequencies = np.asarray(frequencies_per_cm, dtype=float)
    atoms = Atoms(f"Ar{len(frequencies) // 3}", positions=5.0 * rng.random((len(frequencies) // 3, 3)))
    mass = atoms.get_masses()[0]
    keep = np.exp(-damping_per_cm * CM1 * interval_fs)
    noise = rng.normal(size=(2, n_frames, len(frequencies))) * np.sqrt(1 - keep**2 if damping_per_cm else 1.0)
    amplitude = np.empty((n_frames, len(frequencies)), dtype=complex)
    amplitude[0] = (rng.normal(size=(2, len(frequencies))).T @ [1, 1j]) * 1.0
    for k in range(1, n_frames):
        amplitude[k] = keep * amplitude[k - 1] + (noise[0, k] + 1j * noise[1, k] if damping_per_cm else 0)
    time = np.arange(n_frames)[:, None] * interval_fs
    velocities = np.sqrt(units.kB * T / mass) * (amplitude * np.exp(1j * frequencies * CM1 * time)).real
    momenta = mass * velocities.reshape(n_frames, -1, 3)
    away = (amplitude * np.exp(1j * frequencies * CM1 * time)).imag / (frequencies * CM1 / units.fs)
    positions = atoms.positions + np.sqrt(units.kB * T / mass) * away.reshape(n_frames, -1, 3)
    thermo = {"temperature_K": np.full(10, T)}
    return MemoryRun(atoms, positions, interval_fs, momenta=momenta, thermo=thermo)


def test_unit_of_frequency():
    assert pytest.approx(33356.41, rel=1e-6) == CM1_FS
    assert pytest.approx(2 * np.pi / 33356.41, rel=1e-5) == CM1


def test_known_frequencies_are_found():
    known = [400.0, 1000.0, 1650.0, 2900.0, 3001.5, 3700.0]
    result = VibrationalDensity(peak_prominence=0.001).run(oscillators(known))
    assert [one.frequency_per_cm for one in result.peaks] == pytest.approx(known, abs=0.5)
    assert result.resolution_per_cm == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize("resolution", [5.0, 30.0])
def test_integral_is_the_number_of_degrees_of_freedom(resolution):
    """Each holds kT/2 on average; sixty damped oscillators over many correlation times."""
    known = np.linspace(300, 3500, 60)
    result = VibrationalDensity(resolution_per_cm=resolution).run(oscillators(known, damping_per_cm=40.0))
    assert result.n_states == pytest.approx(60, rel=0.03)
    step = result.frequencies_per_cm[1]
    assert np.sum(result.density) * step == pytest.approx(result.n_states)
    assert np.sum(result.by_element["Ar"]) * step == pytest.approx(result.n_states)
    below = np.array(result.frequencies_per_cm) < 1900  # half of them
    assert np.sum(np.array(result.density)[below]) * step == pytest.approx(30, rel=0.07)


def test_without_a_temperature_the_integral_is_what_it_should_be():
    run = oscillators([500.0] * 9, damping_per_cm=20.0)
    result = VibrationalDensity().run(MemoryRun(run.atoms, run.positions, 2.0, momenta=run.momenta))
    assert result.temperature_K is None
    assert result.n_states == pytest.approx(9)  # each atom by itself: the whole moves and turns too


@pytest.mark.parametrize(
    ("name", "still", "pbc", "expected"),
    [
        ("H2O", [Stationary, ZeroRotation], False, 3),
        ("H2O", [Stationary], False, 6),
        ("H2O", [], False, 9),
        ("CO2", [Stationary, ZeroRotation], False, 4),
        ("H2O", [Stationary], True, 6),
        ("H2O", [Stationary, ZeroRotation], True, 6),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:Periodic boundary")  # of ZeroRotation
def test_degrees_of_freedom_that_move(name, still, pbc, expected):
    atoms = molecule(name, cell=[8, 8, 8], pbc=pbc)
    atoms.set_momenta(np.random.default_rng(0).normal(size=(3, 3)))
    for rest in still:
        rest(atoms)
    motion = RigidMotion(atoms)
    motion.add(atoms.positions[None], atoms.get_velocities()[None])
    assert motion.n_degrees == expected


def test_constraints_take_degrees_of_freedom_that_move():
    atoms = molecule("H2O")
    atoms.set_constraint([FixAtoms([0]), FixedPlane([1], (0, 0, 1))])
    atoms.set_momenta(np.random.default_rng(0).normal(size=(3, 3)))
    motion = RigidMotion(atoms)
    motion.add(atoms.positions[None], atoms.get_velocities()[None])
    assert motion.n_degrees == 9 - 3 - 1


def test_atoms_at_rest_have_no_spectrum():
    run = oscillators([500.0] * 3, n_frames=500)
    still = MemoryRun(run.atoms, run.positions, 2.0, momenta=np.zeros_like(run.momenta))
    with pytest.raises(AnalysisError, check=told(name="velocities")):
        VibrationalDensity(resolution_per_cm=50).run(still)
    frames = [run.atoms.copy() for _ in range(500)]
    with pytest.raises(AnalysisError, check=told(name="momenta", remedy=True)):
        VibrationalDensity(resolution_per_cm=50).run(MemoryRun.from_frames(frames, 2.0))


@functools.cache
def damped(resolution_per_cm: float) -> list[VibrationalResult]:
    """Independent runs of one oscillator, 60 1/cm wide."""
    runs = (oscillators([800.0] * 3, seed=k, damping_per_cm=30.0) for k in range(20))
    return [VibrationalDensity(resolution_per_cm=resolution_per_cm).run(run) for run in runs]


def test_errors_of_peaks_are_honest():
    """Of a line broader than the resolution, whose highest point moves within its width."""
    peaks = [max(one.peaks, key=lambda peak: -abs(peak.frequency_per_cm - 800)) for one in damped(20.0)]
    scatter = np.std([one.frequency_per_cm for one in peaks], ddof=1)
    reported = np.sqrt(np.mean([one.error_per_cm**2 for one in peaks]))
    assert 0.5 < reported / scatter < 2


def test_errors_of_the_density_are_honest():
    """The scatter of independent runs beside the error that each gives."""
    runs = damped(40.0)
    density = np.array([one.density for one in runs])
    errors = np.array([one.errors for one in runs], dtype=float)
    high = density.mean(axis=0) > 0.3 * density.mean(axis=0).max()
    ratio = np.sqrt((errors[:, high] ** 2).mean(axis=0)) / density[:, high].std(axis=0, ddof=1)
    assert ratio.mean() == pytest.approx(1, abs=0.3)


def test_harmonic_frequencies_stand_beside_the_peaks():
    result = VibrationalDensity(harmonic_per_cm=[3050, 1000, 410], peak_prominence=1e-3).run(
        oscillators([400.0, 2000.0, 3000.0])
    )
    assert [one.harmonic_per_cm for one in result.peaks] == [410, None, 3050]
    ax = result.plot()
    assert ax.get_xlabel() == "frequency (cm⁻¹)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["harmonic"]


def test_harmonic_frequencies_of_the_run_directory(tmp_path):
    from asecalc_ml.runs import RunReader

    (tmp_path / "protocol.yaml").write_text("protocol: nve\n")
    assert RunReader(tmp_path).read_harmonic_per_cm() == []
    with pytest.raises(
        AnalysisError, check=told(name="harmonic_run", value=str(tmp_path), remedy="vibrations")
    ):
        VibrationalDensity(harmonic_run=str(tmp_path)).run(oscillators([1600.0] * 3, 6000))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "normal-modes.json").write_text(
        json.dumps({"frequencies_per_cm": [-20.0, 0.0, 1600.5]})
    )
    assert RunReader(tmp_path).read_harmonic_per_cm() == [1600.5]
    result = VibrationalDensity(harmonic_run=str(tmp_path)).run(oscillators([1600.0] * 3, 6000))
    assert result.peaks[0].harmonic_per_cm == 1600.5


@pytest.mark.parametrize(
    ("frequency", "folded"),
    [(1500.0, 0.0), (3000.0, 1 / 3), (3450.0, 1 / 3), (3700.0, 1 / 3), (7000.0, 1 / 3)],
)
def test_what_is_faster_than_two_frames_is_said(frequency, folded):
    """Frames every 5 fs end at 3336 1/cm: 3450 appears at 3222, between vibrations that are there."""
    result = VibrationalDensity(resolution_per_cm=20).run(
        oscillators([100.0, 3000.0, frequency], 8000, interval_fs=5.0)
    )
    if frequency == 3000.0:
        folded = 0.0
    assert result.highest_per_cm == pytest.approx(33356.41 / 10, rel=1e-6)
    energies = result.n_states  # of few oscillators for a short time these are not equal
    assert result.folded_fraction * energies == pytest.approx(3 * folded, abs=2.0 * bool(folded))
    (verdict,) = result.verdicts()
    assert verdict.status == ("failed" if folded else "passed")
    if folded:
        assert "Write a frame every" in verdict.text
        assert verdict.text in result.panels()[0].caption
        lines = [line.get_label() for line in result.plot().lines]
        assert "limit of the frames" in lines


@pytest.mark.parametrize(("frequency", "folded"), [(3000.0, False), (3300.0, False), (3450.0, True)])
@pytest.mark.parametrize("every", [2, 5])
def test_velocities_of_a_long_time_step_are_known_to_be_small(frequency, folded, every):
    """Those of velocity Verlet at 1 fs, (x(t + 1) - x(t - 1)) / 2, are 7 % below ωx at 3450 1/cm."""
    fine = oscillators([100.0, 1500.0, frequency], 40_000, interval_fs=1.0)
    momenta = np.zeros_like(fine.momenta)
    mass = fine.atoms.get_masses()[0]
    momenta[1:-1] = mass * (fine.positions[2:] - fine.positions[:-2]) / (2 * units.fs)
    run = MemoryRun(
        fine.atoms, fine.positions[every:-1:every], float(every), momenta=momenta[every:-1:every],
        thermo=fine.thermo, options={"timestep_fs": 1.0},
    )  # fmt: skip
    result = VibrationalDensity(resolution_per_cm=20).run(run)
    if folded and every == 5:
        fast = (result.by_element["Ar"] * (np.abs(np.array(result.frequencies_per_cm) - 3221) < 60)).sum()
        assert result.folded_fraction == pytest.approx(fast / sum(result.density), rel=0.2)
    else:
        assert result.folded_fraction == 0


def test_frames_too_seldom_are_said_before_the_run():
    from asecalc_ml.runs import RunPlan

    water, argon = molecule("H2O"), Atoms("Ar2", [(0, 0, 0), (0, 0, 3.8)])
    five, four = (RunPlan("nve", None, n_frames=5000, interval_fs=fs) for fs in (5.0, 4.0))
    (doubt,) = VibrationalDensity().doubts(water, five)
    assert "frames every 5 fs resolve vibrations up to 3,336 cm⁻¹" in doubt
    assert "Write a frame every 4.2 fs or more often (write_every" in doubt
    assert VibrationalDensity().doubts(water, four) == []
    assert VibrationalDensity().doubts(argon, five) == []
    assert len(VibrationalDensity(harmonic_per_cm=[3500.0]).doubts(argon, five)) == 1
    rigid = water.copy()
    rigid.set_constraint(FixBondLengths([(0, 1), (0, 2)]))
    assert VibrationalDensity().doubts(rigid, five) == []


#: Harmonic frequencies of gases, 1/cm: K. P. Huber & G. Herzberg, Constants of Diatomic Molecules (1979), and
#: T. Shimanouchi, Tables of Molecular Vibrational Frequencies (1972).
HARMONIC = {"H2": 4401, "HF": 4138, "HCl": 2991, "N2": 2359, "CO": 2170, "O2": 1580, "H2O": 3943, "CO2": 2397}


@pytest.mark.parametrize("name", HARMONIC)
def test_the_fastest_stretch_is_estimated(name):
    """Never far below what is measured; bonds of hydrogen within 5 %."""
    ratio = fastest_stretch_per_cm(molecule(name)) / HARMONIC[name]
    assert 0.96 < ratio < (1.05 if "H" in name else 1.16)


def test_the_fastest_stretch_knows_masses_cells_and_fixed_atoms():
    water, heavy = molecule("H2O"), molecule("H2O")
    heavy.set_masses([15.995, 2.014, 2.014])
    assert fastest_stretch_per_cm(heavy) == pytest.approx(
        fastest_stretch_per_cm(water) / np.sqrt(1.88), rel=0.02
    )
    water.set_constraint(FixAtoms([0, 1, 2]))
    assert fastest_stretch_per_cm(water) == 0
    silicon = bulk("Si", cubic=True)
    assert fastest_stretch_per_cm(silicon) == pytest.approx(520, rel=0.12)
    assert fastest_stretch_per_cm(silicon * (4, 4, 4)) == pytest.approx(
        fastest_stretch_per_cm(silicon), rel=1e-3
    )


@pytest.mark.parametrize("interval_fs", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("n_frames", [40, 517, 1111])
def test_a_run_as_long_or_a_resolution_as_coarse_as_advised_is_accepted(n_frames, interval_fs):
    options = VibrationalDensity(resolution_per_cm=10)
    with pytest.raises(AnalysisError) as caught:
        segment_length(options, n_frames, interval_fs)
    advised_ps = float(caught.value.remedy.split()[2])
    segment_length(options, 1 + int(1000 * advised_ps / interval_fs), interval_fs)
    advised_per_cm = float(caught.value.allowed.split()[0])
    segment_length(VibrationalDensity(resolution_per_cm=advised_per_cm), n_frames, interval_fs)


def test_too_short_and_without_momenta():
    run = oscillators([500.0] * 3, n_frames=500)
    with pytest.raises(
        AnalysisError, check=told(value=10, allowed="49 or more", remedy="resolution_per_cm to 49")
    ):
        VibrationalDensity(resolution_per_cm=10).run(run)
    result = VibrationalDensity(resolution_per_cm=50).run(run)
    assert all(error is None for error in result.errors)
    assert result.peaks[0].error_per_cm is None
    with pytest.raises(AnalysisError, check=told(name="momenta", remedy=True)):
        VibrationalDensity(resolution_per_cm=50).run(MemoryRun(run.atoms, run.positions, 2.0))


def test_chunks_make_no_difference_and_files_hold_the_result(tmp_path):
    run = oscillators([500.0, 800.0, 900.0], n_frames=6000)
    measurement = VibrationalDensity().prepare(run)
    for frames in run.frame_chunks(777):
        measurement.frames(frames)
    result = measurement.conclude()
    assert result == VibrationalDensity().run(run)
    paths = result.write(tmp_path)
    assert VibrationalResult.model_validate_json(paths[0].read_text()) == result


def test_a_peak_with_a_flat_top():
    assert spectrum_peaks(range(8), [0, 1, 2, 2, 2, 1, 0, 0], 0.1) == [3.0]

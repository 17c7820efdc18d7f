"""Runs that end before their last step, and frames that are kept for labelling."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from places import HELPERS
from raising import told
from typer.testing import CliRunner

import asecalc_ml
from asecalc_ml.cli import md
from asecalc_ml.errors import ConfigError, RunError, RunPausedError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.md_protocols.watch.suspicions import CommitteeDisagrees, OutsideDomain
from asecalc_ml.runs import RunReader
from asecalc_ml.statistics.histogram import Histogram

BUSSI = {"thermostat": "bussi", "thermostat_time_fs": 10}
WATER = {
    "structure": "H2O",
    "calculator": {"toy_calculators:Springs": {"stiffness": 5.0}},
    "relax": False,
    "equilibration_ps": 0,
}


def stopped(options, directory: Path, reason: str) -> RunReader:
    with pytest.raises(RunError, check=told(name=str(directory), value=reason, remedy=True)):
        options.run(directory=directory, quiet=True)
    run = RunReader(directory)
    assert run.read_events()[-1]["kind"] == "stopped"
    assert not run.finished
    return run


# ---------------------------------------------------------------------- bounds


def test_a_temperature_beyond_its_bound_stops(tmp_path):
    options = NVT(**WATER, **BUSSI, temperature_end_K=3000, steps=4000, stop={"temperature_above_K": 1500})
    run = stopped(options, tmp_path / "run", "(temperature_above_K: 1500)")
    assert run.read_thermo()["temperature_K"][-1] > 1500
    assert (run.read_thermo()["temperature_K"][:-1] <= 1500).all()
    assert run.read_thermo()["step"][-1] < 4000


def test_a_run_that_goes_on_beyond_its_bound_misses_no_frame(tmp_path):
    """Resumed, it may stop again at once: each time what was written is written once."""
    heated = {"temperature_K": 300, "temperature_end_K": 3000, "steps": 100}
    options = NVT(
        **WATER, **BUSSI, **heated, write_every=10, thermo_every=10, stop={"temperature_above_K": 250}
    )
    run = stopped(options, tmp_path / "run", "temperature_above_K")
    for _ in range(12):
        if run.finished:
            break
        with contextlib.suppress(RunError):
            resume_run(run.directory, quiet=True)
        run = run.reread()
    assert run.finished
    assert sum(event["kind"] == "stopped" for event in run.read_events()) > 2
    assert run.read_thermo()["step"].tolist() == list(range(0, 101, 10))
    assert run.n_frames == 11


@pytest.mark.parametrize("protocol", [NVE, partial(NVT, thermostat="bussi")])
def test_a_conserved_energy_that_changes_stops(protocol, tmp_path):
    """A long time step spoils it; with a thermostat the total energy swings by far more than the bound."""
    sound = {"temperature_K": 300, "timestep_fs": 0.5, "steps": 300, "stop": {"energy_change_eV_atom": 0.02}}
    assert protocol(**WATER, **sound).run(directory=tmp_path / "sound", quiet=True).finished
    options = protocol(**WATER, **sound | {"timestep_fs": 5.0, "temperature_K": 3000})
    stopped(options, tmp_path / "run", "energy_change_eV_atom: 0.02")


def test_langevin_dynamics_conserve_no_energy(tmp_path):
    options = NVT(**WATER, thermostat="langevin", steps=5, stop={"energy_change_eV_atom": 0.02})
    with pytest.raises(ConfigError, check=told(value=0.02, remedy="thermostat bussi")):
        options.run(directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_bond_that_breaks_stops_and_its_frame_is_kept(tmp_path):
    soft = WATER | {"calculator": {"toy_calculators:Springs": {"stiffness": 0.05}}}
    options = NVE(**soft, temperature_K=3000, steps=5000, stop={"bond_change": True})
    run = stopped(options, tmp_path / "run", "bonds ")
    (frame,) = read(tmp_path / "run" / "flagged.extxyz", ":")
    *_, last = run.frames()
    assert frame.positions == pytest.approx(last.positions, abs=1e-7)
    assert frame.info["reason"].startswith("bonds ")
    assert frame.info["step"] == 10 * (run.n_frames - 1)
    assert frame.calc is None


# ---------------------------------------------------------------------- what a model does not know


def domain(margin: float) -> OutsideDomain:
    """Of a water molecule whose O-H were 0.9 to 1.0, and H-H 1.0 to 2.0 Å in training."""
    bonded = Histogram.from_samples(np.linspace(0.9, 0.9999, 100), 0.02)
    angle = Histogram.from_samples(np.linspace(1.0, 1.9999, 200), 0.02)
    return OutsideDomain(molecule("H2O"), {"H-O bonded": bonded, "H-H 1-3": angle}, margin, cutoff=5.0)


@pytest.mark.parametrize(("length", "margin", "inside"), [
    (0.95, 0.0, True), (1.05, 0.0, False), (1.05, 0.1, True),
    (1.2, 0.1, False), (0.85, 0.1, True), (0.7, 0.1, False),
])  # fmt: skip
def test_a_bond_beyond_training_is_told(length, margin, inside):
    atoms = molecule("H2O")
    atoms.positions = [[0, 0, 0], [0, length, 0], [0, 0, 0.95]]
    found = domain(margin)(atoms)
    assert ("O0-H1 (bonded)" in (found or "")) != inside


def test_gaps_of_the_training_data_are_outside():
    two = Histogram.from_samples([0.9, 0.91, 1.3, 1.31], 0.02)
    angle = Histogram.from_samples(np.linspace(1.0, 3.0, 500), 0.02)
    sign = OutsideDomain(molecule("H2O"), {"H-O bonded": two, "H-H 1-3": angle}, 0.1, cutoff=5.0)
    atoms = molecule("H2O")
    for length, inside in ((0.95, True), (1.1, False), (1.25, True), (1.5, False)):
        for hydrogen in (1, 2):
            atoms.set_distance(0, hydrogen, length, fix=0)
        assert (sign(atoms) is None) == inside, length


def test_a_kind_of_pair_that_was_never_seen_is_outside():
    sign = OutsideDomain(molecule("H2O"), {}, 0.1, cutoff=5.0)
    assert "pair of its kind was in training" in sign(molecule("H2O"))


def test_an_atom_that_has_left_is_outside_however_far():
    atoms = molecule("H2O")
    for far in (4.0, 6.0, 50.0):
        atoms.positions = [[0, 0, 0], [0, 0.95, 0], [0, 0, far]]
        assert "H2" in domain(0.1)(atoms)
    reaching = Histogram.from_samples(np.linspace(0.9, 2.0, 200), 0.02)  # a cutoff hides what lies beyond
    sign = OutsideDomain(molecule("H2O"), {"H-O bonded": reaching, "H-H 1-3": reaching}, 0.1, cutoff=2.0)
    assert sign(atoms) is None


def test_a_committee_that_disagrees_is_told():
    atoms = molecule("H2O")
    deviations = np.array([0.01, 0.2, 0.05])
    atoms.calc = SinglePointCalculator(atoms, forces=np.zeros((3, 3)))
    atoms.calc.results["forces_deviation"] = deviations
    assert CommitteeDisagrees(0.25)(atoms) is None
    assert CommitteeDisagrees(0.1)(atoms) == "the committee's forces on H1 deviate by 0.200 eV/Å (limit 0.1)"


def test_frames_that_a_model_does_not_know_are_kept_apart_in_time(tmp_path):
    """Ethanol's model sees 1-propanol's third carbon for the first time."""
    options = NVT(
        structure="1-propanol",
        calculator="torchmdnet-ethanol-xtb",
        relax=False,
        equilibration_ps=0,
        steps=60,
        write_every=2,
        flag={"outside_training_domain": True, "interval_fs": 10.0, "at_most": 2},
    )
    run = options.run(directory=tmp_path / "run", quiet=True)
    frames = read(tmp_path / "run" / "flagged.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 20]
    assert all("was in training" in frame.info["reason"] for frame in frames)
    warnings = [event["message"] for event in run.read_events() if event["kind"] == "warning"]
    assert sum("the first flagged frame" in message for message in warnings) == 1


def test_leaving_the_training_domain_stops(tmp_path):
    options = NVT(
        structure="1-propanol",
        calculator="torchmdnet-ethanol-xtb",
        relax=False,
        equilibration_ps=0,
        steps=10,
        stop={"outside_training_domain": True},
    )
    stopped(options, tmp_path / "run", "pair of its kind was in training")


@pytest.mark.parametrize(
    ("section", "remedy"),
    [
        ({"outside_training_domain": True}, "trained with asecalc-ml"),
        ({"committee_deviation_eV_A": 0.1}, "calculator: {committee: "),
    ],
)
@pytest.mark.parametrize("where", ["stop", "flag"])
def test_what_a_calculator_cannot_tell_is_refused_before_the_run(section, remedy, where, tmp_path):
    ((name, value),) = section.items()
    with pytest.raises(ConfigError, check=told(name=name, value=value, remedy=remedy)):
        NVE(**WATER, steps=5, **{where: section}).run(directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_long_steps_of_hydrogen_are_warned_of(tmp_path):
    run = NVE(**WATER, steps=1, timestep_fs=2.5).run(directory=tmp_path / "run", quiet=True)
    assert any("too long for hydrogen" in event["message"] for event in run.read_events())
    run = NVE(**WATER, steps=1, timestep_fs=2.0).run(directory=tmp_path / "other", quiet=True)
    assert not any("too long for hydrogen" in event["message"] for event in run.read_events())


# ---------------------------------------------------------------------- paused


def test_wall_time_pauses_and_the_rest_is_the_same(tmp_path, monkeypatch):
    given = {**WATER, "steps": 200, "write_every": 5}
    straight = NVT(**given).run(directory=tmp_path / "straight", quiet=True)
    clock = iter(np.arange(0.0, 1e6, 60.0))
    with monkeypatch.context() as patch:
        patch.setattr(
            "asecalc_ml.md_protocols.engine.engine.time", SimpleNamespace(monotonic=lambda: next(clock))
        )
        is_said = told(value="0.1 h", problem="of production", remedy="resume")
        with pytest.raises(RunPausedError, check=is_said):
            NVT(**given, stop={"wall_time_h": 0.1}).run(directory=tmp_path / "run", quiet=True)
    assert RunReader(tmp_path / "run").read_events()[-1]["kind"] == "interrupted"
    resume_run(tmp_path / "run", quiet=True)
    for name in ("trajectory.traj", "thermo.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (straight.directory / name).read_bytes()


def test_sigterm_writes_a_checkpoint_and_ends_with_75(tmp_path):
    """What a queueing system sends before it kills."""
    file = tmp_path / "nve.yaml"
    file.write_text(
        "protocol: nve\nstructure: H2O\ncalculator: toy_calculators:SlowSprings\nrelax: false\n"
        f"equilibration_ps: 0\nsteps: 800\ncheckpoint_every: 100000\ndirectory: {tmp_path / 'run'}\n"
    )
    path = os.pathsep.join([str(Path(asecalc_ml.__file__).parents[1]), str(HELPERS)])
    environment = os.environ | {"PYTHONPATH": path, "TOY_DELAY_S": "0.01"}
    code = "from asecalc_ml.cli.md import main; main()"
    command = [sys.executable, "-c", code, "run", str(file), "--quiet"]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "thermo.csv").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 75
    assert "the system asked the run to end (SIGTERM)" in " ".join(said.split())
    assert "Traceback" not in said
    assert (tmp_path / "run" / "checkpoint.npz").is_file()
    assert 0 < RunReader(tmp_path / "run").read_thermo()["step"][-1] < 800
    assert resume_run(tmp_path / "run", quiet=True).read_thermo()["step"][-1] == 800


def test_the_options_are_in_the_template():
    printed = CliRunner().invoke(md.app, ["template", "nvt"]).output
    assert "wall_time_h:" in printed
    assert "outside_training_domain: false" in printed

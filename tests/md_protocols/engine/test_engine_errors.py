"""What goes wrong in a run ends in one clear error, and nothing that was computed is lost."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from places import HELPERS
from raising import told
from typer.testing import CliRunner

import asecalc_ml
from asecalc_ml.cli import md
from asecalc_ml.errors import AsecalcError, ConfigError, RunError, StructureError
from asecalc_ml.md_protocols.engine.checkpoint import load
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.watch.bond_watch import BondWatch
from asecalc_ml.runs import RunReader
from asecalc_ml.structure.topology.bonds import bond_changes, find_bonds

ROOT = str(Path(asecalc_ml.__file__).parents[1])
PLAIN = {"relax": False, "equilibration_ps": 0, "timestep_fs": 0.5, "structure": "H2O"}


def breaking(**options) -> NVE:
    return NVE(**PLAIN | {"calculator": "toy_calculators:BreakingSprings", "steps": 100} | options)


# ---------------------------------------------------------------------- in the middle of a run


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nan", "energy or forces are not finite"),
        ("infinite energy", "energy or forces are not finite"),
        ("error", "the calculator failed: no convergence"),
    ],
)
def test_last_good_state_is_kept(how, said, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_BY", how)
    monkeypatch.setenv("TOY_BREAKS_AT", "39")  # the first call is that of the start, the 39th that of step 38
    is_said = told(value=said, problem="step 37 of production", remedy=True)
    with pytest.raises(RunError, check=is_said):
        breaking().run(directory=tmp_path / "run", quiet=True)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    straight = breaking(write_every=1).run(directory=tmp_path / "straight", quiet=True)
    good = list(straight.frames())[37]
    checkpoint, _ = load(tmp_path / "run")
    assert checkpoint.values["step"] == 37
    assert np.array_equal(checkpoint.arrays["positions"], good.positions)
    assert np.array_equal(checkpoint.arrays["momenta"], good.get_momenta())
    run = RunReader(tmp_path / "run")
    assert (run.read_events()[-1]["kind"], run.read_events()[-1]["message"]) == ("stopped", said)
    assert run.read_thermo()["step"].tolist() == [0, 10, 20, 30]


def test_a_passing_failure_can_be_resumed(tmp_path, monkeypatch):
    straight = breaking().run(directory=tmp_path / "straight", quiet=True)
    monkeypatch.setenv("TOY_BREAKS_AT", "39")
    with pytest.raises(RunError):
        breaking().run(directory=tmp_path / "run", quiet=True)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    resume_run(tmp_path / "run", quiet=True)
    for name in ("trajectory.traj", "thermo.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (straight.directory / name).read_bytes()


@pytest.mark.parametrize(("call", "stage"), [(4, "relaxation"), (60, "equilibration")])
def test_failure_in_the_other_stages(call, stage, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_AT", str(call))
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=0)
    options = breaking(relax=True, equilibration_ps=0.1)
    with pytest.raises(RunError, check=told(problem=f"of {stage}", remedy=True)):
        options.run(atoms, tmp_path / "run", quiet=True)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    assert resume_run(tmp_path / "run", quiet=True).finished


def test_command_line_says_it_in_one_paragraph(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_AT", "39")
    file = tmp_path / "nve.yaml"
    file.write_text(
        "protocol: nve\nstructure: H2O\ncalculator: toy_calculators:BreakingSprings\n"
        f"relax: false\nequilibration_ps: 0\nsteps: 100\ndirectory: {tmp_path / 'run'}\n"
    )
    result = CliRunner().invoke(md.app, ["run", str(file), "--quiet"])
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "stopped after step 37 of production: energy or forces are not finite" in said
    assert "Traceback" not in result.output


def test_a_full_disk_loses_nothing(tmp_path):
    """The process may write files of 40 kB and no more; the trajectory does not fit."""
    given = PLAIN | {"calculator": "toy_calculators:Springs", "steps": 400, "write_every": 2}
    given |= {"checkpoint_every": 20}
    straight = NVE(**given).run(directory=tmp_path / "straight", quiet=True)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        "from asecalc_ml.md_protocols.nve import NVE;"
        f"NVE(**{given!r}).run(directory={str(tmp_path / 'run')!r}, quiet=True)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([ROOT, str(HELPERS)])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HELPERS, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert "RunError: cannot write to" in last
    assert "asecalc-md resume" in last
    assert RunReader(tmp_path / "run").n_frames > 10
    resume_run(tmp_path / "run", quiet=True)
    for name in ("trajectory.traj", "thermo.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (straight.directory / name).read_bytes()


# ---------------------------------------------------------------------- before a run


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"structure": None}, ConfigError, {"name": "structure", "remedy": "`structure: NAME`"}),
        ({"calculator": None}, ConfigError, {"name": "calculator", "remedy": "`calculator: NAME`"}),
        ({"calculator": "toy_calculators:Jumping"}, ConfigError, {"remedy": "envelope: true"}),
        ({"structure": "nowhere.xyz"}, StructureError, {"problem": "nowhere.xyz"}),
    ],
)
def test_wrong_options_leave_no_directory(options, error, said, tmp_path):
    with pytest.raises(error, check=told(**said)):
        breaking(**options).run(directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nan", {"name": "structure", "remedy": "elements"}),
        ("error", {"name": "calculator", "value": "no convergence"}),
    ],
)
def test_a_start_that_cannot_be_evaluated(how, said, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_BY", how)
    monkeypatch.setenv("TOY_BREAKS_AT", "1")
    with pytest.raises(StructureError, check=told(**said)):
        breaking().run(directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (Atoms("H2O", [[0, 0, 0], [0, 0, 0.1], [0, 0, 2]]), {"value": 0.1, "allowed": "0.4 Å"}),
        (Atoms("H2O", [[0, 0, np.nan], [0, 0, 1], [0, 0, 2]]), {"name": "positions of atom 0 (H)"}),
        (Atoms(), {"problem": "no atoms"}),
        (Atoms("Ar"), {"value": 1}),
    ],
)
def test_structures_that_cannot_run(atoms, expected, tmp_path):
    from ase.calculators.lj import LennardJones

    atoms.calc = LennardJones()
    with pytest.raises(StructureError, check=told(**expected, remedy=True)):
        NVE(steps=1).run(atoms, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_there_is_kept(tmp_path):
    first = breaking(steps=20).run(directory=tmp_path / "run", quiet=True)
    with pytest.raises(RunError, check=told(name="run", remedy="asecalc-md resume")):
        breaking(steps=10).run(directory=tmp_path / "run", quiet=True)
    assert first.read_thermo()["step"][-1] == 20
    again = breaking(steps=10).run(directory=tmp_path / "run", quiet=True, overwrite=True)
    assert again.read_thermo()["step"][-1] == 10


def test_overwriting_waits_until_the_new_run_can_begin(tmp_path):
    first = breaking(steps=20).run(directory=tmp_path / "run", quiet=True)
    with pytest.raises(AsecalcError):
        breaking(structure="nowhere.xyz").run(directory=tmp_path / "run", quiet=True, overwrite=True)
    assert first.read_thermo()["step"][-1] == 20


def test_torch_threads_are_left_as_found(tmp_path):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    breaking(steps=1, threads=before + 1).run(directory=tmp_path / "run", quiet=True)
    assert torch.get_num_threads() == before


# ---------------------------------------------------------------------- bonds


def test_bonds_that_break_and_form_are_noted(tmp_path):
    """Two water molecules' worth of atoms that fly apart: a hydrogen leaves with the speed given to it."""
    from ase.calculators.lj import LennardJones

    atoms = molecule("H2O")
    atoms.calc = LennardJones(epsilon=0.0)
    atoms.set_momenta([[0, 0, 0], [0, 5.0, 2.0], [0, 0, 0]])
    options = NVE(relax=False, equilibration_ps=0, velocities="structure", steps=200, write_every=1)
    run = options.run(atoms, tmp_path / "run", quiet=True)
    bonds = [event for event in run.read_events() if event["kind"] == "bonds"]
    assert bonds[0]["broken"] == [[0, 1]]
    assert bonds[0]["message"] == "bonds broken: O0-H1"
    frames = list(run.frames())
    assert bond_changes(run.bonds, frames[bonds[0]["step"] - 1]) == ([], [])
    assert bond_changes(run.bonds, frames[bonds[0]["step"]])[0] == [(0, 1)]


@pytest.mark.parametrize("amplitude", [0.05, 0.3, 0.6, 1.0])
def test_the_quick_comparison_finds_what_the_search_finds(amplitude):
    start = molecule("CH3CH2OH")
    watch = BondWatch(start, find_bonds(start))
    rng = np.random.default_rng(0)
    for _ in range(20):
        atoms = start.copy()
        atoms.positions += amplitude * rng.standard_normal(atoms.positions.shape)
        expected = [[list(pair) for pair in pairs] for pairs in bond_changes(find_bonds(start), atoms)]
        assert watch.changes(atoms, 0) == expected

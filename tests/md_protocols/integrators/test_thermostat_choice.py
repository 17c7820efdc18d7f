"""What `thermostat: auto` stands for, in new runs and in runs that began when there was one default."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from raising import told
from typer.testing import CliRunner

from asecalc_ml.cli import md
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.errors import AnalysisError, ConfigError, RunError, RunPausedError
from asecalc_ml.md_protocols.campaign.state import state_of
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.md_protocols.sequence import Sequence
from asecalc_ml.runs import RunReader

SHORT = {"relax": False, "equilibration_ps": 0.01, "steps": 60, "checkpoint_every": 20}
WATER = SHORT | {"structure": "water", "calculator": "toy_calculators:Springs"}
PARTS = [{"ensemble": "nvt", "steps": 40}, {"ensemble": "nve", "steps": 40}, {"ensemble": "nvt", "steps": 20}]
IN_PARTS = {name: WATER[name] for name in WATER if name != "steps"} | {"sequence": PARTS}


@pytest.mark.parametrize(("n_atoms", "name"), [(49, "langevin"), (50, "bussi")])
def test_the_number_of_atoms_decides(n_atoms, name, tmp_path):
    atoms = (bulk("Cu", cubic=True) * (3, 3, 2))[:n_atoms]
    atoms.calc = EMT()
    run = NVT(**SHORT | {"steps": 10}).run(atoms, tmp_path / "run", quiet=True)
    assert (run.read_options()["thermostat"], run.read_provenance()["options"]["thermostat"]) == (name, name)
    assert ("conserved_eV" in run.read_thermo()) == (name == "bussi")


def test_a_thermostat_that_is_named_stays(tmp_path):
    run = NVT(**WATER, thermostat="bussi").run(directory=tmp_path / "run", quiet=True)
    assert run.read_options()["thermostat"] == "bussi"


def test_parts_of_a_sequence_are_written_with_theirs(tmp_path):
    parts = [*PARTS, {"ensemble": "nvt", "thermostat": "nose-hoover-chain", "steps": 20}]
    run = Sequence(**IN_PARTS | {"sequence": parts}).run(directory=tmp_path / "run", quiet=True)
    found = [part.get("thermostat") for part in run.read_options()["sequence"]]
    assert found == ["langevin", None, "langevin", "nose-hoover-chain"]


def test_validate_names_it(tmp_path):
    for options, shown in ((NVT(**WATER), "langevin"), (Sequence(**IN_PARTS), "langevin, langevin")):
        path = tmp_path / f"{options.protocol}.yaml"
        path.write_text(dump_yaml(options))
        result = CliRunner().invoke(md.app, ["validate", str(path)])
        assert result.exit_code == 0, result.output
        assert f"thermostat:    {shown}\n" in result.output


def test_what_needs_a_conserved_energy_is_refused_before_the_run(tmp_path):
    """Of a small molecule auto is Langevin dynamics, which conserve none; the remedy is named."""
    with pytest.raises(AnalysisError, check=told(problem="energy-drift", remedy="bussi")):
        NVT(**WATER, analyses={"energy-drift": None}).run(directory=tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, check=told(value=0.1, remedy="thermostat bussi")):
        NVT(**WATER, stop={"energy_change_eV_atom": 0.1}).run(directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_stages_of_options_that_leave_it_open():
    with pytest.raises(ConfigError, check=told(name="thermostat", value="auto", remedy=True)):
        NVT(**WATER).stages()
    assert NVT(**WATER).with_thermostat("langevin").stages()


# --------------------------------------------------------------------------- options without an effect

IGNORED = [
    (NVT, {"thermostat": "bussi", "friction_per_ps": 5.0}, "friction_per_ps", "thermostat: langevin"),
    (NVT, {"thermostat": "langevin", "thermostat_time_fs": 50.0}, "thermostat_time_fs", "nose-hoover-chain"),
    (NVT, {"thermostat_time_fs": 50.0}, "thermostat_time_fs", "bussi"),  # auto is langevin here
    (NVT, {"relax_fmax_eV_A": 0.1}, "relax_fmax_eV_A", "relax: true"),
    (
        NVT,
        {"equilibration_ps": 0, "equilibration_friction_per_ps": 5.0},
        "equilibration_friction_per_ps",
        "equilibration_ps above 0",
    ),
    (
        Sequence,
        {"sequence": [*PARTS[:2], PARTS[2] | {"thermostat": "bussi", "friction_per_ps": 5.0}]},
        "part 3 of the sequence: friction_per_ps",
        "thermostat: langevin",
    ),
]


@pytest.mark.parametrize(("protocol", "changes", "name", "owner"), IGNORED)
def test_an_option_that_has_no_effect_is_named_with_what_it_belongs_to(
    protocol, changes, name, owner, tmp_path
):
    options = protocol(**(IN_PARTS if protocol is Sequence else WATER) | changes)
    path = tmp_path / "a.yaml"
    given = options.model_dump(mode="json", exclude_unset=True)
    path.write_text(json.dumps({"protocol": options.protocol} | given))
    for command in ("validate", "run"):
        with pytest.warns(UserWarning, match=rf"^{name}: .*{owner}"):
            result = CliRunner().invoke(md.app, [command, str(path), "--directory", str(tmp_path / "run")])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "given",
    [
        {"friction_per_ps": 5.0},  # auto is langevin here
        {"thermostat": "bussi", "friction_per_ps": 1.0},  # as a template or a run's own file has it
        {"thermostat": "nose-hoover-chain", "thermostat_time_fs": 50.0},
        {"thermostat": "langevin", "friction_per_ps": 5.0},
    ],
)
def test_options_in_use_and_defaults_give_no_warning(given, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*has no effect.*")
        NVT(**WATER, **given).check(directory=tmp_path / "run")


# ----------------------------------------------------------------------------------- runs that have begun


@pytest.mark.parametrize("options", [NVT(**WATER), Sequence(**IN_PARTS)], ids=lambda one: one.protocol)
@pytest.mark.parametrize("is_named", [True, False])
def test_an_older_run_goes_on_with_velocity_rescaling(options, is_named, tmp_path, monkeypatch):
    """To the last bit, whether its files name the thermostat or come from a default that has changed."""
    begun = options.with_thermostat("bussi")
    straight = begun.run(directory=tmp_path / "straight", quiet=True)
    broken_off(begun, tmp_path / "run", monkeypatch)
    if not is_named:
        for name in ("protocol.yaml", "provenance.json"):
            forget_thermostat(tmp_path / "run" / name)
    assert resume_run(tmp_path / "run", quiet=True).finished
    for name in ("trajectory.traj", "thermo.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (straight.directory / name).read_bytes()


@pytest.mark.parametrize(
    "stopped_in", ["asecalc_ml.runs.RunWriter.cut_back", "asecalc_ml.md_protocols.engine.launch.drive"]
)
def test_an_older_sequence_is_resumed_more_than_once(stopped_in, tmp_path, monkeypatch):
    """And says that nothing is left to do, once it is finished."""
    begun = Sequence(**IN_PARTS).with_thermostat("bussi")
    straight = begun.run(directory=tmp_path / "straight", quiet=True)
    broken_off(begun, tmp_path / "run", monkeypatch)
    for name in ("protocol.yaml", "provenance.json"):
        forget_thermostat(tmp_path / "run" / name)
    with monkeypatch.context() as patch:
        patch.setattr(stopped_in, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            resume_run(tmp_path / "run", quiet=True)
    for _ in range(2):
        assert resume_run(tmp_path / "run", quiet=True).finished
    for name in ("trajectory.traj", "thermo.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (straight.directory / name).read_bytes()


def test_another_choice_for_a_run_that_has_begun_is_refused(tmp_path, monkeypatch):
    broken_off(NVT(**WATER), tmp_path / "run", monkeypatch)
    path = tmp_path / "run" / "protocol.yaml"
    path.write_text(path.read_text().replace("thermostat: langevin", "thermostat: auto"))
    with pytest.raises(RunError, check=told(value="thermostat auto instead of langevin")):
        resume_run(tmp_path / "run", quiet=True)


def broken_off(options, directory: Path, monkeypatch) -> None:
    """Pause a run in its production."""
    clock = iter(np.arange(0.0, 1e6, 1.0))
    limited = options.model_copy(update={"stop": options.stop.model_copy(update={"wall_time_h": 4.5 / 3600})})
    with monkeypatch.context() as patch:
        patch.setattr(
            "asecalc_ml.md_protocols.engine.engine.time", SimpleNamespace(monotonic=lambda: next(clock))
        )
        with pytest.raises(RunPausedError):
            limited.run(directory=directory, quiet=True)
    assert not RunReader(directory).finished


def forget_thermostat(path: Path) -> None:
    """Leave the option out of a file."""
    from asecalc_ml.config.options import read_yaml

    data = json.loads(json.dumps(read_yaml(path)))
    for options in (data, data.get("options", {})):
        options.pop("thermostat", None)
        for part in options.get("sequence", []):
            part.pop("thermostat", None)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("options", [NVT(**WATER), Sequence(**IN_PARTS)], ids=lambda one: one.protocol)
def test_a_campaign_takes_up_runs_of_either_default(options, tmp_path):
    for name in ("langevin", "bussi"):
        options.with_thermostat(name).run(directory=tmp_path / name, quiet=True)
        assert state_of(tmp_path / name, options) == "to be analysed"
    options.with_thermostat("nose-hoover-chain").run(directory=tmp_path / "chain", quiet=True)
    with pytest.raises(RunError, check=told(name=str(tmp_path / "chain"), remedy="another directory")):
        state_of(tmp_path / "chain", options)
    with pytest.raises(RunError, check=told(name=str(tmp_path / "bussi"), remedy="another directory")):
        state_of(tmp_path / "bussi", options.with_thermostat("langevin"))

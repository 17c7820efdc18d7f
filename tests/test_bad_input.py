"""What users do wrong, and what goes wrong around them: a clear word, exit status 2, and nothing lost."""

import pytest
from typer.testing import CliRunner

from asecalc_ml.cli.md import app as md
from asecalc_ml.errors import RunError
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.resume import resume_run
from asecalc_ml.rundir import RunReader

EMT = {"structure": "ethanol", "calculator": "ase.calculators.emt:EMT", "relax": False}


def says(app, *arguments) -> str:
    """The complaint of a command that must fail as it should."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


# ---------------------------------------------------------------------- runs that blow up


@pytest.mark.parametrize("every", [{"checkpoint_every": 1000}, {"checkpoint_every": 3, "thermo_every": 500}])
def test_a_time_step_far_too_long_stops_the_run_at_a_good_state(tmp_path, every):
    run = NVE(**EMT, equilibration_ps=0.01, timestep_fs=15, steps=2000, write_every=1, **every)
    with pytest.raises(RunError, match=r"total energy is off by .* blown up\. The last good state is in"):
        run.run(directory=tmp_path / "run", quiet=True)
    reader = RunReader(tmp_path / "run")
    assert reader.events[-1]["kind"] == "stopped"
    assert not reader.finished
    with pytest.raises(RunError, match="blown up"):  # the checkpoint is from before, so it comes back to it
        resume_run(tmp_path / "run", quiet=True)


def test_an_equilibration_that_blows_up_stops(tmp_path):
    run = NVE(**EMT, equilibration_ps=10, equilibration_timestep_fs=15, steps=10)
    with pytest.raises(RunError, match="equilibration: the kinetic energy is off by .* blown up"):
        run.run(directory=tmp_path / "run", quiet=True)


def test_hot_runs_are_not_taken_for_blown_up(tmp_path):
    run = NVE(**EMT, temperature_K=5000, equilibration_ps=0.05, steps=200, seed=1)
    assert run.run(directory=tmp_path / "run", quiet=True).finished


def test_a_blown_up_run_ends_with_status_2(tmp_path):
    options = tmp_path / "nve.yaml"
    options.write_text(
        "protocol: nve\nstructure: ethanol\ncalculator: ase.calculators.emt:EMT\nrelax: false\n"
    )
    arguments = ("--timestep-fs", 15, "--steps", 2000, "--equilibration-ps", 0.01)
    assert "blown up" in says(md, "run", options, "--directory", tmp_path / "run", *arguments)

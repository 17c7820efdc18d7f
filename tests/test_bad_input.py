"""What users do wrong, and what goes wrong around them: a clear word, exit status 2, and nothing lost."""

import re

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
    with pytest.raises(RunError, match=r"equilibration: the kinetic energy is off by .* blown up"):
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


# ---------------------------------------------------------------------- YAML and the command line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("protocol: nve\n\tstructure: ethanol\n", "line 2: this is not valid YAML: .*; indent with spaces"),
        ("protocol: nve\nstructure: a: b\n", "line 2: .*; a text that holds ': ' needs quotes"),
        ("protocol: nve\n---\nprotocol: nve\n", "one file holds one set of options"),
        ("protocol:\n", "line 1: 'protocol' should be one of .*nve"),
        ("protocol: [nve]\n", "line 1: 'protocol' should be one of .*nve"),
        (
            "protocol: nve\nanalyses: [angles]\n",
            r"line 2: .*should be keys and values, such as \{name: value\}",
        ),
        ("protocol: nve\nrelax: maybe\n", "line 2: 'relax' is 'maybe', but should be true or false"),
        ("", "key 'protocol' is missing; add `protocol: NAME`"),
    ],
)
def test_wrong_yaml_is_explained_to_who_never_saw_yaml(tmp_path, text, said):
    (tmp_path / "nve.yaml").write_text(text)
    assert re.search(said, says(md, "validate", tmp_path / "nve.yaml"))


@pytest.fixture
def nve(tmp_path):
    """A file whose values are all right."""
    (tmp_path / "nve.yaml").write_text("protocol: nve\nstructure: ethanol\ncalculator: gfn2-xtb\nsteps: 5\n")
    return tmp_path / "nve.yaml"


def test_a_wrong_value_on_the_command_line_is_not_blamed_on_a_line_of_the_file(nve):
    said = says(md, "run", nve, "--steps", "abc")
    assert "nve.yaml: 'steps' is 'abc', but should be a valid integer" in said
    assert "line" not in said


def test_texts_with_colons_on_the_command_line_stay_texts(nve):
    assert "is not a SMILES" in says(md, "run", nve, "--structure", "smiles:")

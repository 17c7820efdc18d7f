"""`asecalc-ml check`: a table, a file, and an exit status."""

import json

import pytest
from ase.build import bulk
from typer.testing import CliRunner

from asecalc_ml.cli.ml import app

LJ = "ase.calculators.lj:LennardJones"


def run(*arguments: str):
    return CliRunner().invoke(app, ["check", *arguments, "--quiet"])


@pytest.fixture(autouse=True)
def argon(tmp_path, monkeypatch) -> str:
    """A crystal in a folder of its own, where results are written."""
    monkeypatch.chdir(tmp_path)
    bulk("Ar", "fcc", 5.26, cubic=True).write("argon.xyz")
    return "argon.xyz"


def test_passes(argon, tmp_path):
    arguments = ("--epsilon", "0.0103", "--sigma=3.4", "--rc", "8", "--smooth", "true")
    result = run(LJ, "--atoms", argon, "--only", "forces", "--only", "stress of bulk", *arguments)
    assert result.exit_code == 0, result.output
    assert "All checks passed" in result.stdout
    found = json.loads((tmp_path / "check-LennardJones.json").read_text())
    assert found["calculator"]["parameters"]["sigma"] == 3.4
    assert [one["name"] for one in found["checks"]] == ["forces", "stress of bulk"]


def test_a_failure_is_exit_status_1(argon, tmp_path):
    """The force jumps at a cutoff that is not smooth."""
    result = run(
        LJ, "--atoms", argon, "--only", "continuity", "--sigma", "3.4", "--rc", "6", "--json", "a/b.json"
    )
    assert result.exit_code == 1, result.output
    assert "1 failed: continuity." in result.stdout
    assert json.loads((tmp_path / "a" / "b.json").read_text())["failed"] == ["continuity"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no-such-model",), "no model named 'no-such-model'"),
        (("nowhere:Class",), "No module named 'nowhere'"),
        ((LJ, "--atoms", "ethanoll"), "no structure 'ethanoll'"),
        ((LJ, "--atoms", "ethanol", "--only", "force"), "no check 'force'; did you mean 'forces'"),
        ((LJ, "--sigma"), "--sigma has no value"),
    ],
)
def test_mistakes_are_exit_status_2(arguments, message):
    result = CliRunner().invoke(app, ["check", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output

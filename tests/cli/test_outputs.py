"""Outputs that cannot be written are refused before anything is read or computed, by every command."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.errors import ConfigError, DatasetError
from asecalc_ml.files.writing import check_output

#: Commands whose other arguments do not exist: only a check before everything else names the output.
FILES = {
    "predict": (ml, ["predict", "no-model", "no-structure", "--overwrite", "--output"], ".csv"),
    "chemiscope": (ml, ["explain", "no-model", "no-structure", "--chemiscope"], ".json"),
    "convert": (ml, ["data", "convert", "--overwrite", "no-file.xyz"], ".xyz"),
    "label": (ml, ["data", "label", "no-file.xyz", "--overwrite", "--output"], ".xyz"),
    "generate": (ml, ["data", "generate", "no-structure", "--overwrite", "--output"], ".xyz"),
    "check": (ml, ["check", "no-model", "--json"], ".json"),
}
FOLDERS = {
    "map": (ml, ["map", "no-model", "no-structure", "--directory"]),
    "explain": (ml, ["explain", "no-model", "no-structure", "--directory"]),
    "compare": (md, ["compare", "no-run", "no-other", "--output"]),
}


def refused(app, arguments) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def places(tmp_path, name):
    """Places where no file of a name can be written, with the reason that is given."""
    (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    yield tmp_path / name, "is a folder"
    yield tmp_path / "file" / name, "file is a file"
    if Path("/proc/self").exists():
        yield Path("/proc", name), "no file can be made there"


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_cannot_be_written_is_refused_first(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app, arguments, suffix = FILES[command]
    for path, reason in places(tmp_path, f"out{suffix}"):
        text = refused(app, [*arguments, path])
        assert str(path) in text
        assert reason in text


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_that_cannot_be_written_to_is_refused_first(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app, arguments = FOLDERS[command]
    (tmp_path / "file").touch()
    assert "file is a file" in refused(app, [*arguments, tmp_path / "file" / "results"])
    if Path("/proc/self").exists():
        assert "no file can be made there" in refused(app, [*arguments, "/proc/results"])


def test_an_output_that_exists_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "out.csv"
    path.touch()
    with pytest.raises(ConfigError, match="exists: give another file, or replace it with --overwrite"):
        check_output(path)
    check_output(path, overwrite=True)
    with pytest.raises(DatasetError, match=r"give a name that ends in \.xyz or \.extxyz"):
        check_output(path, [".xyz", ".extxyz"], overwrite=True, error=DatasetError)
    check_output(tmp_path / "new" / "out.csv")
    assert not (tmp_path / "new").exists()

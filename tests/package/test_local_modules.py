"""Calculators next to the YAML file that names them, and users without a home folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from raising import told
from typer.testing import CliRunner

from asecalc_ml import local_modules
from asecalc_ml.cli import md, ml, process
from asecalc_ml.errors import ConfigError
from asecalc_ml.files.user_cache import cache_folder
from asecalc_ml.store.registry import Registry

CALCULATOR = "from ase.calculators.emt import EMT\nclass Mine(EMT):\n    pass\n"
PROTOCOL = """
protocol: nve
structure: CH3OH
calculator: beside_the_file:Mine
steps: 5
relax: false
equilibration_ps: 0
analyses: {bond-lengths: {}}
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with a YAML file and a module, and another that is the current one."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "beside_the_file.py").write_text(CALCULATOR)
    (folder / "run.yaml").write_text(PROTOCOL)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(local_modules, "_added", [])
    monkeypatch.delitem(sys.modules, "beside_the_file", raising=False)
    return folder


def command(app, *arguments) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.output


def forget(monkeypatch) -> None:
    """Let this process be as a new one."""
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in local_modules.added_folders()])
    monkeypatch.setattr(local_modules, "_added", [])
    monkeypatch.delitem(sys.modules, "beside_the_file", raising=False)


def test_a_module_next_to_the_file_is_found_from_anywhere_and_when_the_run_is_resumed(project, monkeypatch):
    run = project.parent / "run"
    command(md.app, "validate", project / "run.yaml", "--directory", run)
    forget(monkeypatch)
    command(md.app, "run", project / "run.yaml", "--directory", run, "--quiet")
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["module_folders"] == [str(project)]
    (run / "provenance.json").write_text(json.dumps(provenance | {"finished": None}))
    forget(monkeypatch)
    command(md.app, "resume", run, "--quiet")
    assert json.loads((run / "provenance.json").read_text())["finished"]


def test_a_module_in_the_current_folder_is_found(project, monkeypatch):
    monkeypatch.chdir(project)
    command(ml.app, "check", "beside_the_file:Mine", "--atoms", "CH3OH", "--only", "determinism")
    assert "beside_the_file" in sys.modules


def test_an_installed_module_is_not_hidden(project):
    (project / "ase.py").write_text("raise RuntimeError\n")
    (project / "run.yaml").write_text(PROTOCOL.replace("beside_the_file:Mine", "ase.calculators.emt:EMT"))
    code = (
        f"import sys; sys.argv[1:] = ['validate', {str(project / 'run.yaml')!r}]; "
        "from asecalc_ml.cli.md import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is valid" in done.stdout, done.stderr


def test_the_message_says_where_modules_are_looked_for(project):
    (project / "run.yaml").write_text(PROTOCOL.replace("beside_the_file", "nowhere"))
    done = CliRunner().invoke(md.app, ["validate", str(project / "run.yaml")])
    assert done.exit_code == 2
    assert "in the current folder and in that of the YAML file" in " ".join(done.output.split())


def test_runs_of_a_campaign_find_it_in_their_processes(project):
    (project / "campaign.yaml").write_text("base: run.yaml\ngrid: {seed: [0]}\n")
    output = command(
        md.app, "campaign", project / "campaign.yaml", "--directory", project.parent / "campaign"
    )
    assert "done" in output


# ------------------------------------------------------------------------------------------- no home folder


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """HOME, LOGNAME and the like are not set, and the user has no entry in passwd."""
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "XDG_CACHE_HOME", "ASECALC_ML_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path / f"asecalc-ml-{os.getuid()}"
    for name in ("HOME", "LOGNAME"):
        os.environ.pop(name, None)


def test_the_library_names_the_variable_to_set(homeless):
    with pytest.raises(ConfigError, check=told(name="HOME", remedy="ASECALC_ML_HOME")):
        Registry()
    with pytest.raises(ConfigError, check=told(name="HOME", remedy="XDG_CACHE_HOME")):
        cache_folder("golden")


def test_commands_take_a_folder_of_their_own(homeless, capsys):
    process.ensure_home()
    assert os.environ["HOME"] == str(homeless)
    assert os.environ["LOGNAME"] == f"uid{os.getuid()}"
    assert homeless.stat().st_mode & 0o777 == 0o700
    assert "HOME is not set" in capsys.readouterr().err
    process.ensure_home()
    assert capsys.readouterr().err == ""


def test_the_folder_of_somebody_else_is_refused(homeless):
    homeless.symlink_to(homeless.parent)
    with pytest.raises(ConfigError, check=told(name=str(homeless), remedy="HOME")):
        process.ensure_home()


def test_ase_and_matplotlib_can_be_imported_then(tmp_path):
    """Both look for a home folder when they are imported."""
    code = (
        "import pwd, tempfile; pwd.getpwuid = lambda uid: {}[uid]; "
        f"tempfile.tempdir = {str(tmp_path)!r}; "
        "from asecalc_ml.cli.process import prepare_process; prepare_process(); "
        "import ase.config, getpass, matplotlib; print(matplotlib.get_configdir(), getpass.getuser())"
    )
    homes = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "XDG_CACHE_HOME", "MPLCONFIGDIR")
    environment = {name: value for name, value in os.environ.items() if name not in homes}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
    assert f"uid{os.getuid()}" in done.stdout

"""The commands used wrongly: one clear paragraph, exit status 2 (130 for Ctrl-C), never a traceback."""

import errno
import json
import os
import signal
import subprocess
import sys
import warnings

import pytest
import typer
from typer.testing import CliRunner

import asecalc_ml
from asecalc_ml.cli.arguments import override
from asecalc_ml.cli.errors import FriendlyGroup
from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.cli.process import show_messages
from asecalc_ml.config import read_yaml
from asecalc_ml.errors import AsecalcError, ConfigError

NVE = "protocol: nve\nstructure: ethanol\ncalculator: ase.calculators.emt:EMT\n"


def says(app, *arguments: str) -> str:
    """The complaint of a command that must fail as it should."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert not isinstance(result.exception, AsecalcError)
    return " ".join(result.stderr.split())


@pytest.fixture
def nve(tmp_path):
    """Writes an NVE file with more lines, and says where it is."""

    def write(*lines: str):
        path = tmp_path / "nve.yaml"
        path.write_text(NVE + "".join(f"{line}\n" for line in lines))
        return path

    return write


# ---------------------------------------------------------------------- wrong files


@pytest.mark.smoke
def test_unknown_key(nve):
    assert "nve.yaml, line 4: unknown key 'timstep_fs'; did you mean 'timestep_fs'?" in says(
        md, "validate", nve("timstep_fs: 1")
    )


def test_wrong_type(nve):
    assert "line 4: 'steps' is 'many', but should be a valid integer" in says(
        md, "validate", nve("steps: many")
    )


def test_broken_yaml(nve):
    assert "line 4: this is not valid YAML" in says(md, "validate", nve("  steps: ["))


def test_missing_file(tmp_path):
    assert "nowhere.yaml: no such file" in says(md, "run", tmp_path / "nowhere.yaml")


def test_no_protocol(tmp_path):
    path = tmp_path / "empty.yaml"
    path.touch()
    assert "key 'protocol' is missing; add `protocol: NAME` with one of" in says(md, "run", path)


def test_unknown_protocol(tmp_path):
    path = tmp_path / "nev.yaml"
    path.write_text("structure: ethanol\nprotocol: nvee\n")
    assert "nev.yaml, line 2: no protocol 'nvee'; did you mean 'nve'?" in says(md, "validate", path)


def test_unknown_analysis(nve):
    path = nve("analyses:", "  bond-length: {}")
    assert "nve.yaml, line 5: no analysis 'bond-length'; did you mean 'bond-lengths'?" in says(
        md, "validate", path
    )


def test_wrong_option_of_an_analysis(nve):
    path = nve("analyses:", "  bond-lengths:", "    widht: 1")
    assert "nve.yaml, line 6: unknown key 'widht'" in says(md, "validate", path)


@pytest.mark.parametrize(
    ("analysis", "message"),
    [
        ("bond-lengths: {patterns: [C-N]}", "no bond in C2H6O matches 'C-N'"),
        ("conformers: {dihedrals: [C-C-C-O]}", "no dihedral in C2H6O matches 'C-C-C-O'"),
        ("radial-distribution: {pairs: [O-N]}", "no pair in C2H6O matches 'N-O': 'N' is none"),
        ("scan: {follow: [[1, 9]]}", "follow: [1, 9] are not two atoms of the structure"),
    ],
)
def test_what_an_analysis_names_is_looked_for_before_the_run(nve, tmp_path, analysis, message):
    path = nve("analyses:", f"  {analysis}", f"directory: {tmp_path / 'run'}")
    assert f"analysis {analysis.partition(':')[0]}: {message}" in says(md, "run", path)
    assert not (tmp_path / "run").exists()


def test_valid_file(nve):
    result = CliRunner().invoke(md, ["validate", str(nve("analyses:", "  bond-lengths: {}"))])
    assert result.exit_code == 0
    assert "nve.yaml is valid: nve in runs/nve\n" in result.stdout


def test_validate_writes_nothing(nve, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = nve()
    CliRunner().invoke(md, ["validate", str(path)])
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------------- wrong arguments


def test_option_on_the_command_line_is_checked_like_one_in_the_file(nve):
    assert "unknown key 'stepz'; did you mean 'steps'?" in says(md, "run", nve(), "--stepz", "3")


def test_option_without_a_value(nve):
    assert "cannot understand '--steps'" in says(md, "run", nve(), "--steps")


def test_override_wins_and_reads_yaml_values(nve):
    data = override(read_yaml(nve("steps: 5")), ["--steps", "7", "--timestep-fs=1e-1", "--relax", "false"])
    assert (data["steps"], data["timestep_fs"], data["relax"]) == (7, 0.1, False)


def test_override_refuses_a_lone_word():
    with pytest.raises(ConfigError, match="cannot understand 'steps'"):
        override({}, ["steps", "3"])


def test_unknown_command():
    assert "No such command 'fly'" in says(md, "fly")


def test_unknown_kind_of_options():
    assert "give train or generate" in says(ml, "template", "cook")


def test_resume_of_nothing(tmp_path):
    assert str(tmp_path / "nothing") in says(md, "resume", tmp_path / "nothing").replace(" ", "")


def test_report_of_nothing(tmp_path):
    assert str(tmp_path / "nothing") in says(md, "report", tmp_path / "nothing").replace(" ", "")


def test_generate_without_output():
    assert "key 'output' is missing" in says(ml, "data", "generate", "ethanol")


# ---------------------------------------------------------------------- trainings

UNITS = "name: m\ndata: {format: ase, path: x,\n  energy_unit: kcal}\n"
ARCHITECTURE = (
    "name: m\ndata: {format: ase, path: x}\nmodel:\n  architecture: equivariant-transformer\n  n_layer: 3\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: m\ndata:\n  format: rmd71\n", "line 3: no dataset reader 'rmd71'; did you mean 'rmd17'?"),
        ("name: m\ndata:\n  path: x\n", "line 2: key 'format' is missing; add `format: NAME` with one of"),
        (UNITS, "line 3: 'energy_unit' is 'kcal', but should be 'eV', 'meV', 'kcal/mol'"),
        ("name: My model\ndata: {}\n", "line 1: 'name' is 'My model', but"),
        (ARCHITECTURE, "line 5: unknown key 'n_layer'; did you mean 'n_layers'?"),
    ],
)
def test_wrong_training(tmp_path, text, message):
    path = tmp_path / "train.yaml"
    path.write_text(text)
    assert f"train.yaml, {message}" in says(ml, "train", path)


def test_data_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASECALC_ML_HOME", str(tmp_path))
    path = tmp_path / "train.yaml"
    path.write_text("name: m\ndata: {format: ase, path: nowhere.xyz}\n")
    assert "nowhere.xyz does not exist" in says(ml, "train", path)


# ---------------------------------------------------------------------- models


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A registry that holds one damaged model."""
    monkeypatch.setenv("ASECALC_ML_HOME", str(tmp_path))
    (tmp_path / "torn-ethanol.safetensors").write_bytes(b"not a model")
    return tmp_path


def test_unknown_model_says_the_nearest(home):
    assert "did you mean 'torn-ethanol'?" in says(ml, "models", "show", "torn-ethanl")


@pytest.mark.parametrize("command", ["show", "cite"])
def test_damaged_model(home, command):
    assert "the file is damaged" in says(ml, "models", command, "torn-ethanol")


def test_damaged_model_does_not_hide_the_others(home):
    result = CliRunner().invoke(ml, ["models", "list"])
    assert result.exit_code == 0
    assert "damaged" in next(line for line in result.stdout.splitlines() if "torn-ethanol" in line)


def test_name_that_is_taken(home, tmp_path):
    (tmp_path / "deeper").mkdir()
    copy = tmp_path / "deeper" / "torn-ethanol.safetensors"
    copy.write_bytes(b"neither")
    assert "--replace" in says(ml, "models", "add", copy, "--name", "torn-ethanol")


def test_export_does_not_overwrite(home, tmp_path):
    target = tmp_path / "mine.safetensors"
    target.write_bytes(b"precious")
    assert "exists" in says(ml, "models", "export", "torn-ethanol", target)
    assert target.read_bytes() == b"precious"


def test_remove(home):
    assert CliRunner().invoke(ml, ["models", "remove", "torn-ethanol"], input="n\n").exit_code == 0
    assert (home / "torn-ethanol.safetensors").exists()
    assert CliRunner().invoke(ml, ["models", "remove", "torn-ethanol", "--yes"]).exit_code == 0
    assert not (home / "torn-ethanol.safetensors").exists()


# ---------------------------------------------------------------------- what goes right


@pytest.mark.smoke
@pytest.mark.parametrize("app", [md, ml])
def test_version(app):
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == asecalc_ml.__version__


def test_schema_is_json():
    assert "timestep_fs" in json.loads(CliRunner().invoke(md, ["schema", "nve"]).stdout)["properties"]


@pytest.mark.parametrize(("app", "arguments"), [(md, ["nve"]), (ml, ["train"]), (ml, ["generate"])])
def test_template_explains(app, arguments):
    result = CliRunner().invoke(app, ["template", *arguments])
    assert result.exit_code == 0
    assert result.stdout.count("# ") > 5


@pytest.mark.smoke
def test_help_answers_within_a_second(tmp_path):
    """In processor time, the quickest of three: other work on the machine is not ours."""
    code = "import sys; sys.argv = ['asecalc-md', '--help']; from asecalc_ml.cli.md import main; main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def seconds() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])  # of children, in user and system mode

    assert min(seconds() for _ in range(3)) < 1


# ---------------------------------------------------------------------- errors from below


def failing(error: BaseException) -> typer.Typer:
    app = typer.Typer(cls=FriendlyGroup, pretty_exceptions_enable=False)

    @app.callback()
    def common() -> None: ...

    @app.command()
    def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/thermo.csv"), "free some space"),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs/thermo.csv"),
            "check its permissions",
        ),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "runs/thermo.csv"), "check the name"),
    ],
)
def test_operating_system_errors_name_the_file_and_a_remedy(error, message):
    text = says(failing(error), "fail")
    assert "runs/thermo.csv" in text
    assert message in text


def test_operating_system_error_without_a_number():
    assert "Error: the tape is torn." in says(failing(OSError("the tape is torn")), "fail")


def test_a_full_memory_is_told():
    import torch

    text = says(failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")), "fail")
    assert "Error: out of memory (CUDA out of memory. Tried to allocate 2 GiB): take fewer atoms" in text
    assert "out of memory (MemoryError): take" in says(failing(MemoryError()), "fail")


def test_markup_in_a_message_is_printed_as_it_is():
    assert "[bold]C-O[/bold]" in says(failing(AsecalcError("no pairs [bold]C-O[/bold]")), "fail")


def test_a_bug_of_ours_is_not_hidden():
    result = CliRunner().invoke(failing(ZeroDivisionError()), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_ctrl_c_in_a_real_process():
    code = (
        "import signal, time, typer; from asecalc_ml.cli.errors import FriendlyGroup\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
        "app = typer.Typer(cls=FriendlyGroup, pretty_exceptions_enable=False)\n"
        "@app.callback()\ndef common(): pass\n"
        "@app.command()\ndef wait():\n    print('ready', flush=True)\n    time.sleep(30)\n"
        "app(['wait'])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, **pipes) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr


def test_warnings_of_a_command_are_one_line_for_its_user(monkeypatch):
    """The place in our code helps nobody; where a programmer is warned, Python's own form stays."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    show_messages(quiet=True)
    assert warnings.formatwarning("no compiler", UserWarning, "here.py", 7) == "Warning: no compiler\n"
    assert "here.py:7" in warnings.formatwarning("old", DeprecationWarning, "here.py", 7)


def test_warnings_of_the_future_of_libraries_are_not_printed(monkeypatch):
    """Nobody who runs a command can act upon them; ours and those of a plugin are printed."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "warnoptions", [])
    modules = ("torch", "torch._inductor.lowering", "torchmdnet.models", "asecalc_ml.card", "torch_plugin")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        show_messages(quiet=False)
        for module in modules:
            warnings.warn_explicit(module, FutureWarning, "file.py", 1, module=module)
        warnings.warn_explicit("of now", UserWarning, "file.py", 1, module="torch")
    assert [str(warning.message) for warning in shown] == ["asecalc_ml.card", "torch_plugin", "of now"]


def test_warnings_of_the_future_are_printed_where_python_is_asked_to(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        show_messages(quiet=False)
        warnings.warn_explicit("of torch", FutureWarning, "file.py", 1, module="torch")
    assert len(shown) == 1

"""The commands used wrongly: one clear paragraph, exit status 2 (130 for Ctrl-C), never a traceback."""

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from raising import told
from ruamel.yaml import YAML
from typer.testing import CliRunner

import asecalc_ml
from asecalc_ml import config, plugins
from asecalc_ml.cli import templates
from asecalc_ml.cli.arguments import override
from asecalc_ml.cli.errors import FriendlyGroup
from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.cli.process import show_messages
from asecalc_ml.config.options import read_yaml
from asecalc_ml.errors import AsecalcError, ConfigError
from asecalc_ml.md_protocols import nve as nve_protocol
from asecalc_ml.md_protocols.campaign.options import Campaign, expand

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
    assert "nve.yaml, line 6: unknown key 'analyses.bond-lengths.widht'" in says(md, "validate", path)


@pytest.mark.parametrize(
    ("analysis", "message"),
    [
        ("bond-lengths: {patterns: [C-N]}", "no bond in C2H6O matches 'C-N'"),
        ("conformers: {dihedrals: [C-C-C-O]}", "no dihedral in C2H6O matches 'C-C-C-O'"),
        ("radial-distribution: {pairs: [O-N]}", "no pair in C2H6O matches 'N-O', since it has no atom 'N'"),
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
    assert "--steps has no value" in says(md, "run", nve(), "--steps")


def test_override_wins_and_reads_yaml_values(nve):
    data = override(read_yaml(nve("steps: 5")), ["--steps", "7", "--timestep-fs=1e-1", "--relax", "false"])
    assert (data["steps"], data["timestep_fs"], data["relax"]) == (7, 0.1, False)


def test_override_refuses_a_lone_word():
    with pytest.raises(ConfigError, check=told(name="steps", remedy="--key value")):
        override({}, ["steps", "3"])


# ---------------------------------------------------------------------- options of options


def test_a_nested_option_wins_over_that_of_the_file_and_is_recorded(nve, tmp_path):
    lines = ("stop: {bond_change: true, wall_time_h: 9}", "analyses: {bond-lengths: {by: pairs}}")
    base = read_yaml(nve(*lines))
    given = ["--stop.wall-time-h", "null", "--analyses.energy-drift.limit-meV-atom-ps=2.5"]
    given += [
        "--analyses.angles",
        "{}",
        "--wandb.mode",
        '"offline"',
        "--analyses.bond-lengths.patterns",
        "[C-O]",
    ]
    options = config.parse_options(override(base, given), nve_protocol.NVE)
    assert (options.stop.bond_change, options.stop.wall_time_h) == (True, None)
    assert options.analyses == {
        "bond-lengths": {"by": "pairs", "patterns": ["C-O"]},
        "energy-drift": {"limit_meV_atom_ps": 2.5},
        "angles": {},
    }
    assert options.tracking == {"wandb": {"mode": "offline"}}
    result = CliRunner().invoke(
        md, ["run", str(nve(*lines[:1])), "--stop.wall_time_h", "2", "--directory", str(tmp_path / "run"),
                 "--steps", "2", "--equilibration_ps", "0", "--relax", "false"]
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    stored = read_yaml(tmp_path / "run" / "protocol.yaml")
    assert (stored["stop"]["wall_time_h"], stored["stop"]["bond_change"]) == (2, True)


def test_the_command_line_and_a_grid_mean_the_same():
    base = {"protocol": "nve", "structure": "H2O", "calculator": "emt", "stop": None}
    grid = {"stop.wall_time_h": 2, "calculator.emt.asap_cutoff": True, "steps": 7, "flag": {"at_most": 3}}
    (point,) = expand(Campaign(base=base, grid={key: [value] for key, value in grid.items()}), Path("c.yaml"))
    text = [f"--{key}={json.dumps(value)}" for key, value in grid.items()]
    assert config.parse_options(override(dict(base), text), nve_protocol.NVE) == point.options
    nested = {"stop": {"wall_time_h": [2]}, "calculator": {"emt": {"asap_cutoff": [True]}}, "steps": [7]}
    (same,) = expand(Campaign(base=base, grid=nested | {"flag": {"at_most": [3]}}), Path("c.yaml"))
    assert same.options == point.options


def test_whole_sections_are_set_before_options_in_them_and_items_of_lists_by_number():
    given = ["--stop.wall_time_h", "2", "--stop", "{bond_change: true}", "--sequence.1.steps", "9"]
    data = override({"sequence": [{"steps": 1}, {"steps": 2}]}, given)
    assert data["stop"] == {"bond_change": True, "wall_time_h": 2}
    assert data["sequence"] == [{"steps": 1}, {"steps": 9}]


def test_names_with_dots_that_are_there_take_options():
    name = "ase.calculators.lj:LennardJones"
    for calculator in (name, {name: None}, {name: {"sigma": 1}}):
        data = override({"calculator": calculator}, [f"--calculator.{name}.sigma", "3.4"])
        assert data == {"calculator": {name: {"sigma": 3.4}}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stop.wall_time", "2"], "unknown key 'stop.wall_time'; did you mean 'stop.wall_time_h'?"),
        (["--stop.wall_time_h", "-1"], "nve.yaml: 'stop.wall_time_h' is -1, but should be greater than 0"),
        (["--stop.wall_time_h", "[1"], "'[1' is not a valid YAML value"),
        (["--steps.x", "2"], "command line: steps.x: steps is 5, which has no options"),
        (["--calculator.sigma", "2"], "calculator.sigma: calculator is 'ase.calculators.emt:EMT', which"),
        (["--structure.smiles", "2"], "if ethanol takes any, write structure.ethanol.smiles"),
        (["--analyses.energy-drift.limt", "2"], "did you mean 'analyses.energy-drift.limit_meV_atom_ps'?"),
        (["--stop..x", "2"], "cannot understand '--stop..x'"),
        (["--stop.", "2"], "cannot understand '--stop.'"),
        (["--stop.wall_time_h", "--quiet"], "--stop.wall_time_h has no value"),
        (["--stop.wall_time_h", "1", "--stop.wall-time-h", "2"], "--stop.wall-time-h is given twice"),
        (["--steps", "1", "--steps=2"], "--steps is given twice"),
        (["--timestep_fs", "0,5"], "valid number: decimals follow a point, and thousands have no comma"),
        (["--steps", "10,000"], "valid integer: decimals follow a point"),
        (["--steps", "\u22125"], "valid integer: a minus sign is written as a hyphen"),
        (["--temperature_K", "300 K"], "valid number: give the number alone, without a unit"),
        (["--temperature_K", "many"], "'many', but should be a valid number"),
        (["\u2013steps", "5"], "cannot understand '\u2013steps': options begin with two hyphens, --steps"),
        (["-steps", "5"], "cannot understand '-steps': options begin with two hyphens, --steps"),
        (["--overwite"], "run has no option --overwite; did you mean --overwrite?"),
    ],
)  # fmt: skip
def test_a_wrong_nested_option_names_its_path(nve, arguments, message):
    assert message in says(md, "run", nve("steps: 5"), *arguments)


def test_the_line_of_a_section_is_not_blamed_for_an_option_of_the_command_line(nve):
    file = nve("stop:", "  wall_time_h: 3", "  bond_chang: true")
    said = says(md, "validate", file, "--stop.wall_time_h", "-1")
    assert "nve.yaml: 'stop.wall_time_h' is -1" in said
    assert "nve.yaml, line 6: unknown key 'stop.bond_chang'" in said


def test_options_of_the_file_may_come_before_it(nve):
    assert "'steps' is -3" in says(md, "validate", "--steps", "-3", nve())
    assert "'steps' is -3" in says(md, "run", "--steps=-3", "-q", nve(), "--overwrite")


def test_nested_options_of_a_training(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("name: m\ndata: {format: ase, path: nothing.xyz}\nmodel: {architecture: schnet}\n")
    for arguments, message in (
        (["--split.n_trian", "3"], "unknown key 'split.n_trian'; did you mean 'split.n_train'?"),
        (["--lr", "3"], "unknown key 'lr'; did you mean 'optimizer.learning_rate'?"),
        (["--model.channels", "3"], "unknown key 'model.channels'; did you mean 'model.n_atom_basis'?"),
        (["--model.n-rbf", "x"], "'model.n_rbf' is 'x', but should be a valid integer"),
        (["--data.energy_unit", "kcal"], "'data.energy_unit' is 'kcal', but should be"),
        (["--split.n_train", "3", "--model.n_rbf", "4"], "nothing.xyz"),
    ):
        for command in ("train", "validate"):
            assert message in says(ml, command, path, *arguments), (command, arguments)


@pytest.mark.parametrize(
    ("app", "arguments", "name"),
    [
        (ml, ["explain", "m", "ethanol", "--target", "energy", "--target", "force:0-1"], "--target"),
        (ml, ["explain", "m", "ethanol", "--pairs", "all", "--pairs=none"], "--pairs"),
        (ml, ["map", "m", "x.xyz", "--frames", ":3", "--frames", ":4"], "--frames"),
        (ml, ["map", "m", "x.xyz", "--metrics", "cosine", "--metrics", "euclidean"], "--metrics"),
        (ml, ["data", "label", "x.xyz", "--output", "a", "--output=b"], "--output"),
        (ml, ["models", "add", "m", "--name", "a", "--name", "b"], "--name"),
        (ml, ["import", "torchmd-net", "m.ckpt", "m", "--elements", "H", "--elements", "C"], "--elements"),
        (ml, ["eval", "m", "x.npz", "--by", "a", "--by", "b"], "--by"),
        (ml, ["check", "emt", "--json", "a", "--json", "b"], "--json"),
        (ml, ["compile", "m", "--threads", "1", "--threads", "2"], "--threads"),
        (md, ["compare", "a", "b", "-o", "x", "--output", "y"], "--output"),
    ],
)  # fmt: skip
def test_no_value_is_lost_without_a_word(app, arguments, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.xyz").write_text("1\n\nH 0 0 0\n")
    assert f"{name} is given twice" in says(app, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "m", "ethanol", "--directory", "notes.txt"],
        ["map", "m", "x.xyz", "--directory", "notes.txt/maps"],
        ["check", "ase.calculators.emt:EMT", "--json", "notes.txt/check.json"],
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(
    arguments, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("notes.txt", "x.xyz"):
        (tmp_path / name).write_text("1\n\nH 0 0 0\n")
    assert "notes.txt is a file): choose another folder" in says(ml, *arguments)
    assert "notes.txt is a file, and a run directory is expected" in says(md, "resume", "notes.txt")
    assert "notes.txt is a file): choose" in says(md, "compare", "a", "b", "-o", "notes.txt")


def test_reader_options_without_data_are_refused():
    assert "--energy-unit is an option of a dataset's reader" in says(ml, "eval", "m", "--energy-unit", "eV")


def every_command():
    def below(command, path):
        for name, one in getattr(command, "commands", {}).items():
            yield from below(one, (*path, name))
        if not hasattr(command, "commands"):
            yield path, command

    for app in (md, ml):
        yield from below(typer.main.get_command(app), (app,))


def test_every_option_of_every_command_is_repeatable_or_refused():
    for (app, *path), command in every_command():
        for option in command.params:
            if option.param_type_name == "option" and not option.is_flag and not option.multiple:
                twice = [f"{option.opts[0]}=1", f"{option.opts[0]}=2"]
                assert f"{option.opts[0]} is given twice" in says(app, *path, *twice, *(["a"] * 3))


def test_unknown_command():
    assert "No such command 'fly'" in says(md, "fly")


def test_unknown_kind_of_options():
    assert "There are files: train, tune, generate; protocols: " in says(ml, "template", "cook")
    assert "did you mean 'schnet'?" in says(ml, "template", "schnte")
    assert "the groups are protocols, " in says(ml, "template", "nve", "--group", "recipes")


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
        (UNITS, "line 3: 'data.energy_unit' is 'kcal', but should be 'eV', 'meV', 'kcal/mol'"),
        ("name: My model\ndata: {}\n", "line 1: 'name' is 'My model', but"),
        (ARCHITECTURE, "line 5: unknown key 'model.n_layer'; did you mean 'model.n_layers'?"),
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


@pytest.mark.parametrize("group", templates.PLACES)
@pytest.mark.parametrize("app", [md, ml])
def test_template_and_schema_of_every_plugin(app, group):
    """Under the keys of the file that it belongs into, with every option and its meaning."""
    for name in plugins.names(group):
        model = plugins.get(group, name)
        text = CliRunner().invoke(app, ["template", name, "--group", group]).stdout
        fields = YAML().load(text)
        for key in templates.PLACES[group][:1]:
            fields = fields[key.rstrip(":")]
        if group == "objectives":
            fields = fields["objectives"]
        if group in ("analyses", "targets", "objectives"):
            fields = fields[name] or {}
        if group == "architectures":
            assert fields.pop("architecture") == name
        assert list(fields) == list(model.model_fields)
        assert all(f"# {field.description}" in text for field in model.model_fields.values())
        schema = json.loads(CliRunner().invoke(app, ["schema", name, "--group", group]).stdout)
        assert set(schema["properties"]) == set(model.model_fields)


def test_a_name_in_two_groups_is_the_protocol_unless_a_group_is_given():
    assert "protocol: scan" in CliRunner().invoke(md, ["template", "scan"]).stdout
    assert CliRunner().invoke(md, ["template", "scan", "--group", "analyses"]).stdout.count("analyses:") == 1


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


@pytest.mark.parametrize("command", [["eval"], ["predict", "ethanol"], ["compile"]])
def test_commands_that_run_a_model_take_a_device(command, tiny_model):
    text = says(ml, command[0], tiny_model, *command[1:], "--device", "cuda:99")
    assert "device 'cuda:99' cannot be used here" in text


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
    modules = (
        "torch",
        "torch._inductor.lowering",
        "torchmdnet.models",
        "asecalc_ml.store.card",
        "torch_plugin",
    )
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        show_messages(quiet=False)
        for module in modules:
            warnings.warn_explicit(module, FutureWarning, "file.py", 1, module=module)
        warnings.warn_explicit("of now", UserWarning, "file.py", 1, module="torch")
    assert [str(warning.message) for warning in shown] == ["asecalc_ml.store.card", "torch_plugin", "of now"]


def test_warnings_of_the_future_are_printed_where_python_is_asked_to(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        show_messages(quiet=False)
        warnings.warn_explicit("of torch", FutureWarning, "file.py", 1, module="torch")
    assert len(shown) == 1

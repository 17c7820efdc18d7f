"""Plugins by name: ours, a third party's without reinstalling, and the errors."""

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from ase.build import molecule
from raising import told
from typer.testing import CliRunner

from asecalc_ml import plugins
from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.errors import AsecalcError, PluginError
from asecalc_ml.runs import RunReader

THIRD_PARTY = '''
from typing import Literal
from pydantic import Field
from asecalc_ml.md_protocols.options import ProtocolOptions

class Umbrella(ProtocolOptions):
    """Umbrella sampling."""

    protocol: Literal["NAME"] = Field("NAME", description="umbrella sampling")

    def stages(self):
        return []
'''
ASK = (
    "from asecalc_ml import plugins; "
    "print(plugins.get('protocols', 'umbrella').__doc__, plugins.names('protocols'))"
)


def make_package(folder: Path, target: str = "umbrella_md:Umbrella", name: str = "umbrella") -> None:
    """What `pip install` leaves of a package with one entry point."""
    (folder / "umbrella_md.py").write_text(THIRD_PARTY.replace("NAME", name))
    info = folder / f"{name.replace('-', '_')}_md-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-md\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[asecalc_ml.protocols]\n{name} = {target}\n")


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    make_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("group", "name"),
    [("architectures", "morse"), ("protocols", "nve"), ("analyses", "bond-lengths"), ("datasets", "rmd17")],
)
def test_ours_are_found(group, name):
    assert name in plugins.names(group)


@pytest.mark.smoke
def test_third_party_is_found_without_reinstalling(third_party):
    assert "umbrella" in plugins.names("protocols")
    assert plugins.get("protocols", "umbrella").__doc__ == "Umbrella sampling."


@pytest.mark.smoke
def test_third_party_is_found_in_a_fresh_process(tmp_path):
    make_package(tmp_path)
    code = f"import sys; sys.path[:0] = {[str(tmp_path), *filter(None, sys.path)]!r}; {ASK}"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.startswith("Umbrella sampling. [")
    assert "'nve'" in output


def test_unknown_name_says_the_nearest_and_the_remedy():
    is_said = told(name="bond_length", allowed=["bond-lengths"], remedy="'bond-lengths'")
    with pytest.raises(PluginError, check=is_said) as caught:
        plugins.get("analyses", "bond_length")
    assert "pip install -e ." in caught.value.remedy


def test_unknown_name_far_from_all_lists_them():
    with pytest.raises(PluginError, check=told(value="qqq", allowed=["nve"], remedy="nve")):
        plugins.get("protocols", "qqq")


def test_unknown_group():
    groups = ["architectures", "protocols", "analyses", "datasets"]
    with pytest.raises(PluginError, check=told(value="recipes", allowed=groups, remedy=", ".join(groups))):
        plugins.names("recipes")


def test_name_claimed_twice(tmp_path, monkeypatch):
    make_package(tmp_path, name="nve")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, check=told(name="nve", remedy="uninstall")) as caught:
        plugins.get("protocols", "nve")
    ours, other = caught.value.value
    assert ours.startswith("asecalc_ml")
    assert other == "umbrella_md:Umbrella"


@pytest.mark.parametrize("target", ["umbrella_md:Parasol", "parasol_md:Parasol"])
def test_plugin_that_cannot_be_imported(tmp_path, monkeypatch, target):
    make_package(tmp_path, target)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, check=told(name="umbrella", value=target, remedy="pip install")):
        plugins.get("protocols", "umbrella")


def test_checkout_wins_over_an_installed_copy(tmp_path, monkeypatch):
    """Ours come from this checkout's setup.cfg alone."""
    if not plugins.is_checkout():
        pytest.skip("runs against an installed wheel")

    class Installed:
        name = "asecalc_ml"  # as some tools spell it

    old = EntryPoint("nvt-of-last-year", "asecalc_ml.md_protocols.old:Old", "asecalc_ml.protocols")
    vars(old)["dist"] = Installed
    monkeypatch.setattr(plugins, "entry_points", lambda: EntryPoints([old]))
    monkeypatch.syspath_prepend(tmp_path)  # another search path, on which nothing was found yet
    assert "nvt-of-last-year" not in plugins.names("protocols")
    assert "nve" in plugins.names("protocols")


# ---------------------------------------------------------------------- mistakes of a plugin's author

TOP = """
from typing import ClassVar, Literal
from ase import Atoms
from pydantic import Field
from torch import nn
from asecalc_ml.analysis.base import Analysis, Result
from asecalc_ml.config.options import Options
from asecalc_ml.md_protocols.dynamics import EnsembleOptions
from asecalc_ml.md_protocols.options import ProtocolOptions
from asecalc_ml.md_protocols.stages.stage import Stage
from asecalc_ml.model.potential import Potential
from asecalc_ml.potentials.datasets.options import DatasetOptions
from asecalc_ml.targets import TargetOptions

class P(ProtocolOptions):
    protocol: Literal["mine"] = Field("mine", description="mine")

class D(DatasetOptions):
    format: Literal["mine"] = Field("mine", description="mine")

class Net(Potential):
    embeddings = interactions = ()
    readout = last_linear = None
    def forward(self, inputs): ...

class R(Result):
    analysis: Literal["mine"] = "mine"
"""


def author(folder: Path, group: str, source: str, target: str = "mine_md:Mine") -> None:
    """A package with one plugin of this name, "mine"."""
    (folder / "mine_md.py").write_text(TOP + source)
    info = folder / "mine_md-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine-md\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[asecalc_ml.{group}]\nmine = {target}\n")


@pytest.fixture(autouse=True)
def forgotten():
    """The module of one test is not that of the next."""
    yield
    for name in ("mine_md", "umbrella_md"):
        sys.modules.pop(name, None)


def sentence(app, *arguments: str) -> str:
    """What a command says that must end in one paragraph and exit status 2."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, (result.output, result.exception)
    assert not isinstance(result.exception, AsecalcError)
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


WHEN_LOADED = {
    "a function": ("architectures", "def Mine(): ...", "names a function, and not a class that derives from"),
    "no option model": (
        "architectures",
        "class Mine:\n    def build(self): ...",
        "names the class Mine, and not a class that derives from asecalc_ml.config.options.Options",
    ),
    "no build": ("architectures", "class Mine(Options): ...", "Mine does not define `build`"),
    "no stages": ("protocols", "class Mine(P): ...", "Mine does not define `stages`"),
    "no protocol": (
        "protocols",
        "class Mine(ProtocolOptions):\n    def stages(self): return []",
        'lacks the option `protocol: Literal["mine"] = "mine"`',
    ),
    "another name": (
        "protocols",
        "class Mine(ProtocolOptions):\n"
        "    protocol: Literal['my'] = Field('my', description='x')\n"
        "    def stages(self): return []",
        'lacks the option `protocol: Literal["mine"] = "mine"`',
    ),
    "no description": (
        "protocols",
        "class Mine(P):\n    height_A: float = 1.0\n    def stages(self): return []",
        "the option `height_A` of Mine has no description",
    ),
    "no description inside": (
        "architectures",
        "class In(Options):\n    n: int = 1\n"
        "class Mine(Options):\n    inner: In = Field(In(), description='x')\n    def build(self): ...",
        "the option `n` of In has no description",
    ),
    "no result": (
        "analyses",
        "class Mine(Analysis):\n    def prepare(self, run): ...",
        "Mine does not define `result`",
    ),
    "no prepare": ("analyses", "class Mine(Analysis):\n    result: ClassVar = R", "`prepare` or `run`"),
    "no _read": ("datasets", "class Mine(D): ...", "Mine does not define `_read`"),
    "no format": (
        "datasets",
        "class Mine(DatasetOptions):\n    def _read(self): ...",
        'lacks the option `format: Literal["mine"] = "mine"`',
    ),
    "no penalty": ("losses", "def Mine(errors, scale): ...", "names a function, and not an object of"),
    "no kind": (
        "targets",
        "class Mine(TargetOptions):\n    name: Literal['mine'] = Field('mine', description='x')\n"
        "    unit: str = Field('eV', description='x')",
        "Mine does not define `kind`",
    ),
    "an option that hides a method": (
        "protocols",
        "class Mine(P):\n    run: int = Field(1, description='x')\n    def stages(self): ...",
        "the option `run` of Mine hides `ProtocolOptions.run`",
    ),
    "an option of the base with another type": (
        "protocols",
        "class Mine(P):\n    seed: str = Field('a', description='x')\n    def stages(self): ...",
        "the option `seed` of Mine has a default that ProtocolOptions does not allow there",
    ),
    "an exception": ("protocols", "class Mine(P): ...\n1 / 0", "ZeroDivisionError: division by zero (/"),
    "an error of syntax": ("protocols", "class Mine(P) ...", "SyntaxError"),
    "an exit": ("protocols", "raise SystemExit(3)", "SystemExit: 3"),
    "a field without a type": ("protocols", "class Mine(P):\n    height = 3.0", "PydanticUserError"),
    "a package that is missing": ("protocols", "import no_such_package", "No module named 'no_such_package'"),
}


@pytest.mark.parametrize(("group", "source", "message"), WHEN_LOADED.values(), ids=WHEN_LOADED)
def test_a_mistake_is_one_sentence_when_the_plugin_is_loaded(tmp_path, monkeypatch, group, source, message):
    author(tmp_path, group, source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError) as caught:
        plugins.get(group, "mine")
    said = str(caught.value)
    assert said.startswith(f"{plugins.GROUPS[group]} 'mine' (mine_md:Mine)")
    assert message in said
    assert "\n" not in said
    if group != "losses":
        assert message in sentence(md if group in ("protocols", "analyses") else ml, "template", "mine")


@pytest.mark.filterwarnings("ignore:left out")
def test_a_broken_plugin_stands_in_nobodys_way(tmp_path, monkeypatch):
    """Others of its group are used as if it were not there, with a warning that names it."""
    author(tmp_path, "protocols", "1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    assert CliRunner().invoke(md, ["template", "nve"]).exit_code == 0
    with pytest.warns(UserWarning, match="left out: protocol 'mine'.*ZeroDivisionError"):
        assert "nve" in plugins.loaded("protocols")


STAGE = """
class Hold(Stage):
    name, n_steps = "hold", 1
"""
RUNS = {
    "stages give None": (
        "class Mine(P):\n    def stages(self): ...",
        "Mine.stages() returned None: it has to return a list of stages",
    ),
    "stages are a generator": (
        "class Mine(P):\n    def stages(self):\n        yield 1",
        "Mine.stages() returned a generator",
    ),
    "no stages inside": (
        "class Mine(P):\n    def stages(self): return [3]",
        "Mine.stages() returned a int: it has to return a list of stages",
    ),
    "a stage without steps": (
        "class Rest(Stage):\n    name = 'rest'\n    def run(self, engine): ...\n"
        "class Mine(P):\n    def stages(self): return [Rest()]",
        "Mine.stages() returned a Rest without a number of steps, `n_steps`",
    ),
    "one file as a text": (
        f"{STAGE}    writes = 'a.csv'\n    def run(self, engine): ...\n"
        "class Mine(P):\n    def stages(self): return [Hold()]",
        "a Hold whose `writes` is a text: ('a.csv',) is a tuple",
    ),
    "a segment raises": (
        f"{STAGE}    def segment(self, start): 1 / 0\n    def run(self, engine): ...\n"
        "class Mine(P):\n    def stages(self): return [Hold()]",
        "Hold.segment() raised ZeroDivisionError: division by zero",
    ),
    "check_start raises": (
        "class Mine(P):\n    def stages(self): return []\n    def check_start(self, atoms): atoms.no()",
        "Mine.check_start() raised AttributeError",
    ),
    "a stage without run": (
        f"{STAGE}class Mine(P):\n    def stages(self): return [Hold()]",
        "Mine.stages() raised TypeError: Can't instantiate abstract class Hold",
    ),
    "stages raise": ("class Mine(P):\n    def stages(self): return self.lenght", "no attribute 'lenght'"),
    "dynamics without production": (
        "class Mine(EnsembleOptions):\n    protocol: Literal['mine'] = Field('mine', description='x')",
        "Mine does not define `production`",
    ),
}


@pytest.mark.parametrize("command", ["run", "validate"])
@pytest.mark.parametrize(("source", "message"), RUNS.values(), ids=RUNS)
def test_a_protocols_mistake_is_one_sentence(tmp_path, monkeypatch, source, message, command):
    author(tmp_path, "protocols", source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = {"protocol": "mine", "structure": "water", "calculator": "ase.calculators.emt:EMT"}
    (tmp_path / "job.yaml").write_text(dump_yaml(given))
    assert message in sentence(md, command, "job.yaml")
    assert not (tmp_path / "runs").exists()


STEPS = {
    "a step raises": ("def _step(self, forces): forces['x']", "Own.step() raised IndexError"),
    "a step without forces": ("def _step(self, forces): ...", "Own.step() returned None"),
    "forces of one atom": (
        "def _step(self, forces): return super()._step(forces)[:1]",
        "Own.step() returned a ndarray: it has to return the next forces, of shape (3, 3), and not (1, 3)",
    ),
    "no such thing to remember": ("remembered = ('nothing',)", "stage production (Produce) raised Attribute"),
    "columns that are not given": ("columns = ('height',)", "extras() returns the columns []"),
}


@pytest.mark.parametrize(("body", "message"), STEPS.values(), ids=STEPS)
def test_an_integrators_mistake_is_one_sentence(tmp_path, monkeypatch, body, message):
    """It is not ascribed to the calculator, and the run directory says why the run stopped."""
    source = (
        "from functools import partial\n"
        "from asecalc_ml.md_protocols.integrators import VelocityVerlet\n"
        "from asecalc_ml.md_protocols.nvt import ThermostatOptions\n"
        f"class Own(VelocityVerlet):\n    {body}\n"
        "class Mine(ThermostatOptions):\n"
        "    protocol: Literal['mine'] = Field('mine', description='x')\n"
        "    def integrator(self): return partial(Own, ramp=self.ramp)\n"
    )
    author(tmp_path, "protocols", source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = {"protocol": "mine", "structure": "water", "calculator": "ase.calculators.emt:EMT"}
    given |= {"relax": False, "equilibration_ps": 0, "steps": 4, "directory": "run"}
    (tmp_path / "job.yaml").write_text(dump_yaml(given))
    said = sentence(md, "run", "job.yaml")
    assert message in said
    assert "the calculator failed" not in said
    assert message in RunReader("run").read_events()[-1]["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("...", "Mine.prepare() returned None: it has to return a measurement"),
        ("return run.atoms", "Mine.prepare() returned a Atoms"),
        ("return run.no_such_thing", "Mine.prepare() raised AttributeError"),
    ],
)
def test_an_analysis_mistake_is_one_sentence(tmp_path, monkeypatch, body, message):
    from asecalc_ml.analysis.memory_run import MemoryRun

    source = f"class Mine(Analysis):\n    result: ClassVar = R\n    def prepare(self, run): {body}"
    author(tmp_path, "analyses", source)
    monkeypatch.syspath_prepend(tmp_path)
    run = MemoryRun.from_frames([molecule("H2O")], 1.0)
    with pytest.raises(PluginError) as caught:
        plugins.get("analyses", "mine")().run(run)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("...", "Mine._read() returned None: it has to return a list of Atoms"),
        ("yield Atoms('H')", "Mine._read() returned a generator"),
        ("return [3]", "Mine._read() returned a int: it has to return Atoms"),
        ("return [Atoms('H')]", "frame 0: Mine._read() attached no labels: attach them with `make_frame`"),
        ("return self.pth", "Mine._read() raised AttributeError"),
    ],
)
def test_a_readers_mistake_is_one_sentence(tmp_path, monkeypatch, body, message):
    author(tmp_path, "datasets", f"class Mine(D):\n    def _read(self): {body}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.mine").write_text("x")
    assert message in sentence(ml, "data", "convert", "data.mine", "out.xyz", "--format", "mine")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("...", "Mine.build() returned None: it has to return a Potential"),
        ("return nn.Linear(1, 1)", "Mine.build() returned a Linear: it has to return a Potential"),
        ("return Net()", "Net has no cutoff: set `self.cutoff`, a number in Å"),
        ("return Net", "Mine.build() returned the class Net"),
        ("return Potential()", "Can't instantiate abstract class Potential"),
        ("return nn.Linear('1', 1)", "Mine.build() raised TypeError"),
    ],
)
def test_an_architectures_mistake_is_one_sentence(tmp_path, monkeypatch, body, message):
    from asecalc_ml.structure.loading import load_structure
    from asecalc_ml.testing import register_untrained

    author(tmp_path, "architectures", f"class Mine(Options):\n    def build(self): {body}")
    monkeypatch.syspath_prepend(tmp_path)
    options = plugins.get("architectures", "mine")()
    with pytest.raises(PluginError) as caught:
        register_untrained("one", options, load_structure("water"))
    assert message in str(caught.value)


def test_two_readers_of_one_suffix_are_told_apart_by_name(tmp_path, monkeypatch):
    """A suffix of one reader chooses it; of two, the user does."""
    body = "    def _read(self): return []\n"
    author(tmp_path, "datasets", f"class Mine(D):\n    suffixes: ClassVar = ('.npz', '.mine')\n{body}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("data.mine", "data.npz"):
        (tmp_path / name).write_text("x")
    assert "data.mine has no frames" in sentence(ml, "data", "convert", "data.mine", "out.xyz")
    said = sentence(ml, "data", "convert", "data.npz", "out.xyz")
    assert "mine and rmd17 read files of this suffix: name one with --format" in said
    assert "is damaged" in sentence(ml, "data", "convert", "data.npz", "out.xyz", "--format", "rmd17")

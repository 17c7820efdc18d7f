"""Code of other parties' plugins that changes under a model, a run, a training."""

import importlib
import re
import shutil
import sys
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write
from raising import told

from asecalc_ml import MLCalculator, plugins, sources
from asecalc_ml.calculators.factory import describe_calculator, make_calculator
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ModelError, RunError, TrainingError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.model.compile.package_cache import PackageCache
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.store.model_file import save_model
from asecalc_ml.store.registry import Registry
from asecalc_ml.store.stored_model import StoredModel
from asecalc_ml.testing import register_untrained

FILES = {
    "__init__.py": "",
    "options.py": '''
from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.config.options import Options
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.potentials.datasets.readers.ase_file import AseFile


class Scaled(Morse):
    """Morse pairs times a constant."""

    def build(self):
        from other_party.networks.scaled import ScaledPotential

        return ScaledPotential(self)


class Creep(NVE):
    """NVE by another name."""

    protocol: Literal["creep"] = Field("creep", description="NVE by another name")


class Lengths(BondLengths):
    """Bond lengths by another name."""


class Frames(AseFile):
    """A file of frames."""

    format: Literal["frames"] = Field("frames", description="a file of frames")
''',
    "losses.py": "from asecalc_ml.potentials.training.losses import SQUARED as PLAIN\n",
    "networks/__init__.py": "",
    "networks/constants.py": "FACTOR = 1.0\n",
    "networks/scaled.py": """
import torch

from asecalc_ml.model.pair_modules import MorsePotential
from other_party.networks import constants


class ScaledPotential(MorsePotential):
    def __init__(self, options):
        super().__init__(options)
        self.bias = torch.nn.Parameter(torch.zeros(()))

    def pair_energy(self, distances):
        return constants.FACTOR * super().pair_energy(distances) + self.bias
""",
}
ENTRY_POINTS = """
[asecalc_ml.architectures]
scaled = other_party.options:Scaled
[asecalc_ml.protocols]
creep = other_party.options:Creep
[asecalc_ml.analyses]
lengths = other_party.options:Lengths
[asecalc_ml.datasets]
frames = other_party.options:Frames
[asecalc_ml.losses]
plain = other_party.losses:PLAIN
"""


class Package:
    """What `pip install` leaves of another party's package, in a folder on the search path."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name, text in FILES.items():
            path = folder / "other_party" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        info = folder / "other_md-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-md\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS)

    def change(self, name: str = "networks/constants.py", text: str = "FACTOR = 1.01\n") -> None:
        """Change a file, and let this process be as a new one."""
        (self.folder / "other_party" / name).write_text(text)
        shutil.rmtree(self.folder / "other_party/networks/__pycache__", ignore_errors=True)
        self.forget()

    @staticmethod
    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "other_party"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sources._hash.cache_clear()
        sources._sources_of_model.cache_clear()


class Finder(MetaPathFinder):
    """What setuptools leaves of an editable installation."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "other_party":
            return None
        package = self.folder / fullname
        return spec_from_file_location(
            fullname, package / "__init__.py", submodule_search_locations=[str(package)]
        )


@pytest.fixture
def package(tmp_path, monkeypatch):
    found = Package(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(found.folder)
    yield found
    found.forget()


@pytest.fixture
def model(package) -> str:
    """Name of a registered model of the package's architecture."""
    options = plugins.get("architectures", "scaled")(r0_A=1.1)
    return register_untrained("theirs", options, molecule("CH3OH")).name


def hash_of(top: str) -> str:
    sources._hash.cache_clear()
    return sources._hash(top, tuple(sys.path))


# -------------------------------------------------------------------------------------------- the hash


@pytest.mark.parametrize("name", [*FILES, "networks/deep/new.py", "compiled.abi3.so"])
def test_every_file_of_code_counts(package, name):
    before = hash_of("other_party")
    path = package.folder / "other_party" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"# changed\n")
    assert hash_of("other_party") != before


@pytest.mark.parametrize("name", ["__pycache__/x.cpython-311.pyc", ".git/hook.py", "notes.txt"])
def test_what_is_no_code_does_not_count(package, name):
    before = hash_of("other_party")
    path = package.folder / "other_party" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    assert hash_of("other_party") == before


def test_a_renamed_file_counts(package):
    before = hash_of("other_party")
    (package.folder / "other_party/networks/scaled.py").rename(
        package.folder / "other_party/networks/other.py"
    )
    assert hash_of("other_party") != before


def test_ours_go_by_version():
    assert sources.source_of_plugin("architectures", "morse") is None
    assert (
        sources.sources_of_modules(
            ["asecalc_ml.calculators.ml_calculator", "ase.calculators.emt", "torch.nn", "abc"]
        )
        == {}
    )


def test_every_folder_of_a_namespace_counts(tmp_path, monkeypatch):
    for part in ("first", "second"):
        (tmp_path / part / "group_of_ours").mkdir(parents=True)
        (tmp_path / part / "group_of_ours" / f"{part}.py").write_text("X = 1\n")
        monkeypatch.syspath_prepend(tmp_path / part)
    before = hash_of("group_of_ours")
    (tmp_path / "first/group_of_ours/first.py").write_text("X = 2\n")
    assert hash_of("group_of_ours") != before


def test_a_module_counts_with_the_modules_in_its_folder_that_it_imports(tmp_path, monkeypatch):
    (tmp_path / "alone.py").write_text("import numpy\ndef f():\n    from near_it import X\n")
    (tmp_path / "near_it.py").write_text("import beyond_it.part\n")
    (tmp_path / "beyond_it").mkdir()
    for path in ("beyond_it/__init__.py", "beyond_it/part.py", "unrelated.py"):
        (tmp_path / path).write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = {hash_of("alone")}
    for number, path in enumerate(("alone.py", "near_it.py", "beyond_it/part.py"), start=2):
        with (tmp_path / path).open("a") as file:
            file.write("# changed\n")
        seen.add(hash_of("alone"))
        assert len(seen) == number
    (tmp_path / "unrelated.py").write_text("X = 2\n")
    assert hash_of("alone") in seen


def test_an_editable_installation_is_followed_to_its_folder(tmp_path, monkeypatch):
    """Its finder lies on the search path, its code elsewhere."""
    package = Package(tmp_path / "project")
    site = tmp_path / "site"
    site.mkdir()
    (package.folder / "other_md-1.0.dist-info").rename(site / "other_md-1.0.dist-info")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(sys, "meta_path", [Finder(package.folder), *sys.meta_path])
    before = sources.source_of_plugin("protocols", "creep")
    package.change()
    after = sources.source_of_plugin("protocols", "creep")
    assert before != after
    assert before.endswith(" (other-md 1.0)")
    assert after.endswith(" (other-md 1.0)")


# ---------------------------------------------------------------------------------------------- models


def test_a_factor_that_changed_by_one_percent_is_refused_and_named(model, package):
    MLCalculator(model)
    before = Registry().find(model).card.architecture_source
    assert before.endswith(" (other-md 1.0)")
    package.change()
    after = sources.source_of_plugin("architectures", "scaled")
    for _ in range(2):
        with pytest.raises(ModelError, check=told(name=model, value=True, remedy=True)) as caught:
            MLCalculator(model)
        assert "'scaled'" in caught.value.problem
        assert f"source {after} instead of {before}" in caught.value.problem
    package.change(text="FACTOR = 1.0\n")
    MLCalculator(model)


def test_a_change_that_the_golden_values_do_not_show_gives_one_warning(model, package):
    MLCalculator(model)
    package.change(text="FACTOR = 1.0  # as published\n")
    with pytest.warns(UserWarning, match=r"architecture 'scaled' has changed.*one structure \(CH4O\) only"):
        MLCalculator(model)
    MLCalculator(model)  # warnings are errors here


def test_a_model_registered_before_sources_were_kept_is_checked_too(model, package):
    entry = Registry().find(model)
    stored = StoredModel.find(model)
    save_model(entry.path, stored.model, stored.card.model_copy(update={"architecture_source": None}))
    MLCalculator(model)
    package.change(text="FACTOR = 1.0  # as published\n")
    MLCalculator(model)
    package.change()
    with pytest.raises(ModelError, check=told(name=model, value=True)):
        MLCalculator(model)


def test_compiled_packages_are_told_apart_by_the_code(model, package):
    def folder() -> Path:
        return PackageCache(StoredModel.find(model)).folder((7, 2, 40))

    before = folder()
    package.change()
    assert folder() != before


def test_upgrades_of_the_package_that_an_architecture_rests_on_are_noticed(tiny_model, monkeypatch):
    """The card of this model names no versions."""
    assert "torchmd-net" in describe_calculator(make_calculator(tiny_model))["versions"]
    before = sources.code_of_model(StoredModel.find(tiny_model).card)
    monkeypatch.setattr(sources, "installed_versions", lambda packages: dict.fromkeys(packages, "99"))
    after = sources.code_of_model(StoredModel.find(tiny_model).card)
    assert before != after
    assert ("torchmd-net", "99") in after[0]


# ------------------------------------------------------------------------------------------------- runs

RUN = {"structure": "CH3OH", "relax": False, "equilibration_ps": 0, "steps": 20}


def paused(directory: Path, monkeypatch, **options) -> None:
    """A run that was killed before its first step."""
    protocol = plugins.get("protocols", options.get("protocol", "nve"))
    with monkeypatch.context() as patch:
        patch.setattr("asecalc_ml.md_protocols.engine.launch.finish", lambda writer: None)
        patch.setattr("asecalc_ml.md_protocols.engine.engine.Engine.run", lambda *_: None)
        given = {name: value for name, value in RUN.items() if name in protocol.model_fields}
        parse_options(given | options, protocol).run(directory=directory, quiet=True)


def check_that_a_change_is_refused(package, directory: Path, named: str) -> None:
    before = sources.sources_of_modules(["other_party"])["source of other_party"].split()[0]
    package.change()
    with pytest.raises(RunError) as caught:
        resume_run(directory, quiet=True)
    after = sources.sources_of_modules(["other_party"])["source of other_party"].split()[0]
    assert f"{named} {after} (other-md 1.0) instead of {before} (other-md 1.0)" in str(caught.value)
    assert "--allow-different" in str(caught.value)
    run = resume_run(directory, quiet=True, allow_different=True)
    assert run.finished
    assert any(named in event["message"] for event in run.read_events() if event["kind"] == "warning")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"protocol": "creep"}, "source of protocol creep"),
        ({"analyses": {"lengths": {}}}, "source of analysis lengths"),
        (
            {"protocol": "sequence", "sequence": [{"ensemble": "creep", "steps": 20}]},
            "source of protocol creep",
        ),
    ],
)
def test_a_resumed_run_refuses_changed_code(package, tmp_path, monkeypatch, options, named):
    calculator = "ase.calculators.emt:EMT"
    paused(tmp_path / "run", monkeypatch, calculator=calculator, **options)
    check_that_a_change_is_refused(package, tmp_path / "run", named)


def test_a_resumed_run_refuses_a_changed_architecture(model, package, tmp_path, monkeypatch):
    paused(tmp_path / "run", monkeypatch, calculator=model)
    package.change(text="FACTOR = 1.0  # as published\n")
    with (
        pytest.warns(UserWarning, match="architecture 'scaled' has changed"),
        pytest.raises(RunError, check=told(value="source of architecture scaled ")),
    ):
        resume_run(tmp_path / "run", quiet=True)


@pytest.mark.parametrize("spec", ["my_emt:Mine", "my_emt:made"])
def test_a_resumed_run_refuses_the_changed_module_of_a_calculator(tmp_path, monkeypatch, spec):
    """A class, or a function that makes a calculator of another package."""
    text = "from ase.calculators.emt import EMT\nclass Mine(EMT):\n    pass\ndef made():\n    return EMT()\n"
    (tmp_path / "my_emt.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_emt", raising=False)
    paused(tmp_path / "run", monkeypatch, calculator=spec)
    paused(tmp_path / "other", monkeypatch, calculator=spec)
    assert resume_run(tmp_path / "other", quiet=True).finished
    (tmp_path / "my_emt.py").write_text(text + "# changed\n")
    sources._hash.cache_clear()
    with pytest.raises(RunError, check=told(value="source of my_emt ", remedy="--allow-different")) as error:
        resume_run(tmp_path / "run", quiet=True)
    assert re.search(r"my_emt \w{16} \(my_emt\) instead of \w{16} \(my_emt\)", str(error.value))


def test_a_protocol_that_is_defined_in_a_script_runs(package, tmp_path):
    class Unregistered(plugins.get("protocols", "nve")):
        protocol: str = "unregistered"

    options = Unregistered(**RUN, calculator="ase.calculators.emt:EMT")
    assert options.run(directory=tmp_path / "run", quiet=True).finished


# -------------------------------------------------------------------------------------------- trainings


@pytest.fixture
def training(package, tmp_path) -> TrainOptions:
    frames = []
    for scale in (0.97, 0.98, 0.99, 1.0, 1.01, 1.02):
        atoms = molecule("CH3OH")
        atoms.positions *= scale
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    return TrainOptions(
        name="fitted",
        data={"format": "frames", "path": str(tmp_path / "frames.xyz")},
        split={"n_train": 2, "n_validation": 2, "n_test": 2},
        model={"architecture": "scaled", "r0_A": 1.1},
        loss={"function": "plain"},
        optimizer={
            "schedule": "one-cycle",
            "cycle_epochs": 2,
            "minimum_learning_rate": 1e-4,
            "final_learning_rate": 1e-5,
        },
        max_epochs=1,
        directory=tmp_path / "training",
    )


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_training_refuses_changed_code(training, package):
    assert train(training, quiet=True).card.architecture_source.endswith("(other-md 1.0)")
    longer = training.model_copy(update={"max_epochs": 2})
    package.change()
    every = r"source of architecture scaled .*source of loss plain .*source of dataset reader frames"
    with pytest.raises(TrainingError, match=every):
        train(longer, resume=True, replace=True, quiet=True)
    with pytest.warns(UserWarning, match="continues with source of architecture scaled"):
        train(longer, resume=True, replace=True, quiet=True, allow_different=True)


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_began_before_sources_were_kept_is_resumed(training, package):
    train(training, quiet=True)
    (training.training_directory / "sources.json").unlink()
    package.change()
    longer = training.model_copy(update={"max_epochs": 2})
    assert train(longer, resume=True, replace=True, quiet=True).name == "fitted"

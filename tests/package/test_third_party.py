"""The package of plugins in examples/plugin, installed beside ours: it works, and no test of ours fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import asecalc_ml
from asecalc_ml._checkout import ROOT, is_checkout

pytestmark = pytest.mark.skipif(not is_checkout(), reason="examples are part of the checkout alone")

PLUGINS = {
    "architectures": "example-network",
    "protocols": "andersen",
    "analyses": "radius-of-gyration",
    "datasets": "example-csv",
    "losses": "huber",
    "targets": "boiling-point",
}

#: Tests of ours that go through all registered plugins.
ENUMERATING = {
    "test_architectures.py": "of_ours or defaults_can_be_built",
    "test_protocols.py": "of_ours",
    "test_analyses.py": "of_ours",
    "test_readers.py": "of_ours",
    "test_cli.py": "template or kind_of_options",
    "test_frames.py": "every_analysis",
    "test_validate.py": "bounded or if_and_only_if",
    "test_sequence.py": "part",
    "test_losses.py": "unknown_loss",
    "test_plugins.py": "",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The package with what setuptools makes of its setup.cfg, as `pip install -e .` leaves it."""
    folder = tmp_path_factory.mktemp("plugin") / "plugin"
    shutil.copytree(ROOT / "examples" / "plugin", folder)
    setup = "import setuptools; setuptools.setup()"
    subprocess.run([sys.executable, "-c", setup, "-q", "egg_info"], cwd=folder, check=True)
    return folder


def run(command: list[str], cwd: Path, installed: Path) -> subprocess.CompletedProcess:
    """A process that finds the package."""
    path = os.pathsep.join([str(installed), str(Path(asecalc_ml.__file__).parents[1])])
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_plugin_is_found_and_fulfils_its_contract(installed, tmp_path):
    code = (
        "from asecalc_ml import plugins\n"
        f"for group, name in {PLUGINS!r}.items():\n"
        "    assert name in plugins.names(group)\n"
        "    plugins.get(group, name)\n"
        "    assert len(plugins.loaded(group)) == len(plugins.names(group)) > 1\n"
    )
    done = run(["-W", "error::UserWarning", "-c", code], tmp_path, installed)
    assert done.returncode == 0, done.stderr


def test_template_prints_a_plugin_of_another_package(installed, tmp_path):
    code = "import sys; sys.argv[0] = 'asecalc-ml'; from asecalc_ml.cli.ml import main; main()"
    done = run(["-c", code, "template", "example-network"], tmp_path, installed)
    assert done.stdout.startswith("# Message passing over Gaussian functions of the distance.\nmodel:\n")
    assert "  # interaction blocks\n  n_layers: 3\n" in done.stdout


@pytest.mark.slow
def test_its_own_tests_pass(installed):
    done = run(["-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ".", "tests"], installed, installed)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("file", ENUMERATING)
def test_our_tests_that_go_through_all_plugins_pass_beside_it(installed, file):
    chosen = ["-k", ENUMERATING[file]] if ENUMERATING[file] else []
    done = run(["-m", "pytest", "-q", "-n", "0", f"tests/{file}", *chosen], ROOT, installed)
    assert done.returncode == 0, done.stdout

"""What commands and imports leave out, so that they start quickly."""

import subprocess
import sys

import pytest

LIBRARIES = "set(name.partition('.')[0] for name in sys.modules) - set(sys.stdlib_module_names)"

HELP = f"""
import sys
from typer.main import get_command
from typer.testing import CliRunner
from asecalc_ml.cli import md, ml

def paths(command, path=()):
    yield path
    for name, part in getattr(command, "commands", {{}}).items():
        yield from paths(part, (*path, name))

for app in (md.app, ml.app):
    for path in paths(get_command(app)):
        assert CliRunner().invoke(app, [*path, "--help"]).exit_code == 0, path
print(*({LIBRARIES}))
"""

CALCULATOR = f"""
import sys
from asecalc_ml import MLCalculator
print(*({LIBRARIES}))
"""


def libraries(code: str) -> set[str]:
    """Third-party packages that a new process has imported after some code."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_help_of_every_command_computes_nothing():
    """pydantic and ruamel hold the options; all else belongs to typer."""
    assert not libraries(HELP) & {"numpy", "ase", "scipy", "torch", "matplotlib", "lightning", "h5py"}


def test_the_package_alone_imports_nothing():
    code = f"import sys, asecalc_ml; print(*({LIBRARIES}))"
    assert not libraries(code) & {"numpy", "ase", "torch", "pydantic", "ruamel", "typer", "rich"}


def test_the_calculator_imports_torch_and_ase_and_little_else():
    heavy = {"scipy", "matplotlib", "lightning", "h5py", "MDAnalysis", "torchmdnet", "schnetpack", "rich"}
    assert not libraries(CALCULATOR) & heavy


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_before(enabled):
    """Suspended while modules are imported."""
    code = f"""
import gc
if not {enabled}:
    gc.disable()
from asecalc_ml import MLCalculator
try:
    from asecalc_ml import MLCalculators
except ImportError:
    print(gc.isenabled())
"""
    assert libraries(code) == {str(enabled)}

"""Every shipped model and every architecture passes `asecalc-ml check`."""

import re
import runpy

import pytest
from places import TESTS

from asecalc_ml.conformance import Effort
from asecalc_ml.conformance.all_checks import CHECKS
from asecalc_ml.store.model_file import SHIPPED as MODELS
from asecalc_ml.store.model_file import read_card
from asecalc_ml.testing import check_calculator

SHIPPED = sorted(path.stem for path in MODELS.glob("*.safetensors") if read_card(path).predicts_energy)
ARCHITECTURES = [
    (file.relative_to(TESTS).as_posix(), name)
    for file in sorted(TESTS.rglob("test_*.py"))
    for name in re.findall(r"^class (\w+)\(PotentialChecks\)", file.read_text(encoding="utf-8"), re.MULTILINE)
]
SIZE = ("supercell", "empty neighbor list", "extensivity")  # a published readout may not be additive
SHORT = [check.name for check in CHECKS if check.name not in ("memory", "speed", "NVE precision")]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_passes(name, dtype):
    calculator = {name: {"dtype": dtype, "compile": "never"}}
    report = check_calculator(calculator, only=SHORT, effort=Effort(dynamics_steps=300))
    assert report.passed, report


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("file", "name"), ARCHITECTURES)
def test_an_architecture_passes(file, name, dtype, tmp_path):
    """With random weights, so without dynamics; laws that it does not claim to keep are left out."""
    from asecalc_ml.store.model_file import save_model
    from asecalc_ml.testing import untrained_card, untrained_model

    checks = runpy.run_path(str(TESTS / file))[name]()
    model, atoms = untrained_model(checks.options), checks.molecule()
    path = tmp_path / "random.safetensors"
    save_model(path, model, untrained_card("random", checks.options, model, atoms))
    without = {"reflection": not checks.mirror, "continuity": not model.potential.continuous}
    is_additive = checks.raw_output(atoms, model)[0].contributions is not None
    without |= dict.fromkeys(SIZE, not is_additive)
    only = [check for check in SHORT if not check.startswith("NVE") and not without.get(check)]
    report = check_calculator({str(path): {"dtype": dtype, "compile": "never"}}, atoms, only=only)
    assert report.passed, report

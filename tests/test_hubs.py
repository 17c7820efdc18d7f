"""The calculator in other people's lists: benchmark hubs, which name a class and pass arguments, and ASE."""

import copy
import subprocess
import sys

import numpy as np
import pytest

from asecalc_ml import MLCalculator
from asecalc_ml.committee import Committee
from asecalc_ml.errors import ConfigError, ModelError
from asecalc_ml.hubs import hub_calculator
from asecalc_ml.structures import load_structure


@pytest.fixture
def ethanol():
    return load_structure("ethanol")


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
def test_a_hub_gets_the_calculator_that_it_asks_for(tiny_model, ethanol, dtype):
    calculator = hub_calculator(model=tiny_model, device="cpu", default_dtype=dtype)
    assert type(calculator) is MLCalculator
    assert calculator.parameters.dtype == dtype
    alone = MLCalculator(tiny_model, dtype=dtype)
    assert calculator.get_potential_energy(ethanol) == alone.get_potential_energy(ethanol)
    assert np.array_equal(calculator.get_forces(ethanol), alone.get_forces(ethanol))


def test_further_arguments_reach_the_calculator(tiny_model):
    assert hub_calculator(tiny_model, compile="never", skin_A=0.5).parameters.skin_A == 0.5
    assert hub_calculator(tiny_model, corrections=["zbl"]).corrections
    assert hub_calculator({tiny_model: {"dtype": "float64"}}, device="cpu").parameters.dtype == "float64"
    members = ["torchmdnet-ethanol", "torchmdnet-ethanol-1"]
    committee = hub_calculator({"committee": {"members": members}}, device="cpu", default_dtype="float64")
    assert type(committee) is Committee
    assert [member.parameters.dtype for member in committee.members] == ["float64"] * 2


def test_a_wrong_argument_of_a_hub_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="did you mean 'dtype'"):
        hub_calculator(tiny_model, dtyp="float64")
    with pytest.raises(ModelError, match="tinny"):
        hub_calculator("tinny")


# ------------------------------------------------------------------------------------------ the real hubs


def test_mlipx(tiny_model, ethanol):
    mlipx = pytest.importorskip("mlipx", reason="needs mlipx: pip install mlipx")
    entry = mlipx.GenericASECalculator(
        module="asecalc_ml.hubs", class_name="hub_calculator", device="auto", kwargs={"model": tiny_model}
    )
    assert entry.available
    check_hub(entry.get_calculator(default_dtype="float64"), ethanol, tiny_model)


def test_ml_peg(tiny_model, ethanol, tmp_path):
    get_models = pytest.importorskip("ml_peg.models.get_models", reason="needs ml-peg: pip install ml-peg")
    (tmp_path / "models.yml").write_text(
        "tiny:\n  module: asecalc_ml.hubs\n  class_name: hub_calculator\n  device: auto\n"
        f"  trained_on_dispersion: true\n  level_of_theory: PBE\n  kwargs:\n    model: {tiny_model}\n"
    )
    entry = get_models.load_models("tiny", filepath=tmp_path / "models.yml")["tiny"]
    calculator = entry.get_calculator(precision="high")
    assert entry.add_d3_calculator(calculator) is calculator
    check_hub(calculator, ethanol, tiny_model)


def check_hub(calculator, atoms, model):
    """In float64, and good to be copied for each structure, as benchmarks do."""
    assert calculator.parameters.dtype == "float64"
    energy = MLCalculator(model, dtype="float64").get_potential_energy(atoms)
    for one in (calculator, copy.copy(calculator), copy.deepcopy(calculator)):
        assert one.get_potential_energy(atoms) == energy


# ------------------------------------------------------------------------------------------------- in ASE


def test_ase_lists_the_calculator():
    plugins = pytest.importorskip("ase._4.plugins", reason="ASE has plugins from 3.29 on").plugins
    listed = {plugin.name: plugin for plugin in plugins.by_package["asecalc_ml"].calculators}
    assert listed, "this installation is older than the entry point: pip install -e . again"
    assert listed[MLCalculator.name].implementation is MLCalculator


def test_the_list_of_ase_imports_no_torch():
    pytest.importorskip("ase._4.plugins", reason="ASE has plugins from 3.29 on")
    code = "import sys; from ase._4.plugins import plugins; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    shown = subprocess.run(
        [sys.executable, "-m", "ase", "info", "--plugins"], capture_output=True, text=True, check=True
    )
    assert "CalculatorPlugin\n----------------\nasecalc-ml" in shown.stdout

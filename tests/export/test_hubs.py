"""The calculator in other people's lists: benchmark hubs, which name a class and pass arguments, and ASE."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.errors import ConfigError, ModelError
from asecalc_ml.export.hubs import hub_calculator
from asecalc_ml.structure.loading import load_structure


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


def test_parameters_are_given_with_the_model(tiny_model):
    calculator = hub_calculator({tiny_model: {"dtype": "float64", "skin_A": 0.5}}, device="cpu")
    assert calculator.parameters.dtype == "float64"
    assert calculator.parameters.skin_A == 0.5
    assert (
        hub_calculator({tiny_model: {"dtype": "float32"}}, default_dtype="float64").parameters.dtype
        == "float64"
    )
    assert hub_calculator({tiny_model: {"corrections": ["zbl"]}}).corrections
    members = ["torchmdnet-ethanol", "torchmdnet-ethanol-1"]
    committee = hub_calculator({"committee": {"members": members}}, device="cpu", default_dtype="float64")
    assert type(committee) is Committee
    assert [member.parameters.dtype for member in committee.members] == ["float64"] * 2


def test_a_mistake_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="'dtype'", check=told(name="dtyp", remedy=True)):
        hub_calculator({tiny_model: {"dtyp": "float64"}})
    with pytest.raises(ModelError, check=told(name="tinny")):
        hub_calculator("tinny")


# ------------------------------------------------------------------------------------------ the real hubs


def test_mlipx(tiny_model, ethanol, tmp_path):
    mlipx = pytest.importorskip("mlipx", reason="needs mlipx: pip install mlipx")
    place = {"module": "asecalc_ml.export.hubs", "class_name": "hub_calculator"}
    entry = mlipx.GenericASECalculator(**place, device="auto", kwargs={"model": tiny_model})
    assert entry.available
    assert entry.get_calculator().parameters.dtype is None
    entry = mlipx.GenericASECalculator(**place, kwargs={"model": {tiny_model: {"dtype": "float64"}}})
    check_hub(entry.get_calculator(directory=tmp_path), ethanol, tiny_model)


def test_ml_peg(tiny_model, ethanol, tmp_path):
    get_models = pytest.importorskip("ml_peg.models.get_models", reason="needs ml-peg: pip install ml-peg")
    entry = {
        "module": "asecalc_ml.export.hubs",
        "class_name": "hub_calculator",
        "trained_on_dispersion": True,
    }
    models = {
        "plain": {**entry, "device": "auto", "kwargs": {"model": tiny_model}},
        "single": {**entry, "overwrite_dtype": "float32", "kwargs": {"model": {tiny_model: {"skin_A": 0.5}}}},
    }
    (tmp_path / "models.yml").write_text(json.dumps(models))  # which is YAML
    loaded = get_models.load_models("plain,single", filepath=tmp_path / "models.yml")
    calculator = loaded["plain"].get_calculator(precision="high")
    assert loaded["plain"].add_d3_calculator(calculator) is calculator
    check_hub(calculator, ethanol, tiny_model)
    single = loaded["single"].get_calculator(precision="high")
    assert (single.parameters.dtype, single.parameters.skin_A) == ("float32", 0.5)


def check_hub(calculator, atoms, model):
    """In float64, and good to be copied for each structure, as benchmarks do."""
    assert calculator.parameters.dtype == "float64"
    energy = MLCalculator(model, dtype="float64").get_potential_energy(atoms)
    for one in (calculator, copy.copy(calculator), copy.deepcopy(calculator)):
        assert one.get_potential_energy(atoms) == energy


# ------------------------------------------------------------------------------------------------- in ASE


def test_ase_lists_the_calculator():
    """In a process of its own: ASE reads its plugins once, and other tests change what is installed."""
    pytest.importorskip("ase._4.plugins", reason="ASE has plugins from 3.29 on")
    code = (
        "from asecalc_ml import MLCalculator; from ase._4.plugins import plugins\n"
        "listed = {plugin.name: plugin for plugin in plugins.by_package['asecalc_ml'].calculators}\n"
        "assert listed, 'this installation is older than the entry point: pip install -e . again'\n"
        "assert listed[MLCalculator.name].implementation is MLCalculator"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_list_of_ase_imports_no_torch():
    pytest.importorskip("ase._4.plugins", reason="ASE has plugins from 3.29 on")
    code = "import sys; from ase._4.plugins import plugins; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    shown = subprocess.run(
        [sys.executable, "-m", "ase", "info", "--plugins"], capture_output=True, text=True, check=True
    )
    assert "CalculatorPlugin\n----------------\nasecalc-ml" in shown.stdout

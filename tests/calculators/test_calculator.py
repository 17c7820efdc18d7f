"""MLCalculator keeps ASE's contract, and refuses what its model knows nothing of."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.io import read, write
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.errors import ConfigError, ModelError, StructureError
from asecalc_ml.model.pair_potentials import LennardJones, Morse
from asecalc_ml.potentials.torchmdnet import TensorNet
from asecalc_ml.store.registry import Registry
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained

TENSORNET = TensorNet(hidden_channels=16, n_layers=1, n_rbf=8, max_atomic_number=20)


@pytest.fixture
def ethanol() -> Atoms:
    return load_structure("ethanol")


@pytest.fixture
def crystal(ethanol) -> Atoms:
    """Ethanol in a tight triclinic cell, so that images see each other."""
    atoms = ethanol.copy()
    atoms.set_cell([[5.5, 0, 0], [0.8, 5.0, 0], [-0.4, 0.6, 5.2]])
    atoms.pbc = True
    return atoms


@pytest.mark.smoke
def test_results_have_ases_types_and_shapes(tiny_model, crystal):
    crystal.calc = MLCalculator(tiny_model)
    assert type(crystal.get_potential_energy()) is float
    assert crystal.get_potential_energy(force_consistent=True) == crystal.get_potential_energy()
    assert crystal.get_forces().shape == (9, 3)
    assert crystal.get_stress().shape == (6,)
    energies = crystal.get_potential_energies()
    assert energies.shape == (9,)
    assert energies.sum() == pytest.approx(crystal.get_potential_energy(), rel=1e-14)
    assert {crystal.calc.results[name].dtype for name in ("forces", "stress", "energies")} == {
        np.dtype("float64")
    }


def test_forces_and_stress_against_ases_finite_differences(tiny_model, crystal):
    crystal.calc = MLCalculator(tiny_model, dtype="float64")
    forces, stress = crystal.get_forces(), crystal.get_stress()
    assert np.abs(forces).max() > 1e-2
    assert np.abs(stress).max() > 1e-5
    assert calculate_numerical_forces(crystal, 1e-4) == pytest.approx(forces, abs=1e-6)
    assert calculate_numerical_stress(crystal, 1e-5) == pytest.approx(stress, abs=1e-7)


def test_a_squeezed_dimer_pushes_outwards(own_home):
    """The stress's sign, by hand: pressure is positive, so stress negative, where atoms repel."""
    dimer = Atoms("O2", [[0, 0, 0], [0, 0, 1.0]], cell=[10, 10, 10], pbc=True)
    register_untrained("morse", Morse(r0_A=1.2), dimer, dtype=torch.float64)
    dimer.calc = MLCalculator("morse")
    push = dimer.get_forces()[1, 2]
    assert push > 0
    assert dimer.get_stress() == pytest.approx([0, 0, -push * 1.0 / 1000.0, 0, 0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_precisions(tiny_model, ethanol, dtype):
    ethanol.calc = MLCalculator(tiny_model, dtype=dtype)
    exact = MLCalculator(tiny_model, dtype="float64")
    assert ethanol.get_potential_energy() == pytest.approx(exact.get_potential_energy(ethanol), abs=1e-5)
    assert ethanol.get_forces() == pytest.approx(exact.get_forces(ethanol), abs=1e-4)
    assert ethanol.calc.get_forces(ethanol).dtype == np.float64


def test_precision_is_the_trained_one_unless_asked(tiny_model):
    assert MLCalculator(tiny_model)._evaluator.model.dtype == torch.float32


# ------------------------------------------------------------------------------- what is left as found


def test_atoms_are_left_as_they_were(tiny_model, crystal):
    before = crystal.copy()
    crystal.calc = MLCalculator(tiny_model)
    crystal.get_stress()
    assert crystal == before
    assert crystal.info == before.info


def test_process_is_left_as_it_was(tiny_model, ethanol):
    """In a process of its own, where nothing has been imported yet."""
    code = """
import json, os
before = dict(os.environ)
import torch
from ase.build import molecule
torch.set_num_threads(3); torch.manual_seed(7); torch.set_default_dtype(torch.float64)
state = torch.get_rng_state()
from asecalc_ml import MLCalculator
atoms = molecule("CH3CH2OH"); atoms.calc = MLCalculator("tiny"); atoms.get_forces()
print(json.dumps([torch.get_num_threads(), str(torch.get_default_dtype()), before == dict(os.environ),
                  torch.equal(state, torch.get_rng_state()), torch.is_grad_enabled()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_path()
    )
    assert json.loads(done.stdout) == [3, "torch.float64", True, True, True]


def test_default_dtype_changes_nothing(tiny_model, ethanol):
    expected = MLCalculator(tiny_model).get_forces(ethanol)
    torch.set_default_dtype(torch.float64)
    try:
        found = MLCalculator(tiny_model).get_forces(ethanol)
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(found, expected)


def _path() -> dict[str, str]:
    """The environment, with this checkout importable."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# ------------------------------------------------------------------------------------- nothing is stale


def test_each_change_is_seen(tiny_model, crystal):
    """The same calculator through a series of changes, a new one for each of them."""

    def swap(atoms):
        atoms.numbers[[0, 3]] = atoms.numbers[[3, 0]]

    changes = [
        lambda atoms: atoms.rattle(0.05, seed=1),
        lambda atoms: atoms.set_cell(atoms.cell * 1.02),
        lambda atoms: atoms.set_cell(atoms.cell * 1.02, scale_atoms=True),
        lambda atoms: setattr(atoms, "pbc", [True, True, False]),
        swap,
        lambda atoms: setattr(atoms, "pbc", False),
        swap,
        lambda atoms: atoms.rattle(0.05, seed=2),
    ]
    calculator, energies = MLCalculator(tiny_model, dtype="float64"), []
    for change in changes:
        change(crystal)
        fresh = MLCalculator(tiny_model, dtype="float64")
        energies.append(calculator.get_potential_energy(crystal))
        assert energies[-1] == pytest.approx(fresh.get_potential_energy(crystal), abs=1e-9)
        assert calculator.get_forces(crystal) == pytest.approx(fresh.get_forces(crystal), abs=1e-9)
    assert len(set(np.round(energies, 6))) == len(energies)


def test_a_changed_charge_is_seen(ethanol):
    register_untrained("charged", TENSORNET, ethanol, charges=[0, 1])
    calculator = MLCalculator("charged")
    neutral = calculator.get_potential_energy(ethanol)
    ethanol.info["charge"] = 1
    charged = calculator.get_potential_energy(ethanol)
    assert charged == MLCalculator("charged").get_potential_energy(ethanol)
    assert charged != neutral
    ethanol.info["charge"] = 2
    expected = told(name="charge", value=2, allowed=[0, 1], problem="'charged'")
    with pytest.raises(StructureError, check=expected):
        calculator.get_potential_energy(ethanol)


def test_a_refused_structure_is_refused_twice(tiny_model, ethanol):
    """And not answered with the energy of the structure before it."""
    calculator = MLCalculator(tiny_model)
    calculator.get_forces(ethanol)
    ethanol.symbols[0] = "Si"
    for _ in range(2):
        with pytest.raises(
            StructureError, check=told(name=tiny_model, value=["Si"], allowed=["C", "H", "O"])
        ):
            calculator.get_forces(ethanol)
    ethanol.symbols[0] = "C"
    assert np.array_equal(calculator.get_forces(ethanol), MLCalculator(tiny_model).get_forces(ethanol))


def test_two_models_in_one_process(tiny_model, ethanol):
    register_untrained("other", TENSORNET, ethanol)
    first, second = MLCalculator(tiny_model), MLCalculator("other")
    expected = [calculator.get_potential_energy(ethanol) for calculator in (first, second)]
    ethanol.rattle(0.05, seed=0)
    for calculator in (first, second):
        calculator.get_forces(ethanol)
    again = load_structure("ethanol")
    assert [calculator.get_potential_energy(again) for calculator in (first, second)] == expected
    assert expected[0] != expected[1]


def test_results_belong_to_the_caller(tiny_model, ethanol):
    ethanol.calc = MLCalculator(tiny_model)
    ethanol.get_forces()[:] = 0
    assert ethanol.get_forces().any()


# ---------------------------------------------------------------------------------------- bad structures


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda atoms: atoms.symbols.__setitem__(0, "Fe"),
            {"value": ["Fe"], "remedy": "asecalc-ml models list"},
        ),
        (lambda atoms: atoms.info.update(charge=-1), {"name": "charge", "value": -1, "allowed": [0]}),
        (lambda atoms: atoms.info.update(spin=2), {"name": "spin", "value": 2, "allowed": [0]}),
        (lambda atoms: atoms.positions.__setitem__((4, 1), np.nan), {"problem": "atom 4 "}),
        (lambda atoms: atoms.positions.__setitem__(4, np.inf), {"problem": "atom 4 "}),
        (lambda atoms: atoms.positions.__setitem__(4, atoms.positions[5]), {"problem": "and atom 5 "}),
        (lambda atoms: atoms.__delitem__(slice(None)), {"problem": "no atoms"}),
        (lambda atoms: setattr(atoms, "pbc", True), {"problem": "cell"}),
        (
            lambda atoms: (atoms.set_cell(5 * np.eye(3)), atoms.cell.__setitem__((0, 0), np.nan)),
            {"problem": "cell"},
        ),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_bad_structures_are_refused(tiny_model, ethanol, spoil, expected, warm):
    """At the first call, and at one that follows good ones."""
    calculator = MLCalculator(tiny_model)
    if warm:
        calculator.get_forces(ethanol)
    spoil(ethanol)
    with pytest.raises(StructureError, check=told(**expected)):
        calculator.get_forces(ethanol)


def test_energies_that_are_not_finite_are_no_result(own_home):
    """Too close for arithmetic, one step after a good structure."""
    dimer = Atoms("O2", [[0, 0, 0], [0, 0, 0.45]])
    register_untrained("pairs", LennardJones(sigma_A=0.5), dimer, dtype=torch.float64)
    calculator = MLCalculator("pairs")
    calculator.get_forces(dimer)
    dimer.positions[1, 2] = 0.2
    calculator.get_forces(dimer)
    dimer.positions[1, 2] = 0.0
    with pytest.raises(StructureError, check=told(problem="0.000 Å")):
        calculator.get_forces(dimer)


@pytest.mark.parametrize("cell", [[0, 0, 0], [8, 8, 0]])
def test_a_cell_of_lower_rank_has_energy_and_no_stress(tiny_model, ethanol, cell):
    ethanol.set_cell(cell)
    ethanol.pbc = [length > 0 for length in cell]
    ethanol.calc = MLCalculator(tiny_model)
    assert np.isfinite(ethanol.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError, match="rank"):
        ethanol.get_stress()
    assert np.isfinite(ethanol.get_forces()).all()


def test_a_slab_has_the_stress_of_ases_volume(tiny_model, ethanol):
    ethanol.set_cell([8, 8, 20])
    ethanol.pbc = [True, True, False]
    stress = [
        MLCalculator(tiny_model, dtype="float64").get_stress(atoms) for atoms in (ethanol, _taller(ethanol))
    ]
    assert stress[0] == pytest.approx(2 * stress[1], abs=1e-12)


def _taller(slab: Atoms) -> Atoms:
    slab = slab.copy()
    slab.cell[2] *= 2
    return slab


# -------------------------------------------------------------------------------------- an ASE calculator


def test_todict_makes_the_same_calculator(tiny_model, ethanol):
    calculator = MLCalculator(tiny_model, dtype="float64")
    named = f"{tiny_model}@{calculator.model_hash[:16]}"
    assert calculator.todict() == {"model": named, "dtype": "float64"}
    again = get_calculator_class(calculator.name)(**json.loads(json.dumps(calculator.todict())))
    assert again.get_potential_energy(ethanol) == calculator.get_potential_energy(ethanol)


def test_written_to_a_trajectory_and_read(tiny_model, ethanol, tmp_path):
    ethanol.calc = MLCalculator(tiny_model)
    ethanol.get_forces()
    write(tmp_path / "one.traj", ethanol)
    found = read(tmp_path / "one.traj")
    assert found.get_potential_energy() == ethanol.get_potential_energy()
    assert np.array_equal(found.get_forces(), ethanol.get_forces())


def test_identity(tiny_model, tiny_model_file):
    calculator = MLCalculator(tiny_model_file)
    assert calculator.card.name == tiny_model
    assert calculator.model_hash == MLCalculator(f"{tiny_model}@{calculator.model_hash[:8]}").model_hash
    assert calculator.continuous


def test_a_file_is_named_with_its_folder_and_its_hash(tiny_model_file, tmp_path, ethanol, monkeypatch):
    """A folder's name may hold an @, and the file is found from another folder."""
    folder = tmp_path / "p@q"
    folder.mkdir()
    shutil.copy(tiny_model_file, folder / "m.safetensors")
    monkeypatch.chdir(folder)
    calculator = MLCalculator("m.safetensors")
    assert calculator.todict()["model"] == f"{folder}/m.safetensors@{calculator.model_hash[:16]}"
    kept = pickle.dumps(calculator)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(kept).get_potential_energy(ethanol) == calculator.get_potential_energy(ethanol)
    (folder / "m.safetensors").write_bytes(Registry().find("torchmdnet-ethanol").path.read_bytes())
    with pytest.raises(ModelError, check=told(problem="with hash")):
        pickle.loads(kept)


def test_parameters_that_do_not_exist(tiny_model):
    with pytest.raises(
        ConfigError, match="'device'", check=told(name="devise", allowed=["device"], remedy=True)
    ):
        MLCalculator(tiny_model, devise="cuda")
    with pytest.raises(ModelError, check=told(name="dtype", value="float16", remedy="float64")):
        MLCalculator(tiny_model, dtype="float16")
    with pytest.raises(ModelError, check=told(name="compile", value="fast", remedy="auto")):
        MLCalculator(tiny_model, compile="fast")
    for skin in (-1, "thick"):
        with pytest.raises(ConfigError, check=told(problem=f"skin is {skin} Å")):
            MLCalculator(tiny_model, skin_A=skin)


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("abacus", "there is no such device"),
        ("gpu", "there is no such device"),
        ("", "there is no such device"),
        ("meta", "need float64"),  # as mps, whose tensors cannot be made here
        ("mps", "need float64"),
        (7.5, "there is no such device"),
    ],
)
def test_a_device_that_cannot_be_used(tiny_model, device, reason):
    """In one short sentence: torch's own words fill a screen."""
    with pytest.raises(ModelError, check=told(name="device", value=device, remedy="'cpu'")) as refused:
        MLCalculator(tiny_model, device=device)
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 200
    with pytest.raises(ModelError, match="device"):
        Committee([tiny_model, "torchmdnet-ethanol"], device=device)


@pytest.mark.parametrize(
    ("cuda", "available", "reason"),
    [(None, False, "installation of torch has no CUDA"), ("12.8", False, "finds no CUDA device")],
)
def test_why_there_is_no_cuda(tiny_model, monkeypatch, cuda, available, reason):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    with pytest.raises(ModelError, match=reason):
        MLCalculator(tiny_model, device="cuda:63")


def test_a_loaded_model_does_not_change(tiny_model):
    calculator = MLCalculator(tiny_model)
    calculator.set(dtype=None)
    with pytest.raises(ConfigError, check=told(name="dtype", value="float64", remedy="MLCalculator")):
        calculator.set(dtype="float64")
    assert calculator.todict().keys() == {"model"}


def test_unknown_backend(tiny_model, ethanol):
    with pytest.raises(StructureError, check=told(problem="'vesinn'")):
        MLCalculator(tiny_model, neighbors="vesinn").get_forces(ethanol)

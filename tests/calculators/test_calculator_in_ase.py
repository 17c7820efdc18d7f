"""One calculator for many structures, inside ASE's own tools: nothing is stale, nothing is computed twice."""

import json
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from operator import methodcaller

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.constraints import FixAtoms
from ase.db import connect
from ase.filters import FrechetCellFilter
from ase.io import Trajectory, read
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.vibrations import Vibrations, VibrationsData
from raising import told
from torch.utils._python_dispatch import TorchDispatchMode

from asecalc_ml import MLCalculator
from asecalc_ml.errors import StructureError
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_potentials import LennardJones
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, GraphNetwork, TensorNet
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained

TRAINED = "torchmdnet-ethanol"
SMALL = {"hidden_channels": 16, "n_layers": 1, "n_rbf": 8, "max_atomic_number": 20}


@pytest.fixture
def ethanol() -> Atoms:
    return load_structure("ethanol")


@pytest.fixture
def propanol() -> Atoms:
    return load_structure("1-propanol")


@pytest.fixture
def dense(ethanol) -> Atoms:
    """Two molecules in a cell so small that every atom sees many images."""
    return in_cell(ethanol, 5.2)


@pytest.fixture
def sparse(ethanol) -> Atoms:
    """The same atoms in a cell so wide that molecules hardly see each other."""
    return in_cell(ethanol, 9.0)


def in_cell(molecule: Atoms, length: float) -> Atoms:
    atoms = molecule.copy()
    atoms.set_cell([[length, 0, 0], [0.8, length, 0], [-0.4, 0.6, length]])
    atoms.pbc = True
    return atoms


@pytest.fixture
def network_runs(monkeypatch) -> Callable[[], int]:
    """How often a network has run since the last question."""
    plain, runs = Model.forward, []

    def counted(self, inputs):
        runs.append(1)
        return plain(self, inputs)

    def since_last() -> int:
        n = len(runs)
        runs.clear()
        return n

    monkeypatch.setattr(Model, "forward", counted)
    return since_last


def results(calculator, atoms: Atoms) -> list[np.ndarray]:
    """Energy and forces, and stress where there is any."""
    names = ["energy", "forces"] + (["stress"] if atoms.cell.rank == 3 else [])
    return [np.array(calculator.get_property(name, atoms)) for name in names]


def assert_identical(found: list, expected: list) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


# --------------------------------------------------------------------------- many structures, one calculator


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_order_of_molecules_changes_no_bit(tiny_model, ethanol, propanol, dense, dtype):
    calculator = MLCalculator(tiny_model, dtype=dtype)
    for atoms in (ethanol, propanol, ethanol, dense, propanol, ethanol):
        found = results(calculator, atoms)
        if not atoms.pbc.any():
            assert_identical(found, results(MLCalculator(tiny_model, dtype=dtype), atoms))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-11)])
def test_sparse_after_dense(tiny_model, dense, sparse, dtype, tolerance):
    """Room that the dense cell needed stays empty; products of other sizes may be rounded otherwise."""
    calculator = MLCalculator(tiny_model, dtype=dtype)
    for atoms in (dense, sparse, dense, sparse):
        found, expected = results(calculator, atoms), results(MLCalculator(tiny_model, dtype=dtype), atoms)
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=tolerance)


def test_one_calculator_of_several_atoms(tiny_model, ethanol, propanol):
    expected = [results(MLCalculator(tiny_model), atoms) for atoms in (ethanol, propanol)]
    ethanol.calc = propanol.calc = MLCalculator(tiny_model)
    for _ in range(2):
        for atoms, known in zip((ethanol, propanol), expected, strict=True):
            assert_identical([atoms.get_potential_energy(), atoms.get_forces()], known)


def test_two_models_of_different_types(tiny_model, ethanol, propanol):
    register_untrained("other", TensorNet(**SMALL), ethanol, dtype=torch.float64)
    single, double = MLCalculator(tiny_model), MLCalculator("other")
    together = [results(one, atoms) for atoms in (ethanol, propanol) for one in (single, double)]
    alone = [
        results(MLCalculator(name), atoms) for atoms in (ethanol, propanol) for name in (tiny_model, "other")
    ]
    for found, expected in zip(together, alone, strict=True):
        assert_identical(found, expected)


def test_many_structures_in_batches(tiny_model, ethanol, propanol, dense, sparse):
    structures = [ethanol, dense, propanol, sparse, ethanol]
    before = [atoms.copy() for atoms in structures]
    many = MLCalculator(tiny_model, dtype="float64").calculate_many(structures)
    assert len(many) == len(structures)
    for atoms, found in zip(structures, many, strict=True):
        alone = MLCalculator(tiny_model, dtype="float64")
        assert found["energy"] == pytest.approx(alone.get_potential_energy(atoms), abs=1e-9)
        assert found["forces"] == pytest.approx(alone.get_forces(atoms), abs=1e-9)
        assert ("stress" in found) == (atoms.cell.rank == 3)
        if "stress" in found:
            assert found["stress"] == pytest.approx(alone.get_stress(atoms), abs=1e-10)
    assert structures == before


def test_many_structures_are_few_runs(tiny_model, ethanol, network_runs):
    calculator = MLCalculator(tiny_model)
    network_runs()
    calculator.calculate_many([ethanol] * 20)
    assert network_runs() == 1
    assert calculator.calculate_many([]) == []


# ------------------------------------------------------------------------------------------- other processes


def test_a_pickled_calculator_gives_the_same_bits(tiny_model, ethanol, dense):
    calculator = MLCalculator(tiny_model, dtype="float64")
    expected = [results(calculator, atoms) for atoms in (ethanol, dense)]
    again = pickle.loads(pickle.dumps(calculator))
    assert (again.model_hash, again.parameters.dtype) == (calculator.model_hash, "float64")
    for atoms, known in zip((ethanol, dense), expected, strict=True):
        assert_identical(results(again, atoms), known)
    ethanol.calc = calculator
    assert pickle.loads(pickle.dumps(ethanol)).get_potential_energy() == expected[0][0]


def test_other_processes(tiny_model, ethanol, propanol):
    """Started afresh, as on every system but Linux; calculators travel with their atoms."""
    structures = [ethanol, propanol, ethanol.copy()]
    for atoms in structures:
        atoms.calc = MLCalculator(tiny_model)
    expected = [atoms.get_forces() for atoms in structures]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = list(pool.map(methodcaller("get_forces"), structures))
    for forces, known in zip(found, expected, strict=True):
        assert np.array_equal(forces, known)


# ----------------------------------------------------------------------------------------------- ASE's tools


@pytest.fixture(scope="module")
def minimum(tmp_path_factory) -> np.ndarray:
    """Positions of ethanol at the trained model's minimum, Å."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        ethanol = load_structure("ethanol")
        ethanol.calc = MLCalculator(TRAINED, dtype="float64")
    assert BFGS(ethanol, logfile=None).run(fmax=1e-4, steps=200)
    return ethanol.positions


@pytest.fixture
def relaxed(ethanol, minimum) -> Atoms:
    """Ethanol at rest, with the trained model in float64."""
    ethanol.positions = minimum
    ethanol.calc = MLCalculator(TRAINED, dtype="float64")
    return ethanol


@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_optimizers(ethanol, relaxed, optimizer):
    start = load_structure("ethanol")
    start.rattle(0.03, seed=1)
    start.calc = relaxed.calc
    before = start.get_potential_energy()
    assert optimizer(start, logfile=None).run(fmax=0.01, steps=300)
    assert start.get_potential_energy() < before
    assert start.get_potential_energy() == pytest.approx(relaxed.get_potential_energy(), abs=1e-3)


def test_vibrations_are_those_of_the_hessian(relaxed, tmp_path):
    """ASE's finite differences and automatic differentiation, in cm⁻¹; six modes are no vibrations."""
    vibrations = Vibrations(relaxed, name=str(tmp_path / "vib"), delta=0.002)
    vibrations.run()
    numerical = vibrations.get_frequencies()
    analytic = VibrationsData.from_2d(relaxed, relaxed.calc.get_hessian(relaxed)).get_frequencies()
    assert np.abs(analytic[:6]).max() < 30
    assert (analytic[6:].real > 150).all()
    assert numerical[6:] == pytest.approx(analytic[6:], abs=2)


def test_a_band_with_a_shared_calculator_is_one_with_several(relaxed):
    """The hydroxyl group turns by 120°."""
    bands = [torsion_band(relaxed, shared) for shared in (True, False)]
    forces = [band.get_forces() for band in bands]
    assert np.array_equal(forces[0], forces[1])
    energies = [image.get_potential_energy() for image in bands[0].images]
    assert max(energies[1:-1]) > max(energies[0], energies[-1])
    assert BFGS(bands[0], logfile=None).run(fmax=0.5, steps=30)


def torsion_band(molecule: Atoms, shared: bool) -> NEB:
    final = molecule.copy()
    hydrogen, oxygen, carbon = hydroxyl(molecule)
    other = next(k for k in range(9) if molecule.symbols[k] == "C" and k != carbon)
    final.rotate_dihedral(other, carbon, oxygen, hydrogen, 120, indices=[hydrogen])
    images = [molecule.copy(), *(molecule.copy() for _ in range(2)), final]
    one = MLCalculator(TRAINED, dtype="float64")
    for image in images:
        image.calc = one if shared else MLCalculator(TRAINED, dtype="float64")
    band = NEB(images, allow_shared_calculator=shared, method="improvedtangent")
    band.interpolate("idpp")
    return band


def hydroxyl(molecule: Atoms) -> tuple[int, int, int]:
    """Hydrogen, oxygen and carbon of C-O-H."""
    oxygen = int(molecule.symbols.indices()["O"][0])
    bonded = np.argsort(molecule.get_distances(oxygen, range(len(molecule))))[1:3]
    hydrogen, carbon = sorted(bonded, key=lambda k: molecule.numbers[k])
    return int(hydrogen), oxygen, int(carbon)


def test_a_cell_that_relaxes(own_home):
    """A strained crystal goes back to the lattice constant of lowest energy."""
    crystal = bulk("Ar", "fcc", a=5.2)
    register_untrained("argon", LennardJones(cutoff_A=8.0), crystal, dtype=torch.float64)
    calculator = MLCalculator("argon")
    lengths = np.linspace(5.0, 5.5, 51)
    energies = [calculator.get_potential_energy(bulk("Ar", "fcc", a=a)) for a in lengths]
    lowest = np.argmin(energies)
    curve = np.polyfit(lengths[lowest - 2 : lowest + 3], energies[lowest - 2 : lowest + 3], 2)
    strain = 0.02 * np.array([[1, 1, 0], [0, -1, 0], [0, 0, 1]])
    crystal.set_cell(crystal.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    crystal.calc = calculator
    assert BFGS(FrechetCellFilter(crystal), logfile=None).run(fmax=1e-5, steps=100)
    assert np.abs(crystal.get_stress()).max() < 1e-6
    assert np.cbrt(4 * crystal.get_volume()) == pytest.approx(-curve[1] / (2 * curve[0]), abs=2e-3)


# -------------------------------------------------------------------------------------- files: name and hash


def identity(calculator: MLCalculator) -> str:
    return f"{calculator.card.name}@{calculator.model_hash[:16]}"


@pytest.mark.parametrize("suffix", ["json", "db"])
def test_a_database_keeps_name_and_hash(tiny_model, ethanol, tmp_path, suffix):
    ethanol.calc = MLCalculator(tiny_model, dtype="float64")
    ethanol.get_forces()
    with connect(tmp_path / f"frames.{suffix}") as database:
        database.write(ethanol)
    row = connect(tmp_path / f"frames.{suffix}").get(1)
    assert row.calculator == "asecalc-ml"
    assert row.calculator_parameters == {"model": identity(ethanol.calc), "dtype": "float64"}
    atoms = row.toatoms()
    assert atoms.get_potential_energy() == ethanol.get_potential_energy()
    assert np.array_equal(atoms.get_forces(), ethanol.get_forces())
    again = get_calculator_class(row.calculator)(**row.calculator_parameters)
    assert again.get_potential_energy(atoms) == ethanol.get_potential_energy()


def test_a_trajectory_keeps_name_and_hash(tiny_model, ethanol, tmp_path):
    ethanol.calc = MLCalculator(tiny_model, dtype="float64")
    with Trajectory(tmp_path / "frames.traj", "w", ethanol) as trajectory:
        for step in range(3):
            ethanol.rattle(0.01, seed=step)
            ethanol.get_forces()
            trajectory.write()
    last = read(tmp_path / "frames.traj")
    assert last.calc.name == "asecalc-ml"
    assert last.calc.parameters == {"model": identity(ethanol.calc), "dtype": "float64"}
    assert last.get_potential_energy() == ethanol.get_potential_energy()
    again = get_calculator_class(last.calc.name)(**last.calc.parameters)
    assert again.get_potential_energy(last) == ethanol.get_potential_energy()


def test_an_optimizer_writes_frames_with_name_and_hash(tiny_model, ethanol, tmp_path):
    ethanol.calc = MLCalculator(tiny_model)
    BFGS(ethanol, logfile=None, trajectory=str(tmp_path / "path.traj"), maxstep=0.01).run(steps=2)
    frames = read(tmp_path / "path.traj", ":")
    assert {frame.calc.parameters["model"] for frame in frames} == {identity(ethanol.calc)}


# ------------------------------------------------------------------------------------------ what is computed


def test_energy_forces_and_stress_are_one_run(tiny_model, dense, network_runs):
    dense.calc = MLCalculator(tiny_model)
    network_runs()
    dense.get_potential_energy(), dense.get_forces(), dense.get_stress(), dense.get_potential_energies()
    assert network_runs() == 1


IGNORED = {
    "info": lambda atoms: atoms.info.update(note="x", temperature=300.0),
    "a new array": lambda atoms: atoms.new_array("weights", np.ones(9)),
    "tags": lambda atoms: atoms.set_tags(range(9)),
    "momenta": lambda atoms: atoms.set_momenta(np.ones((9, 3))),
    "masses": lambda atoms: atoms.set_masses([2.0] * 9),
    "charges of atoms": lambda atoms: atoms.set_initial_charges([0.1] * 9),
    "magnetic moments": lambda atoms: atoms.set_initial_magnetic_moments([1.0] * 9),
    "constraints": lambda atoms: atoms.set_constraint(FixAtoms([0])),
    "charge as it was": lambda atoms: atoms.info.update(charge=0, spin=0),
}


@pytest.mark.parametrize("change", IGNORED.values(), ids=list(IGNORED))
def test_what_the_model_does_not_see_changes_nothing(tiny_model, ethanol, network_runs, change):
    ethanol.calc = MLCalculator(tiny_model)
    energy = ethanol.get_potential_energy()
    network_runs()
    change(ethanol)
    assert ethanol.get_potential_energy() == energy
    assert network_runs() == 0


CONSUMED = {
    "charge": lambda atoms: atoms.info.update(charge=1),
    "positions": lambda atoms: atoms.rattle(1e-6, seed=0),
    "elements": lambda atoms: atoms.symbols.__setitem__(0, "O"),
    "cell": lambda atoms: atoms.set_cell(1.01 * atoms.cell.array),
    "periodicity": lambda atoms: setattr(atoms, "pbc", [True, True, False]),
}


@pytest.mark.parametrize("change", CONSUMED.values(), ids=list(CONSUMED))
def test_what_the_model_sees_is_computed_anew(dense, network_runs, change):
    register_untrained("charged", TensorNet(**SMALL), dense, charges=[0, 1], dtype=torch.float64)
    dense.calc = MLCalculator("charged")
    energy = dense.get_potential_energy()
    network_runs()
    change(dense)
    assert dense.get_potential_energy() != energy
    assert network_runs() == 1
    assert dense.get_potential_energy() == MLCalculator("charged").get_potential_energy(dense)


# ------------------------------------------------------------------------------------------------- precision


class TypesOfNumbers(TorchDispatchMode):
    """The floating types of every tensor that is made, in forward and backward pass."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        tensors = made if isinstance(made, tuple | list) else [made]
        self.found |= {one.dtype for one in tensors if torch.is_tensor(one) and one.is_floating_point()}
        return made


@pytest.mark.parametrize("options", [EquivariantTransformer, TensorNet, GraphNetwork])
def test_float64_is_float64_everywhere(dense, options):
    """Weights were trained in single precision; nothing is computed in it."""
    register_untrained("single", options(**SMALL), dense, dtype=torch.float32)
    calculator = MLCalculator("single", dtype="float64")
    calculator.get_forces(in_cell(load_structure("1-propanol"), 6.0))  # whatever is made once
    with TypesOfNumbers() as types:
        calculator.get_stress(dense)
    assert types.found == {torch.float64}
    with TypesOfNumbers() as types:
        MLCalculator("single").get_stress(dense)
    assert types.found == {torch.float32, torch.float64}  # the probe can tell


def test_a_move_of_a_ten_millionth_of_an_angstrom(tiny_model, ethanol):
    """Far from the origin, in float64: the energy follows the force."""
    ethanol.translate([1000.0, -2000.0, 3000.0])
    calculator = MLCalculator(tiny_model, dtype="float64")
    force, before = calculator.get_forces(ethanol)[2, 1], calculator.get_potential_energy(ethanol)
    start = ethanol.positions[2, 1]
    ethanol.positions[2, 1] += 1e-7
    moved = ethanol.positions[2, 1] - start
    assert abs(force) > 1e-2
    assert calculator.get_potential_energy(ethanol) - before == pytest.approx(-force * moved, rel=1e-3)


def test_geometry_of_a_float32_model_is_float64(tiny_model, ethanol):
    """A float32 coordinate at 10,000 Å steps by 0.001 Å; moves of that size come out as at the origin."""
    far = ethanol.copy()
    far.translate([1e4, -1e4, 1e4])
    calculator = MLCalculator(tiny_model, dtype="float32")
    for atoms in (ethanol, far):
        atoms.rattle(3e-4, seed=5)
    assert calculator.get_potential_energy(far) == pytest.approx(
        calculator.get_potential_energy(ethanol), abs=1e-5
    )
    assert calculator.get_forces(far) == pytest.approx(calculator.get_forces(ethanol), abs=1e-5)


def test_sums_of_a_float32_model_are_float64(relaxed):
    """At -4210 eV single precision steps by 0.5 meV; energy differences of a step of dynamics are smaller."""
    relaxed.rattle(0.05, seed=3)
    single, double = MLCalculator(TRAINED, dtype="float32"), MLCalculator(TRAINED, dtype="float64")
    energies = []
    for step in np.linspace(0, 5e-4, 11):
        moved = relaxed.copy()
        moved.positions[0, 0] += step
        energies.append([one.get_potential_energy(moved) for one in (single, double)])
    change = np.diff(energies, axis=0)
    assert np.abs(change).max() < 5e-4
    assert change[:, 0] == pytest.approx(change[:, 1], abs=3e-5)


# ------------------------------------------------------------------------------------------------- bad input


def test_a_property_that_no_model_has(tiny_model, ethanol):
    ethanol.calc = MLCalculator(tiny_model)
    expected = results(MLCalculator(tiny_model), ethanol)
    for _ in range(2):
        with pytest.raises(PropertyNotImplementedError, match=r"dipole.*energy, .*forces, stress"):
            ethanol.get_dipole_moment()
        assert_identical(results(ethanol.calc, ethanol), expected)


def test_stress_without_a_cell(tiny_model, ethanol):
    ethanol.calc = MLCalculator(tiny_model)
    expected = results(MLCalculator(tiny_model), ethanol)
    with pytest.raises(PropertyNotImplementedError, match="give the cell a vector along every direction"):
        ethanol.get_stress()
    assert_identical(results(ethanol.calc, ethanol), expected)


BAD = {
    "element": (lambda atoms: atoms.symbols.__setitem__(0, "Si"), {"value": ["Si"], "remedy": True}),
    "charge": (lambda atoms: atoms.info.update(charge=3), {"name": "charge", "value": 3, "remedy": True}),
    "no number": (lambda atoms: atoms.info.update(charge="plus"), {"problem": "plus"}),
    "half": (lambda atoms: atoms.info.update(charge=0.5), {"problem": "0.5"}),
    "spin": (lambda atoms: atoms.info.update(spin=1), {"name": "spin", "value": 1, "remedy": True}),
    "empty": (lambda atoms: atoms.__delitem__(slice(None)), {"problem": "no atoms"}),
}


@pytest.mark.parametrize(("spoil", "expected"), BAD.values(), ids=list(BAD))
@pytest.mark.parametrize("call", [methodcaller("get_forces"), None], ids=["alone", "in a batch"])
def test_usable_after_what_was_refused(tiny_model, ethanol, propanol, spoil, expected, call):
    calculator = MLCalculator(tiny_model)
    good = results(MLCalculator(tiny_model), propanol)
    bad = ethanol.copy()
    spoil(bad)
    bad.calc = calculator
    for _ in range(2):
        with pytest.raises(StructureError, check=told(**expected)):
            call(bad) if call else calculator.calculate_many([ethanol, bad])
        assert_identical(results(calculator, propanol), good)


def test_todict_is_plain_json(tiny_model):
    assert json.loads(json.dumps(MLCalculator(tiny_model).todict()))["model"].startswith("tiny@")

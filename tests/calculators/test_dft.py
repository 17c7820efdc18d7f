"""DFT by pyscf: against pyscf itself, finite differences, separated atoms, and the labels of rMD17."""

import json
import pickle

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from raising import told

from asecalc_ml.calculators.factory import describe_calculator, make_calculator
from asecalc_ml.errors import CalculationError, ConfigError, StructureError

pytest.importorskip("pyscf", reason="pip install 'asecalc-ml[reference]'")

from asecalc_ml.calculators.dft import DFT

KCAL_MOL = units.kcal / units.mol
SMALL = {"basis": "sto-3g", "grid_level": 2}


def calculator(**parameters):
    return make_calculator({"pyscf-dft": SMALL | parameters})


def hydrogen(distance: float) -> Atoms:
    return Atoms("H2", [[0, 0, 0], [0, 0, distance]])


def test_energy_is_that_of_pyscf():
    from pyscf import dft, gto

    atoms = molecule("H2O")
    atoms.calc = calculator(density_fitting=False)
    places = list(zip(atoms.symbols, atoms.positions, strict=True))
    theirs = dft.RKS(gto.M(atom=places, basis="sto-3g", verbose=0, parse_arg=False), xc="PBE")
    theirs.grids.level = 2
    assert atoms.get_potential_energy() == pytest.approx(theirs.kernel() * units.Hartree, abs=1e-5)


@pytest.mark.parametrize("spin", [0, 2])
def test_forces_are_the_derivative_of_the_energy(spin):
    atoms, step = molecule("H2O"), 2e-3
    atoms.positions += 0.03 * np.random.default_rng(0).normal(size=(3, 3))
    atoms.calc = calculator(spin=spin)
    forces = atoms.get_forces()
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 1] += sign * step
        moved.calc = atoms.calc
        energies.append(moved.get_potential_energy())
    assert forces[1, 1] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=2e-4)
    assert forces.sum(axis=0) == pytest.approx(0, abs=1e-5)


def test_a_broken_bond_is_two_atoms_if_unrestricted():
    atom = Atoms("H", info={"spin": 1})
    atom.calc = calculator()
    apart = 2 * atom.get_potential_energy()
    energies = {}
    for unrestricted in (False, True):
        atoms = hydrogen(4.0)
        atoms.calc = calculator(unrestricted=unrestricted)
        energies[unrestricted] = atoms.get_potential_energy()
    assert energies[True] == pytest.approx(apart, abs=0.02)
    assert energies[False] > apart + 1.0


def test_oxygen_is_a_triplet():
    atoms = molecule("O2")
    energies = [calculator(spin=spin).get_property("energy", atoms) for spin in (0, 2)]
    assert energies[1] < energies[0] - 0.5
    atoms.info["spin"] = 2
    of_structure = calculator().get_property("energy", atoms)
    assert of_structure == pytest.approx(energies[1], abs=1e-6)
    restricted = calculator(unrestricted=False).get_property("energy", atoms)
    assert restricted > of_structure - 1e-6  # restricted open-shell has fewer freedoms


def test_charge_of_the_structure_is_taken():
    atoms = hydrogen(1.0)
    atoms.calc = calculator()
    neutral = atoms.get_potential_energy()
    atoms.info |= {"charge": 1, "spin": 1}
    assert atoms.get_potential_energy() > neutral + 10


def test_hybrid_functionals_and_meta_gga_have_forces():
    for functional in ("B3LYP", "TPSS"):
        atoms = hydrogen(0.8)
        atoms.calc = calculator(functional=functional)
        assert np.isfinite(atoms.get_forces()).all()


def test_provenance_names_the_package():
    assert "pyscf" in describe_calculator(calculator())["versions"]
    assert describe_calculator(calculator())["parameters"]["functional"] == "PBE"


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"functional": "PBF"}, {"name": "functional", "value": "PBF", "remedy": True}),
        ({"functionl": "PBE"}, {"name": "functionl", "allowed": ["functional"], "remedy": True}),
        ({"spin": 0.5}, {"name": "spin", "value": 0.5, "allowed": "whole number"}),
    ],
)
def test_wrong_arguments(parameters, expected):
    with pytest.raises(ConfigError, check=told(**expected)):
        calculator(**parameters)


def test_unknown_basis():
    with pytest.raises(ConfigError, check=told(name="basis", value="def2-svq", problem=" H ", remedy=True)):
        calculator(basis="def2-svq").get_property("energy", hydrogen(0.8))


def test_impossible_spin():
    with pytest.raises(StructureError, check=told(problem="2 electrons, of which 1")):
        calculator(spin=1).get_property("energy", hydrogen(0.8))


def test_periodic_structures_are_refused():
    atoms = Atoms("H", cell=[3, 3, 3], pbc=True)
    with pytest.raises(StructureError, check=told(value=[True] * 3, remedy="pbc")):
        calculator().get_property("energy", atoms)


def test_what_does_not_converge_is_an_error_and_is_forgotten():
    stuck = calculator(max_cycles=1, spin=2)
    atoms = molecule("H2O")
    with pytest.raises(CalculationError, check=told(value=1, remedy="max_cycles")):
        stuck.get_property("energy", atoms)
    assert "energy" not in stuck.results


def test_forces_after_an_energy_solve_nothing_again(monkeypatch):
    calls, solve = [], DFT._converged

    def counting(self, field):
        calls.append(field)
        if len(calls) == 3:
            raise CalculationError("stuck")
        return solve(self, field)

    monkeypatch.setattr(DFT, "_converged", counting)
    atoms = hydrogen(0.8)
    atoms.calc = calculator()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    assert len(calls) == 1
    fresh = hydrogen(0.8)
    fresh.calc = calculator()
    np.testing.assert_allclose(fresh.get_forces(), forces, atol=1e-9)
    atoms.positions[1, 2] += 0.1
    with pytest.raises(CalculationError, match="stuck"):
        atoms.get_forces()
    assert atoms.get_potential_energy() > energy + 0.01  # and not that of the field before
    assert len(calls) == 4


def test_it_can_be_pickled_after_an_energy():
    atoms = hydrogen(0.8)
    atoms.calc = calculator()
    energy = atoms.get_potential_energy()
    other = atoms.copy()
    other.calc = pickle.loads(pickle.dumps(atoms.calc))
    assert other.get_potential_energy() == energy
    np.testing.assert_allclose(other.get_forces(), atoms.get_forces(), atol=1e-8)


def test_another_goes_on_from_the_density_of_a_checkpoint_to_the_last_bit():
    atoms = molecule("H2O")
    atoms.calc = calculator()
    atoms.get_potential_energy()
    state = json.loads(json.dumps(atoms.calc.checkpoint_state()))
    atoms.rattle(0.01, seed=0)
    other = atoms.copy()
    other.calc = calculator()
    other.get_potential_energy()  # of what came before nothing is left
    other.rattle(0.01, seed=1)
    other.get_potential_energy()
    other.calc.restore_state(state)
    other.positions = atoms.positions
    assert other.get_potential_energy() == atoms.get_potential_energy()
    assert np.array_equal(other.get_forces(), atoms.get_forces())


def test_threads_are_left_as_found():
    from pyscf import lib

    before = lib.num_threads()
    calculator().get_property("energy", hydrogen(0.8))
    assert lib.num_threads() == before


# ---------------------------------------------------------------------- real labels


@pytest.mark.slow
@pytest.mark.parametrize("frame", [0, 1, 2])
def test_defaults_reproduce_the_labels_of_rmd17(frame, shared_data):
    """PBE/def2-SVP of ethanol by ORCA: forces to 0.15 meV/Å on average, 1 meV/Å at most."""
    data = np.load(shared_data / "rmd17" / "rmd17_ethanol_test_01.npz")
    atoms = Atoms(data["nuclear_charges"], data["coords"][frame])
    atoms.calc = make_calculator("pyscf-dft")
    errors = atoms.get_forces() - data["forces"][frame] * KCAL_MOL
    assert 1000 * np.abs(errors).mean() < 0.15
    assert 1000 * np.abs(errors).max() < 1.0
    assert atoms.get_potential_energy() == pytest.approx(data["energies"][frame] * KCAL_MOL, abs=0.005)

"""Many molecules checked at once are in order exactly if each of them is."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given
from hypothesis import strategies as st

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.checks_of_many import LARGEST_MOLECULE, are_in_order, is_small_molecule
from asecalc_ml.structure.loading import MIN_DISTANCE_A, check_structure


def is_refused(atoms: Atoms) -> bool:
    try:
        check_structure(atoms)
    except StructureError:
        return True
    return False


def with_array(name: str, value: float) -> Atoms:
    atoms = molecule("H2O")
    values = np.ones((3, 3) if name == "momenta" else 3)
    values[-1] = value
    atoms.arrays[name] = values
    return atoms


def with_cell(value: float) -> Atoms:
    atoms = molecule("H2O")
    atoms.cell.array[1, 1] = value
    return atoms


FAULTS = {
    "overlap": Atoms("H2", [[0, 0, 0], [0, 0, 0.1]]),
    "coincidence": Atoms("H2", np.zeros((2, 3))),
    "NaN": Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]),
    "NaN of one atom": Atoms("H", [[0, np.nan, 0]]),
    "infinity": Atoms("H2", [[0, 0, 0], [0, 0, np.inf]]),
    "infinity of both": Atoms("H2", np.full((2, 3), np.inf)),
    "dummy": Atoms("XH", [[0, 0, 0], [0, 0, 1]]),
    "no element": Atoms(numbers=[1, 119], positions=[[0, 0, 0], [0, 0, 1]]),
    "negative number": Atoms(numbers=[1, -1], positions=[[0, 0, 0], [0, 0, 1]]),
    "mass": with_array("masses", 0.0),
    "NaN mass": with_array("masses", np.nan),
    "momentum": with_array("momenta", np.inf),
    "cell": with_cell(np.nan),
}
SOUND = [molecule("H2O"), molecule("CH4"), molecule("CH3CH2OH"), Atoms("H"), with_array("momenta", -1.0)]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_seen_among_others(fault):
    faulty = FAULTS[fault]
    assert is_small_molecule(faulty)
    assert is_refused(faulty)
    assert not are_in_order([*SOUND, faulty])
    assert not are_in_order([faulty])


def test_what_is_sound_is_in_order():
    assert are_in_order(SOUND)
    assert are_in_order([])


def test_occupancies_are_looked_at_closely():
    atoms = molecule("H2O")
    atoms.info["occupancy"] = {"0": {"O": 0.5}}
    assert not are_in_order([atoms])


CHAINS = st.lists(st.tuples(st.integers(1, 6), st.floats(0.38, 0.44)), min_size=1, max_size=5)


@given(CHAINS, st.integers(0, 99))
def test_never_in_order_where_one_is_refused(chains, seed):
    """Atoms on a line at about the shortest distance that is allowed."""
    direction = np.random.default_rng(seed).normal(size=3)
    direction /= np.linalg.norm(direction)
    structures = [Atoms(f"H{n}", np.outer(step * np.arange(n), direction)) for n, step in chains]
    refused = any(is_refused(atoms) for atoms in structures)
    assert not (are_in_order(structures) and refused)
    near = any(n > 1 and abs(step - MIN_DISTANCE_A) < 1e-6 for n, step in chains)
    assert near or are_in_order(structures) == (not refused)


def test_what_counts_as_a_small_molecule():
    assert not is_small_molecule(Atoms())
    assert not is_small_molecule(Atoms("H", cell=[5, 5, 5], pbc=[True, False, False]))
    assert is_small_molecule(Atoms(f"H{LARGEST_MOLECULE}"))
    assert not is_small_molecule(Atoms(f"H{LARGEST_MOLECULE + 1}"))

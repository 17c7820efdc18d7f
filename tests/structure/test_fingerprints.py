"""Fingerprints recognise a frame in another form, and tell different frames apart."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, make_supercell, molecule
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from asecalc_ml.potentials.datasets import dataset
from asecalc_ml.structure.fingerprints import TOLERANCE_A, _lengths, are_among, fingerprints

BOHR_OF_A_SCRIPT = 0.529177  # truncated, 4e-7 off


def salt(seed: int = 0) -> Atoms:
    """A rattled, skewed cell of two elements."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    shear = np.array([[0, 0.3, 0], [0.2, 0, 0], [0, -0.4, 0.1]])
    atoms.set_cell(atoms.cell.array + shear, scale_atoms=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def ethanol(seed: int = 0) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=seed)
    return atoms


def slab(seed: int = 0) -> Atoms:
    atoms = salt(seed)
    atoms.pbc = [True, True, False]
    return atoms


def changed(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """Moved, turned, reflected, wrapped, in another order, in single precision and through Bohr."""
    other = atoms.copy()
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    other.positions += random.normal(size=3)
    other.set_cell(other.cell.array @ turn)
    other.positions = other.positions @ turn
    other.wrap()
    other = other[random.permutation(len(other))]
    scale = BOHR_OF_A_SCRIPT / units.Bohr
    other.set_cell((other.cell.array * scale).astype(np.float32).astype(float))
    other.positions = (other.positions * scale).astype(np.float32).astype(float)
    return other


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([salt, ethanol, slab]), st.integers(0, 2**31))
def test_a_frame_in_another_form_is_recognised(make, seed):
    atoms = make(seed)
    known = fingerprints([make(seed + 1), atoms])
    assert are_among(fingerprints([changed(atoms, np.random.default_rng(seed))]), known).all()
    assert not are_among(fingerprints([make(seed + 2)]), known).any()


@pytest.mark.parametrize(
    ("make", "suffix"),
    [(salt, "cif"), (salt, "vasp"), (salt, "xyz"), (salt, "traj"), (ethanol, "xyz"), (slab, "xyz")],
)
def test_a_frame_in_another_file_is_recognised(make, suffix, tmp_path):
    atoms = make()
    write(tmp_path / f"frame.{suffix}", atoms)
    assert are_among(fingerprints([read(tmp_path / f"frame.{suffix}")]), fingerprints([atoms])).all()


def test_no_rounding_boundary_matters():
    """Two hundred tiny displacements, of which some cross a boundary of every stored length."""
    random, atoms = np.random.default_rng(0), ethanol()
    moved = [atoms.copy() for _ in range(200)]
    for copy in moved:
        copy.positions += random.normal(scale=1e-5, size=copy.positions.shape)
    rows = fingerprints(moved)
    assert len(np.unique(rows, axis=0)) > 10
    assert are_among(rows, fingerprints([atoms])).all()


def test_lengths_change_by_about_as_much_as_atoms_move():
    """No jump, whatever an atom passes: the cutoff of a crystal, a cell boundary."""
    random = np.random.default_rng(0)
    for make in (salt, ethanol, slab):
        atoms = make()
        for _ in range(40):
            moved = atoms.copy()
            moved.positions += random.normal(scale=1e-5, size=moved.positions.shape)
            moved.wrap()
            assert np.abs(_lengths(moved) - _lengths(atoms)).max() < 40e-5
            atoms = moved
            atoms.positions += random.normal(scale=0.2, size=3)


def test_lengths_by_definition():
    """The formula of the docstring, written as loops."""
    atoms = ethanol()
    weights = 0.5 + (atoms.numbers * 0.6180339887) % 1
    expected = []
    for kappa in (1, 2, 4):
        rho = np.zeros(len(atoms))
        for i in range(len(atoms)):
            for j in set(range(len(atoms))) - {i}:
                r = atoms.get_distance(i, j)
                rho[i] += weights[i] * weights[j] * np.cos(kappa * r) / kappa * np.exp(-r / 4)
        spread = sum((rho[i] - rho[atoms.numbers == atoms.numbers[i]].mean()) ** 4 for i in range(len(atoms)))
        expected.append((rho.sum() / 3, spread**0.25))
    assert _lengths(atoms) == pytest.approx(np.transpose(expected).ravel(), abs=1e-12)


def test_the_cell_does_not_matter_but_its_size_does():
    atoms = salt()
    skewed = atoms.copy()
    skewed.set_cell([[1, 0, 0], [1, 1, 0], [0, -2, 1]] @ atoms.cell.array)
    doubled = make_supercell(atoms, np.diag([2, 1, 1]))
    assert are_among(fingerprints([skewed, doubled]), fingerprints([atoms])).tolist() == [True, False]


def test_elements_charge_spin_and_periodicity_count():
    water = molecule("H2O")
    water.positions += 0.1
    others = [water.copy() for _ in range(4)]
    others[0].info["charge"], others[1].info["spin"] = 2, 2
    others[2].set_cell([20, 20, 20])
    others[2].pbc = True
    others[3].numbers[0] = 16
    swapped = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    swapped.numbers[[0, 1]] = swapped.numbers[[1, 0]]
    known = fingerprints([water, bulk("NaCl", "rocksalt", a=5.64, cubic=True)])
    assert not are_among(fingerprints([*others, swapped]), known).any()
    labelled = water.copy()
    labelled.info["energy"] = 1.0
    assert are_among(fingerprints([labelled]), known).all()


def test_one_displaced_atom_is_another_frame():
    """By the 0.01 Å of finite differences, also in a crystal, where symmetry makes first orders vanish."""
    perfect = bulk("Si", cubic=True) * (2, 2, 2)
    displaced = perfect.copy()
    displaced.positions[0, 0] += 0.01
    further = perfect.copy()
    further.positions[0, 0] += 0.02
    rows = fingerprints([perfect, displaced, further])
    for k in range(3):
        assert are_among(rows, rows[[k]]).tolist() == [k == j for j in range(3)]


def test_small_and_empty_cases():
    assert fingerprints([]).shape == (0, 8)
    rows = fingerprints([Atoms("He"), Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), bulk("Cu")])
    assert are_among(rows, rows).all()
    assert not are_among(rows, rows[:0]).any()
    assert are_among(rows[:0], rows).shape == (0,)


def n_confused(frames: list[Atoms], same: np.ndarray) -> tuple[int, int]:
    """Pairs of different frames that match, and pairs of the same frame that do not."""
    rows = fingerprints(frames)
    false, missed = 0, 0
    for k in range(len(frames)):
        match = are_among(rows, rows[[k]])
        false += int((match & (same != same[k])).sum())
        missed += int((~match & (same == same[k])).sum())
    return false, missed


@pytest.mark.parametrize("name", ["ethanol", "benzene", "malonaldehyde", "uracil"])
def test_frames_of_dynamics_are_told_apart(name, shared_data):
    """A split of rMD17 trains on frames that another tests on: original numbers tell which."""
    frames, numbers = [], []
    for part in ("train_01", "test_02"):
        path = shared_data / f"rmd17/rmd17_{name}_{part}.npz"
        with np.load(path) as file:
            frames += [Atoms(file["nuclear_charges"], positions) for positions in file["coords"][:600]]
            numbers += file["old_indices"][:600].tolist()
    assert n_confused(frames, np.array(numbers)) == (0, 0)


def test_crystals_and_liquids_are_told_apart(shared_data):
    """Pairs that match have equal energies: symmetry makes strained cells of silicon the same."""
    silicon = dataset({"format": "mlearn", "path": str(shared_data / "mlearn/Si/training.json")}).read()[:120]
    liquid = dataset(
        {"format": "neuralil-json", "path": str(shared_data / "ean/validation_original.json")}
    ).read()[:40]
    rows, energies = fingerprints(silicon), [atoms.get_potential_energy() / len(atoms) for atoms in silicon]
    for k in range(len(silicon)):
        same = np.flatnonzero(are_among(rows, rows[[k]]) & [len(a) == len(silicon[k]) for a in silicon])
        assert np.ptp([energies[j] for j in same]) < 0.5e-3
    assert n_confused(liquid, np.arange(len(liquid))) == (0, 0)


def test_five_decimals_are_enough(shared_data):
    with np.load(shared_data / "rmd17/rmd17_ethanol_train_01.npz") as file:
        frames = [Atoms(file["nuclear_charges"], positions) for positions in file["coords"]]
    rounded = [Atoms(atoms.numbers, np.round(atoms.positions, 5)) for atoms in frames]
    assert are_among(fingerprints(rounded), fingerprints(frames)).all()
    changes = [np.abs(_lengths(a) - _lengths(b)).max() for a, b in zip(frames, rounded, strict=True)]
    assert max(changes) < TOLERANCE_A / 4

"""Every backend finds the pairs that ASE's neighbor list finds."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asecalc_ml.errors import StructureError
from asecalc_ml.neighbors import BACKENDS, find_pairs

SEARCHES = ("vesin", "matscipy")
CUTOFF_A = 3.5
ATOL_A = 1e-9

some = settings(max_examples=25, deadline=None)
coordinates = st.floats(-6.0, 6.0, allow_nan=False)


def our_pairs(atoms: Atoms, cutoff: float, backend: str) -> set[tuple[int, ...]]:
    """(i, j, shift) of the pairs within the cutoff, as a set; none may come twice."""
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff, backend)
    i, j = pairs.edge_index
    vectors = atoms.positions[j] - atoms.positions[i] + pairs.cell_shifts @ atoms.cell.array
    inside = np.linalg.norm(vectors, axis=1) < cutoff
    found = [tuple(row) for row in np.column_stack([i, j, pairs.cell_shifts])[inside].tolist()]
    assert len(set(found)) == len(found)
    return set(found)


def ase_pairs(atoms: Atoms, cutoff: float) -> set[tuple[int, ...]]:
    i, j, shifts = neighbor_list("ijS", _without_idle_vectors(atoms), cutoff)
    return {tuple(row) for row in np.column_stack([i, j, shifts]).tolist()}


def check(atoms: Atoms, cutoff: float = CUTOFF_A) -> None:
    expected = ase_pairs(atoms, cutoff)
    for backend in SEARCHES if atoms.pbc.any() else BACKENDS:
        assert our_pairs(atoms, cutoff, backend) == expected, backend


def _on_the_edge(atoms: Atoms, cutoff: float) -> bool:
    distances = neighbor_list("d", _without_idle_vectors(atoms), cutoff + ATOL_A)
    return bool((distances > cutoff - ATOL_A).any())


def _without_idle_vectors(atoms: Atoms) -> Atoms:
    """Vectors along directions that are not periodic mean nothing, but ASE fails if they are parallel."""
    atoms = atoms.copy()
    atoms.cell[~atoms.pbc] = 0
    return atoms


# -------------------------------------------------------------------------------------- known structures


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "H2O", "H"])
def test_molecules(name):
    check(molecule(name))


def test_molecule_in_a_cell_that_means_nothing():
    atoms = molecule("CH3CH2OH")
    parallel = [[1, 2, 3], [2, 4, 6], [0, 0, 1]]
    for cell in ([1.0, 1.0, 1.0], [100, 100, 100], [[0, 0, 0], [0, 3, 0], [0, 0, 0]], parallel):
        atoms.set_cell(cell)
        check(atoms)


@pytest.mark.smoke
def test_counted_by_hand():
    """Simple cubic, a = 1: 6 neighbors at 1, 12 at √2, 8 at √3, 6 at 2; all are an atom's own images."""
    atoms = Atoms("H", cell=np.eye(3), pbc=True)
    for cutoff, count in ((0.9, 0), (1.1, 6), (1.5, 18), (1.8, 26), (2.1, 32)):
        for backend in SEARCHES:
            assert len(our_pairs(atoms, cutoff, backend)) == count


@pytest.mark.parametrize("pbc", [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_periodic_in_some_directions(pbc):
    atoms = Atoms("H3", [[0.1, 0.2, 0.3], [1.0, 2.5, 0.7], [2.1, 0.4, 2.2]])
    atoms.set_cell([[3.0, 0.2, 0.0], [-0.7, 3.3, 0.4], [0.5, 0.6, 2.9]])
    atoms.pbc = pbc
    check(atoms)


def test_ases_bare_slab():
    """A surface of ASE without vacuum has a zero vector as third cell vector."""
    slab = fcc111("Cu", (2, 2, 3), a=3.6)
    assert slab.cell.rank == 2
    check(slab)


def test_a_wire_with_two_missing_vectors():
    wire = Atoms(
        "H2", [[0, 0, 0], [0.8, 0.3, 0.1]], cell=[[0, 0, 0], [0, 0, 0], [0.3, 0.1, 1.7]], pbc=[0, 0, 1]
    )
    check(wire)


def test_crystals():
    check(bulk("Si"), 5.0)
    check(bulk("NaCl", "rocksalt", a=5.64) * (2, 1, 1), 5.0)


def test_atoms_far_outside_their_cell():
    atoms = bulk("Si") * (2, 2, 2)
    random = np.random.default_rng(0)
    atoms.positions += random.integers(-40, 40, (len(atoms), 3)) @ atoms.cell.array
    check(atoms, 5.0)


def test_atoms_far_from_a_cell_that_is_open_on_one_side():
    slab = fcc111("Cu", (2, 2, 2), a=3.6, vacuum=5)
    slab.positions += [500.0, -300.0, 77.0]
    check(slab)


# ------------------------------------------------------------------------------------------- any structure

positions = arrays(float, st.tuples(st.integers(1, 6), st.just(3)), elements=coordinates)
flags = st.tuples(st.booleans(), st.booleans(), st.booleans())


@some
@given(positions, arrays(float, (3, 3), elements=coordinates), flags, st.floats(0.5, 6.0))
def test_any_cell(positions, cell, pbc, cutoff):
    """Strongly triclinic, left-handed, smaller than the cutoff, periodic in any directions."""
    atoms = Atoms(f"H{len(positions)}", positions, cell=cell, pbc=pbc)
    assume(_sane(atoms, cutoff))
    check(atoms, cutoff)


def _sane(atoms: Atoms, cutoff: float) -> bool:
    """Not so flat that there would be a million images, and no pair at the cutoff."""
    vectors = atoms.cell.array[atoms.pbc]
    flat = len(vectors) and np.linalg.svd(vectors, compute_uv=False)[-1] < 0.7
    return not flat and not _on_the_edge(atoms, cutoff)


@some
@given(st.integers(0, 10**6), st.floats(0.0, 0.98), st.floats(1.0, 5.0))
def test_lattice_described_by_skew_vectors(seed, skew, cutoff):
    """A cell and its sheared twin are the same crystal: they have the same distances."""
    random = np.random.default_rng(seed)
    atoms = Atoms("H2", random.uniform(0, 3, (2, 3)), cell=np.diag([2.0, 2.4, 2.9]), pbc=True)
    sheared = atoms.copy()
    sheared.cell[2] += round(4 * skew) * atoms.cell[0] - round(3 * skew) * atoms.cell[1]
    assume(not _on_the_edge(atoms, cutoff))
    for backend in SEARCHES:
        assert _distances(sheared, cutoff, backend) == pytest.approx(_distances(atoms, cutoff, backend))


def _distances(atoms: Atoms, cutoff: float, backend: str) -> np.ndarray:
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff, backend)
    i, j = pairs.edge_index
    vectors = atoms.positions[j] - atoms.positions[i] + pairs.cell_shifts @ atoms.cell.array
    return np.sort(np.linalg.norm(vectors, axis=1))


# ------------------------------------------------------------------------------------------- what is promised


@pytest.mark.parametrize("pbc", [True, False])
def test_canonical_order_whatever_found_them(pbc):
    atoms = bulk("Si") * 2
    atoms.rattle(0.1, seed=0)
    atoms.pbc = pbc
    first, second = (find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 5.0, one) for one in SEARCHES)
    assert np.array_equal(first.edge_index, second.edge_index)
    assert np.array_equal(first.cell_shifts, second.cell_shifts)
    rows = np.column_stack([first.edge_index.T, first.cell_shifts]).tolist()
    assert rows == sorted(rows)


def test_each_pair_has_its_reverse():
    atoms = bulk("Si") * (2, 1, 1)
    pairs = our_pairs(atoms, 4.0, "vesin")
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in pairs} == pairs


def test_all_pairs_never_change():
    random = np.random.default_rng(0)
    near, far = (size * random.normal(size=(5, 3)) for size in (1, 100))
    found = [find_pairs(positions, np.zeros((3, 3)), np.zeros(3), 4.0) for positions in (near, far)]
    assert np.array_equal(found[0].edge_index, found[1].edge_index)
    assert found[0].edge_index.shape == (2, 20)


def test_a_large_molecule_takes_a_list():
    positions = 10.0 * np.arange(33)[:, None] * np.eye(3)[0]
    assert find_pairs(positions, np.zeros((3, 3)), np.zeros(3), 4.0).edge_index.shape == (2, 0)


def test_input_is_left_alone():
    atoms = fcc111("Cu", (1, 1, 2), a=3.6)
    before = atoms.copy()
    for backend in SEARCHES:
        find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 4.0, backend)
    assert atoms == before


def test_errors_name_the_remedy():
    zero = np.zeros((1, 3)), np.zeros((3, 3))
    with pytest.raises(StructureError, match="unknown neighbor backend 'vesinn'; use one of: auto"):
        find_pairs(*zero, np.zeros(3), 4.0, "vesinn")
    with pytest.raises(StructureError, match=r"zero or parallel; set a cell with atoms\.set_cell"):
        find_pairs(*zero, np.ones(3), 4.0)
    with pytest.raises(StructureError, match="zero or parallel"):
        find_pairs(zero[0], np.array([[1, 2, 0], [2, 4, 0], [0, 0, 1.0]]), np.array([1, 1, 0]), 4.0)
    with pytest.raises(
        StructureError, match="'all-pairs' is for structures without periodic boundaries; use 'vesin'"
    ):
        find_pairs(zero[0], np.eye(3), np.array([0, 0, 1]), 4.0, "all-pairs")

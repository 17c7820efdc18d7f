"""Every backend finds the pairs of a loop over atoms and images, and those of ASE's neighbor list."""

import math
import os
from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from raising import told

from asecalc_ml.errors import MemoryShortageError, StructureError
from asecalc_ml.graph import memory_left
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.neighbors import BACKENDS, backends, find_batch_pairs, find_pairs, find_tensor_pairs
from asecalc_ml.graph.neighbors.backends import ROOM_VARIABLE
from asecalc_ml.graph.neighbors.enclosing_cell import MOST_BINS, n_bins, widened
from asecalc_ml.graph.neighbors.pairs import pairs_around
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_potentials import LennardJones, Morse

SEARCHES = ("vesin", "matscipy")
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))
CUTOFF_A = 3.5
ATOL_A = 1e-9

some = settings(max_examples=25)
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


def brute_force(atoms: Atoms, cutoff: float) -> list[tuple]:
    """(i, j, shift, distance) by loops over atoms and over all images that can be near enough, in order.

    Fractional coordinates of a vector of length d are at most d over the distance of the cell's planes.
    """
    vectors = atoms.cell.array[atoms.pbc]
    inverse = np.linalg.pinv(vectors) if len(vectors) else np.zeros((3, 0))
    per_length = np.linalg.norm(inverse, axis=0)
    found = []
    for i, here in enumerate(atoms.positions):
        for j, there in enumerate(atoms.positions):
            middle = (here - there) @ inverse
            low, high = np.ceil(middle - cutoff * per_length), np.floor(middle + cutoff * per_length)
            ranges = [range(int(a) - 1, int(b) + 2) for a, b in zip(low, high, strict=True)]
            for numbers in product(*ranges):
                vector = (
                    there - here + sum((n * v for n, v in zip(numbers, vectors, strict=True)), np.zeros(3))
                )
                distance = math.sqrt(sum(x * x for x in vector))
                if distance < cutoff and (i != j or any(numbers)):
                    shift = np.zeros(3, dtype=int)
                    shift[atoms.pbc] = numbers
                    found.append((i, j, *shift.tolist(), distance))
    return sorted(found)


def check(atoms: Atoms, cutoff: float = CUTOFF_A, device: str = "cpu") -> None:
    """Every backend finds the pairs of the loops, in the canonical order."""
    expected = brute_force(atoms, cutoff)
    assert not any(cutoff - ATOL_A < distance for *_, distance in expected), "a pair at the cutoff"
    for backend in ("auto", *SEARCHES):
        assert _rows_within(atoms, cutoff, backend, device) == [pair[:5] for pair in expected], backend


def _rows_within(atoms: Atoms, cutoff: float, backend: str, device: str) -> list[tuple]:
    positions = torch.from_numpy(atoms.positions.copy()).to(device)
    pairs = find_tensor_pairs(positions, atoms.cell.array, atoms.pbc, cutoff, backend)
    assert pairs.edge_index.device.type == pairs.cell_shifts.device.type == device
    return _rows(pairs, [atoms], cutoff)


def _rows(pairs, structures: list[Atoms], cutoff: float) -> list[tuple]:
    """Rows (i, j, shift), without the pairs beyond the cutoff that small molecules keep."""
    (i, j), shifts = pairs.edge_index.cpu().numpy(), pairs.cell_shifts.cpu().numpy()
    positions = np.concatenate([atoms.positions for atoms in structures])
    cells = np.concatenate([[atoms.cell.array] * len(atoms) for atoms in structures])
    vectors = positions[j] - positions[i] + np.einsum("ea,eab->eb", shifts, cells[i])
    near = np.linalg.norm(vectors, axis=1) < cutoff
    return [tuple(row) for row in np.column_stack([i, j, shifts])[near].astype(int).tolist()]


def check_with_ase(atoms: Atoms, cutoff: float = CUTOFF_A) -> None:
    expected = ase_pairs(atoms, cutoff)
    for backend in SEARCHES if atoms.pbc.any() else BACKENDS:
        assert our_pairs(atoms, cutoff, backend) == expected, backend


def _on_the_edge(atoms: Atoms, cutoff: float) -> bool:
    return any(distance > cutoff - ATOL_A for *_, distance in brute_force(atoms, cutoff + ATOL_A))


def _without_idle_vectors(atoms: Atoms) -> Atoms:
    """Vectors along directions that are not periodic mean nothing, but ASE fails if they are parallel."""
    atoms = atoms.copy()
    atoms.cell[~atoms.pbc] = 0
    return atoms


# ----------------------------------------------------------------------------------------- cells of each kind

SKEW = [[3.1, 0, 0], [9.7, 2.9, 0], [-7.3, 11.1, 3.3]]
CELLS = {
    "molecule without a cell": (np.zeros((3, 3)), [0, 0, 0]),
    "molecule in a dummy cell": (np.diag([1.0, 0.2, 30.0]), [0, 0, 0]),
    "slab": (np.diag([3.1, 2.9, 20.0]), [1, 1, 0]),
    "slab with c = 0": (np.diag([3.1, 2.9, 0.0]), [1, 1, 0]),
    "skew slab with a leaning c": ([[3.1, 0, 0], [14.2, 2.9, 0], [2.0, 3.0, 4.0]], [1, 1, 0]),
    "slab across x": (np.diag([0.0, 2.9, 3.3]), [0, 1, 1]),
    "wire": (np.diag([2.2, 0.0, 0.0]), [1, 0, 0]),
    "wire along a diagonal": ([[0, 0, 0], [1.1, 1.2, -1.3], [0, 0, 0]], [0, 1, 0]),
    "primitive fcc": (bulk("Cu", a=3.61).cell.array, [1, 1, 1]),
    "smaller than the cutoff": (np.diag([1.3, 1.1, 1.7]), [1, 1, 1]),
    "strongly triclinic": (SKEW, [1, 1, 1]),
    "left-handed": (np.diag([3.1, 2.9, 3.3])[[1, 0, 2]], [1, 1, 1]),
    "left-handed and triclinic": (np.array(SKEW)[[2, 1, 0]], [1, 1, 1]),
    "needle": (np.diag([1.5, 1.6, 60.0]), [1, 1, 1]),
}
kinds = pytest.mark.parametrize("kind", CELLS)
KINDS = st.sampled_from(sorted(CELLS))


def structure(kind: str, seed: int = 0, n_atoms: int = 3) -> Atoms:
    """Atoms anywhere about a cell of the kind, strained a little."""
    random = np.random.default_rng(seed)
    cell, pbc = CELLS[kind]
    strain = np.eye(3) + random.uniform(-0.1, 0.1, (3, 3))
    atoms = Atoms(f"Ar{n_atoms}", random.uniform(-4, 4, (n_atoms, 3)), cell=np.array(cell) @ strain, pbc=pbc)
    assert atoms.cell.handedness == np.sign(np.linalg.det(cell))
    return atoms


@pytest.mark.smoke
@kinds
@pytest.mark.parametrize("device", DEVICES)
def test_each_kind_of_cell(kind, device):
    for n_atoms, cutoff in ((1, 5.0), (4, 3.5)):
        check(structure(kind, n_atoms=n_atoms), cutoff, device)


@some
@given(KINDS, st.integers(0, 10**6), st.integers(1, 5), st.floats(0.5, 5.0))
def test_many_of_each_kind(kind, seed, n_atoms, cutoff):
    atoms = structure(kind, seed, n_atoms)
    assume(not _on_the_edge(atoms, cutoff))
    check(atoms, cutoff)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["auto", *SEARCHES])
def test_batches_of_all_kinds(backend, device):
    structures = [structure(kind, 1, 1 + k % 3) for k, kind in enumerate(CELLS)]
    found = (
        collate([AtomGraph.from_atoms(atoms, 4.0) for atoms in structures])
        .to(device)
        .with_pairs(4.0, backend)
    )
    assert found.edge_index.device.type == device
    expected = _joined([brute_force(atoms, 4.0) for atoms in structures], structures)
    assert _rows(found, structures, 4.0) == expected


@settings(max_examples=10)
@given(st.lists(st.tuples(KINDS, st.integers(0, 10**6), st.integers(1, 3)), min_size=1, max_size=3))
def test_any_batch(choices):
    structures = [structure(*choice) for choice in choices]
    assume(not any(_on_the_edge(atoms, CUTOFF_A) for atoms in structures))
    graph = collate([AtomGraph.from_atoms(atoms, 1.0) for atoms in structures])
    found = find_batch_pairs(graph.positions, graph.cell, graph.pbc, graph.batch, CUTOFF_A)
    assert _rows(found, structures, CUTOFF_A) == _joined(
        [brute_force(atoms, CUTOFF_A) for atoms in structures], structures
    )


def _joined(pairs: list[list[tuple]], structures: list[Atoms]) -> list[tuple]:
    first = np.cumsum([0, *map(len, structures)]).tolist()
    return [(i + n, j + n, *shift) for rows, n in zip(pairs, first, strict=False) for i, j, *shift, _ in rows]


LENNARD_JONES = LennardJones(epsilon_eV=0.3, sigma_A=1.1, cutoff_A=5.0)
MORSE = Morse(depth_eV=2.0, steepness_per_A=1.5, r0_A=1.2, cutoff_A=5.0)


def lennard_jones(r: float) -> float:
    return 4 * 0.3 * ((1.1 / r) ** 12 - (1.1 / r) ** 6)


def morse(r: float) -> float:
    return 2.0 * ((1 - math.exp(-1.5 * (r - 1.2))) ** 2 - 1)


def _weight(x: float) -> float:
    return 1 - 10 * x**3 + 15 * x**4 - 6 * x**5


@kinds
@pytest.mark.parametrize(("options", "pair_energy"), [(LENNARD_JONES, lennard_jones), (MORSE, morse)])
def test_energies_are_sums_over_images(kind, options, pair_energy):
    model = Model(options.build())
    atoms = structure(kind, seed=2, n_atoms=2)
    terms = [(i, pair_energy(r) * _weight(r / 5.0) / 2) for i, *_, r in brute_force(atoms, 5.0)]
    energies = [sum(energy for i, energy in terms if i == k) for k in range(2)]
    assert max(map(abs, energies)) < 1000, "overlapping atoms hide errors"
    for backend in ("auto", *SEARCHES):
        found = Evaluator(model)(AtomGraph.from_atoms(atoms, 5.0, backend))
        assert found.energies.tolist() == pytest.approx(energies, abs=1e-9, rel=0)
        assert float(found.energy[0]) == pytest.approx(sum(energies), abs=1e-9, rel=0)


# -------------------------------------------------------------------------------------- known structures


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "H2O", "H"])
def test_molecules(name):
    check(molecule(name))
    check_with_ase(molecule(name))


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
    check_with_ase(atoms)


def test_ases_bare_slab():
    """A surface of ASE without vacuum has a zero vector as third cell vector."""
    slab = fcc111("Cu", (2, 2, 3), a=3.6)
    assert slab.cell.rank == 2
    check(slab)
    check_with_ase(slab)


def test_a_wire_with_two_missing_vectors():
    wire = Atoms(
        "H2", [[0, 0, 0], [0.8, 0.3, 0.1]], cell=[[0, 0, 0], [0, 0, 0], [0.3, 0.1, 1.7]], pbc=[0, 0, 1]
    )
    check(wire)


def test_crystals():
    check_with_ase(bulk("Si"), 5.0)
    check_with_ase(bulk("NaCl", "rocksalt", a=5.64) * (2, 1, 1), 5.0)


def test_atoms_far_outside_their_cell():
    atoms = bulk("Si") * (2, 2, 2)
    random = np.random.default_rng(0)
    atoms.positions += random.integers(-40, 40, (len(atoms), 3)) @ atoms.cell.array
    check_with_ase(atoms, 5.0)


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
    check_with_ase(atoms, cutoff)


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


@pytest.mark.parametrize("backend", ["auto", *SEARCHES])
def test_wide_empty_boxes(backend):
    """Flat ones made vesin divide by zero, and a bin per 5 Å fills any memory."""
    positions = np.random.default_rng(0).uniform(0, 8, (70, 3))
    expected = find_pairs(positions, np.zeros((3, 3)), np.zeros(3), 5.0, backend)
    for lengths in ([3e3, 3e3, 20.0], [20.0, 3e3, 3e3], [5e6, 20, 20], [1e5, 1e5, 1e5]):
        box = np.diag(lengths)
        assert n_bins(widened(5.0, box), box) <= MOST_BINS
        found = find_pairs(positions, box, np.ones(3), 5.0, backend)
        assert np.array_equal(found.edge_index, expected.edge_index)
        assert not found.cell_shifts.any()


def test_a_pair_at_the_cutoff_is_outside_for_every_backend():
    """In a perfect crystal whole shells lie at a cutoff, and rounding would decide."""
    atoms = bulk("Si", cubic=True, a=5.43) * (2, 2, 2)
    atoms.positions += [0.1, -7.3, 1e3 / 3]
    found = [find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 5.43, backend) for backend in SEARCHES]
    assert np.array_equal(found[0].edge_index, found[1].edge_index)
    assert np.array_equal(found[0].cell_shifts, found[1].cell_shifts)


def test_a_gradient_is_no_hindrance():
    positions = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    for backend in SEARCHES:
        assert find_tensor_pairs(
            positions, 2.0 * torch.eye(3), torch.ones(3), 1.0, backend
        ).edge_index.shape == (2, 2)


def test_too_little_room_for_pairs_grows(monkeypatch):
    """On a CUDA device vesin refuses more pairs than it has room for; here it is made to on the CPU."""
    import vesin

    class Cramped(vesin.NeighborList):
        def compute(self, **geometry):
            rooms.append(int(os.environ.get(ROOM_VARIABLE, "128")))
            if rooms[-1] < 1000:
                raise RuntimeError(f"exceeds the maximum capacity: set {ROOM_VARIABLE}")
            return super().compute(**geometry)

    expected = _rows_within(bulk("Si"), 5.0, "vesin", "cpu")
    monkeypatch.setattr(vesin, "NeighborList", Cramped)
    for before in (None, "200"):
        rooms = []
        monkeypatch.delenv(ROOM_VARIABLE, raising=False)
        if before:
            monkeypatch.setenv(ROOM_VARIABLE, before)
        assert _rows_within(bulk("Si"), 5.0, "vesin", "cpu") == expected
        assert rooms == [int(before or 128), 256, 512, 1024]
        assert os.environ.get(ROOM_VARIABLE) == before


def test_other_errors_of_vesin_are_not_hidden(monkeypatch):
    import vesin

    def out_of_memory(*_, **__):
        raise RuntimeError("cudaMalloc: out of memory")

    monkeypatch.setattr(vesin.NeighborList, "compute", out_of_memory)
    with pytest.raises(RuntimeError, match="out of memory"):
        find_pairs(np.zeros((1, 3)), np.eye(3), np.ones(3), 1.0, "vesin")


@pytest.mark.parametrize("device", DEVICES)
def test_from_sparse_to_dense(device):
    """1300 neighbors an atom, ten times what vesin leaves room for."""
    random = np.random.default_rng(0)
    for length in (60.0, 2.0, 60.0):
        atoms = Atoms("H60", random.uniform(0, length, (60, 3)), cell=length * np.eye(3), pbc=True)
        expected = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 3.5, "matscipy")
        found = find_tensor_pairs(
            torch.from_numpy(atoms.positions).to(device), atoms.cell.array, atoms.pbc, 3.5, "vesin"
        )
        assert np.array_equal(found.edge_index.cpu(), expected.edge_index)
        assert np.array_equal(found.cell_shifts.cpu(), expected.cell_shifts)
    assert ROOM_VARIABLE not in os.environ


BAD = [
    ("positions", "time step", np.full((1, 3), np.nan), np.eye(3), [1, 1, 1]),
    ("positions", "time step", np.full((1, 3), np.inf), np.zeros((3, 3)), [0, 0, 0]),
    ("cell", "atoms.set_cell", None, np.diag([1, np.nan, 1]), [1, 1, 1]),
    ("cell", "atoms.set_cell", None, np.diag([1, 1, np.inf]), [1, 1, 0]),
    ("pbc", "atoms.set_cell", None, np.zeros((3, 3)), [1, 1, 1]),
    ("pbc", "atoms.set_cell", None, [[1, 2, 0], [2, 4, 0], [0, 0, 1.0]], [1, 1, 0]),
    ("pbc", "atoms.set_cell", None, np.diag([1.0, 0, 1]), [0, 1, 0]),
    ("pbc", "atoms.set_cell", None, [[100, 0, 0], [0, 100, 0], [100, 100, 1e-3]], [1, 1, 1]),
    ("cell", "unit", None, 1e-9 * np.eye(3), [1, 1, 1]),
    ("atoms", "atoms.wrap", np.full((1, 3), 1e6), 3 * np.eye(3), [1, 1, 1]),
]


@pytest.mark.parametrize(("name", "remedy", "positions", "cell", "pbc"), BAD)
@pytest.mark.parametrize("backend", ["auto", *SEARCHES])
def test_bad_geometry_is_told(name, remedy, positions, cell, pbc, backend):
    with pytest.raises(StructureError, check=told(name=name, remedy=remedy)):
        find_pairs(np.zeros((1, 3)) if positions is None else positions, np.array(cell), pbc, 4.0, backend)


def test_what_is_no_mistake():
    """Lengths do not matter for what is parallel: a tiny cell, and a sheet of very different lengths."""
    assert find_pairs(np.zeros((1, 3)), 1e-3 * np.eye(3), np.ones(3), 1.1e-3).edge_index.shape == (2, 6)
    assert find_pairs(np.zeros((1, 3)), np.diag([1e3, 1e3, 0.8]), np.ones(3), 1.0).edge_index.shape == (2, 2)


def test_errors_name_the_remedy():
    zero = np.zeros((1, 3)), np.zeros((3, 3))
    expected = told(name="backend", value="vesinn", allowed=["auto", *BACKENDS], remedy="auto")
    with pytest.raises(StructureError, check=expected):
        find_pairs(*zero, np.zeros(3), 4.0, "vesinn")
    with pytest.raises(StructureError, check=told(name="backend", value="all-pairs", remedy="vesin")):
        find_pairs(zero[0], np.eye(3), np.array([0, 0, 1]), 4.0, "all-pairs")


def test_a_search_that_does_not_fit_into_memory_is_refused(monkeypatch):
    """Before it begins: the system would kill the process in its midst."""
    silicon = bulk("Si", cubic=True) * 26
    geometry = torch.from_numpy(silicon.positions), silicon.cell.array, silicon.pbc
    monkeypatch.setattr(backends, "BACKENDS", dict.fromkeys(backends.BACKENDS))  # none is called
    monkeypatch.setattr(memory_left, "available_memory", lambda: 10**6)
    with pytest.raises(MemoryShortageError, match=r"of 140608 atoms, some 6\.\de\+06 pairs, needs 1\.0 GB"):
        pairs_around(*geometry, 6.0, "auto")

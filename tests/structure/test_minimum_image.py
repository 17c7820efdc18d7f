"""The minimum image in any lattice, beside brute force over many images, and everything that relies on it."""

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from raising import told

from asecalc_ml.analysis.checks.connectivity import Connectivity
from asecalc_ml.analysis.distributions.angles import Angles
from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.distributions.unwrapping import UnwrappedPositions
from asecalc_ml.analysis.functions.radial_distribution import RadialDistribution
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.analysis.relevance.subject import ExplainedBatch
from asecalc_ml.analysis.relevance.targets import Force
from asecalc_ml.analysis.report.whole_molecules import WholeMolecules
from asecalc_ml.analysis.scan.followed import _distance
from asecalc_ml.errors import StructureError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.md_protocols.scan.coordinate_choice import _contiguous
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.potentials.training.frames.domain import _lengths, _references, _shifts_in
from asecalc_ml.potentials.training.frames.groups import find_groups
from asecalc_ml.structure import minimum_image as module
from asecalc_ml.structure.lattice import complete, flatness, reduced, shortest_period
from asecalc_ml.structure.minimum_image import Lattices, image_shifts, minimum_image
from asecalc_ml.structure.topology.bonds import find_bonds_and_shifts
from asecalc_ml.testing.models import untrained_model

EVERYWHERE = np.array([True, True, True])

#: One simple cubic lattice, written down in several ways: far skewed, left-handed, both.
WRITTEN = {
    "cubic": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "skewed": [[1, 0, 0], [6, 1, 0], [0, 0, 1]],
    "left-handed": [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    "everything": [[-1, 5, 0], [0, 1, -7], [0, 0, 1]],
}


@st.composite
def lattices(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A cell, its periodic directions, and vectors of the same lattice that are far from parallel."""
    pbc = np.array(draw(st.sampled_from(list(product([True, False], repeat=3))[:-1])))
    n = int(pbc.sum())
    rows = draw(arrays(float, (n, 3), elements=st.floats(-5, 5, width=32)))
    assume((np.linalg.norm(rows, axis=1) > 0.5).all() and flatness(rows) > 0.35)
    operation = np.eye(n, dtype=int)
    for i, j, times in draw(
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.integers(-6, 6)), max_size=4)
    ):
        operation[i] += times * operation[j] if i != j else 0
    operation *= draw(st.sampled_from([1, -1]))
    cell = draw(arrays(float, (3, 3), elements=st.floats(-5, 5, width=32)))  # of which open vectors are left
    cell[pbc] = operation @ rows
    assume(flatness(cell[pbc]) > 1e-3)
    return cell, pbc, rows


def brute_force(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Lengths of the shortest images, of all within the longest distance to a lattice vector."""
    duals = np.linalg.pinv(rows)
    vectors = vectors - np.rint(vectors @ duals) @ rows
    farthest = np.linalg.norm(rows, axis=1).sum() / 2
    reach = np.ceil(0.5 + farthest * np.linalg.norm(duals, axis=0)).astype(int)
    images = np.array(list(product(*(range(-n, n + 1) for n in reach)))) @ rows
    return np.linalg.norm(vectors[:, None] + images, axis=-1).min(axis=1)


@settings(max_examples=300)
@given(lattices(), arrays(float, (5, 3), elements=st.floats(-40, 40, width=32)))
def test_shortest_of_all_images(lattice, vectors):
    cell, pbc, rows = lattice
    shifts = image_shifts(vectors, cell, pbc)
    found = minimum_image(vectors, cell, pbc)
    assert shifts.dtype == int
    assert not shifts[:, ~pbc].any()
    assert found == pytest.approx(vectors + shifts[:, pbc] @ cell[pbc], abs=1e-9)
    assert np.linalg.norm(found, axis=1) == pytest.approx(brute_force(vectors, rows), abs=1e-9)


@pytest.mark.parametrize("structure", ["fcc", "bcc", "hcp"])
def test_lattices_with_many_images_at_one_distance(structure):
    """On faces and corners of the Wigner-Seitz cell several images are equally short."""
    cell = bulk("Cu", structure, a=3.6).cell.array
    vectors = np.array(list(product(np.linspace(-1, 1, 9), repeat=3))) @ cell
    found = np.linalg.norm(minimum_image(vectors, cell, EVERYWHERE), axis=1)
    assert found == pytest.approx(brute_force(vectors, cell), abs=1e-12)


def test_short_lattice_vectors_that_are_no_cell_vectors():
    """The lattice has the vectors (4, 1, 0) and (2, -2, 0). ASE's find_mic leaves this vector as it is."""
    cell = np.array([[10.0, 0, 0], [14, 1, 0], [0, 0, 10]])
    assert minimum_image([2.2, 0.45, 0], cell, EVERYWHERE) == pytest.approx([-1.8, -0.55, 0])
    assert image_shifts([2.2, 0.45, 0], cell, EVERYWHERE).tolist() == [1, -1, 0]
    assert shortest_period(cell, EVERYWHERE) == pytest.approx(8**0.5)


def test_every_frame_has_its_own_cell():
    rng = np.random.default_rng(0)
    cells = np.array(WRITTEN["everything"]) @ (8 * np.eye(3) + rng.normal(scale=0.5, size=(50, 3, 3)))
    vectors = rng.uniform(-30, 30, (50, 7, 3))
    together = Lattices(cells, EVERYWHERE).shortest(vectors)
    for cell, some, found in zip(cells, vectors, together, strict=True):
        assert found == pytest.approx(minimum_image(some, cell, EVERYWHERE), abs=1e-9)
        assert np.linalg.norm(found, axis=1) == pytest.approx(
            brute_force(some, reduced(cell, EVERYWHERE)[0]), abs=1e-9
        )


def test_frames_share_a_reduction(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "reduced", lambda *given: calls.append(1) or reduced(*given))
    strains = 1 + 0.02 * np.sin(np.arange(1000.0))[:, None, None]
    for cells in (strains * 0 + 1, strains):
        calls.clear()
        Lattices(8 * cells * np.array(WRITTEN["everything"]), EVERYWHERE)
        assert len(calls) == 1


@pytest.mark.parametrize("cell", [[[5, 0, 0], [0, 0, 0], [0, 0, 5]], [[5, 0, 0], [5, 0, 0], [0, 0, 5]]])
def test_a_periodic_direction_without_a_vector_is_refused(cell):
    with pytest.raises(StructureError, check=told(name="pbc", remedy="atoms.set_cell")):
        minimum_image([1, 0, 0], cell, EVERYWHERE)
    assert minimum_image([1, 0, 4], cell, EVERYWHERE & [True, False, True]) == pytest.approx([1, 0, -1])


def test_a_cell_that_is_not_finite_is_refused():
    with pytest.raises(StructureError, check=told(name="cell", remedy="atoms.set_cell")):
        Lattices(np.stack([5 * np.eye(3), np.full((3, 3), np.nan)]), EVERYWHERE)


@given(lattices())
def test_open_vectors_are_perpendicular(lattice):
    cell, pbc, _ = lattice
    full = complete(cell, pbc)
    assert (full[pbc] == cell[pbc]).all()
    assert full[~pbc] @ full[~pbc].T == pytest.approx(np.eye((~pbc).sum()), abs=1e-12)
    assert full[~pbc] @ full[pbc].T == pytest.approx(0, abs=1e-9)
    assert complete(np.stack([cell, cell]), pbc) == pytest.approx(np.stack([full, full]))


# ------------------------------------------------------------------------------------- what relies on it


def tumbling_water(cell: np.ndarray, n_frames: int = 40) -> list[Atoms]:
    """A rigid molecule that turns and drifts through the faces of a cell, its atoms put back into it."""
    frames, rng = [], np.random.default_rng(1)
    path = np.cumsum(rng.normal(scale=0.7, size=(n_frames, 3)), axis=0)
    for k in range(n_frames):
        atoms = molecule("H2O", cell=cell, pbc=True)
        atoms.rotate(47 * k, (1, 2, 3))
        atoms.positions += path[k]
        atoms.wrap()
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_no_result_depends_on_how_a_lattice_is_written(written):
    """Bonds, angles, connectivity and displacements of one trajectory in one lattice of 6 Å."""
    water, cubic = molecule("H2O"), tumbling_water(6 * np.eye(3))
    frames = tumbling_water(6.0 * np.array(written))
    run, simple = (MemoryRun.from_frames(one, 1.0) for one in (frames, cubic))
    assert BondLengths().run(run).values("H-O") == pytest.approx(water.get_distance(0, 1))
    assert Angles().run(run).values("H-O-H") == pytest.approx(water.get_angle(1, 0, 2))
    assert BondLengths(patterns=["1-2"]).run(run).values("1-2") == pytest.approx(water.get_distance(1, 2))
    result = Connectivity().run(run)
    assert (result.n_bonds, result.changes) == (2, [])
    moved, expected = ([UnwrappedPositions(one)(*one.frame_chunks())] for one in (run, simple))
    assert np.diff(moved[0], axis=0) == pytest.approx(np.diff(expected[0], axis=0), abs=1e-9)
    radial, cubic_radial = (RadialDistribution(pairs=["H-O"], bin_A=0.25).run(one) for one in (run, simple))
    assert radial.centers[-1] == pytest.approx(3 - 0.125)
    assert radial["H-O"].values == pytest.approx(cubic_radial["H-O"].values)
    whole = WholeMolecules(frames[0])
    for atoms in frames:
        placed = whole.place(atoms.positions, atoms.cell.array)
        assert np.linalg.norm(placed[1:] - placed[0], axis=1) == pytest.approx(water.get_distance(0, 1))


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_bond_longer_than_half_the_cell(written):
    """Cl2 of 1.99 Å in a cell of 3.1 Å: the nearest image is 1.11 Å away, the bond is the longer one."""
    frames = []
    for k in range(30):
        atoms = Atoms("Cl2", [[0, 0, 0], [1.99, 0, 0]], cell=3.1 * np.array(written), pbc=True)
        atoms.rotate(10 * k, "z")
        atoms.positions += [0.2 * k, 0.1 * k, 0]
        frames.append(atoms)
    lengths = BondLengths().run(MemoryRun.from_frames(frames, 1.0)).values("Cl-Cl")
    for atoms in frames:
        atoms.wrap()
    wrapped = BondLengths().run(MemoryRun.from_frames(frames, 1.0)).values("Cl-Cl")
    assert np.abs(lengths - 1.99).min(axis=1) == pytest.approx(0, abs=1e-9)
    assert np.sort(wrapped, axis=1) == pytest.approx(np.sort(lengths, axis=1), abs=1e-9)


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_bonds_across_the_faces_of_skewed_cells(written):
    """A crystal has the same bonds, and each of its shifts leads to an atom at the bond's distance."""
    diamond = bulk("C", cubic=True)
    atoms = diamond.copy()
    atoms.set_cell(np.array(written) @ atoms.cell.array, scale_atoms=False)
    bonds, shifts = find_bonds_and_shifts(atoms)
    vectors = atoms.positions[bonds[:, 1]] - atoms.positions[bonds[:, 0]] + shifts @ atoms.cell.array
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.sqrt(3) / 4 * diamond.cell[0, 0])
    assert bonds.tolist() == find_bonds_and_shifts(diamond)[0].tolist()


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_scans_splits_and_cards_take_the_nearest_image(written):
    cell, water = 6.0 * np.array(written), molecule("H2O")
    start, moved = (molecule("H2O", cell=cell, pbc=True) for _ in range(2))
    moved.positions += [0.02, 2.3, 0.01]
    moved.positions[1:] += [[1, 0, 0], [-2, 3, 1]] @ cell  # the hydrogens in other images
    expected = water.get_distance(0, 1)
    assert _distance(moved, (0, 1)) == pytest.approx(expected)
    assert _contiguous(moved, [1, 0, 2], {}).get_angle(1, 0, 2) == pytest.approx(water.get_angle(1, 0, 2))
    first, reference = _references([start, moved])
    assert reference is first  # the same bonds
    lengths = _lengths([moved], _shifts_in([moved], reference), reference[1])
    assert lengths == pytest.approx(np.full((1, 2), expected))
    near = start.copy()
    near.positions += [[1, 0, 0], [-2, 3, 1], [0, 0, 0]] @ cell + 0.01
    assert find_groups([start, near, moved], None, 0.1).tolist() == [0, 0, 1]


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_relevance_of_a_force_towards_the_nearest_image(written):
    atoms = Atoms("Ar2", [[1, 5, 5], [1.3, 5 + 0.9 * 6, 5]], cell=6.0 * np.array(written), pbc=True)
    subject = ExplainedBatch.of(untrained_model(Morse(cutoff_A=3.0)), [AtomGraph.from_atoms(atoms, 3.0)])
    motion = Force(0, 1).bind(subject).motion[0].numpy()
    assert motion == pytest.approx(np.array([0.3, -0.6, 0]) / np.hypot(0.3, 0.6))


# ------------------------------------------------------------------------------------- open directions


#: Vectors along c that carry no information where c is open: tilted and short, in the plane, zero.
OPEN = {"tilted": [3, 1, 0.1], "in the plane": [5, 5, 0], "zero": [0, 0, 0], "parallel": [5, 0, 0]}


@pytest.mark.parametrize("third", OPEN.values(), ids=OPEN)
def test_vectors_of_open_directions_are_ignored(third):
    """A molecule that moves along z, and through the faces of a and b, above a slab without a height."""
    cell = np.array([[5.0, 0, 0], [0, 5, 0], third])
    water, frames = molecule("H2O"), []
    for k in range(20):
        atoms = molecule("H2O", cell=[5, 5, 0], pbc=[1, 1, 0])
        atoms.rotate(30 * k, (1, 1, 1))
        atoms.positions += [0.7 * k, -0.4 * k, 0.3 * k]
        atoms.wrap()
        atoms.set_cell(cell)
        frames.append(atoms)
    run = MemoryRun.from_frames(frames, 1.0)
    assert BondLengths().run(run).values("H-O") == pytest.approx(water.get_distance(0, 1))
    assert Angles().run(run).values("H-O-H") == pytest.approx(water.get_angle(1, 0, 2))
    assert Connectivity().run(run).changes == []
    (chunk,) = run.frame_chunks()
    steps = np.diff(np.average(UnwrappedPositions(run)(chunk), axis=1, weights=water.get_masses()), axis=0)
    assert steps == pytest.approx(
        np.tile([0.7, -0.4, 0.3], (19, 1)), abs=0.05
    )  # rotated around another centre
    radial = RadialDistribution(pairs=["H-O"], range_A=2, bin_A=0.1).run(run)["H-O"]
    assert np.flatnonzero(radial.values).tolist() == [9]
    whole = WholeMolecules(frames[0])
    for atoms in frames:
        placed = whole.place(atoms.positions, atoms.cell.array)
        assert np.linalg.norm(placed[1:] - placed[0], axis=1) == pytest.approx(water.get_distance(0, 1))
        assert _distance(atoms, (0, 1)) == pytest.approx(water.get_distance(0, 1))


def test_bonds_of_slabs_and_clusters_do_not_depend_on_the_box():
    graphene = Atoms("C2", [[0, 0, 30], [0, 1.42, 30]], cell=[[2.46, 0, 0], [1.23, 2.13, 0], [0, 0, 0]])
    graphene.pbc = [1, 1, 0]
    layers = graphene.copy()
    layers.positions[:, 2] += 1.5  # bonded to the layer below
    slab = graphene + layers
    expected = find_bonds_and_shifts(slab)
    assert len(expected[0]) > 6
    for third in ([0, 0, 2], [3, 1, 0.1], [2.46, 0, 0], [0, 0, -200]):
        slab.cell[2] = third
        for one, other in zip(find_bonds_and_shifts(slab), expected, strict=True):
            assert one.tolist() == other.tolist()
    cluster = Atoms("C60", np.random.default_rng(0).uniform(-9, 9, (60, 3)))
    vectors = cluster.positions[:, None] - cluster.positions
    near = np.linalg.norm(vectors, axis=-1) < 1.3 * 2 * 0.76
    assert find_bonds_and_shifts(cluster)[0].tolist() == np.argwhere(np.triu(near, 1)).tolist()

"""Bonds and what follows from them: molecules counted by hand, supercells, permutations, brute force."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from ase.data import covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asecalc_ml.structure.loading import load_structure, shipped_names
from asecalc_ml.structure.topology.bonds import (
    BOND_TOLERANCE,
    BondGraph,
    MoleculePairs,
    angle_triples_and_shifts,
    bond_changes,
    bond_graph,
    canonical_pattern,
    dihedral_chains_and_shifts,
    find_bonds,
    find_bonds_and_shifts,
    topological_classes,
)

# bonds, molecules: counted on paper
COUNTS = {
    "1-propanol": (11, 1),
    "2-propanol": (11, 1),
    "acetic-acid": (7, 1),
    "benzene": (12, 1),
    "ethanol": (8, 1),
    "ethylamine-nitric-acid": (9 + 4, 2),
    "ethylammonium": (10, 1),
    "ethylammonium-nitrate": (10 + 3, 2),
    "malonaldehyde": (8, 1),
    "naphthalene": (19, 1),
    "nitrate": (3, 1),
    "nitric-acid": (4, 1),
    "pyrimidine": (10, 1),
    "uracil": (12, 1),
    "water": (2, 1),
}


# ------------------------------------------------------------------------------------------------ bonds


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_molecules(name):
    graph = bond_graph(load_structure(name))
    assert (len(graph.bonds), graph.molecules.max() + 1) == COUNTS[name]


def test_water_by_hand():
    assert find_bonds(molecule("H2O")).tolist() == [[0, 1], [0, 2]]


def brute_force_bonds(atoms: Atoms, reach: int) -> set[tuple]:
    """Every pair of images tried."""
    found = set()
    cells = [range(-reach, reach + 1) if periodic else (0,) for periodic in atoms.pbc]
    for i, j, shift in itertools.product(range(len(atoms)), range(len(atoms)), itertools.product(*cells)):
        distance = np.linalg.norm(atoms.positions[j] - atoms.positions[i] + np.array(shift) @ atoms.cell[:])
        limit = BOND_TOLERANCE * covalent_radii[atoms.numbers[[i, j]]].sum()
        if (i < j or (i == j and shift > (0, 0, 0))) and distance < limit:
            found.add((i, j, *shift))
    return found


@settings(max_examples=25)
@given(
    arrays(float, (4, 3), elements=st.floats(0, 1)),
    arrays(float, (3, 3), elements=st.floats(-0.8, 0.8)),
    st.tuples(*[st.booleans()] * 3),
)
def test_bonds_by_brute_force_in_any_cell(scaled, skew, pbc):
    atoms = Atoms("CHON", scaled_positions=scaled, cell=skew + 3 * np.eye(3), pbc=pbc)
    bonds, shifts = find_bonds_and_shifts(atoms)
    assert set(map(tuple, np.hstack([bonds, shifts]).tolist())) == brute_force_bonds(atoms, reach=3)
    assert len(bonds) == len(brute_force_bonds(atoms, reach=3))  # each once


@given(st.permutations(range(9)))
def test_numbering_of_atoms_does_not_matter(order):
    ethanol = load_structure("ethanol")
    renumbered = {tuple(sorted(pair)) for pair in np.array(order)[find_bonds(ethanol[order])].tolist()}
    assert renumbered == set(map(tuple, find_bonds(ethanol).tolist()))


@pytest.mark.parametrize(
    ("crystal", "bonds_per_atom"),
    [(bulk("Si"), 2), (bulk("Si", cubic=True), 2), (bulk("C"), 2), (bulk("Cu"), 6)],
)
def test_crystals_have_half_their_coordination_number_of_bonds_an_atom(crystal, bonds_per_atom):
    assert len(find_bonds(crystal)) == bonds_per_atom * len(crystal)


def test_a_supercell_has_the_bonds_of_its_cells():
    crystal, transform = bulk("Si"), np.array([[2, 1, 0], [0, 2, 1], [1, 0, 3]])
    supercell = make_supercell(crystal, transform)
    assert len(find_bonds(supercell)) == round(np.linalg.det(transform)) * len(find_bonds(crystal))
    assert lengths(supercell) == pytest.approx(np.full(13 * 4, crystal.cell.lengths()[0] * np.sqrt(3 / 8)))


def lengths(atoms: Atoms) -> np.ndarray:
    bonds, shifts = find_bonds_and_shifts(atoms)
    vectors = atoms.positions[bonds[:, 1]] - atoms.positions[bonds[:, 0]] + shifts @ atoms.cell[:]
    return np.linalg.norm(vectors, axis=1)


@given(arrays(float, 3, elements=st.floats(-10, 10)))
def test_a_molecule_cut_by_the_cell_is_the_same_molecule(move):
    ethanol = load_structure("ethanol")
    boxed = Atoms(ethanol.numbers, positions=ethanol.positions + move, cell=[9, 10, 11], pbc=True)
    boxed.wrap()
    assert find_bonds(boxed).tolist() == find_bonds(ethanol).tolist()
    assert lengths(boxed) == pytest.approx(lengths(ethanol))
    assert topological_classes(boxed).tolist() == topological_classes(ethanol).tolist()


def test_real_hot_frames_keep_the_graph_of_the_molecule(shared_data):
    for name in ("ethanol", "uracil"):
        data = np.load(shared_data / "rmd17" / f"rmd17_{name}_train_01.npz")
        frames = [Atoms(data["nuclear_charges"], positions=x) for x in data["coords"][::10]]
        start = find_bonds(frames[0])
        assert len(start) == COUNTS[name][0]
        assert all(np.array_equal(find_bonds(frame), start) for frame in frames)
        assert all(bond_changes(start, frame) == ([], []) for frame in frames)


# -------------------------------------------------------------------------------------------- classes


def test_classes_of_ethanol_by_hand():
    ethanol = molecule("CH3CH2OH")
    graph = bond_graph(ethanol)
    carbons = [i for i in range(9) if ethanol.symbols[i] == "C"]
    oxygen = next(i for i in range(9) if ethanol.symbols[i] == "O")
    hydroxyl = next(j for j, _ in graph.neighbors[oxygen] if ethanol.symbols[j] == "H")
    inner = next(i for i in carbons if graph.steps[i, oxygen] == 1)
    outer = next(i for i in carbons if i != inner)
    methyl = next(j for j, _ in graph.neighbors[outer] if ethanol.symbols[j] == "H")
    expected = {
        (inner, oxygen): "bonded",
        (outer, oxygen): "1-3",
        (outer, hydroxyl): "1-4",
        (methyl, oxygen): "1-4",
        (methyl, hydroxyl): "further",
    }
    pairs = np.array(list(expected))
    assert graph.classes(pairs, np.zeros((5, 3), dtype=int)).tolist() == list(expected.values())
    # 36 pairs: 8 bonds; 6 + 6 + 1 angles; H-C-C-H 6, H-C-C-O 3, C-C-O-H 1, H-C-O-H 2; H-C-C-O-H 3
    counts = dict(zip(*np.unique(topological_classes(ethanol), return_counts=True), strict=True))
    assert counts == {"bonded": 8, "1-3": 13, "1-4": 12, "further": 3}


@given(st.permutations(range(15)))
@settings(max_examples=20)
def test_classes_do_not_depend_on_the_numbering(order):
    pair = load_structure("ethylammonium-nitrate")
    square = np.full((15, 15), "", dtype="U20")
    square[np.triu_indices(15, 1)] = topological_classes(pair)
    square = np.char.add(square, square.T)
    renumbered = square[np.ix_(order, order)][np.triu_indices(15, 1)]
    assert topological_classes(pair[order]).tolist() == renumbered.tolist()
    assert (renumbered == "other molecule").sum() == 11 * 4


def test_an_image_of_the_same_molecule_is_another_molecule():
    water = molecule("H2O", cell=[6, 6, 6], pbc=True)
    water.positions -= water.positions[0]  # oxygen in the corner: some hydrogens lie in the next cell
    water.wrap()
    graph = bond_graph(water)
    bond, shift = graph.bonds[0], graph.shifts[0]
    further = shift + np.array([1, 0, 0])
    assert graph.classes([bond, bond], [shift, further]).tolist() == ["bonded", "other molecule"]
    assert graph.classes([[0, 0]], [[1, 0, 0]]).tolist() == ["other molecule"]


def test_images_in_a_crystal_are_classed_as_in_its_supercell():
    graph = bond_graph(bulk("Si"))
    first, second = (graph.classes([[0, 0]], [[n, 0, 0]])[0] for n in (1, 2))
    assert (first, second) == ("1-3", "further")  # a/sqrt(2) is the second shell, and twice that is connected
    assert topological_classes(bulk("Si")).tolist() == ["bonded"]


def test_far_from_three_bonds_along_a_chain():
    chain = np.array([[0, 1], [1, 2], [2, 3], [3, 4]])
    graph = BondGraph(6, chain, np.zeros((4, 3), dtype=int))
    classes = graph.classes([[0, k] for k in range(1, 6)], np.zeros((5, 3), dtype=int))
    assert classes.tolist() == ["bonded", "1-3", "1-4", "further", "other molecule"]


def test_atoms_without_bonds():
    argon = Atoms("Ar2", [[0, 0, 0], [0, 0, 4]])
    assert find_bonds(argon).shape == (0, 2)
    assert topological_classes(argon).tolist() == ["other molecule"]
    assert bond_graph(argon).classes([[0, 1]], [[0, 0, 0]]).tolist() == ["other molecule"]
    assert angle_triples_and_shifts(*find_bonds_and_shifts(argon))[0].shape == (0, 3)


# --------------------------------------------------------------------------------------------- angles


def test_angles_of_methane_by_hand():
    triples, _ = angle_triples_and_shifts(*find_bonds_and_shifts(molecule("CH4")))
    assert triples.tolist() == [[i, 0, k] for i, k in itertools.combinations(range(1, 5), 2)]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=15))
def test_angles_by_brute_force(pairs):
    bonds = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    bonded = set(bonds) | {pair[::-1] for pair in bonds}
    expected = [
        [i, j, k]
        for j, i, k in itertools.product(range(8), repeat=3)
        if i < k and (i, j) in bonded and (j, k) in bonded
    ]
    triples, _ = angle_triples_and_shifts(bonds, np.zeros((len(bonds), 3), dtype=int))
    assert triples.tolist() == expected


def test_silicon_has_only_tetrahedral_angles_six_an_atom():
    silicon = bulk("Si")
    triples, shifts = angle_triples_and_shifts(*find_bonds_and_shifts(silicon))
    ends = silicon.positions[triples[:, [0, 2]]] + shifts @ silicon.cell[:]
    vectors = ends - silicon.positions[triples[:, [1]]]
    cosines = (vectors[:, 0] * vectors[:, 1]).sum(axis=1) / np.prod(np.linalg.norm(vectors, axis=2), axis=1)
    assert len(triples) == 6 * 2
    assert cosines == pytest.approx(np.full(12, -1 / 3))


# ------------------------------------------------------------------------------------------- dihedrals


def chains_by_brute_force(bonds: list) -> set:
    """Of a molecule: all i-j-k-l of four different atoms with three bonds, each once."""
    bonded = {*bonds, *((j, i) for i, j in bonds)}
    atoms = range(8)
    found = [one for one in itertools.permutations(atoms, 4) if set(itertools.pairwise(one)) <= bonded]
    return {min(one, one[::-1]) for one in found}


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1])))
def test_dihedrals_of_any_graph(bonds):
    rows = np.array(sorted(bonds), dtype=int).reshape(-1, 2)
    chains, shifts = dihedral_chains_and_shifts(rows, np.zeros((len(rows), 3), dtype=int))
    found = [min(one, one[::-1]) for one in map(tuple, chains.tolist())]
    assert len(found) == len(set(found))
    assert set(found) == chains_by_brute_force(sorted(bonds))
    assert shifts.shape == (len(chains), 3, 3)


def test_dihedrals_of_diamond_are_gauche_and_trans():
    """Two atoms in the cell: each of the four bonds has 3 x 3 chains, a third of them trans."""
    diamond = bulk("C")
    chains, shifts = dihedral_chains_and_shifts(*find_bonds_and_shifts(diamond))
    assert len(chains) == 4 * 9
    positions = diamond.positions[chains]
    positions[:, 1:] += np.cumsum(shifts, axis=1) @ diamond.cell.array
    angles = np.array([Atoms("C4", one).get_dihedral(0, 1, 2, 3) for one in positions])
    assert sorted({round(float(angle)) % 360 for angle in angles}) == [60, 180, 300]
    assert np.sum(np.abs(angles - 180) < 1) == 4 * 3


@pytest.mark.parametrize(
    ("elements", "canonical"), [(("O", "C", "C"), "C-C-O"), (["C", "C", "O"], "C-C-O"), (("O", "C"), "C-O")]
)
def test_canonical_reading(elements, canonical):
    assert canonical_pattern(elements) == canonical


# -------------------------------------------------------------------------------------------- changes


@pytest.mark.parametrize(("factor", "broken"), [(0.8, []), (1.0, []), (1.55, []), (1.65, [(0, 1)])])
def test_a_bond_breaks_at_1_6_times_the_radii(factor, broken):
    distance = factor * covalent_radii[[1, 9]].sum()
    assert bond_changes([(0, 1)], Atoms("HF", [[0, 0, 0], [distance, 0, 0]])) == (broken, [])


@pytest.mark.parametrize(("factor", "formed"), [(1.15, [(0, 1)]), (1.25, []), (2.0, [])])
def test_a_bond_forms_at_1_2_times_the_radii(factor, formed):
    distance = factor * covalent_radii[[1, 9]].sum()
    assert bond_changes([], Atoms("HF", [[0, 0, 0], [distance, 0, 0]])) == ([], formed)


def test_a_proton_that_moves_is_seen_from_both_sides():
    start = find_bonds(load_structure("ethylammonium-nitrate"))
    broken, formed = bond_changes(start, load_structure("ethylamine-nitric-acid"))
    assert [len(broken), len(formed)] == [0, 1]  # N...H at 1.5 Å is within 1.6 x 1.02 Å: not broken yet


def test_changes_across_the_cell_wall():
    silicon = bulk("Si", cubic=True)
    start = find_bonds(silicon)
    silicon.rattle(0.05, seed=1)
    silicon.wrap()
    assert bond_changes(start, silicon) == ([], [])


@pytest.mark.parametrize("amplitude", [0.05, 0.3, 1.0])
def test_all_frames_at_once_find_what_the_search_finds(amplitude):
    ethanol = load_structure("ethanol")
    bonds = find_bonds(ethanol)
    molecule_pairs = MoleculePairs(ethanol.numbers, bonds)
    shaken = amplitude * np.random.default_rng(0).standard_normal((20, len(ethanol), 3))
    changed = molecule_pairs.changed(ethanol.positions + shaken)
    for positions, one in zip(ethanol.positions + shaken, changed, strict=True):
        frame = ethanol.copy()
        frame.positions = positions
        found = [
            molecule_pairs.pairs[one & which] for which in (molecule_pairs.bonded, ~molecule_pairs.bonded)
        ]
        assert [[tuple(pair) for pair in pairs.tolist()] for pairs in found] == list(
            bond_changes(bonds, frame)
        )


def test_atoms_without_bonds_can_form_one():
    argon = MoleculePairs(np.array([18, 18]), np.zeros((0, 2), dtype=int))
    assert argon.changed(np.array([[[0.0, 0, 0], [0, 0, z]] for z in (5.0, 2.0)])).tolist() == [
        [False],
        [True],
    ]

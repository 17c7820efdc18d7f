"""Molecular graphs: features that are known by hand, brute force, symmetries, and what is refused."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.collections import g2
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import shortest_path

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.molecular_graph import (
    ATOM_GROUPS,
    PAIR_GROUPS,
    molecular_graph,
    padded_vector,
    unpadded,
)
from asecalc_ml.structure.molecular_graph.features import ATOM_FEATURES, PAIR_FEATURES, places_of
from asecalc_ml.structure.molecular_graph.graph import constant_features
from asecalc_ml.structure.molecular_graph.order import canonical_order
from asecalc_ml.structure.molecular_graph.padded import padded_length
from asecalc_ml.testing.structures import random_rotation

pytest.importorskip("rdkit")

SMILES = (
    "N[C@@H](C)C(=O)O",  # chiral
    "[NH3+]CC(=O)[O-]",  # zwitterion
    "CC(=O)[O-]",
    "CC[N+](=O)[O-]",
    "c1ccncc1",
    "F/C=C/F",
    "OC1=NC=NNC1=N",
    "C1CC2CCC1C2",
    "C#CC#N",
)


def of(graph, group):
    """Columns of a group of features of atoms, or of pairs."""
    if group in ATOM_GROUPS:
        return graph.atoms[:, places_of(ATOM_GROUPS)[group]]
    return graph.pairs[:, places_of(PAIR_GROUPS)[group]]


def atom_column(graph, name):
    return graph.atoms[:, ATOM_FEATURES.index(name)]


def pair_matrix(graph, name):
    """A feature of all pairs as a symmetric matrix."""
    n_atoms = len(graph.atoms)
    matrix = np.zeros((n_atoms, n_atoms))
    matrix[np.triu_indices(n_atoms, 1)] = graph.pairs[:, PAIR_FEATURES.index(name)]
    return matrix + matrix.T


def bond_orders(graph):
    """Sum of the one-hot columns, shape (n_atoms, n_atoms): 1 where two atoms are bonded."""
    return sum(pair_matrix(graph, name) for name in PAIR_GROUPS["bond type"])


def without_smiles(atoms):
    bare = atoms.copy()
    bare.info.pop("smiles", None)
    return bare


def small_molecules():
    """Molecules of ASE's g2 set with closed shells, of the elements that have features."""
    chosen = []
    for name in g2.names:
        atoms = g2[name]
        if set(atoms.symbols) <= set("HCNOF") and len(atoms) > 1 and not name.startswith("CH2_"):  # carbenes
            try:
                molecular_graph(atoms)
            except StructureError:
                continue
            chosen.append(atoms)
    return chosen


# ------------------------------------------------------------------------------------------- known by hand


def test_the_table_is_that_of_the_paper():
    """Tables 1 and 2 of Faber et al. 2017, and the length for the largest molecule of QM9."""
    sizes = [len(members) for members in ATOM_GROUPS.values()]
    assert sizes == [5, 2, 1, 1, 6, 3, 2, 1]
    assert [len(members) for members in PAIR_GROUPS.values()] == [4, 7, 1, 1]
    assert (len(ATOM_FEATURES), len(PAIR_FEATURES)) == (21, 13)
    assert len(set(ATOM_FEATURES)) == 21
    assert len(set(PAIR_FEATURES)) == 13
    assert padded_length(29) == 21 * 29 + 13 * 406 == 5887


def test_benzene():
    graph = molecular_graph(molecule("C6H6"))
    carbons = atom_column(graph, "C") == 1
    assert carbons.sum() == 6
    assert (atom_column(graph, "aromatic") == carbons).all()
    assert (atom_column(graph, "sp2") == carbons).all()
    assert (of(graph, "ring sizes")[carbons] == [0, 0, 0, 1, 0, 0]).all()
    assert not of(graph, "ring sizes")[~carbons].any()
    assert not of(graph, "chirality").any()
    assert not of(graph, "hydrogen bonding").any()
    # six aromatic and six single bonds; in the ring three pairs each are one and two, and three bonds apart
    assert of(graph, "bond type").sum(axis=0).tolist() == [6, 0, 0, 6]
    ring = np.ix_(carbons, carbons)
    counts = [pair_matrix(graph, f"at most {n} bonds")[ring].sum() / 2 for n in range(1, 8)]
    assert counts == [6, 12, 15, 15, 15, 15, 15]
    assert pair_matrix(graph, "same ring")[ring].sum() == 30
    assert pair_matrix(graph, "same ring").sum() == 30
    # the hydrogens of opposite carbons are five bonds apart
    opposite = pair_matrix(graph, "at most 5 bonds") - pair_matrix(graph, "at most 4 bonds")
    assert opposite[np.ix_(~carbons, ~carbons)].sum() == 6


def test_water():
    graph = molecular_graph(molecule("H2O"))
    oxygen = atom_column(graph, "O") == 1
    assert of(graph, "hydrogen bonding")[oxygen].tolist() == [[1, 1]]
    assert not of(graph, "hydrogen bonding")[~oxygen].any()
    assert of(graph, "partial charge").sum() == pytest.approx(0, abs=1e-6)
    assert of(graph, "partial charge")[oxygen] < 0
    assert of(graph, "spatial distance").ravel() == pytest.approx(
        molecule("H2O").get_all_distances()[np.triu_indices(3, 1)]
    )


def test_glycine_and_its_zwitterion():
    neutral, zwitterion = (
        molecular_graph(load_structure(f"smiles:{smiles}")) for smiles in ("NCC(=O)O", "[NH3+]CC(=O)[O-]")
    )
    assert not of(neutral, "formal charge").any()
    charges = of(zwitterion, "formal charge").ravel()
    assert charges[atom_column(zwitterion, "N") == 1].tolist() == [1]
    assert sorted(charges[atom_column(zwitterion, "O") == 1]) == [-1, 0]
    for graph in (neutral, zwitterion):
        assert of(graph, "bond type").sum(axis=0).tolist() == [8, 1, 0, 0]
        assert atom_column(graph, "sp2")[atom_column(graph, "C") == 1].sum() == 1
        nitrogen = atom_column(graph, "N") == 1
        assert atom_column(graph, "donor")[nitrogen] == 1
    # an ammonium nitrogen has no lone pair
    assert atom_column(neutral, "acceptor")[atom_column(neutral, "N") == 1] == 1
    assert atom_column(zwitterion, "acceptor")[atom_column(zwitterion, "N") == 1] == 0


@pytest.mark.parametrize(
    ("smiles", "donors", "acceptors"),
    [
        ("O", ["O"], ["O"]),
        ("CO", ["O"], ["O"]),
        ("CC(=O)O", ["O"], ["O"]),  # the hydroxyl donates, the carbonyl accepts
        ("CC(=O)N", ["N"], ["O"]),
        ("CN(C)C", [], ["N"]),
        ("CC#N", [], ["N"]),
        ("c1ccncc1", [], ["N"]),
        ("c1cc[nH]c1", ["N"], []),
        ("Cn1cccc1", [], []),
        ("CC[N+](=O)[O-]", [], ["O", "O"]),
        ("C[NH3+]", ["N"], []),
        ("CC", [], []),
    ],
)
def test_donors_and_acceptors(smiles, donors, acceptors):
    atoms = load_structure(f"smiles:{smiles}")
    flags = of(molecular_graph(atoms), "hydrogen bonding")
    for column, expected in enumerate((donors, acceptors)):
        assert list(atoms.symbols[flags[:, column] == 1]) == expected


def test_formal_charge_and_partial_charges_of_ions_sum_to_the_total_charge():
    for smiles, charge in (("C[NH3+]", 1), ("CC(=O)[O-]", -1)):
        graph = molecular_graph(load_structure(f"smiles:{smiles}"))
        assert of(graph, "formal charge").sum() == charge
        assert of(graph, "partial charge").sum() == pytest.approx(charge, abs=1e-5)


@pytest.mark.parametrize(("smiles", "label"), [("N[C@@H](C)C(=O)O", "S"), ("N[C@H](C)C(=O)O", "R")])
def test_alanine_is_r_or_s(smiles, label):
    """L-alanine, N[C@@H](C)C(=O)O, is S."""
    atoms = load_structure(f"smiles:{smiles}")
    for structure in (atoms, without_smiles(atoms)):
        graph = molecular_graph(structure)
        assert atom_column(graph, label).sum() == 1
        assert of(graph, "chirality").sum() == 1
        assert atom_column(graph, "C")[atom_column(graph, label) == 1] == 1


def test_a_mirror_image_has_the_other_label_and_is_the_same_otherwise():
    atoms = without_smiles(load_structure("smiles:N[C@@H](C)C(=O)O"))
    mirrored = atoms.copy()
    mirrored.positions[:, 0] *= -1
    first, second = molecular_graph(atoms), molecular_graph(mirrored)
    exchanged = first.atoms.copy()
    exchanged[:, places_of(ATOM_GROUPS)["chirality"]] = of(first, "chirality")[:, ::-1]
    assert np.array_equal(exchanged, second.atoms)
    assert np.allclose(first.pairs, second.pairs, atol=1e-12)


def test_rings_of_norbornane():
    """Two rings of five and one of six, of which the smallest ones that are independent count."""
    graph = molecular_graph(load_structure("smiles:C1CC2CCC1C2"))
    of_carbons = of(graph, "ring sizes")[atom_column(graph, "C") == 1]
    assert sorted(of_carbons[:, 2]) == [1, 1, 1, 1, 2, 2, 2]
    assert not of_carbons[:, [0, 1, 4, 5]].any()


# --------------------------------------------------------------------------------- brute force, symmetries


def test_graph_distances_are_shortest_paths():
    for atoms in small_molecules():
        graph = molecular_graph(atoms)
        n_bonds = shortest_path(bond_orders(graph), unweighted=True)
        for most in range(1, 8):
            expected = (n_bonds <= most) & ~np.eye(len(atoms), dtype=bool)
            assert (pair_matrix(graph, f"at most {most} bonds") == expected).all()


def test_valences():
    """A neutral hydrogen has one bond, a carbon four, counting a bond as often as its order."""
    order = {"single": 1, "double": 2, "triple": 3, "aromatic": 1.5}
    for atoms in small_molecules():
        graph = molecular_graph(atoms)
        valences = sum(order[name] * pair_matrix(graph, name) for name in order).sum(axis=1)
        plain = (of(graph, "formal charge").ravel() == 0) & (atom_column(graph, "aromatic") == 0)
        for symbol, valence in (("H", 1), ("C", 4), ("O", 2), ("F", 1)):
            assert (valences[(atoms.symbols == symbol) & plain] == valence).all(), atoms


@pytest.mark.parametrize("has_smiles", [True, False])
@pytest.mark.parametrize("smiles", SMILES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_rotation_and_translation(smiles, has_smiles, seed):
    """Features go with the atoms, also where RDKit chooses between equivalent bond orders."""
    atoms = load_structure(f"smiles:{smiles}")
    atoms = atoms if has_smiles else without_smiles(atoms)
    random = np.random.default_rng(seed)
    order = random.permutation(len(atoms))
    other = atoms[order]
    other.positions = other.positions @ random_rotation(seed).T + random.normal(size=3)
    before, after = molecular_graph(atoms), molecular_graph(other)
    assert np.allclose(after.atoms, before.atoms[order], atol=1e-6)
    for name in PAIR_FEATURES:
        expected = pair_matrix(before, name)[np.ix_(order, order)]
        assert np.allclose(pair_matrix(after, name), expected, atol=1e-9)


@pytest.mark.parametrize("smiles", SMILES)
def test_a_geometry_alone_gives_what_its_smiles_gives(smiles):
    atoms = load_structure(f"smiles:{smiles}")
    first, second = molecular_graph(atoms), molecular_graph(without_smiles(atoms))
    assert np.array_equal(first.atoms, second.atoms)
    assert np.array_equal(first.pairs, second.pairs)


def test_opposite_corners_of_a_small_ring_are_not_bonded():
    """Bicyclo[1.1.1]pentane: 1.87 Å, less than 1.3 times the covalent radii."""
    graph = molecular_graph(without_smiles(load_structure("smiles:C1C2CC1C2")))
    assert of(graph, "bond type").sum() == 6 + 8


def test_vibrating_molecules_keep_their_bonds():
    atoms = molecule("CH3CH2OH")
    graph = molecular_graph(atoms)
    for seed in range(20):
        moved = atoms.copy()
        moved.rattle(0.05, seed=seed)
        assert np.array_equal(molecular_graph(moved).pairs[:, :-1], graph.pairs[:, :-1])


def test_features_are_computed_once():
    atoms = molecule("CH3CH2OH")
    assert constant_features(atoms) is constant_features(atoms.copy())
    with pytest.raises(ValueError, match="read-only"):
        constant_features(atoms).atoms[:] = 0


# ---------------------------------------------------------------------------------------------- as a vector


@pytest.mark.parametrize("name", ["C6H6", "H2O", "CH3CH2OH", "H2"])
def test_padded_is_packed(name):
    graph = molecular_graph(molecule(name))
    vector = padded_vector(graph)
    assert vector.shape == (5887,)
    back = unpadded(vector)
    assert np.array_equal(back.atoms, graph.atoms)
    assert np.array_equal(back.pairs, graph.pairs)
    assert np.count_nonzero(vector) == np.count_nonzero(graph.atoms) + np.count_nonzero(graph.pairs)


def test_places_in_the_padded_vector():
    """Atom 1's partial charge, and the distance of (1, 2), which follows on (0, 1), ..., (0, 28)."""
    graph = molecular_graph(molecule("H2O"))
    vector = padded_vector(graph)
    assert vector[21 + 8] == graph.atoms[1, 8]
    assert vector[29 * 21 + 28 * 13 + 12] == graph.pairs[2, 12]


def test_the_padded_vector_in_canonical_order_does_not_depend_on_the_file():
    atoms = without_smiles(load_structure("smiles:N[C@@H](C)C(=O)O"))
    order = np.random.default_rng(0).permutation(len(atoms))
    first, second = (
        padded_vector(molecular_graph(one[canonical_order(one.numbers, one.positions)]))
        for one in (atoms, atoms[order])
    )
    assert np.allclose(first, second, atol=1e-9)


def test_more_atoms_than_the_vector_holds_are_refused():
    graph = molecular_graph(molecule("CH3CH2OH"))
    with pytest.raises(StructureError, match="9 atoms, and the padded vector has room for 8") as caught:
        padded_vector(graph, max_atoms=8)
    assert caught.value.name == "max_atoms"


# ------------------------------------------------------------------------------------------- what is refused


def stretched():
    atoms = molecule("C2H6")
    atoms.positions *= 3
    return atoms


def dimer():
    atoms = molecule("H2O")
    other = molecule("H2O")
    other.translate([0, 0, 4])
    return atoms + other


def with_smiles(name, smiles):
    atoms = molecule(name)
    atoms.info["smiles"] = smiles
    return atoms


def charged(name, charge):
    atoms = molecule(name)
    atoms.info.update(charge=charge, spin=0)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (bulk("C"), "it is periodic"),
        (molecule("CH3Cl"), "it contains Cl"),
        (stretched(), "it has no bonds"),
        (Atoms("F"), "it has no bonds"),
        (dimer(), "2 parts of 3, 3 atoms"),
        (molecule("CH3"), "bonds cannot be determined for a total charge of 0"),
        (charged("CH4", 1), "bonds cannot be determined for a total charge of 1"),
        (with_smiles("CH3CH2OH", "COC"), "geometry and SMILES disagree: 'COC'"),
        (with_smiles("CH3CH2OH", "CC"), "they have different atoms"),
        (with_smiles("CH3CH2OH", "not one"), "is not a SMILES"),
        (with_smiles("H2O", "[H].[OH]"), "holds several molecules"),
    ],
)
def test_what_has_no_molecular_graph_is_refused_with_the_reason(atoms, message):
    with pytest.raises(StructureError) as caught:
        molecular_graph(atoms)
    assert message in str(caught.value)
    assert caught.value.remedy


def test_a_smiles_of_another_charge_or_configuration_is_refused():
    for smiles, other, message in (
        ("N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O", "another configuration"),
        ("F/C=C/F", "F/C=C\\F", "another configuration"),
    ):
        atoms = load_structure(f"smiles:{smiles}")
        atoms.info["smiles"] = other
        with pytest.raises(StructureError, match=message):
            molecular_graph(atoms)
    ion = load_structure("smiles:CC(=O)[O-]")
    ion.info["charge"] = 0
    with pytest.raises(StructureError, match="the SMILES has charge -1, the structure 0"):
        molecular_graph(ion)


def test_refusals_can_be_sent_to_other_processes():
    with pytest.raises(StructureError) as caught:
        molecular_graph(molecule("CH3Cl"))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

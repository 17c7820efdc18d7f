"""The grammar that names bonds: what chemists write, what it picks, and what is no pattern."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import told

from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.distributions.internal_coordinates import choose
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.errors import AnalysisError, ConfigError
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.topology.patterns import canonical, parse_selection

PROPANOL = load_structure("1-propanol")
OXYGEN = PROPANOL.symbols.search("O")[0]
CARBONS = sorted(
    PROPANOL.symbols.search("C"), key=lambda i: PROPANOL.get_distance(i, OXYGEN)
)  # nearest first


def picked(*patterns, n_atoms=2, by="element", atoms=PROPANOL) -> dict:
    found = choose(atoms, n_atoms, list(patterns) or None, by)
    return {name: [sorted(one) for one in chains.atoms.tolist()] for name, chains in found.items()}


BESIDE, FURTHER = sorted(CARBONS[:2]), sorted(CARBONS[1:])


@pytest.mark.parametrize("pattern", ["CH2-CH2", "C-C(O*)", "C(CCHH)-C(CHHO)", "C(OCH2)-C(C2H2)", "C(O*)-C"])
def test_the_bond_beside_the_oxygen(pattern):
    assert list(picked(pattern).values()) == [[BESIDE]]


@pytest.mark.parametrize("pattern", ["CH3-CH2", "CH2-CH3", "C(CHHH)-C", "CH3-C(C*)"])
def test_the_bond_further_away(pattern):
    assert list(picked(pattern).values()) == [[FURTHER]]


def test_by_environment_both_bonds_are_told_apart():
    found = picked("C-C", by="environment")
    assert found == {"C(CCHH)-C(CHHH)": [FURTHER], "C(CCHH)-C(CHHO)": [BESIDE]}
    again = picked(*found)  # the names are patterns themselves
    assert again == found


def test_by_atoms_each_has_a_name_of_its_own():
    found = picked("C-C", "C-O", by="atoms")
    assert sorted(tuple(pair) for pairs in found.values() for pair in pairs) == sorted(
        tuple(map(int, pair)) for pair in (BESIDE, FURTHER, sorted([OXYGEN, CARBONS[0]]))
    )
    assert set(found) == {"-".join(map(str, pair)) for (pair,) in found.values()}


def test_every_carbon_with_a_hydrogen():
    assert sum(len(one) for one in picked("C-H").values()) == 7
    assert sum(len(one) for one in picked("CH3-H").values()) == 3
    assert sum(len(one) for one in picked("*-H").values()) == 8
    assert sum(len(one) for one in picked("OH-*").values()) == 2


def test_angles_and_dihedrals():
    assert list(picked("C-CH2-OH", n_atoms=3)) == ["C-CH2-OH"]
    assert len(picked("H-CH3-*", n_atoms=3)["*-CH3-H"]) == 6
    assert [len(one) for one in picked("CH3-CH2-CH2-O", n_atoms=4).values()] == [1]
    assert [len(one) for one in picked("*-CH2-CH2-*", n_atoms=4).values()] == [9]


def test_atoms_that_are_not_bonded_are_measured_too():
    (pair,) = picked(f"{OXYGEN}-{CARBONS[2]}").values()
    assert pair == [sorted([OXYGEN, CARBONS[2]])]
    run = MemoryRun(PROPANOL, PROPANOL.positions[None])
    result = BondLengths(patterns=[f"{CARBONS[2]}-{OXYGEN}"]).run(run)
    assert result.patterns[0].average.mean == pytest.approx(PROPANOL.get_distance(CARBONS[2], OXYGEN))


def test_the_nearest_image_of_what_is_not_bonded():
    argon = Atoms("Ar2", [[0.5, 1, 1], [8.5, 1, 1]], cell=[9, 9, 9], pbc=True)
    (chains,) = choose(argon, 2, ["0-1"]).values()
    assert chains.shifts.tolist() == [[[-1, 0, 0]]]


def test_every_image_of_a_bond_in_a_small_cell():
    assert len(choose(bulk("C"), 2, ["0-1"])["0-1"]) == 4


@pytest.mark.parametrize(
    ("pattern", "form"),
    [
        ("O-C-C", "C-C-O"),
        ("O-C", "C-O"),
        ("Si-O-Si", "Si-O-Si"),
        ("10-9", "9-10"),
        ("C(OHHC)-O(HC)", "C(CHHO)-O(CH)"),
        ("C(H3C)-C", "C-C(CHHH)"),
        ("CH1-CH0", "CH-CH0"),
        ("C(*O)-C", "C-C(O*)"),
        (" O – C ", "C-O"),
        ("0-C", "0-C"),
        ("H-*-CH3-Cl", "Cl-CH3-*-H"),
    ],
)
def test_canonical_form(pattern, form):
    assert canonical(pattern) == form
    assert canonical("-".join(reversed(form.split("-")))) == form


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("C", 1),
        ("C-", ""),
        ("CO", "CO"),
        ("c-o", "c"),
        ("C-Xx", "Xx"),
        ("", ""),
        ("C O", "C O"),
        ("C-C-C-C-C", 5),
        ("C()-C", "C()"),
        ("C(1)-C", "1"),
        ("C(q)-C", "q"),
        ("C(Xx)-C", "Xx"),
        ("-1-2", ""),
    ],
)
def test_what_is_no_pattern(pattern, value):
    with pytest.raises(ConfigError, check=told(name=pattern, value=value)):
        parse_selection(pattern)


def test_no_match_offers_the_nearest():
    with pytest.raises(
        AnalysisError, check=told(value="C-C-O-C", problem="C3H8O", remedy="nearest are C-C-C-O, C-C-O-H")
    ):
        choose(PROPANOL, 4, ["C-C-O-C"])
    with pytest.raises(
        AnalysisError, check=told(value="C(CCHH)-C(HHO)", remedy="nearest are C(CCHH)-C(CHHO)")
    ):
        choose(PROPANOL, 2, ["C(CCHH)-C(HHO)"])
    with pytest.raises(AnalysisError, check=told(value="3-12", allowed="0 to 11", remedy=True)):
        choose(PROPANOL, 2, ["3-12"])
    with pytest.raises(AnalysisError, check=told(value="1-3-3")):
        choose(PROPANOL, 3, ["3-3-1"])


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(["CH3CH2OH", "C6H6", "CH3COOH", "C3H8"]))
def test_the_order_of_atoms_makes_no_difference(seed, name):
    atoms = molecule(name)
    order = np.random.default_rng(seed).permutation(len(atoms))
    for n_atoms in (2, 3, 4):
        first, second = (
            picked(n_atoms=n_atoms, by="environment", atoms=one) for one in (atoms, atoms[order])
        )
        assert {k: len(v) for k, v in first.items()} == {k: len(v) for k, v in second.items()}

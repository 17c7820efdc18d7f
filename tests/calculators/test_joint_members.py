"""Members of one architecture in one graph: the committee that it is with each member computed by itself."""

import json
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from building import traced_in_place_of_compiled
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.errors import StructureError
from asecalc_ml.model.compile import compiled_functions
from asecalc_ml.model.compile.package_cache import CompilationError, PackageCache
from asecalc_ml.potentials.schnetpack import SchNet
from asecalc_ml.store.stored_committee import StoredCommittee
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained

NAMES = ["first", "second", "third"]


def register(name: str, atoms: Atoms, seed: int, **others) -> None:
    options = SchNet(n_atom_basis=8, n_rbf=others.pop("n_rbf", 8), n_interactions=1, max_atomic_number=20)
    torch.manual_seed(seed)
    register_untrained(name, options, atoms, **others)


@pytest.fixture
def ethanol() -> Atoms:
    return load_structure("ethanol")


@pytest.fixture
def members(ethanol, own_home) -> list[str]:
    for seed, name in enumerate(NAMES):
        register(name, ethanol, seed, charges=[0, 1])
    return NAMES


@pytest.fixture
def builds(monkeypatch) -> list:
    monkeypatch.setattr(compiled_functions, "EDGES_BEFORE_COMPILING", 5 * compiled_functions.FEWEST_EDGES)
    return traced_in_place_of_compiled(monkeypatch)


def separately(members: list[str], atoms: Atoms) -> Committee:
    """The committee whose members are computed one by one."""
    committee = Committee(members, compile="never")
    committee.calculate(atoms, ["energy", "forces"])
    return committee


def check(committee: Committee, members: list[str], atoms: Atoms) -> None:
    """The committee's results, and those of each member, are those of separate computations."""
    expected = separately(members, atoms)
    assert committee.results.keys() == expected.results.keys()
    for name, value in expected.results.items():
        assert committee.results[name] == pytest.approx(value, abs=1e-5), name
    for member, by_itself in zip(committee.members, expected.members, strict=True):
        assert member.results.keys() == by_itself.results.keys()
        for name, value in by_itself.results.items():
            assert member.results[name] == pytest.approx(value, abs=1e-5), name


def test_one_graph_gives_what_members_give_by_themselves(members, ethanol, builds):
    committee = Committee(members, compile="always")
    for step in range(3):
        ethanol.rattle(0.05, seed=step)
        committee.calculate(ethanol, ["energy", "forces"])
        check(committee, members, ethanol)
    assert builds == [(1, 9)]  # and none of a member
    ethanol.info["charge"] = 1
    committee.calculate(ethanol, ["energy", "forces"])
    check(committee, members, ethanol)


def test_members_that_were_computed_together_are_not_computed_again(members, ethanol, builds, monkeypatch):
    committee = Committee(members, compile="always")
    ethanol.calc = committee
    forces = ethanol.get_forces()
    monkeypatch.setattr(MLCalculator, "calculate", None)
    alone = [member.get_forces(ethanol) for member in committee.members]
    assert forces == pytest.approx(np.mean(alone, axis=0), abs=1e-12)
    kept = [array.copy() for array in alone]
    monkeypatch.undo()
    ethanol.rattle(0.05)
    ethanol.get_forces()
    assert all(np.array_equal(array, copy) for array, copy in zip(alone, kept, strict=True))


def test_a_cell_around_a_molecule(members, ethanol, builds):
    """Stress, and stresses of atoms, which are computed by each member."""
    ethanol.cell = [12.0, 13.0, 14.0]
    committee = Committee(members, compile="always")
    ethanol.calc = committee
    assert ethanol.get_stress() == pytest.approx(separately(members, ethanol).results["stress"], abs=1e-9)
    assert ethanol.get_stresses().sum(axis=0) == pytest.approx(ethanol.get_stress(), abs=1e-9)
    assert "stresses_std" in committee.results
    assert builds == [(1, 9)]


def test_what_is_no_molecule_is_computed_by_each_member(members, ethanol, builds):
    ethanol.cell, ethanol.pbc = [8.0, 8.0, 8.0], True
    for atoms in (ethanol, Atoms("H")):
        committee = Committee(members)
        committee.calculate(atoms, ["energy", "forces"])
        check(committee, members, atoms)
    assert builds == []


def test_members_that_differ_in_more_than_weights(ethanol, own_home, builds):
    register("first", ethanol, 0)
    register("second", ethanol, 1, n_rbf=9)
    committee = Committee(["first", "second"], compile="always")
    committee.calculate(ethanol, ["energy", "forces"])
    check(committee, ["first", "second"], ethanol)
    assert builds == [(1, 9), (1, 9)]  # one of each


def test_a_calculator_derived_from_ours_is_asked_itself(members, ethanol, builds):
    class Shifted(MLCalculator):
        def calculate(self, *arguments, **keywords):
            super().calculate(*arguments, **keywords)
            self.results["energy"] += 1.0

    committee = Committee([Shifted(name) for name in members])
    energy = committee.get_potential_energy(ethanol)
    assert energy == pytest.approx(separately(members, ethanol).results["energy"] + 1, abs=1e-5)


def test_where_the_joint_graph_cannot_be_compiled_members_go_on_by_themselves(
    members, ethanol, builds, monkeypatch
):
    build = PackageCache.build

    def failing(self, program):
        if isinstance(self.stored, StoredCommittee):
            raise CompilationError("the compiler fails")
        return build(self, program)

    monkeypatch.setattr(PackageCache, "build", failing)
    committee = Committee(members, compile="always")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        committee.calculate(ethanol, ["energy", "forces"])
    check(committee, members, ethanol)
    assert builds == [(1, 9)] * 3


def test_auto_compiles_the_joint_graph_when_it_would_compile_one_member(members, ethanol, builds):
    committee = Committee(members)
    for step in range(5):
        assert builds == []
        ethanol.rattle(0.01, seed=step)
        committee.calculate(ethanol, ["energy", "forces"])
    assert builds == [(1, 9)]
    check(committee, members, ethanol)


def test_an_announced_run_is_compiled_before_its_first_step(members, ethanol, builds):
    committee = Committee(members)
    committee.expect(ethanol, 4)
    committee.calculate(ethanol, ["energy", "forces"])
    assert builds == [(1, 9)]


def test_a_resumed_committee_goes_the_same_way(members, ethanol, builds):
    committee, resumed = Committee(members, compile="always"), Committee(members, compile="never")
    committee.calculate(ethanol, ["energy", "forces"])
    resumed.restore_state(json.loads(json.dumps(committee.checkpoint_state())))
    ethanol.rattle(0.01)
    for calculator in (committee, resumed):
        calculator.calculate(ethanol, ["energy", "forces"])
    assert builds == [(1, 9), (1, 9)]
    assert np.array_equal(committee.results["forces"], resumed.results["forces"])
    assert committee.checkpoint_state() == resumed.checkpoint_state()


def test_a_run_of_an_earlier_version_goes_on_with_separate_members(members, ethanol, builds):
    committee = Committee(members, compile="always")
    earlier = {"parts": [MLCalculator(name, compile="always").checkpoint_state() for name in members]}
    committee.restore_state(earlier)
    committee.calculate(ethanol, ["energy", "forces"])
    assert builds == [(1, 9)] * 3


def test_the_package_is_that_of_all_members(members):
    joint = [Committee(names)._joint._compiled._packages for names in (NAMES, NAMES[:2], NAMES[::-1])]
    folders = {packages.folder((1, 9)) for packages in joint}
    folders |= {MLCalculator(name)._evaluator.compiled._packages.folder((1, 9)) for name in NAMES}
    assert len(folders) == 6


def test_each_member_is_asked_whether_it_knows_the_elements(ethanol, own_home, builds):
    register("first", ethanol, 0, elements=["C", "H", "N", "O"])
    register("second", ethanol, 1, elements=["C", "H", "O"])
    committee = Committee(["first", "second"], compile="always")
    committee.calculate(ethanol, ["energy", "forces"])
    for _ in range(2):
        with pytest.raises(StructureError, check=told(name="second", value=["N"])):
            committee.get_potential_energy(load_structure("pyrimidine"))
    assert np.isfinite(committee.get_potential_energy(ethanol))

"""Stresses of atoms and pair forces: ASE's Lennard-Jones, values by hand, and the laws of any potential."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones as ASELennardJones
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.calculators.corrections import Corrected
from asecalc_ml.calculators.results import stresses_of
from asecalc_ml.config.options import Options
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_forces import PairForces
from asecalc_ml.model.pair_modules import LennardJonesPotential
from asecalc_ml.model.pair_potentials import LennardJones, Morse
from asecalc_ml.potentials.torchmdnet import TensorNet
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained
from asecalc_ml.testing.structures import random_rotation

SMALL = TensorNet(hidden_channels=16, n_layers=2, n_rbf=8, max_atomic_number=20)


@pytest.fixture
def argon() -> Atoms:
    """Four atoms, none where symmetry would have it, in a skewed cell smaller than the cutoff."""
    atoms = bulk("Ar", "fcc", a=5.0, cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.1, 0.9, 0], [0.05, -0.1, 1.1]], scale_atoms=True)
    atoms.rattle(0.2, seed=1)
    return atoms


@pytest.fixture
def crystal() -> Atoms:
    """Ethanol in a tight triclinic cell, so that images see each other."""
    atoms = load_structure("ethanol")
    atoms.set_cell([[5.5, 0, 0], [0.8, 5.0, 0], [-0.4, 0.6, 5.2]])
    atoms.pbc = True
    return atoms


def registered(name: str, options: Options, atoms: Atoms, **more) -> MLCalculator:
    register_untrained(name, options, atoms, dtype=torch.float64, **more)
    return MLCalculator(name)


@pytest.fixture
def many_body(own_home, crystal) -> MLCalculator:
    """A network of two message-passing layers with random weights."""
    return registered("network", SMALL, crystal)


class Truncated(LennardJonesPotential):
    """Without a cutoff function, as ASE's: its energies are shifted by a constant, which has no slope."""

    def pair_energies(self, distances, numbers):
        return self.pair_energy(distances)


@pytest.mark.parametrize("pbc", [True, [True, False, True], False])
def test_each_atom_has_what_ases_lennard_jones_gives(argon, pbc):
    argon.pbc = pbc
    argon.calc = ASELennardJones(sigma=3.4, epsilon=0.0103, rc=9.0)
    model = Model(Truncated(LennardJones(cutoff_A=9.0)))
    virials = Evaluator(model).atomic_virials(AtomGraph.from_atoms(argon, 9.0))
    expected = argon.get_stresses()
    assert np.abs(expected - expected.mean(axis=0)).max() > 1e-4
    assert stresses_of(virials, argon) == pytest.approx(expected, abs=1e-14)


def test_the_atoms_of_a_pair_share_its_virial_equally(own_home):
    """A squeezed dimer, by hand: stress on each atom is -½ r F / V along the axis."""
    dimer = Atoms("O2", [[0, 0, 0], [0, 0, 1.0]], cell=[10, 10, 10], pbc=True)
    dimer.calc = registered("morse", Morse(r0_A=1.2), dimer)
    push = dimer.get_forces()[1, 2]
    half = [0, 0, -0.5 * push * 1.0 / 1000.0, 0, 0, 0]
    assert push > 0
    assert dimer.get_stresses() == pytest.approx(np.array([half, half]))
    pairs = dimer.calc.pair_forces(dimer)
    assert (pairs.i.tolist(), pairs.j.tolist()) == ([0, 1], [1, 0])
    assert pairs.vectors == pytest.approx(np.array([[0, 0, 1.0], [0, 0, -1.0]]))
    assert pairs.forces == pytest.approx(np.array([[0, 0, -push], [0, 0, push]]))
    assert pairs.gradients == pytest.approx(pairs.forces / 2)


def test_they_sum_to_the_stress_and_pair_forces_to_forces(many_body, crystal):
    stresses, stress = many_body.get_stresses(crystal), many_body.get_stress(crystal)
    assert stresses.shape == (9, 6)
    assert stresses.sum(axis=0) == pytest.approx(stress, abs=1e-14)
    assert np.abs(stresses - stress / 9).max() > 0.1 * np.abs(stress).max()
    pairs = many_body.pair_forces(crystal)
    forces, virial = np.zeros((9, 3)), np.zeros((9, 3, 3))
    np.add.at(forces, pairs.i, pairs.forces)
    np.add.at(virial, pairs.i, 0.5 * pairs.vectors[:, :, None] * pairs.forces[:, None, :])
    assert forces == pytest.approx(many_body.get_forces(crystal), abs=1e-12)
    assert full_3x3_to_voigt_6_stress(virial) / crystal.get_volume() == pytest.approx(stresses, abs=1e-14)


def test_pairs_are_those_of_ases_neighbor_list(many_body, crystal):
    pairs = many_body.pair_forces(crystal)
    i, j, shifts, vectors = neighbor_list("ijSD", crystal, many_body.card.cutoff_A)
    order = np.lexsort((*shifts.T[::-1], j, i))
    assert np.array_equal(pairs.i, i[order])
    assert np.array_equal(pairs.j, j[order])
    assert np.array_equal(pairs.shifts, shifts[order])
    assert pairs.vectors == pytest.approx(vectors[order], abs=1e-12)
    # Newton's third law for every pair: the reverse pair has the opposite force
    force_of = {
        (a, b, *s): f for a, b, s, f in zip(pairs.i, pairs.j, pairs.shifts, pairs.forces, strict=True)
    }
    assert all(
        np.array_equal(force_of[b, a, *(-s)], -force_of[a, b, *s])
        for a, b, s in zip(pairs.i, pairs.j, pairs.shifts, strict=True)
    )


def test_pairs_beyond_the_cutoff_are_left_out(many_body):
    """A small molecule carries all its pairs, also those that the network does not see."""
    atoms = load_structure("ethanol")
    atoms.positions[0] += [40, 0, 0]
    pairs = many_body.pair_forces(atoms)
    assert np.linalg.norm(pairs.vectors, axis=1).max() < many_body.card.cutoff_A
    assert 0 not in pairs.i
    assert 0 not in pairs.j


# ------------------------------------------------------------------------------------------------- symmetries


def test_they_turn_with_the_crystal(many_body, crystal):
    matrix = random_rotation(1)
    turned = crystal.copy()
    turned.set_cell(crystal.cell.array @ matrix.T, scale_atoms=False)
    turned.positions = crystal.positions @ matrix.T
    tensors = voigt_6_to_full_3x3_stress(many_body.get_stresses(crystal))
    expected = full_3x3_to_voigt_6_stress(matrix @ tensors @ matrix.T)
    assert many_body.get_stresses(turned) == pytest.approx(expected, abs=1e-13)


def test_they_keep_to_their_atoms(many_body, crystal):
    order = np.random.default_rng(0).permutation(len(crystal))
    mixed = crystal[order]
    expected = many_body.get_stresses(crystal)[order]
    assert many_body.get_stresses(mixed) == pytest.approx(expected, abs=1e-14)


def test_images_have_equal_shares(many_body, crystal):
    """The volume is that of the whole cell: twice the cell, half the stress of each atom."""
    expected = np.concatenate([many_body.get_stresses(crystal)] * 2) / 2
    assert many_body.get_stresses(crystal * (1, 2, 1)) == pytest.approx(expected, abs=1e-13)


# ------------------------------------------------------------------------------------------------ as in ASE


def test_kinetic_part_of_ase_is_added_as_for_its_own(many_body, crystal):
    crystal.calc = many_body
    crystal.set_momenta(np.random.default_rng(1).normal(size=(9, 3)))
    kinetic = crystal.get_stresses(include_ideal_gas=True) - crystal.get_stresses()
    assert kinetic == pytest.approx(crystal.get_kinetic_stresses(), abs=1e-14)
    assert crystal.get_stresses(voigt=False).shape == (9, 3, 3)


@pytest.mark.parametrize("name", ["stress", "stresses"])
def test_without_a_volume_there_are_none(many_body, name):
    atoms = load_structure("ethanol")
    with pytest.raises(PropertyNotImplementedError, match=rf"^{name} needs a cell of rank 3"):
        many_body.get_property(name, atoms)
    assert np.isfinite(many_body.get_forces(atoms)).all()


def test_a_step_that_does_not_ask_pays_nothing(many_body, crystal, monkeypatch):
    """And who asks changes no other result, in whatever order."""
    passes = []
    monkeypatch.setattr(
        Evaluator, "atomic_virials", lambda self, graph: passes.append(graph) or original(self, graph)
    )
    crystal.calc = many_body
    crystal.get_forces()
    crystal.get_stress()
    before = dict(many_body.results)
    assert passes == []
    assert "stresses" not in before
    crystal.get_stresses()
    crystal.get_stresses()
    assert len(passes) == 1
    assert all(many_body.results[name] is before[name] for name in before)
    crystal.rattle(0.01)
    crystal.get_forces()
    assert "stresses" not in many_body.results


original = Evaluator.atomic_virials


def test_asked_first_they_are_the_same(many_body, crystal):
    first = many_body.get_stresses(crystal)
    again = MLCalculator("network")
    again.get_forces(crystal)
    assert np.array_equal(again.get_stresses(crystal), first)
    assert np.array_equal(again.get_forces(crystal), many_body.get_forces(crystal))


def test_pair_forces_leave_the_results_alone(many_body, crystal):
    many_body.get_forces(crystal)
    before = dict(many_body.results)
    many_body.pair_forces(load_structure("ethanol"))
    assert all(many_body.results[name] is before[name] for name in before)


def test_many_at_once(many_body, crystal):
    structures = [crystal, crystal * (1, 1, 2)]
    assert all("stresses" not in results for results in many_body.calculate_many(structures))
    together = many_body.calculate_many(structures, ["stresses"])
    for results, atoms in zip(together, structures, strict=True):
        assert results["stresses"] == pytest.approx(many_body.get_stresses(atoms), abs=1e-14)


# ------------------------------------------------------------------------------------- sums and committees


@pytest.fixture
def squeezed(crystal) -> Atoms:
    """The crystal with an atom pushed into another, where the ZBL core acts."""
    crystal.positions[3] = crystal.positions[0] + [0.6, 0.1, 0.2]
    return crystal


def summed_over_pairs(pairs: PairForces, n_atoms: int) -> np.ndarray:
    """Forces of atoms, shape (n_atoms, 3)."""
    forces = np.zeros((n_atoms, 3))
    np.add.at(forces, pairs.i, pairs.forces)
    return forces


def test_a_committee_has_means_and_deviations(own_home, crystal):
    lengths = {"short": 1.1, "long": 1.25}
    members = [registered(name, Morse(r0_A=r0, cutoff_A=4.0), crystal) for name, r0 in lengths.items()]
    committee = Committee(list(lengths))
    stresses = np.array([member.get_stresses(crystal) for member in members])
    assert committee.get_stresses(crystal) == pytest.approx(stresses.mean(axis=0), abs=1e-14)
    assert committee.results["stresses_std"] == pytest.approx(stresses.std(axis=0, ddof=1), abs=1e-14)
    assert stresses.std() > 1e-4
    assert summed_over_pairs(committee.pair_forces(crystal), 9) == pytest.approx(
        committee.get_forces(crystal), abs=1e-12
    )
    together = committee.calculate_many([crystal], ["stresses"])
    assert together[0]["stresses"] == pytest.approx(stresses.mean(axis=0), abs=1e-14)


@pytest.mark.parametrize("place", ["card", "yaml"])
def test_a_repulsive_core_is_added(own_home, squeezed, place):
    """To stresses and pair forces, with a cutoff of its own."""
    options = Morse(r0_A=1.2, cutoff_A=4.0)
    alone = registered("morse", options, squeezed)
    if place == "card":
        with_core = registered("corrected", options, squeezed, corrections=[{"zbl": {"reach": 0.7}}])
    else:
        with_core = Corrected("morse", ["zbl"])
    pairs = with_core.pair_forces(squeezed)
    assert summed_over_pairs(pairs, 9) == pytest.approx(with_core.get_forces(squeezed), abs=1e-10)
    assert len(np.unique(np.column_stack([pairs.i, pairs.j, pairs.shifts]), axis=0)) == len(pairs.i)
    stresses = with_core.get_stresses(squeezed)
    assert stresses.sum(axis=0) == pytest.approx(with_core.get_stress(squeezed), abs=1e-12)
    assert np.abs(stresses - alone.get_stresses(squeezed)).max() > 1e-2
    together = with_core.calculate_many([squeezed], ["stresses"])
    assert together[0]["stresses"] == pytest.approx(stresses, abs=1e-12)


@pytest.mark.parametrize("place", ["card", "yaml"])
def test_dispersion_has_no_shares_of_atoms(own_home, crystal, place):
    """simple-dftd3 gives one virial for all, so that a sum with it has none, and says so."""
    pytest.importorskip("dftd3")
    options, d3 = Morse(r0_A=1.2, cutoff_A=4.0), {"d3": {"functional": "PBE"}}
    if place == "card":
        calculator = registered("corrected", options, crystal, corrections=[d3])
    else:
        registered("morse", options, crystal)
        calculator = Corrected("morse", [d3])
        with pytest.raises(PropertyNotImplementedError, match=r"^no stresses, which DispersionCalculator"):
            calculator.get_stresses(crystal)
    with pytest.raises(PropertyNotImplementedError, match=r"DispersionCalculator gives no pair forces"):
        calculator.pair_forces(crystal)
    assert "stresses" not in calculator.implemented_properties
    with pytest.raises(PropertyNotImplementedError, match=r"^no stresses.*: .* energies, forces, stress"):
        calculator.get_stresses(crystal)
    with pytest.raises(PropertyNotImplementedError, match=r"^no stresses"):
        calculator.calculate_many([crystal], ["stresses"])
    assert np.isfinite(calculator.get_stress(crystal)).all()

"""Degrees of freedom counted by hand, and momenta that have exactly the temperature asked for."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, FixCom, Hookean
from hypothesis import given
from hypothesis import strategies as st

from asecalc_ml.md_protocols.integrators import degrees_of_freedom as md
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.rigid_motions import is_linear

RNG = np.random.default_rng(0)


def constrained(atoms, *constraints) -> Atoms:
    atoms.set_constraint(constraints)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (molecule("H2O"), 3),  # 3 · 3 − 6
        (molecule("CO2"), 4),  # linear: 3 · 3 − 5
        (molecule("C2H2"), 7),  # 3 · 4 − 5
        (molecule("N2"), 1),
        (molecule("CH3CH2OH"), 21),
        (Atoms("Ar"), 0),
        (bulk("Cu", cubic=True), 9),  # 3 · 4 − 3
        (Atoms("H2O", molecule("H2O").positions, cell=[5, 9, 9], pbc=(1, 0, 0)), 5),  # a wire: 3 · 3 − 4
        (constrained(molecule("H2O"), Hookean(0, (0.0, 0.0, 0.0), 1.0, 0.0)), 9),  # a spring to a point
        (constrained(molecule("H2O"), Hookean(0, (0.0, 0.0, 1.0, 0.0), 1.0)), 6),  # to a plane: 9 − 2 − 1
        (constrained(molecule("H2O"), Hookean(0, 1, 1.0, 0.5)), 3),  # between two atoms
        (constrained(molecule("H2O"), FixAtoms([0])), 6),  # held in space: 3 · 3 − 3, and nothing to subtract
        (constrained(molecule("H2O"), FixBondLength(0, 1)), 2),  # still moves and turns: 3 · 3 − 6 − 1
        (constrained(molecule("H2O"), FixCartesian([0])), 6),
        (constrained(molecule("H2O"), FixCom()), 3),  # translation is not subtracted twice
    ],
)
def test_degrees_of_freedom_counted_by_hand(atoms, expected):
    found = md.degrees_of_freedom(atoms, is_linear(atoms))
    assert (found, type(found)) == (expected, int)  # JSON knows no other


def test_under_a_thermostat_rotation_counts():
    assert md.degrees_of_freedom(molecule("H2O"), rotates=True) == 6


@given(st.integers(0, 2**31), st.sampled_from(["H2O", "CO2", "N2", "CH3CH2OH"]), st.floats(1.0, 2000.0))
def test_momenta_have_the_temperature_and_nothing_else(seed, name, kelvin):
    atoms = molecule(name)
    atoms.rotate(37, (1, 2, 3))
    linear = is_linear(atoms)
    md.set_thermal_momenta(atoms, kelvin, np.random.default_rng(seed), linear)
    kinetic = md.kinetic_energy(atoms.get_momenta(), atoms.get_masses())
    assert kinetic == pytest.approx(atoms.get_kinetic_energy())
    assert md.temperature(kinetic, md.degrees_of_freedom(atoms, linear)) == pytest.approx(kelvin, rel=1e-12)
    scale = np.abs(atoms.get_momenta()).max()
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-12 * scale
    assert np.abs(atoms.get_angular_momentum()).max() < 1e-9 * scale


def test_temperature_zero_is_rest():
    atoms = molecule("H2O")
    md.set_thermal_momenta(atoms, 0.0, RNG, linear=False)
    assert not atoms.get_momenta().any()


def test_every_degree_of_freedom_gets_its_share():
    """Equipartition: of N atoms, each component has k_B T / 2 · (1 - m/M), its part of a system at rest."""
    atoms = bulk("Cu", cubic=True) * 2
    atoms.numbers[::2] = 13
    rng, shares = np.random.default_rng(0), []
    for _ in range(400):
        md.set_thermal_momenta(atoms, 500.0, rng, linear=False)
        energies = atoms.get_momenta() ** 2 / (2 * atoms.get_masses()[:, None])
        shares.append([energies[atoms.numbers == z].mean() for z in (13, 29)])
    masses = np.array([atoms.get_masses()[atoms.numbers == z][0] for z in (13, 29)])
    expected = 0.5 * units.kB * 500.0 * (1 - masses / atoms.get_masses().sum())
    assert np.mean(shares, axis=0) == pytest.approx(expected, rel=0.02)


def test_rotation_of_a_crystal_is_left_alone():
    atoms = bulk("Cu", cubic=True)
    atoms.set_velocities(np.cross([0, 0, 1.0], atoms.positions - atoms.get_center_of_mass()))
    before = atoms.get_angular_momentum()
    md.remove_rigid_motion(atoms, linear=False)
    assert atoms.get_angular_momentum() == pytest.approx(before)


def test_drift_of_a_fixed_molecule_is_left_alone():
    atoms = constrained(molecule("H2O"), FixAtoms([0]))
    atoms.set_momenta(np.ones((3, 3)))
    md.remove_rigid_motion(atoms, linear=False)
    assert atoms.get_momenta().tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1]]


def test_bending_of_a_linear_molecule_is_no_rotation():
    """Both bends of CO2 a quarter of a period apart turn about the axis: a vibration, to be kept."""
    atoms = molecule("CO2")
    atoms.positions[0, 0] += 0.02
    atoms.set_momenta(np.zeros((3, 3)))
    momenta = np.array([[0, 1.0, 0], [0, -0.5, 0], [0, -0.5, 0]])
    atoms.set_momenta(momenta)
    md.remove_rigid_motion(atoms, linear=True)
    assert atoms.get_momenta() == pytest.approx(momenta, abs=0.02)


@given(st.floats(0.15, 1.0))
def test_a_bent_molecule_is_not_linear(bend):
    assert not is_linear(Atoms("OCO", [[-1.16, bend, 0], [0, -bend, 0], [1.16, bend, 0]]))


def test_a_long_zigzag_is_not_linear():
    zigzag = [[1.27 * k, 0.4 * (k % 2), 0] for k in range(30)]
    assert not is_linear(Atoms("C30", zigzag))


def test_acetylene_is_linear_in_any_direction():
    atoms = molecule("C2H2")
    atoms.rotate(71, (1, -2, 0.5))
    assert is_linear(atoms)
    assert not is_linear(load_structure("ethanol"))

"""Units against constants of nature, CODATA 2014 as in ASE."""

import pytest

from asecalc_ml.errors import ConfigError
from asecalc_ml.units import ENERGY_UNITS, LENGTH_UNITS, energy_unit, length_unit

AVOGADRO, ELEMENTARY_CHARGE = 6.022140857e23, 1.6021766208e-19


@pytest.mark.smoke
def test_molar_units_from_avogadro_and_elementary_charge():
    joule_per_mole = 1 / (AVOGADRO * ELEMENTARY_CHARGE)
    assert energy_unit("kJ/mol") == pytest.approx(1000 * joule_per_mole, rel=1e-12)
    assert energy_unit("kcal/mol") == pytest.approx(4184 * joule_per_mole, rel=1e-12)


def test_atomic_units():
    assert energy_unit("Hartree") == pytest.approx(27.2113860, rel=1e-8)
    assert length_unit("Bohr") == pytest.approx(0.52917721067, rel=1e-9)


def test_hydrogen_atom_ties_the_two_atomic_units():
    """E_h a_0 = e^2 / (4 pi eps_0) = 14.39964 eV Å."""
    assert energy_unit("Hartree") * length_unit("Bohr") == pytest.approx(14.3996455, rel=1e-7)


def test_decimal_units():
    assert (energy_unit("eV"), energy_unit("meV")) == (1.0, 1e-3)
    assert (length_unit("Angstrom"), length_unit("nm")) == (1.0, 10.0)


@pytest.mark.parametrize("name", ENERGY_UNITS)
def test_every_energy_unit_is_a_float(name):
    assert type(energy_unit(name)) is float


@pytest.mark.parametrize("name", LENGTH_UNITS)
def test_every_length_unit_is_a_float(name):
    assert type(length_unit(name)) is float


def test_mega_is_not_milli():
    with pytest.raises(ConfigError, match=r"'MeV'; did you mean 'meV'\? Allowed are eV, meV, kcal/mol"):
        energy_unit("MeV")


def test_unknown_length_says_what_is_allowed():
    with pytest.raises(
        ConfigError, match=r"unknown unit of length 'furlong'\. Allowed are Angstrom, Bohr, nm"
    ):
        length_unit("furlong")

"""Units against constants of nature, CODATA 2014 as in ASE."""

import pytest
from raising import told

from asecalc_ml.errors import ConfigError
from asecalc_ml.units import (
    ENERGY_UNITS,
    FORCES_UNITS,
    LENGTH_UNITS,
    STRESS_UNITS,
    conversion,
    energy_unit,
    forces_unit,
    length_unit,
    stress_unit,
    units_of,
)

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
    with pytest.raises(ConfigError, check=told(value="MeV", allowed=["eV", "kcal/mol"], remedy="'meV'")):
        energy_unit("MeV")


def test_unknown_length_says_what_is_allowed():
    units = ["Angstrom", "Bohr", "nm"]
    with pytest.raises(ConfigError, check=told(value="furlong", allowed=units, remedy=", ".join(units))):
        length_unit("furlong")


@pytest.mark.parametrize("name", FORCES_UNITS)
def test_a_force_is_an_energy_over_a_length(name):
    energy = next(one for one in ENERGY_UNITS if name.startswith(f"{one}/"))
    assert forces_unit(name) == energy_unit(energy) / length_unit(name.removeprefix(f"{energy}/"))


def test_atomic_force_is_that_of_codata():
    """8.2387235e-8 N, with 1 eV/Å = 1.602176634e-9 N."""
    assert forces_unit("Hartree/Bohr") == pytest.approx(8.2387235e-8 / 1.602176634e-9, rel=1e-6)


def test_pressures_in_pascal():
    """1 eV/Å³ is 160.2176634 GPa, and the atomic unit 29421.0 GPa."""
    assert 1 / stress_unit("GPa") == pytest.approx(160.2176634, rel=1e-7)
    assert stress_unit("Hartree/Bohr^3") / stress_unit("GPa") == pytest.approx(29421.0157, rel=1e-6)
    assert stress_unit("GPa") / stress_unit("kbar") == pytest.approx(10, rel=1e-12)
    assert stress_unit("kbar") / stress_unit("bar") == pytest.approx(1000, rel=1e-12)


@pytest.mark.parametrize("name", STRESS_UNITS)
def test_every_stress_unit_is_a_float(name):
    assert type(stress_unit(name)) is float


@pytest.mark.parametrize(
    ("unit", "name"), [(forces_unit, "eV/A"), (stress_unit, "eV/A^3"), (stress_unit, "kB")]
)
def test_units_of_forces_and_stress_that_are_none(unit, name):
    with pytest.raises(ConfigError, check=told(value=name, remedy=True)):
        unit(name)


@pytest.mark.parametrize(
    ("quantity", "given", "wanted", "factor"),
    [
        ("energy", "Hartree", "eV", 27.211386),
        ("heat capacity", "cal/mol/K", "J/mol/K", 4.184),
        ("heat capacity", "cal/mol/K", "eV/K", 4.184 / 96485.332),
        ("area", "Bohr^2", "Angstrom^2", 0.52917721**2),
        ("volume", "Bohr^3", "Angstrom^3", 0.52917721**3),
        ("hyperpolarizability", "e^3 Bohr^3/Hartree^2", "e^3 Angstrom^3/eV^2", 0.52917721**3 / 27.211386**2),
        ("dipole", "Debye", "e Angstrom", 0.20819434),
    ],
)
def test_units_of_properties(quantity, given, wanted, factor):
    """CODATA's values, with the digits that are printed in tables."""
    assert conversion(quantity, given, wanted) == pytest.approx(factor, rel=1e-6)
    assert conversion(quantity, wanted, given) == pytest.approx(1 / factor, rel=1e-6)
    assert {given, wanted} <= set(units_of(quantity))


def test_a_unit_of_another_quantity_is_refused():
    with pytest.raises(ConfigError, match="unknown unit of energy 'Debye'"):
        conversion("energy", "Debye", "eV")

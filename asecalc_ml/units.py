"""Units of data on the way in. Inside the package everything is eV, Å, amu and ASE's time."""

import functools
import itertools
from typing import TYPE_CHECKING, Literal, TypeAlias

from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ConfigError

ENERGY_UNITS = ("eV", "meV", "kcal/mol", "kJ/mol", "Hartree")
LENGTH_UNITS = ("Angstrom", "Bohr", "nm")
DIPOLE_UNITS = ("e Angstrom", "e Bohr", "Debye")
FORCES_UNITS = tuple(f"{energy}/{length}" for energy, length in itertools.product(ENERGY_UNITS, LENGTH_UNITS))
PRESSURE_UNITS = ("GPa", "kbar", "bar")
STRESS_UNITS = (*(f"{unit}^3" for unit in FORCES_UNITS), *PRESSURE_UNITS)
AREA_UNITS = tuple(f"{length}^2" for length in LENGTH_UNITS)
VOLUME_UNITS = tuple(f"{length}^3" for length in LENGTH_UNITS)
HEAT_CAPACITY_UNITS = ("eV/K", "cal/mol/K", "J/mol/K", "Hartree/K")
HYPERPOLARIZABILITY_UNITS = ("e^3 Bohr^3/Hartree^2", "e^3 Angstrom^3/eV^2")

if TYPE_CHECKING:  # type checkers take no Literal of a computed tuple
    EnergyUnit: TypeAlias = str
    LengthUnit: TypeAlias = str
    DipoleUnit: TypeAlias = str
    ForcesUnit: TypeAlias = str
    StressUnit: TypeAlias = str
else:
    EnergyUnit = Literal[ENERGY_UNITS]
    LengthUnit = Literal[LENGTH_UNITS]
    DipoleUnit = Literal[DIPOLE_UNITS]
    ForcesUnit = Literal[FORCES_UNITS]
    StressUnit = Literal[STRESS_UNITS]


def name_with_unit(name: str, unit: str) -> str:
    """A heading: the name, and the unit in brackets where there is one.

    Examples
    --------
    >>> name_with_unit("homo", "eV"), name_with_unit("count", "")
    ('homo (eV)', 'count')
    """
    return f"{name} ({unit})" if unit else name


def number_with_unit(number: str, unit: str) -> str:
    """A number in words and its unit, where it has one.

    Examples
    --------
    >>> number_with_unit("-7.1", "eV"), number_with_unit("3", "")
    ('-7.1 eV', '3')
    """
    return f"{number} {unit}" if unit else number


def energy_unit(name: str) -> float:
    """One unit of energy in eV, with the constants that ASE uses.

    Parameters
    ----------
    name : str
        "eV", "meV", "kcal/mol", "kJ/mol" or "Hartree". Spelled exactly so: "MeV" is not "meV".

    Raises
    ------
    ConfigError
        For any other name.

    Examples
    --------
    >>> energy_unit("meV")
    0.001
    """
    return _in_our_units("energy", name)


def length_unit(name: str) -> float:
    """One unit of length in Å, with the constants that ASE uses.

    Parameters
    ----------
    name : str
        "Angstrom", "Bohr" or "nm".

    Raises
    ------
    ConfigError
        For any other name.

    Examples
    --------
    >>> length_unit("nm")
    10.0
    """
    return _in_our_units("length", name)


def dipole_unit(name: str) -> float:
    """One unit of a dipole in e Å, with the constants that ASE uses.

    Parameters
    ----------
    name : str
        "e Angstrom", "e Bohr" (the atomic unit) or "Debye".

    Raises
    ------
    ConfigError
        For any other name.

    Examples
    --------
    >>> round(dipole_unit("Debye"), 4)
    0.2082
    """
    return _in_our_units("dipole", name)


def forces_unit(name: str) -> float:
    """One unit of force in eV/Å.

    Parameters
    ----------
    name : str
        A unit of energy over a unit of length, such as "Hartree/Bohr" or "kcal/mol/Angstrom".

    Raises
    ------
    ConfigError
        For any other name.

    Examples
    --------
    >>> forces_unit("meV/Angstrom")
    0.001
    """
    return _in_our_units("force", name)


def stress_unit(name: str) -> float:
    """One unit of stress in eV/Å³.

    Parameters
    ----------
    name : str
        A unit of energy over a cubed unit of length, such as "eV/Angstrom^3", or "GPa", "kbar" or "bar".

    Raises
    ------
    ConfigError
        For any other name.

    Examples
    --------
    >>> round(1 / stress_unit("GPa"), 3)
    160.218
    """
    return _in_our_units("stress", name)


def conversion(quantity: str, given: str, wanted: str) -> float:
    """Factor from one unit of a quantity to another.

    Parameters
    ----------
    quantity : str
        "energy", "length", "dipole", "force", "stress", "area", "volume", "heat capacity" or
        "hyperpolarizability".
    given, wanted : str
        Names of units of this quantity.

    Raises
    ------
    ConfigError
        For a name that is no unit of the quantity.

    Examples
    --------
    >>> conversion("energy", "meV", "eV")
    0.001
    >>> round(conversion("volume", "Bohr^3", "Angstrom^3"), 5)
    0.14818
    """
    return _in_our_units(quantity, given) / _in_our_units(quantity, wanted)


def units_of(quantity: str) -> tuple[str, ...]:
    """Names of the units of a quantity, as :func:`conversion` takes them."""
    return tuple(_factors()[quantity])


@functools.cache
def _factors() -> dict[str, dict[str, float]]:
    """One of each unit in eV, Å and e, by quantity and name."""
    from ase import units  # numpy comes with it: too slow for --help

    def named(names: tuple[str, ...], *values: float) -> dict[str, float]:
        return dict(zip(names, values, strict=True))

    energies = named(ENERGY_UNITS, 1.0, 1e-3, units.kcal / units.mol, units.kJ / units.mol, units.Hartree)
    lengths = named(LENGTH_UNITS, 1.0, units.Bohr, units.nm)
    pairs = list(itertools.product(energies.values(), lengths.values()))
    forces = [energy / length for energy, length in pairs]
    stresses = [energy / length**3 for energy, length in pairs]
    return {
        "energy": energies,
        "length": lengths,
        "dipole": named(DIPOLE_UNITS, 1.0, units.Bohr, units.Debye),
        "force": named(FORCES_UNITS, *forces),
        "stress": named(STRESS_UNITS, *stresses, units.GPa, 0.1 * units.GPa, units.bar),
        "area": named(AREA_UNITS, *(length**2 for length in lengths.values())),
        "volume": named(VOLUME_UNITS, *(length**3 for length in lengths.values())),
        "heat capacity": named(
            HEAT_CAPACITY_UNITS, 1.0, 1e-3 * units.kcal / units.mol, units.J / units.mol, units.Hartree
        ),
        "hyperpolarizability": named(HYPERPOLARIZABILITY_UNITS, units.Bohr**3 / units.Hartree**2, 1.0),
    }


def _in_our_units(quantity: str, name: str) -> float:
    known = _factors()[quantity]
    if name in tuple(known):
        return float(known[name])
    remedy = f"Allowed are {', '.join(known)}."
    raise unknown_name_error(ConfigError, f"unknown unit of {quantity} {name!r}", name, known, remedy)

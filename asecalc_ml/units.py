"""Units of data on the way in. Inside the package everything is eV, Å, amu and ASE's time."""

from collections.abc import Iterable

from asecalc_ml.config.suggestions import unknown_name
from asecalc_ml.errors import ConfigError

ENERGY_UNITS = ("eV", "meV", "kcal/mol", "kJ/mol", "Hartree")
LENGTH_UNITS = ("Angstrom", "Bohr", "nm")
DIPOLE_UNITS = ("e Angstrom", "e Bohr", "Debye")
FORCES_UNITS = tuple(f"{energy}/{length}" for energy in ENERGY_UNITS for length in LENGTH_UNITS)
PRESSURE_UNITS = ("GPa", "kbar", "bar")
STRESS_UNITS = (*(f"{unit}^3" for unit in FORCES_UNITS), *PRESSURE_UNITS)


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
    from ase import units  # numpy comes with it: too slow for --help

    values = (1.0, 1e-3, units.kcal / units.mol, units.kJ / units.mol, units.Hartree)
    return _value("energy", name, dict(zip(ENERGY_UNITS, values, strict=True)))


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
    from ase import units

    return _value("length", name, dict(zip(LENGTH_UNITS, (1.0, units.Bohr, units.nm), strict=True)))


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
    from ase import units

    return _value("dipole", name, dict(zip(DIPOLE_UNITS, (1.0, units.Bohr, units.Debye), strict=True)))


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
    _check("force", name, FORCES_UNITS)
    energy, _, length = name.rpartition("/")
    return energy_unit(energy) / length_unit(length)


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
    from ase import units

    _check("stress", name, STRESS_UNITS)
    if name in PRESSURE_UNITS:
        return dict(zip(PRESSURE_UNITS, (units.GPa, 0.1 * units.GPa, units.bar), strict=True))[name]
    energy, _, length = name.removesuffix("^3").rpartition("/")
    return energy_unit(energy) / length_unit(length) ** 3


def _value(quantity: str, name: str, known: dict[str, float]) -> float:
    _check(quantity, name, known)
    return float(known[name])


def _check(quantity: str, name: str, known: Iterable[str]) -> None:
    if name in known:
        return
    remedy = f"Allowed are {', '.join(known)}."
    raise ConfigError(unknown_name(f"unknown unit of {quantity} {name!r}", name, known, remedy))

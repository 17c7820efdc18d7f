"""The unit at the end of an option's name, and what a number out of bounds would be in that unit.

``timestep_fs: 5e-16`` was meant in seconds, ``pressure_GPa: 101325`` in Pa. The bounds of the option models
refuse such numbers; this module adds the unit and the value that may have been meant to the message.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping

Scale = tuple[float, float]  # factor and offset: value in the option's unit = factor * number + offset

#: How a unit is written, by the end of an option's name.
SYMBOLS = {
    "fs": "fs",
    "ps": "ps",
    "h": "h",
    "K": "K",
    "GPa": "GPa",
    "A": "Å",
    "deg": "degrees",
    "eV": "eV",
    "eV_A": "eV/Å",
    "eV_atom": "eV/atom",
    "e_A": "e Å",
    "meV_atom_ps": "meV/atom/ps",
    "per_ps": "1/ps",
    "per_cm": "1/cm",
    "per_A": "1/Å",
    "per_A2": "1/Å²",
}

#: Other units in common use, the likeliest first.
OTHERS: Mapping[str, Mapping[str, Scale]] = {
    "fs": {"ps": (1e3, 0), "s": (1e15, 0), "ns": (1e6, 0), "as": (1e-3, 0)},
    "ps": {"fs": (1e-3, 0), "ns": (1e3, 0), "s": (1e12, 0)},
    "h": {"s": (1 / 3600, 0), "min": (1 / 60, 0)},
    "K": {"°C": (1, 273.15), "eV/kB": (11604.518, 0)},
    "GPa": {"Pa": (1e-9, 0), "bar": (1e-4, 0), "MPa": (1e-3, 0)},
    "A": {"pm": (0.01, 0), "nm": (10, 0), "m": (1e10, 0)},
    "eV": {"meV": (1e-3, 0)},
    "eV_A": {"meV/Å": (1e-3, 0)},
    "eV_atom": {"meV/atom": (1e-3, 0)},
    "per_ps": {"1/s": (1e-12, 0), "1/fs": (1e3, 0)},
    "per_cm": {"1/m": (0.01, 0), "THz": (33.356410, 0)},
}


def unit_of(name: str) -> str | None:
    """The end of an option's name that is a unit, a key of :data:`SYMBOLS`.

    Examples
    --------
    >>> unit_of("relax_fmax_eV_A"), unit_of("temperatures_K"), unit_of("steps")
    ('eV_A', 'K', None)
    """
    words = name.split("_")[1:]
    ends = ("_".join(words[-n:]) for n in (3, 2, 1) if n <= len(words))
    return next((end for end in ends if end in SYMBOLS), None)


def unit_hint(name: str, value: float, bounds: Iterable[object]) -> str:
    """The unit of an option, and which value within its bounds a number out of them may stand for.

    Parameters
    ----------
    name : str
        Name of the option, which ends in its unit.
    value : float
    bounds : iterable
        Constraints of the option, objects with an attribute ``ge``, ``gt``, ``le`` or ``lt``.

    Returns
    -------
    str
        Empty for an option without a unit.

    Examples
    --------
    >>> from annotated_types import Ge, Le
    >>> unit_hint("timestep_fs", 5e-16, [Ge(0.001), Le(20)])
    'the unit is fs; did you mean 0.5 (5e-16 s)?'
    """
    unit, bounds = unit_of(name), list(bounds)
    if unit is None:
        return ""
    meant = [
        f"{factor * value + offset:.6g} ({value:g} {other})"
        for other, (factor, offset) in OTHERS.get(unit, {}).items()
        if value != 0 and _is_within(factor * value + offset, bounds)
    ]
    question = f"; did you mean {' or '.join(meant[:2])}?" if meant else ""
    return f"the unit is {SYMBOLS[unit]}{question}"


def _is_within(value: float, bounds: Iterable[object]) -> bool:
    tests = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
    return all(
        test(value, getattr(bound, key))
        for bound in bounds
        for key, test in tests.items()
        if hasattr(bound, key)
    )

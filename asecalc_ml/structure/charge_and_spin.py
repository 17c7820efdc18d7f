"""Total charge and number of unpaired electrons of a structure, decided here for the whole package.

The first of these that is there decides:

1. an option that a user gives: ``charge`` and ``spin`` of a dataset reader or of ``pyscf-dft``;
2. ``atoms.info["charge"]`` and ``atoms.info["spin"]``;
3. ``atoms.info["total_charge"]`` and ``atoms.info["multiplicity"]``, the names of other programs;
4. the sum of the initial charges of the atoms; for molecules the absolute value of the sum of their initial
   magnetic moments;
5. 0.

In a periodic structure moments do not count: they are a starting guess that grows with the cell.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from asecalc_ml.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms

#: Names in use for the two, without capitals and `_`; and the value that states nothing.
NAMES = {
    "charge": ("charge", 0),
    "totalcharge": ("charge", 0),
    "totcharge": ("charge", 0),
    "netcharge": ("charge", 0),
    "molecularcharge": ("charge", 0),
    "molcharge": ("charge", 0),
    "systemcharge": ("charge", 0),
    "q": ("charge", 0),
    "spin": ("spin", 0),
    "unpairedelectrons": ("spin", 0),
    "nunpaired": ("spin", 0),
    "uhf": ("spin", 0),
    "multiplicity": ("spin", 1),
    "mult": ("spin", 1),
    "spinmultiplicity": ("spin", 1),
    "spinmult": ("spin", 1),
}
KEYS = {"charge": ("charge", "total_charge"), "spin": ("spin", "multiplicity")}  # those that are read
ROUNDING = 0.01  # deviation of a sum of rounded partial charges from a whole number
LARGEST = 2**53  # up to here every whole number is a float64

REMEDY = {
    "charge": "state the total charge in e as atoms.info['charge'], in an extended XYZ file as charge=-1 in "
    "the comment line",
    "spin": "state the number of unpaired electrons (multiplicity - 1) as atoms.info['spin'], in an extended "
    "XYZ file as spin=2 in the comment line",
}


def charge_and_spin(atoms: Atoms) -> tuple[int, int]:
    """Total charge (e) and number of unpaired electrons, in the order of precedence of this module.

    Parameters
    ----------
    atoms : Atoms
        Left unchanged.

    Returns
    -------
    charge, spin : int
        Values within 0.01 of a whole number are rounded to it.

    Raises
    ------
    StructureError
        If a stated value or a sum is no whole number, or a spin is negative.
    """
    info = atoms.info
    charge, spin = info.get("charge"), info.get("spin")
    if type(charge) is int and type(spin) is int and spin >= 0:  # every step of dynamics comes through here
        return charge, spin
    return _charge(atoms), _spin(atoms)


def set_charge_and_spin(
    atoms: Atoms, charge: int | None = None, spin: int | None = None, where: str = ""
) -> None:
    """Write charge and spin into ``atoms.info``, where copies and files keep them.

    Parameters
    ----------
    atoms : Atoms
    charge, spin : int, optional
        Values that a user states in place of those of the structure.
    where : str
        File and frame, for error messages.

    Raises
    ------
    StructureError
        As for :func:`charge_and_spin`, with ``where`` in the message.

    Notes
    -----
    The spin is left open where :func:`spin_is_open`.
    """
    try:
        stated_charge = _charge(atoms) if charge is None else charge
        stated_spin = _spin(atoms) if spin is None else spin
    except StructureError as error:
        raise (error.at(where) if where else error) from None
    is_open = spin is None and spin_is_open(atoms)
    atoms.info["charge"] = stated_charge
    if not is_open:
        atoms.info["spin"] = stated_spin


def set_in_frames(frames: Iterable[Atoms], source: str) -> None:
    """Write charge and spin into each frame of a file; errors name the file and the frame."""
    for index, atoms in enumerate(frames):
        set_charge_and_spin(atoms, where=f"{source}, frame {index}")


def spin_is_open(atoms: Atoms) -> bool:
    """True if a periodic structure has a total initial magnetic moment, and nothing states its spin."""
    stated = "spin" in atoms.info or "multiplicity" in atoms.info
    return not stated and bool(atoms.pbc.any()) and _total_moment(atoms) > ROUNDING


def check_spin_is_stated(atoms: Atoms) -> None:
    """Refuse a structure whose :func:`spin_is_open`, where the result depends on the spin.

    Raises
    ------
    StructureError
    """
    if spin_is_open(atoms):
        raise StructureError(
            "initial magnetic moments of a periodic structure do not state its spin",
            name="spin",
            remedy=REMEDY["spin"],
        )


def is_same_state(one: Atoms, other: Atoms) -> bool:
    """True if charge and spin of two structures are equal.

    Also for structures whose charge or spin is no whole number, which another package's calculator may take.
    """
    try:
        return charge_and_spin(one) == charge_and_spin(other)
    except StructureError:
        return _as_text(one) == _as_text(other)


def electronic_state(atoms: Atoms) -> tuple:
    """Charge, spin and initial magnetic moments in whole Bohr magnetons: what else an energy depends on."""
    moments = atoms.get_initial_magnetic_moments().round().astype(int)
    return (*charge_and_spin(atoms), moments.tobytes() if moments.any() else b"")


def check_electrons(atoms: Atoms, charge: int, spin: int) -> None:
    """Refuse a spin that the number of electrons rules out.

    A periodic structure may have an odd number of electrons and no spin, as metals at finite electronic
    temperature do.

    Raises
    ------
    StructureError
    """
    n_electrons = int(atoms.numbers.sum()) - charge
    may_be_odd = spin == 0 and atoms.pbc.any()
    if 0 <= spin <= n_electrons and (may_be_odd or (n_electrons - spin) % 2 == 0):
        return
    raise StructureError(
        f"{atoms.get_chemical_formula()} with charge {charge:+d} has {n_electrons} electrons, of which "
        f"{spin} cannot be unpaired",
        name="spin",
        value=spin,
        allowed=f"numbers up to {n_electrons} that differ from it by an even number",
        remedy="correct charge or spin (the number of unpaired electrons, multiplicity - 1)",
    )


def warn_of_multiplicities(frames: Sequence[Atoms], source: str) -> None:
    """Warn if the stated spin of a frame is impossible, as it is where a file stores multiplicities as spin.

    Parameters
    ----------
    frames : sequence of Atoms
    source : str
        Name of the data.
    """
    for index, atoms in enumerate(frames):
        charge, spin = charge_and_spin(atoms)
        if spin == 0:  # the value of frames that state none, radicals included
            continue
        try:
            check_electrons(atoms, charge, spin)
        except StructureError as error:
            warnings.warn(str(error.at(f"{source}, frame {index}")), stacklevel=3)
            return


def means_state(key: Any) -> bool:
    """True if a key is a name of the charge or the spin, in any spelling."""
    return _plain(key) in NAMES


def unread_state(atoms: Atoms) -> str | None:
    """Describe an entry of ``info`` that states a charge or a spin and is not read; None without one."""
    for key, value in atoms.info.items():
        quantity, neutral = NAMES.get(_plain(key), (None, None))
        if quantity is None or any(one in atoms.info for one in KEYS[quantity]):
            continue
        if whole_number(value) not in (None, neutral):
            return f"`{key}` ({value}) is not read as {quantity}: rename it {' or '.join(KEYS[quantity])}"
    return None


def _plain(key: Any) -> str:
    return str(key).lower().replace("_", "").replace("-", "")


def whole_number(value: Any) -> int | None:
    """Convert a number, a scalar array or the text of a number; None if it is not whole.

    Examples
    --------
    >>> import numpy as np
    >>> whole_number(-0.9999999), whole_number(np.array(2)), whole_number("1")
    (-1, 2, 1)
    >>> whole_number(0.4), whole_number(True), whole_number("none"), whole_number([0, 1])
    (None, None, None, None)
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value) if abs(int(value)) < LARGEST else None
    number = value if isinstance(value, float) else _number(value)
    if not abs(number) < LARGEST:  # NaN is not
        return None
    return round(number) if abs(number - round(number)) <= ROUNDING else None


def _number(value: Any) -> float:
    """Convert a scalar array or the text of a number; NaN for anything else."""
    import numpy as np  # not at the top: modules of options import this one

    try:
        array = np.asarray(value)
        return float(array) if array.shape == () and array.dtype.kind in "iufU" else math.nan
    except ValueError:
        return math.nan


def _charge(atoms: Atoms) -> int:
    for key in KEYS["charge"]:
        if key in atoms.info:
            return _checked(atoms.info[key], f"atoms.info[{key!r}]", "charge")
    charges = atoms.arrays.get("initial_charges")
    return 0 if charges is None else _checked(float(charges.sum()), "the sum of initial charges", "charge")


def _spin(atoms: Atoms) -> int:
    info = atoms.info
    if "spin" in info:
        return _checked(info["spin"], "atoms.info['spin']", "spin", least=0)
    if "multiplicity" in info:
        return _checked(info["multiplicity"], "atoms.info['multiplicity']", "spin", least=1) - 1
    if "initial_magmoms" not in atoms.arrays or atoms.pbc.any():
        return 0
    return _checked(_total_moment(atoms), "the sum of initial magnetic moments", "spin")


def _total_moment(atoms: Atoms) -> float:
    """Size of the sum of initial magnetic moments, which are numbers or vectors."""
    moments = atoms.arrays.get("initial_magmoms")
    if moments is None:
        return 0.0
    return abs(float(moments.sum())) if moments.ndim == 1 else math.hypot(*moments.sum(axis=0))


def _checked(value: Any, what: str, key: str, least: float = -math.inf) -> int:
    number = whole_number(value)
    if number is None or number < least:
        expected = "a whole number" if least == -math.inf else f"a whole number of at least {least}"
        shown = value.tolist() if hasattr(value, "tolist") else value  # numpy's types are no user's business
        origin = ", as a word without a value in a comment line reads" if shown is True else ""
        raise StructureError(
            f"{what} is {shown!r}{origin}, but should be {expected}",
            name=what,
            value=shown,
            allowed=expected,
            remedy=REMEDY[key],
        )
    return number


def _as_text(atoms: Atoms) -> str:
    stated = [atoms.info.get(key) for key in ("charge", "total_charge", "spin", "multiplicity")]
    sums = [atoms.get_initial_charges().sum(), _total_moment(atoms)]
    return repr([*stated, *sums])

"""ASE's constraints as text in files, and which of them come back from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms


def encode_constraints(constraints: Sequence[Any]) -> str:
    """JSON text of constraints, as ASE writes it into trajectories."""
    from ase.io.jsonio import encode

    return encode([constraint.todict() for constraint in constraints])


def decode_constraints(text: str) -> list:
    """Constraints from :func:`encode_constraints`."""
    from ase.constraints import dict2constraint
    from ase.io.jsonio import decode

    return [dict2constraint(state) for state in decode(text)]


def is_storable(constraint: Any) -> bool:
    """Return True if a constraint comes back from its text as it was.

    Constraints of other packages do not, nor those that hold a whole structure (``FixSymmetry``). ASE's
    trajectories with such a constraint lose all constraints, or cannot be read.
    """
    try:
        text = encode_constraints([constraint])
        (again,) = decode_constraints(text)
        return type(again) is type(constraint) and encode_constraints([again]) == text
    except Exception:  # a class of another package may raise anything
        return False


def storable_copy(atoms: Atoms) -> Atoms:
    """A copy without those constraints that :func:`is_storable` denies."""
    copy = atoms.copy()
    copy.set_constraint([constraint for constraint in copy.constraints if is_storable(constraint)])
    return copy


def movable(atoms: Atoms) -> np.ndarray | None:
    """Directions in which atoms can move, as ``FixAtoms`` and ``FixCartesian`` say.

    Returns
    -------
    ndarray of bool, shape (n_atoms,) or (n_atoms, 3), or None
        One value for each atom where its three directions agree; None if everything can move.
    """
    free = np.ones((len(atoms), 3), bool)
    for constraint in atoms.constraints:
        name = type(constraint).__name__
        if name == "FixAtoms":
            free[constraint.index] = False
        elif name == "FixCartesian":
            free[constraint.index] &= ~constraint.mask
    if free.all():
        return None
    return free[:, 0] if (free == free[:, :1]).all() else free


def grouped(atoms: Atoms) -> list:
    """Constraints of a structure, with one for all atoms that are fixed in the same directions.

    ASE's reader makes one ``FixCartesian`` for each atom of a column ``move_mask`` of three values.
    """
    from ase.constraints import FixAtoms, FixCartesian

    kept = [
        constraint for constraint in atoms.constraints if type(constraint) not in (FixAtoms, FixCartesian)
    ]
    free = movable(atoms)
    if free is None:
        return kept
    if free.ndim == 1:
        return [*kept, FixAtoms(mask=~free)]
    masks, numbers = np.unique(~free, axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    fixed = [FixCartesian(np.flatnonzero(numbers == k), mask) for k, mask in enumerate(masks) if mask.any()]
    return [*kept, *fixed]

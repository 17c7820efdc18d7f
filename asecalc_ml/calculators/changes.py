"""What of a structure has changed since a calculator last saw it."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes

from asecalc_ml.structure.charge_and_spin import is_same_state

#: What calculators of this package see of a structure, beside charge and spin.
CONSUMED = ("positions", "numbers", "cell", "pbc")


def changes(known: Atoms | None, atoms: Atoms) -> list[str]:
    """What differs between two structures, to the last bit, by ASE's names; charge and spin are its ``info``.

    ASE's own comparison does not look at charge and spin. It allows for rounding, which costs a third of a
    compiled step of a model or of GFN2-xTB.

    Parameters
    ----------
    known : ase.Atoms or None
        The structure of the last calculation; everything has changed where there is none.
    atoms : ase.Atoms
    """
    if known is None:
        return [*all_changes, "info"]
    changed = [name for name in CONSUMED if _bytes(known, name) != _bytes(atoms, name)]
    return changed if is_same_state(known, atoms) else [*changed, "info"]


def _bytes(atoms: Atoms, name: str) -> bytes:
    return np.asarray(getattr(atoms, name)).tobytes()

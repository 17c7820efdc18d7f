"""Names of targets, such as ``force:3-5``. Imports no torch, since options are checked with it."""

from __future__ import annotations

import re
from typing import NamedTuple

PATTERN = re.compile(r"([a-z][a-z0-9_-]*)|(force):(\d+)(?:-(\d+))?|(charge):(\d+)")
HELP = (
    "energy, another quantity of the model such as homo, force:ATOM, force:ATOM-OTHER or charge:ATOM, atoms "
    "counted from 0"
)

#: Targets that name an atom.
ATOMS_NEEDED = ("force", "charge")


class TargetText(NamedTuple):
    """Parts of a target's name.

    Parameters
    ----------
    kind : str
        "force", "charge", or the name of a quantity such as "energy".
    atom, towards : int, optional
        Numbers of atoms.
    """

    kind: str
    atom: int | None = None
    towards: int | None = None

    def __str__(self) -> str:
        atoms = "-".join(str(atom) for atom in (self.atom, self.towards) if atom is not None)
        return f"{self.kind}:{atoms}" if atoms else self.kind


def parse_text(text: str) -> TargetText:
    """Read the name of a target.

    Raises
    ------
    ValueError
        If there is no such target.

    Examples
    --------
    >>> parse_text("force: 3 - 5")
    TargetText(kind='force', atom=3, towards=5)
    >>> str(parse_text("force: 3 - 5"))
    'force:3-5'
    """
    match = PATTERN.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ValueError(f"target is {text!r}; give {HELP}")
    quantity, force, atom, other, _, charged = match.groups()
    if quantity in ATOMS_NEEDED:
        raise ValueError(f"target is {text!r}; give {HELP}")
    if quantity:
        return TargetText(quantity)
    if not force:
        return TargetText("charge", int(charged))
    target = TargetText("force", int(atom), None if other is None else int(other))
    if target.atom == target.towards:
        raise ValueError(f"target {text!r} names one atom twice; a direction leads to another atom")
    return target

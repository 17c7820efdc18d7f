"""Dummy atoms, isotopes with symbols of their own, and sites with fractional occupancy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asecalc_ml.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms

ISOTOPES = {"D": 2.01410177811, "T": 3.01604927791}  # of hydrogen; masses in u, AME 2016
HEAVIEST = 118  # atomic number of the last element
FULL = 0.999  # occupancies are often rounded


def check_elements(atoms: Atoms) -> None:
    """Refuse sites that do not hold exactly one atom of one element.

    Raises
    ------
    StructureError
        For dummy atoms (X, atomic number 0), for atomic numbers beyond the last element, and for sites that
        several elements share or that are partly empty, as in disordered crystals. ASE keeps the first
        element of such a site as a whole atom.
    """
    import numpy as np

    if not atoms.numbers.all():
        dummies = np.flatnonzero(atoms.numbers == 0)
        raise StructureError(
            f"atom {dummies[0]} is a dummy atom X, which is no element ({len(dummies)} in all)",
            name=f"atom {dummies[0]}",
            value="X",
            remedy="remove dummy atoms, or correct their symbols",
        )
    unknown = np.flatnonzero((atoms.numbers < 0) | (atoms.numbers > HEAVIEST))
    if len(unknown):
        raise StructureError(
            f"atom {unknown[0]} has the atomic number {atoms.numbers[unknown[0]]}, which is no element "
            f"({len(unknown)} atoms in all)",
            name=f"atom {unknown[0]}",
            value=int(atoms.numbers[unknown[0]]),
            allowed=f"1 to {HEAVIEST}",
            remedy="look at the file, which is damaged or holds something else in this place",
        )
    if ("occupancy" in atoms.info or "occupancy" in atoms.arrays) and (site := _shared_site(atoms)):
        name, said = site
        raise StructureError(
            f"{name} {said}: a potential needs one whole atom at each site.",
            name=name,
            value=said,
            remedy="Choose an ordered structure, such as one of the arrangements in a supercell, and remove "
            "the occupancies",
        )


def _shared_site(atoms: Atoms) -> tuple[str, str] | None:
    """First site with a fractional occupancy, as ASE keeps it of CIF and PDB files, and its occupancy."""
    import numpy as np

    sites = atoms.info.get("occupancy")
    for kind, shares in sites.items() if isinstance(sites, dict) else ():
        if isinstance(shares, dict) and (len(shares) > 1 or sum(shares.values()) < FULL):
            shared = ", ".join(f"{symbol} {share:g}" for symbol, share in shares.items())
            return f"site {kind}", f"is occupied in part ({shared})"
    values = np.asarray(atoms.arrays.get("occupancy", []), dtype=float)
    partial = np.flatnonzero((values > 0) & (values < FULL))
    if len(partial):
        first = int(partial[0])
        return f"atom {first} ({atoms.symbols[first]})", f"has the occupancy {values[first]:g}"
    return None

"""The table of features: their names, their groups and their places.

The representation is the molecular graph of F. A. Faber et al., J. Chem. Theory Comput. 13, 5255 (2017),
arXiv:1702.05532, tables 1 and 2, after S. Kearnes et al., J. Comput. Aided Mol. Des. 30, 595 (2016),
arXiv:1603.00856.
"""

from __future__ import annotations

from itertools import chain

#: Elements that the one-hot feature "atom type" has a place for.
ELEMENTS = ("H", "C", "N", "O", "F")
RING_SIZES = (3, 4, 5, 6, 7, 8)
HYBRIDIZATIONS = ("sp", "sp2", "sp3")
BOND_TYPES = ("single", "double", "triple", "aromatic")
#: Numbers of bonds that the shortest path between two atoms is compared with.
GRAPH_DISTANCES = (1, 2, 3, 4, 5, 6, 7)

#: Features of atoms by the name of their group, in their order.
ATOM_GROUPS: dict[str, tuple[str, ...]] = {
    "atom type": ELEMENTS,
    "chirality": ("R", "S"),
    "formal charge": ("formal charge",),
    "partial charge": ("partial charge",),
    "ring sizes": tuple(f"rings of {size}" for size in RING_SIZES),
    "hybridization": HYBRIDIZATIONS,
    "hydrogen bonding": ("donor", "acceptor"),
    "aromaticity": ("aromatic",),
}

#: Features of pairs of atoms by the name of their group, in their order. The last one follows from positions;
#: the others are 0 or 1.
PAIR_GROUPS: dict[str, tuple[str, ...]] = {
    "bond type": BOND_TYPES,
    "graph distance": tuple(f"at most {distance} bonds" for distance in GRAPH_DISTANCES),
    "same ring": ("same ring",),
    "spatial distance": ("spatial distance",),
}

ATOM_FEATURES, PAIR_FEATURES = (tuple(chain(*groups.values())) for groups in (ATOM_GROUPS, PAIR_GROUPS))
N_ATOM_FEATURES, N_PAIR_FEATURES = len(ATOM_FEATURES), len(PAIR_FEATURES)

#: Features of pairs without the spatial distance.
N_CONSTANT_PAIR_FEATURES = N_PAIR_FEATURES - len(PAIR_GROUPS["spatial distance"])


def places_of(groups: dict[str, tuple[str, ...]]) -> dict[str, slice]:
    """Columns of each group in an array of features.

    Parameters
    ----------
    groups : dict
        :data:`ATOM_GROUPS` or :data:`PAIR_GROUPS`.

    Examples
    --------
    >>> places_of(ATOM_GROUPS)["partial charge"]
    slice(8, 9, None)
    """
    places, first = {}, 0
    for name, members in groups.items():
        places[name] = slice(first, first + len(members))
        first += len(members)
    return places

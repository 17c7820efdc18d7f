"""ASE's constraints in dynamics: which are known, what they hold in space, what they remove.

A constraint is known where ASE restricts steps and momenta to the same velocities, and where it is clear
which motions of the whole it leaves. All others are refused by name, those of other packages too: with a
wrong number of degrees of freedom a thermostat holds a wrong temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from asecalc_ml.errors import StructureError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NOTHING, EVERYTHING = np.zeros((0, 3)), np.eye(3)
STEP = 1e-5  # times a thermal velocity at kT = 1 eV: a small part of any distance
ALIKE = 1e-3  # of the largest velocity; what ASE does not keep differs by the order of the velocity itself
DEPENDENT = 1e-10  # eigenvalue below which rows of norm 1 are dependent


def complement(directions: np.ndarray) -> np.ndarray:
    """Orthonormal basis of all directions at right angles to the given ones.

    Parameters
    ----------
    directions : ndarray, shape (n, 3)

    Returns
    -------
    ndarray, shape (3 - rank, 3)
    """
    if len(directions) == 0:
        return EVERYTHING
    _, sizes, axes = np.linalg.svd(directions)
    return axes[int((sizes > 1e-8).sum()) :]


def _cartesian(constraint: Any, atoms: Atoms) -> np.ndarray:
    return EVERYTHING[constraint.mask]


def _scaled(constraint: Any, atoms: Atoms) -> np.ndarray:
    return complement(atoms.cell.complete().array[~constraint.mask])


def _spring(constraint: Any, atoms: Atoms) -> np.ndarray:
    end = np.ravel(constraint.todict()["kwargs"]["a2"])
    if len(end) == 1:  # another atom
        return NOTHING
    return EVERYTHING if len(end) == 3 else _unit(end[:3])


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.array([vector / np.linalg.norm(vector)])


#: Directions, shape (n, 3), in which a constraint or its energy ties atoms to space.
HELD: dict[str, Callable[[Any, Atoms], np.ndarray]] = {
    "FixAtoms": lambda constraint, atoms: EVERYTHING,
    "FixCartesian": _cartesian,
    "FixScaled": _scaled,
    "FixedPlane": lambda constraint, atoms: _unit(constraint.dir),
    "FixedLine": lambda constraint, atoms: complement(_unit(constraint.dir)),
    "FixBondLengths": lambda constraint, atoms: NOTHING,
    "FixLinearTriatomic": lambda constraint, atoms: NOTHING,
    "FixCom": lambda constraint, atoms: NOTHING,
    "Hookean": _spring,
}

_UNCOUNTED = "ASE does not count what it removes"
_UNLIKE = "ASE restricts momenta by it to other values than velocities, and the energy drifts"
_SEARCH = "it is made for the search of a transition state"

#: Why the others of ASE are refused.
REFUSED = {
    "FixInternals": f"{_UNLIKE}; FixBondLengths keeps bonds, and angles by the distance of their ends",
    "FixedMode": _UNLIKE,
    "FixSubsetCom": "ASE shifts all atoms when it corrects the subset's centre; FixCom holds that of all",
    "ExternalForce": "ASE adds its force to momenta; a calculator that adds the force does not",
    "MirrorForce": _SEARCH,
    "MirrorTorque": _SEARCH,
    "FixSymmetry": _UNCOUNTED,
    "FixParametricRelations": _UNCOUNTED,
    "FixScaledParametricRelations": _UNCOUNTED,
    "FixCartesianParametricRelations": _UNCOUNTED,
}


def unknown(atoms: Atoms) -> dict[str, str]:
    """Constraints whose degrees of freedom are not known, by name, each with the reason."""
    foreign = "it is none of ASE's, and what it removes is not known"
    names = {type(constraint).__name__: _is_ase(constraint) for constraint in atoms.constraints}
    return {
        name: REFUSED.get(name, foreign) if is_ase else foreign
        for name, is_ase in names.items()
        if not (is_ase and name in HELD)
    }


def check_constraints(atoms: Atoms) -> None:
    """Refuse constraints under which a temperature is not defined, or that ASE does not keep in dynamics.

    Raises
    ------
    StructureError
        If one is not known, or if they do not go together: ASE applies one after the other, and the later
        one undoes what an earlier one did where they share atoms.
    """
    _check_known(atoms)
    names = sorted({type(constraint).__name__ for constraint in atoms.constraints})
    listed = ", ".join(names)
    try:
        kept = _is_kept(atoms)
    except (RuntimeError, ValueError, np.linalg.LinAlgError) as error:  # as ASE's solvers raise
        raise StructureError(
            f"ASE cannot keep the constraints of the structure ({listed}: {error})",
            name="constraints",
            value=names,
            remedy="look for bonds that follow from others, and leave them out",
        ) from error
    if not kept and _holds_centre_and_places(atoms):
        raise StructureError(
            f"ASE does not keep the constraints of the structure in dynamics ({listed}): FixCom moves atoms "
            "that are held.",
            name="constraints",
            value=names,
            remedy="Remove FixCom: a structure with atoms that are held does not drift",
        )
    if not kept:
        raise StructureError(
            f"ASE does not keep the constraints of the structure in dynamics ({listed}): they act on the "
            "same atoms, and it applies one after the other, or one moves positions otherwise than momenta.",
            name="constraints",
            value=names,
            remedy="Put all bonds into one FixBondLengths, hold both atoms of a fixed bond or none, use "
            "FixScaled in a cell with right angles only, and FixCom without atoms that are held",
        )


def n_removed(atoms: Atoms) -> int:
    """Number of degrees of freedom that constraints remove: the rank of their conditions on velocities.

    Conditions that follow from others count once, such as a bond between two fixed atoms.

    Raises
    ------
    StructureError
        If a constraint is not known.
    """
    if not atoms.constraints:
        return 0
    _check_known(atoms)
    others = atoms.copy()
    others.set_constraint([constraint for constraint in atoms.constraints if not is_centre(constraint)])
    removed = _rank(_rows(others))
    if len(others.constraints) < len(atoms.constraints):
        removed += _n_free_translations(others)
    return removed


def held_directions(constraint: Any, atoms: Atoms) -> np.ndarray:
    """Directions, shape (n, 3), in which a constraint ties atoms to space.

    Raises
    ------
    StructureError
        If some constraint of the atoms is not known.
    """
    _check_known(atoms)
    is_empty = np.size(getattr(constraint, "index", 0)) == 0
    return NOTHING if is_empty else HELD[type(constraint).__name__](constraint, atoms)


def anchor(constraint: Any) -> np.ndarray | None:
    """The point in space, shape (3,), to which a spring ties an atom; None for any other constraint."""
    if type(constraint).__name__ != "Hookean":
        return None
    end = np.ravel(constraint.todict()["kwargs"]["a2"])
    return end if len(end) == 3 else None


def is_centre(constraint: Any) -> bool:
    """Return True if a constraint holds the centre of mass."""
    return type(constraint).__name__ == "FixCom"


def _is_ase(constraint: Any) -> bool:
    return type(constraint).__module__.startswith("ase.")


def _check_known(atoms: Atoms) -> None:
    if reasons_by_name := unknown(atoms):
        names = " and ".join(reasons_by_name)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in reasons_by_name.items())
        raise StructureError(
            f"the degrees of freedom under {names} are not known, nor is a temperature ({reasons}).",
            name=names,
            value=list(reasons_by_name),
            allowed=tuple(HELD),
            remedy=f"For dynamics remove what is named, or use {', '.join(HELD)}",
        )


def _holds_centre_and_places(atoms: Atoms) -> bool:
    """Return True if there is a FixCom next to constraints that tie atoms to space in all directions."""
    held = np.vstack([HELD[type(constraint).__name__](constraint, atoms) for constraint in atoms.constraints])
    return any(map(is_centre, atoms.constraints)) and len(complement(held)) == 0


def _is_kept(atoms: Atoms) -> bool:
    """Return True if ASE's constraints restrict steps and momenta to the same velocities."""
    probe = atoms.copy()
    # thermal velocities at kT = 1 eV, as momenta: ASE projects them
    roots = np.sqrt(atoms.get_masses())[:, None]
    velocities = np.random.default_rng(0).standard_normal((len(atoms), 3)) / roots
    probe.set_momenta(velocities * roots**2)
    kept = probe.get_velocities()
    # projected once more, they must stay as they are
    probe.set_velocities(kept)
    again = probe.get_velocities()
    # a small step along the velocities must be projected alike
    probe.set_positions(atoms.positions + STEP * velocities)
    stepped = (probe.positions - atoms.positions) / STEP
    largest = max(np.abs(roots * (velocities - kept)).max() for velocities in (again, stepped))
    return bool(largest <= ALIKE)


def _n_free_translations(atoms: Atoms) -> int:
    """Number of translations of the whole that constraints other than FixCom leave."""
    probe, masses = atoms.copy(), atoms.get_masses()
    left = 0.0
    for direction in EVERYTHING:
        probe.set_momenta(masses[:, None] * direction)
        left += (probe.get_momenta() @ direction).sum() / masses.sum()
    return round(left)


# -------------------------------------------------------------------------------------------------- rank


def _rows(atoms: Atoms) -> csr_array:
    """Conditions on velocities, mass-weighted, one a row: a sparse matrix of shape (n, 3 n_atoms)."""
    from scipy.sparse import csr_array, vstack

    # one row for each condition c: sum_i c_i v_i = 0
    parts = [
        csr_array((0, 3 * len(atoms))),
        *(_rows_of(constraint, atoms) for constraint in atoms.constraints),
    ]
    rows = vstack(parts, format="csr")
    # in mass-weighted velocities sqrt(m_i) v_i, and of norm 1
    rows = rows / np.sqrt(np.repeat(atoms.get_masses(), 3))
    return rows / np.sqrt((rows * rows).sum(axis=1))[:, None]


def _rows_of(constraint: Any, atoms: Atoms) -> csr_array:
    name = type(constraint).__name__
    if name == "FixBondLengths":
        return _rows_of_distances(np.reshape(constraint.pairs, (-1, 2)), atoms)
    if name == "FixLinearTriatomic":
        return _rows_of_triples(np.reshape(constraint.triples, (-1, 3)), atoms)
    if name == "Hookean":  # a force, and no condition
        return _sparse(np.zeros((0, 1), int), np.zeros((0, 1, 3)), atoms)
    directions, held = HELD[name](constraint, atoms), np.ravel(constraint.index)
    places = np.repeat(held, len(directions))[:, None]
    return _sparse(places, np.tile(directions, (len(held), 1))[:, None, :], atoms)


def _rows_of_distances(pairs: np.ndarray, atoms: Atoms) -> csr_array:
    along = _between(pairs[:, 0], pairs[:, 1], atoms)
    return _sparse(pairs, np.stack([along, -along], axis=1), atoms)


def _rows_of_triples(triples: np.ndarray, atoms: Atoms) -> csr_array:
    """Distance of the ends, and the place of the middle atom on the line between them."""
    from scipy.sparse import vstack

    first, middle, last = triples.T
    # distances of the ends from the middle atom; the middle stays at the point that divides the line so
    to_first, to_last = (np.linalg.norm(_between(end, middle, atoms), axis=1) for end in (first, last))
    shares = np.stack([to_last, -to_first - to_last, to_first], axis=1)
    lines = [_sparse(triples, shares[:, :, None] * axis, atoms) for axis in EVERYTHING]
    return vstack([_rows_of_distances(triples[:, [0, 2]], atoms), *lines])


def _between(first: np.ndarray, second: np.ndarray, atoms: Atoms) -> np.ndarray:
    """Vectors as these constraints of ASE see them."""
    from ase.geometry import find_mic

    return find_mic(atoms.positions[first] - atoms.positions[second], atoms.cell, atoms.pbc)[0]


def _sparse(places: np.ndarray, vectors: np.ndarray, atoms: Atoms) -> csr_array:
    """Rows with a vector for each of some atoms: places of shape (n, k), vectors of shape (n, k, 3)."""
    from scipy.sparse import csr_array

    columns = 3 * (places % len(atoms))[:, :, None] + np.arange(3)
    lines = np.broadcast_to(np.arange(len(places))[:, None, None], columns.shape)
    where = (lines.ravel(), columns.ravel())
    return csr_array((np.ravel(vectors), where), shape=(len(places), 3 * len(atoms)))


def _rank(rows: csr_array) -> int:
    """Rank of sparse rows of norm 1, block by block of rows that are not orthogonal."""
    from scipy.sparse.csgraph import connected_components

    # Gram matrix of the rows; rows that are not orthogonal form a block
    products = rows @ rows.T
    products.data[np.abs(products.data) < DEPENDENT] = 0
    products.eliminate_zeros()
    _, labels = connected_components(products, directed=False)
    # the rank is the sum of the ranks of the blocks
    order = np.argsort(labels, kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sum(1 if len(block) == 1 else _rank_of_block(products, block) for block in blocks if len(block))


def _rank_of_block(products: csr_array, block: np.ndarray) -> int:
    values = np.linalg.eigvalsh(products[block][:, block].toarray())
    return int((values > DEPENDENT * len(block)).sum())

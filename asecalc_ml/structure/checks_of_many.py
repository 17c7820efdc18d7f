"""The checks of many structures: of small molecules on arrays that hold all of them, and by place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ase import Atoms

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.element_checks import HEAVIEST
from asecalc_ml.structure.loading import MIN_DISTANCE_A, SMALLEST

#: Atoms of a molecule up to which all its distances are computed, as arrays of all molecules of its size.
LARGEST_MOLECULE = 32

#: Distances that are this much longer than allowed are not told from it by rounding.
MARGIN = 1.0 + 1e-9


def check_each(located: Mapping[str, Atoms], *checks: Callable[[Atoms], None]) -> None:
    """Apply checks to each of many structures.

    Parameters
    ----------
    located : mapping
        Structures by place, such as file and number in it.
    *checks : callable
        Each raises a StructureError for a structure that it refuses.

    Raises
    ------
    StructureError
        Of the first structure that is refused, with its place and the number of others.
    """
    refused: dict[str, StructureError] = {}
    for place, atoms in located.items():
        try:
            for check in checks:
                check(atoms)
        except StructureError as error:
            refused[place] = error
    if refused:
        place, first = next(iter(refused.items()))
        others = f" (and {len(refused) - 1} more of {len(located)} structures)" if len(refused) > 1 else ""
        raise first.at(f"{place}{others}") from None


def is_small_molecule(atoms: Atoms) -> bool:
    """Return True for what :func:`are_in_order` takes."""
    return 0 < len(atoms) <= LARGEST_MOLECULE and not atoms.pbc.any()


def are_in_order(molecules: Sequence[Atoms]) -> bool:
    """Return True if :func:`asecalc_ml.structure.loading.check_structure` refuses none of the molecules.

    If this returns False, a molecule may have something that is looked at more closely, such as occupancies.

    Parameters
    ----------
    molecules : sequence of Atoms
        Those for which :func:`is_small_molecule`.
    """
    if not molecules:
        return True
    numbers = np.concatenate([atoms.numbers for atoms in molecules])
    return (
        0 < numbers.min() <= numbers.max() <= HEAVIEST
        and not any("occupancy" in atoms.info or "occupancy" in atoms.arrays for atoms in molecules)
        and bool(np.isfinite(np.array([atoms.cell.array for atoms in molecules])).all())
        and all(_are_at_least(molecules, name, smallest) for name, smallest in SMALLEST.items())
        and _are_apart(molecules)
    )


def _are_at_least(molecules: Sequence[Atoms], name: str, smallest: float) -> bool:
    """Return True if all masses, or momenta, that are there are finite and not too small."""
    given = [atoms.arrays[name].ravel() for atoms in molecules if name in atoms.arrays]
    if not given:
        return True
    values = np.concatenate(given)
    return bool((np.isfinite(values) & (values >= smallest)).all())


def _are_apart(molecules: Sequence[Atoms]) -> bool:
    """Return True if no two atoms of a molecule overlap, and all positions are finite."""
    by_size: dict[int, list[np.ndarray]] = defaultdict(list)
    for atoms in molecules:
        by_size[len(atoms)].append(atoms.positions)
    return all(_are_rows_apart(np.array(positions, dtype=float)) for positions in by_size.values())


def _are_rows_apart(positions: np.ndarray) -> bool:
    """Return True if this holds for molecules of one size, positions of shape (n_molecules, n_atoms, 3)."""
    if not np.isfinite(positions).all():
        return False
    # |x_i - x_j|² of all pairs i < j
    i, j = np.triu_indices(positions.shape[1], k=1)
    vectors = positions[:, i] - positions[:, j]
    squares = np.einsum("mpx,mpx->mp", vectors, vectors)
    return bool((squares >= (MIN_DISTANCE_A * MARGIN) ** 2).all())

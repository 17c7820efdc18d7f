"""A cell in which any structure can be searched: of full rank, compact, periodic in all directions."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.lattice import check_cell, complete, flatness, reduced

#: Flatness below which cells are reduced before a search, which visits more images the flatter the cell is.
SKEWED = 0.4

#: Neighbors of one atom above which a cell is taken for a mistake of units; at 6 Å, 1100 atoms per Å³.
MOST_NEIGHBORS = 1e6

#: Cells between an atom and the one at the origin; libraries number bins with 32 bits.
FARTHEST = 1e4

#: Bins of a search. Wide empty boxes would have more than are worth a visit, and vesin, which thins out its
#: bins beyond this number, divides by zero where the box is flat: a process killed by SIGFPE.
MOST_BINS = 1e5


def check_geometry(positions: Tensor, cell: np.ndarray, pbc: np.ndarray) -> None:
    """Refuse what has no neighbors: NaN, and periodic directions without a cell vector of their own.

    Raises
    ------
    StructureError
    """
    if not bool(torch.isfinite(positions).all()):
        raise StructureError(
            "positions are not finite (NaN or infinite)",
            name="positions",
            remedy="look where they come from; if from dynamics, start it again from an earlier frame with a "
            "shorter time step",
        )
    check_cell(cell, pbc)


def enclosing_cell(
    positions: Tensor, cell: np.ndarray, pbc: np.ndarray, radius: float
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """A cell that is periodic in all directions and has the same pairs within the radius.

    Directions that are not periodic get vectors so long that no image comes near; skewed cells are
    replaced by the reduced cell of the same lattice.

    Parameters
    ----------
    positions : Tensor, shape (n_atoms, 3), Å
    cell : array, shape (3, 3), Å
    pbc : array, shape (3,), bool
    radius : float, Å

    Returns
    -------
    positions : Tensor, shape (n_atoms, 3), Å
        Moved into the box along the directions that are not periodic.
    box : array, shape (3, 3), Å
    operation : array, shape (3, 3)
        Whole numbers: a shift in the box is ``shift @ operation`` in the given cell.

    Raises
    ------
    StructureError
        If atoms are so dense that the cell must be in another unit, or too many cells apart.
    """
    box = complete(cell, pbc)
    if not pbc.all():
        # along open directions: room for all atoms and three radii, and the atoms in its middle
        normals = positions.new_tensor(box[~pbc])
        inside = positions @ normals.T
        low, high = inside.amin(dim=0), inside.amax(dim=0)
        box[~pbc] *= (high - low + 3 * radius + 1.0).cpu().numpy()[:, None]
        positions = positions + (radius - low) @ normals
    _check_density(len(positions), box, radius)
    box, operation = _reduced(box)
    _check_far_atoms(positions, box)
    return positions, box, operation


def widened(radius: float, box: np.ndarray) -> float:
    """The radius, or a larger one where the box would be divided into too many bins of it."""
    while n_bins(radius, box) > MOST_BINS:
        radius *= 1.2
    return radius


def n_bins(radius: float, box: np.ndarray) -> float:
    """Bins, at least as wide as the radius, that fit into the box."""
    heights = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
    return float(np.prod(np.maximum(1, heights // radius)))


def _check_density(n_atoms: int, box: np.ndarray, radius: float) -> None:
    n_neighbors = 4 / 3 * math.pi * radius**3 * n_atoms / abs(np.linalg.det(box))
    if n_neighbors > MOST_NEIGHBORS:
        raise StructureError(
            f"an atom would have {n_neighbors:.1e} neighbors within {radius:.2f} Å: the cell is too small "
            "for its atoms;",
            name="cell",
            value=n_neighbors,
            allowed=f"at most {MOST_NEIGHBORS:.0e} neighbors",
            remedy="lengths are in Å, so convert it if it is in another unit",
        )


def _check_far_atoms(positions: Tensor, box: np.ndarray) -> None:
    if bool(((positions @ positions.new_tensor(np.linalg.inv(box))).abs() > FARTHEST).any()):
        raise StructureError(
            f"atoms lie more than {FARTHEST:.0f} cells outside of theirs",
            name="atoms",
            remedy="put them back with atoms.wrap()",
        )


def _reduced(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if flatness(box) > SKEWED:
        return box, np.eye(3)
    compact, operation = reduced(box, np.ones(3, dtype=bool))
    return compact, operation.astype(float)

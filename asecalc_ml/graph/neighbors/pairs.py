"""Pairs within a cutoff: one function for tensors on any device, one for arrays, one for a batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from asecalc_ml.errors import StructureError
from asecalc_ml.graph.memory_left import check_search
from asecalc_ml.graph.neighbors import backends
from asecalc_ml.graph.neighbors.edge_vectors import edge_vectors
from asecalc_ml.graph.neighbors.enclosing_cell import check_geometry, enclosing_cell, n_bins, widened

ALL_PAIRS = "all-pairs"
BACKENDS = (ALL_PAIRS, *backends.BACKENDS)
CHOICES = ("auto", *BACKENDS)

#: Molecules up to this size take all pairs: never rebuilt, and their shapes never change.
ALL_PAIRS_LIMIT = 32

#: Below this number of atoms matscipy is quicker than vesin, above it slower ...
MATSCIPY_LIMIT = 64

#: ... unless there are so many more bins than atoms: vesin visits the empty ones too.
BINS_PER_ATOM = 10

#: Libraries search this much further and the one equation decides, so that rounding in how they wrap atoms
#: cannot make two of them differ.
MARGIN_A = 1e-6


class Pairs(NamedTuple):
    """Directed pairs (i, j) with the lattice translation of j, in the order of i, then j, then shift.

    Parameters
    ----------
    edge_index : Tensor, shape (2, n_edges), int64
    cell_shifts : Tensor, shape (n_edges, 3), float64
        Whole numbers.
    """

    edge_index: Tensor
    cell_shifts: Tensor


class ArrayPairs(NamedTuple):
    """:class:`Pairs` as NumPy arrays.

    Parameters
    ----------
    edge_index : array, shape (2, n_edges), int64
    cell_shifts : array, shape (n_edges, 3), int64
    """

    edge_index: np.ndarray
    cell_shifts: np.ndarray


def find_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float, backend: str = "auto"
) -> ArrayPairs:
    """Directed pairs of atoms and images closer than the cutoff, as arrays.

    Parameters
    ----------
    positions : array, shape (n_atoms, 3), Å
        Need not be wrapped into the cell.
    cell : array, shape (3, 3), Å
        Rows a, b, c; vectors along directions that are not periodic are ignored.
    pbc : array, shape (3,), bool
    cutoff : float, Å
    backend : {"auto", "vesin", "matscipy", "all-pairs"}
        "auto" takes all pairs for molecules of up to 32 atoms, matscipy for other structures below 64
        atoms or in mostly empty boxes, and vesin for the rest. "all-pairs" also returns pairs beyond the
        cutoff, which the ghost system absorbs.

    Raises
    ------
    StructureError
        If the backend is unknown, positions or cell are not finite, a periodic direction has no cell
        vector, or atoms are so dense that the cell must be in another unit.
    """
    edge_index, cell_shifts = find_tensor_pairs(
        torch.from_numpy(np.array(positions, dtype=np.float64)), cell, pbc, cutoff, backend
    )
    return ArrayPairs(edge_index.numpy(), cell_shifts.numpy().astype(np.int64))


def find_tensor_pairs(
    positions: Tensor,
    cell: Tensor | np.ndarray,
    pbc: Tensor | np.ndarray,
    cutoff: float,
    backend: str = "auto",
) -> Pairs:
    """The pairs of :func:`find_pairs` as tensors, found on the device where the positions lie.

    Parameters
    ----------
    positions : Tensor, shape (n_atoms, 3), Å
    cell : Tensor or array, shape (3, 3), Å
    pbc : Tensor or array, shape (3,), bool
    cutoff : float, Å
    backend : {"auto", "vesin", "matscipy", "all-pairs"}
        On a CUDA device "auto" takes vesin for everything but small molecules.
    """
    positions, cell, pbc = as_geometry(positions, cell, pbc)
    if takes_all_pairs(len(positions), pbc, backend):
        check_geometry(positions, cell, pbc)
        return all_pairs(len(positions), positions.device)
    return within(pairs_around(positions, cell, pbc, cutoff, backend), positions, cell, cutoff)


def find_batch_pairs(
    positions: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor, cutoff: float, backend: str = "auto"
) -> Pairs:
    """Pairs of several structures, found on the device where they lie.

    Parameters
    ----------
    positions : Tensor, shape (n_atoms, 3), Å
    cell : Tensor, shape (n_systems, 3, 3), Å
    pbc : Tensor, shape (n_systems, 3), bool
    batch : Tensor, shape (n_atoms,), int64
        The system of each atom, ascending.
    cutoff : float, Å
    backend : {"auto", "vesin", "matscipy", "all-pairs"}
    """
    sizes = torch.bincount(batch, minlength=len(cell)).tolist()
    first = np.cumsum([0, *sizes])
    systems = zip(positions.split(sizes), cell.cpu(), pbc.cpu(), strict=True)
    by_system = [find_tensor_pairs(*system, cutoff, backend) for system in systems]
    edges = [pairs.edge_index + int(n) for pairs, n in zip(by_system, first, strict=False)]
    return Pairs(torch.cat(edges, dim=1), torch.cat([pairs.cell_shifts for pairs in by_system]))


def as_geometry(
    positions: Tensor, cell: Tensor | np.ndarray, pbc: Tensor | np.ndarray
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Positions in float64 without gradient, where they are; cell and pbc as arrays on the host."""
    cell, pbc = (x.detach().cpu().numpy() if isinstance(x, Tensor) else x for x in (cell, pbc))
    return positions.detach().to(torch.float64), np.asarray(cell, dtype=float), np.asarray(pbc, dtype=bool)


def takes_all_pairs(n_atoms: int, pbc: np.ndarray, backend: str) -> bool:
    """Whether every pair is taken, near or far, whatever the positions."""
    if backend not in CHOICES:
        raise StructureError(
            f"unknown neighbor backend {backend!r};",
            name="backend",
            value=backend,
            allowed=CHOICES,
            remedy=f"use one of: {', '.join(CHOICES)}",
        )
    if backend == ALL_PAIRS and pbc.any():
        raise StructureError(
            f"neighbor backend {backend!r} is for structures without periodic boundaries;",
            name="backend",
            value=backend,
            remedy="use 'vesin' or 'matscipy' (or 'auto') for this one",
        )
    small_molecule = not pbc.any() and n_atoms <= ALL_PAIRS_LIMIT
    return backend == ALL_PAIRS or (backend == "auto" and small_molecule)


def n_of_all_pairs(atoms: Atoms) -> int:
    """Number of pairs of a molecule that takes all of them; zero of another structure."""
    takes = takes_all_pairs(len(atoms), atoms.pbc, "auto")
    return len(atoms) * (len(atoms) - 1) if takes else 0


def all_pairs(n_atoms: int, device: torch.device) -> Pairs:
    """Every pair of a structure that is not periodic."""
    edge_index = (~torch.eye(n_atoms, dtype=torch.bool, device=device)).nonzero().T.contiguous()
    return Pairs(edge_index, torch.zeros(edge_index.shape[1], 3, dtype=torch.float64, device=device))


def pairs_around(positions: Tensor, cell: np.ndarray, pbc: np.ndarray, radius: float, backend: str) -> Pairs:
    """All pairs within the radius, and perhaps some further ones."""
    check_geometry(positions, cell, pbc)
    points, box, operation = enclosing_cell(positions, cell, pbc, radius + MARGIN_A)
    check_search(len(points), box, radius, positions.device)
    radius = widened(radius + MARGIN_A, box)
    search = backends.BACKENDS[_quickest(points, box, radius) if backend == "auto" else backend]
    edge_index, shifts = search(points, box, radius)
    return _in_order(Pairs(edge_index, shifts @ shifts.new_tensor(operation)), len(positions))


def within(pairs: Pairs, positions: Tensor, cell: np.ndarray, cutoff: float) -> Pairs:
    """Those of the pairs that are closer than the cutoff, in the same order."""
    squares = edge_vectors(positions, *pairs, positions.new_tensor(cell))
    squares *= squares
    # |r|² < cutoff², the terms added one by one: a sum over rows would round by the number of rows
    kept = (squares[:, 0] + squares[:, 1] + squares[:, 2] < cutoff**2).nonzero()[:, 0]
    return Pairs(pairs.edge_index.index_select(1, kept), pairs.cell_shifts.index_select(0, kept))


def _quickest(positions: Tensor, box: np.ndarray, radius: float) -> str:
    if positions.device.type != "cpu":
        return "vesin"
    few = len(positions) < MATSCIPY_LIMIT or n_bins(radius, box) > BINS_PER_ATOM * len(positions)
    return "matscipy" if few else "vesin"


def _in_order(pairs: Pairs, n_atoms: int) -> Pairs:
    """The pairs sorted by i, j and shift, which are the digits of one number."""
    (i, j), shifts = pairs.edge_index, pairs.cell_shifts
    if len(i) == 0:
        return pairs
    # shifts as digits of a number to a base that holds them, then i, j and shift as one number
    base = 2 * int(shifts.abs().max()) + 1
    if n_atoms**2 * base**3 >= 2**63 or base**3 >= 2**53:
        raise StructureError(
            "atoms lie so many cells from each other that their images cannot be numbered",
            name="atoms",
            remedy="put them back into the cell with atoms.wrap()",
        )
    digits = shifts @ shifts.new_tensor([base**2, base, 1.0])  # from -base³/2 to base³/2, exactly
    order = torch.argsort((i * n_atoms + j) * base**3 + digits.to(torch.int64))
    return Pairs(pairs.edge_index.index_select(1, order), shifts.index_select(0, order))

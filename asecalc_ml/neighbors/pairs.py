"""One function that finds pairs, whatever does the search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asecalc_ml.errors import StructureError
from asecalc_ml.neighbors.enclosing import enclosing_cell

#: Molecules up to this size take all pairs: never rebuilt, and their shapes never change.
ALL_PAIRS_LIMIT = 32

#: Below this number of atoms matscipy is quicker than vesin, above it slower.
MATSCIPY_LIMIT = 64


@dataclass(frozen=True)
class Pairs:
    """Directed pairs (i, j) with the lattice translation of j.

    Parameters
    ----------
    edge_index : array, shape (2, n_edges), int64
    cell_shifts : array, shape (n_edges, 3), int64
    """

    edge_index: np.ndarray
    cell_shifts: np.ndarray

    def sorted(self) -> Pairs:
        """The same pairs in the canonical order: by i, then j, then shift."""
        keys = (*self.cell_shifts.T[::-1], self.edge_index[1], self.edge_index[0])
        order = np.lexsort(keys)
        return Pairs(np.ascontiguousarray(self.edge_index[:, order]), self.cell_shifts[order])


def all_pairs(positions, cell, pbc, cutoff) -> Pairs:
    """Every pair of a structure that is not periodic, near or far; pairs beyond the cutoff included."""
    if np.any(pbc):
        raise StructureError(
            "neighbor backend 'all-pairs' is for structures without periodic boundaries; "
            "use 'vesin' or 'matscipy' (or 'auto') for this one"
        )
    n_atoms = len(positions)
    i, j = np.nonzero(~np.eye(n_atoms, dtype=bool))
    return Pairs(np.stack([i, j]).astype(np.int64), np.zeros((len(i), 3), dtype=np.int64))


def vesin_pairs(positions, cell, pbc, cutoff) -> Pairs:
    """Pairs within the cutoff from vesin (https://luthaf.fr/vesin)."""
    import vesin

    positions, box = enclosing_cell(positions, cell, pbc, cutoff)
    search = vesin.NeighborList(cutoff=cutoff, full_list=True)
    i, j, shifts = search.compute(
        points=positions, box=box, periodic=[bool(p) for p in pbc], quantities="ijS"
    )
    return Pairs(np.stack([i, j]).astype(np.int64), shifts.astype(np.int64).reshape(-1, 3))


def matscipy_pairs(positions, cell, pbc, cutoff) -> Pairs:
    """Pairs within the cutoff from matscipy."""
    from matscipy.neighbours import neighbour_list

    positions, box = enclosing_cell(positions, cell, pbc, cutoff)
    i, j, shifts = neighbour_list("ijS", positions=positions, cell=box, pbc=pbc, cutoff=float(cutoff))
    return Pairs(np.stack([i, j]).astype(np.int64), shifts.astype(np.int64).reshape(-1, 3))


BACKENDS = {"all-pairs": all_pairs, "vesin": vesin_pairs, "matscipy": matscipy_pairs}


def find_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float, backend: str = "auto"
) -> Pairs:
    """Directed pairs of atoms and images closer than the cutoff.

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
        atoms and vesin for the rest. "all-pairs" also returns pairs beyond the cutoff, which the ghost
        system absorbs.

    Raises
    ------
    StructureError
        If the backend is unknown, or a periodic direction has no cell vector.
    """
    pbc = np.asarray(pbc, dtype=bool)
    _check_cell(cell, pbc)
    if backend == "auto":
        backend = _quickest(len(positions), bool(pbc.any()))
    if backend not in BACKENDS:
        raise StructureError(f"unknown neighbor backend {backend!r}; use one of: auto, {', '.join(BACKENDS)}")
    search = BACKENDS[backend]
    return search(np.asarray(positions, dtype=float), np.asarray(cell, dtype=float), pbc, cutoff).sorted()


def _quickest(n_atoms: int, periodic: bool) -> str:
    if not periodic and n_atoms <= ALL_PAIRS_LIMIT:
        return "all-pairs"
    return "matscipy" if n_atoms < MATSCIPY_LIMIT else "vesin"


def _check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    periodic = np.asarray(cell)[pbc]
    if len(periodic) and np.linalg.matrix_rank(periodic, tol=1e-6) < len(periodic):
        raise StructureError(
            f"pbc is {pbc.tolist()}, but the cell vectors along these directions are zero or parallel; "
            "set a cell with atoms.set_cell(...), or atoms.pbc = False for a molecule"
        )

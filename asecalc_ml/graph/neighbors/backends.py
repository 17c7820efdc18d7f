"""What does the search: libraries that find pairs in a cell that is periodic in all directions."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

#: vesin takes the room for pairs on a CUDA device from this variable, and refuses where it is too small.
ROOM_VARIABLE = "VESIN_CUDA_MAX_PAIRS_PER_POINT"


def vesin_pairs(positions: Tensor, box: np.ndarray, radius: float) -> tuple[Tensor, Tensor]:
    """Pairs from vesin (https://luthaf.fr/vesin), found on the device where the positions lie.

    Parameters
    ----------
    positions : Tensor, shape (n_atoms, 3), float64, Å
    box : array, shape (3, 3), Å
    radius : float, Å
        At least the pairs closer than this are found.

    Returns
    -------
    edge_index : Tensor, shape (2, n_edges), int64
    cell_shifts : Tensor, shape (n_edges, 3), float64
    """
    room = None
    while True:
        try:
            with _room_for_pairs(room):
                return _vesin(positions, box, radius)
        except RuntimeError as error:
            if ROOM_VARIABLE not in str(error):
                raise
            room = 2 * (room or max(128, math.ceil(radius**3)))  # vesin's own choice, doubled


def matscipy_pairs(positions: Tensor, box: np.ndarray, radius: float) -> tuple[Tensor, Tensor]:
    """Pairs from matscipy, found on the CPU; see :func:`vesin_pairs`."""
    from matscipy.neighbours import neighbour_list

    i, j, shifts = neighbour_list(
        "ijS", positions=positions.cpu().numpy(), cell=box, pbc=np.ones(3, dtype=bool), cutoff=float(radius)
    )
    edge_index = torch.from_numpy(np.stack([i, j]).astype(np.int64))
    cell_shifts = torch.from_numpy(shifts.astype(np.float64).reshape(-1, 3))
    return edge_index.to(positions.device), cell_shifts.to(positions.device)


def _vesin(positions: Tensor, box: np.ndarray, radius: float) -> tuple[Tensor, Tensor]:
    import vesin

    # On CUDA, vesin's other algorithm takes cells for orthogonal that are so to 1e-6 only.
    search = vesin.NeighborList(cutoff=radius, full_list=True, algorithm="cell_list")
    pairs, shifts = search.compute(
        points=positions,
        box=positions.new_tensor(box),
        periodic=torch.ones(3, dtype=torch.bool, device=positions.device),
        quantities="PS",
        copy=False,
    )
    edge_index = pairs.view(torch.int64).T.contiguous()  # from uint64, of which torch knows little
    return edge_index, shifts.to(torch.float64, copy=True)


@contextmanager
def _room_for_pairs(n_per_atom: int | None) -> Iterator[None]:
    """Let vesin have room for so many pairs of each atom; None for what it takes itself."""
    if n_per_atom is None:
        yield
        return
    before = os.environ.get(ROOM_VARIABLE)
    os.environ[ROOM_VARIABLE] = str(n_per_atom)
    try:
        yield
    finally:
        if before is None:
            del os.environ[ROOM_VARIABLE]
        else:
            os.environ[ROOM_VARIABLE] = before


BACKENDS = {"vesin": vesin_pairs, "matscipy": matscipy_pairs}

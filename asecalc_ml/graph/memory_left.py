"""The memory that is left, and searches for pairs that do not fit into it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from asecalc_ml.errors import MemoryShortageError

#: Files of Linux's control groups, versions 2 and 1: folder, limit, and what of it is in use.
_CONTROL_GROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)

#: Where Linux lists the control groups of this process.
_OWN_GROUPS = Path("/proc/self/cgroup")

#: Bytes that a search takes for each pair: 122 to 153 were measured.
BYTES_A_PAIR = 160

#: Pairs up to which a search takes a fraction of a GB, and is not compared with the memory.
FEW_PAIRS = 2_000_000


def memory_left(device: torch.device) -> int:
    """Bytes that can still be taken on a device, torch's own unused ones among them."""
    if device.type != "cuda":
        return available_memory()
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def available_memory() -> int:
    """Bytes of main memory that this process can still take.

    The limits of control groups count, which batch systems and containers set.
    """
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_left_in_control_groups()]))


def _left_in_control_groups() -> Iterator[int]:
    """Bytes that each limited control group leaves to this process: its own and those around it."""
    try:
        own = [line.split(":", 2)[2] for line in _OWN_GROUPS.read_text().splitlines()]
    except (OSError, IndexError):
        return
    for folder, limit, usage in _CONTROL_GROUPS:
        for path in own:
            group = Path(folder + path)
            for place in (group, *group.parents):
                with contextlib.suppress(OSError, ValueError):  # no such file; "max", which is no limit
                    yield int((place / limit).read_text()) - int((place / usage).read_text())


def check_search(n_atoms: int, cell: np.ndarray, radius: float, device: torch.device) -> None:
    """Refuse a search for pairs that needs more memory than there is, from the density of atoms.

    Parameters
    ----------
    n_atoms : int
    cell : array, shape (3, 3), Å
        A cell that holds all atoms.
    radius : float, Å

    Raises
    ------
    MemoryShortageError
    """
    # N (N / V) 4/3 π r³, and never more than all pairs
    density = n_atoms / abs(np.linalg.det(cell))
    n_pairs = int(n_atoms * min(n_atoms, density * 4 / 3 * math.pi * radius**3))
    if n_pairs <= FEW_PAIRS:
        return
    needed, left = BYTES_A_PAIR * n_pairs, memory_left(device)
    if needed > left:
        raise MemoryShortageError(
            f"the neighbor list of {n_atoms} atoms, some {n_pairs:.1e} pairs, needs {needed / 1e9:.1f} GB of "
            f"memory, and {left / 1e9:.1f} GB are left on {str(device)!r};",
            name="atoms",
            value=needed,
            allowed=f"at most {left} bytes",
            remedy="take a smaller structure, a device with more memory, or a smaller skin_A",
        )

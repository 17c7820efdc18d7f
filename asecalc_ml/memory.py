"""Memory of the process: what the commands keep of it, and how much there is."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

#: Parameters of glibc's ``mallopt``, from ``malloc.h``.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1

#: Files of Linux's control groups, versions 2 and 1: folder, limit, and what of it is in use.
_CONTROL_GROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)

#: Where Linux lists the control groups of this process.
_OWN_GROUPS = Path("/proc/self/cgroup")


def keep_freed_memory() -> bool:
    """Keep freed memory in this process for its next allocation, in place of giving it back to the system.

    By default glibc maps each large array anew and unmaps it when it is freed. Every step of dynamics then
    faults the same memory in again, page by page, at up to six times the cost of the arithmetic.
    Here large arrays come from the heap too, and the heap never shrinks.
    (The threshold of what is mapped cannot be raised instead: ``mallopt`` caps it at 32 MiB.)
    The setting holds for the whole process, so commands call this and the library never does.

    Returns
    -------
    bool
        True if the allocator has taken the setting; False if it has none, as outside of Linux.

    Notes
    -----
    mallopt(3): ``M_MMAP_MAX`` 0 maps no array; ``M_TRIM_THRESHOLD`` -1 disables trimming.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return mallopt(_MMAP_MAX, 0) == 1 and mallopt(_TRIM_THRESHOLD, _NEVER) == 1


def available_memory() -> int:
    """Bytes of main memory that this process can still take.

    The limits of control groups count, which batch systems and containers set.
    """
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_left_in_control_groups()]))


def _left_in_control_groups() -> Iterator[int]:
    """What each limited control group leaves to this process, in bytes: its own and those around it."""
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

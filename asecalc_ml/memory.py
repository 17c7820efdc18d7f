"""Memory of the process: what the commands keep of it, and how much there is."""

from __future__ import annotations

import ctypes

#: Parameters of glibc's ``mallopt``, from ``malloc.h``.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Keep freed memory in this process for its next allocation, in place of giving it back to the system.

    By default glibc maps each large array anew and unmaps it when it is freed. Every step of dynamics then
    faults the same memory in again, page by page, at up to six times the cost of the arithmetic.
    Here large arrays come from the heap too, and the heap never shrinks.
    (The threshold of what is mapped cannot be raised instead: ``mallopt`` refuses more than 32 MiB.)
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

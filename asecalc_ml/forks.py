"""Forked processes, such as those of ``multiprocessing.Pool``, that compute after their parent has computed.

GNU's OpenMP keeps its threads for the next parallel region. A forked child inherits the record of these
threads without the threads, and waits for them forever in its first parallel region. Here the parent releases
them before it forks; the next parallel region, in either process, starts new ones. The child has as many
threads as its parent and finds the same bits.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache

from asecalc_ml.errors import CalculationError

HARD = 2  # omp_pause_hard of omp.h: release all that the runtime holds


@cache
def allow_forks() -> None:
    """Prepare this process for forks that compute; called by calculators whose libraries use OpenMP."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_release_threads)


def check_not_forked_from_cuda() -> None:
    """Refuse to compute in a process that was forked from one that had used a GPU.

    Raises
    ------
    CalculationError
        Neither CUDA nor, after it was used, automatic differentiation works there.
    """
    import torch

    if torch.cuda._is_in_bad_fork():
        raise CalculationError(
            "this process was forked from one that had already used a GPU, and torch cannot compute in it.",
            remedy="Start processes with multiprocessing.get_context('spawn'), or fork before the first "
            "calculation",
        )


def _release_threads() -> None:
    """Release the threads of every OpenMP library that is loaded and knows how (OpenMP 5.0)."""
    from threadpoolctl import threadpool_info

    for path in {info["filepath"] for info in threadpool_info() if info["user_api"] == "openmp"}:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(path).omp_pause_resource_all(HARD)

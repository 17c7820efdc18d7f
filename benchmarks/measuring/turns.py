"""Times of several pieces of work that take turns, so that other work on the machine meets all alike."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

from measuring.record import Spread


def wall_time(work: Callable[[], object]) -> float:
    """Seconds that a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def own_time(work: Callable[[], float]) -> float:
    """Seconds that a piece of work returns, since it measures itself."""
    return work()


def alternate(
    works: Mapping[str, Callable[[], object]], n_turns: int, measure: Callable[..., float] = wall_time
) -> dict[str, np.ndarray]:
    """Time of each piece of work in each turn.

    Parameters
    ----------
    works : mapping of str to callable
        They are called one after the other in each turn, in an order that is reversed every second turn.
        Compile and warm up before.
    measure : callable
        Does a piece of work and returns its time in seconds.

    Returns
    -------
    dict of str to array, shape (n_turns,), s
    """
    seconds = {name: np.zeros(n_turns) for name in works}
    for turn in range(n_turns):
        if sys.stderr.isatty():
            print(f"turn {turn + 1} of {n_turns}", file=sys.stderr)
        for name in list(works)[:: 1 if turn % 2 == 0 else -1]:
            gc.collect()  # what one leaves behind is not cleared in the other's time
            seconds[name][turn] = measure(works[name])
    return seconds


def ratio(slower: np.ndarray, faster: np.ndarray) -> Spread:
    """How many times as fast one is: median and quartiles of the ratios within a turn."""
    return Spread.of(np.asarray(slower) / np.asarray(faster))

"""Times of several pieces of work that take turns, so that other work on the machine meets all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

import numpy as np

from measuring.record import Spread


def alternate(works: Mapping[str, Callable[[], object]], n_turns: int) -> dict[str, np.ndarray]:
    """Wall time of each piece of work in each turn.

    Parameters
    ----------
    works : mapping of str to callable
        They are called one after the other in each turn, in an order that is reversed every second turn.
        Compile and warm up before.

    Returns
    -------
    dict of str to array, shape (n_turns,), s
    """
    seconds = {name: np.zeros(n_turns) for name in works}
    for turn in range(n_turns):
        for name in list(works)[:: 1 if turn % 2 == 0 else -1]:
            gc.collect()  # what one leaves behind is not cleared in the other's time
            start = time.perf_counter()
            works[name]()
            seconds[name][turn] = time.perf_counter() - start
    return seconds


def ratio(slower: np.ndarray, faster: np.ndarray) -> Spread:
    """How many times as fast one is: median and quartiles of the ratios within a turn."""
    return Spread.of(np.asarray(slower) / np.asarray(faster))

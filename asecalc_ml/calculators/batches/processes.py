"""Results of batches of structures, computed in this process or by several."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial

import torch
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from asecalc_ml.calculators.batches.many import results_of_each
from asecalc_ml.calculators.results import Results
from asecalc_ml.errors import RunError

#: Structures by their places.
LocatedBatch = list[tuple[str, Atoms]]

#: From batches to each with the results of its structures, in their order.
Compute = Callable[[Iterable[LocatedBatch]], Iterator[tuple[LocatedBatch, list[Results | Exception]]]]

#: What a process of :func:`computing` computes.
_results_of: Callable[[list[Atoms]], list[Results | Exception]]


@contextmanager
def computing(
    calculator: BaseCalculator, properties: Sequence[str], further: Sequence[str] = (), processes: int = 1
) -> Iterator[Compute]:
    """Yield a function that computes batches as :func:`results_of_each` does, in so many processes.

    Values do not depend on the number of processes, since batches stay as they are.

    Parameters
    ----------
    calculator : calculator
        One that can be pickled, for several processes: each has a copy.
    properties, further : sequence of str
        As in :func:`results_of_each`.
    processes : int
        1 for this one alone. Others are spawned, so that a script needs ``if __name__ == "__main__":``.

    Raises
    ------
    RunError
        If the calculator cannot be pickled, or a process is lost.
    """
    calculation = partial(results_of_each, calculator, properties=properties, further=further)
    if processes == 1:
        yield lambda batches: ((batch, calculation(_structures(batch))) for batch in batches)
        return
    told = (_pickled(calculator, calculation), torch.get_num_threads())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=told) as pool:
        try:
            yield partial(_in_order, pool, 2 * processes)
        except BrokenProcessPool as error:
            raise RunError(
                "a process that computed structures has ended, killed by the system or for want of memory.",
                name="processes",
                value=processes,
                remedy="Use fewer processes",
            ) from error


def _pickled(calculator: BaseCalculator, calculation: Callable) -> bytes:
    try:
        return pickle.dumps(calculation)
    except Exception as error:  # whatever the parts of a calculator raise
        name = type(calculator).__name__
        raise RunError(
            f"{name} cannot be copied to other processes ({error}).", name=name, remedy="Use one process"
        ) from error


def _in_order(
    pool: ProcessPoolExecutor, n_ahead: int, batches: Iterable[LocatedBatch]
) -> Iterator[tuple[LocatedBatch, list[Results | Exception]]]:
    """Results of batches in their order; few batches are under way at once, so that memory does not grow."""
    under_way: deque[tuple[LocatedBatch, Future[list[Results | Exception]]]] = deque()
    for batch in batches:
        under_way.append((batch, pool.submit(_compute, _structures(batch))))
        if len(under_way) > n_ahead:
            first, results = under_way.popleft()
            yield first, results.result()
    for batch, results in under_way:
        yield batch, results.result()


def _structures(batch: LocatedBatch) -> list[Atoms]:
    return [atoms for _, atoms in batch]


def _begin(calculation: bytes, n_threads: int) -> None:
    """Prepare a process."""
    global _results_of  # noqa: PLW0603 - a process has one calculation
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the first process, which ends the others
    torch.set_num_threads(n_threads)
    _results_of = pickle.loads(calculation)


def _compute(structures: list[Atoms]) -> list[Results | Exception]:
    return _results_of(structures)

"""Memory and speed."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
from ase import units

from asecalc_ml.conformance.bounds import MEMORY_BYTES, MEMORY_CALLS
from asecalc_ml.conformance.dynamics import warm
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.subject import Subject, ask

WARM_UP = 0.5  # part of the calls in which caches and the allocator fill
SAMPLES = 16
SPEED_STEPS = 200


def memory(subject: Subject) -> Iterator[Measured]:
    """Growth over calls with ever new positions, as over 10,000 of them, by two measures.

    The process's size sees everything, unless a leak fills what was free before; what Python counts sees
    every object and array, but not what a library takes for itself.
    """
    tracemalloc.start()  # from the beginning: what was there before would look new when it is replaced
    try:
        samples = _samples(_wandering(subject), subject.effort.memory_calls)
    finally:
        tracemalloc.stop()
    for column, what in ((1, "the process"), (2, "Python's objects")):
        grown = _slope(samples[:, (0, column)]) * MEMORY_CALLS
        note = f"{what}, {subject.effort.memory_calls} calls as 10,000"
        yield Measured(max(grown, 0.0) / 1e6, MEMORY_BYTES / 1e6, "MB", note)


def speed(subject: Subject) -> Iterator[Measured]:
    """Steps of ASE's velocity Verlet a second."""
    from ase.md.verlet import VelocityVerlet

    atoms = warm(subject.structures.given)
    atoms.calc = subject.another()
    dynamics = VelocityVerlet(atoms, 0.1 * units.fs)
    dynamics.run(max(30, SPEED_STEPS // 5))
    start = time.perf_counter()
    dynamics.run(SPEED_STEPS)
    rate = SPEED_STEPS / (time.perf_counter() - start)
    yield Measured(rate, None, "steps/s", f"{1000 / rate:.2f} ms a step, {len(atoms)} atoms")


def _wandering(subject: Subject) -> Callable[[], None]:
    """A call of one calculator with positions that it has not seen."""
    calculator, atoms = subject.another(), subject.molecule
    start, random = atoms.positions.copy(), np.random.default_rng(0)

    def call() -> None:
        atoms.positions = start + random.uniform(-0.01, 0.01, start.shape)
        ask(calculator, atoms)

    return call


def _samples(call: Callable[[], None], n_calls: int) -> np.ndarray:
    """Calls made, bytes of the process, bytes of Python's objects; shape (n_samples, 3)."""
    import psutil

    process, found = psutil.Process(), []
    for n in range(n_calls):
        if n >= WARM_UP * n_calls and n % max(1, n_calls // SAMPLES) == 0:
            gc.collect()
            found.append((n, process.memory_info().rss, tracemalloc.get_traced_memory()[0]))
        call()
    return np.array(found, float)


def _slope(points: np.ndarray) -> float:
    """Bytes per call: the median of the slopes between all pairs of samples (Theil and Sen).

    One page that the allocator takes, or a cache that grows once, moves a least-squares line; this not.
    """
    first, second = np.triu_indices(len(points), 1)
    steps = points[second] - points[first]
    return float(np.median(steps[:, 1] / steps[:, 0]))

"""Memory and speed."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
from ase import units

from asecalc_ml.conformance.bounds import MEMORY_BYTES, MEMORY_CALLS
from asecalc_ml.conformance.checks.dynamics import warm
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.subject import CalculatorUnderTest, ask

WARM_UP = 0.5  # part of the calls in which caches and the allocator fill
SAMPLES = 16
SPEED_STEPS = 200


def memory(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Growth over calls with ever new positions, as over 10,000 of them, by two measures.

    The process's size sees everything, unless a leak fills what was free before; what Python counts sees
    every object and array, but not what a library takes for itself.
    """
    import psutil

    call, process, n_calls = _wandering(subject), psutil.Process(), subject.effort.memory_calls
    yield _growth(call, n_calls, lambda: process.memory_info().rss, "the process")
    tracemalloc.start()  # not before: its own tables make the process grow
    try:
        yield _growth(call, n_calls // 2, lambda: tracemalloc.get_traced_memory()[0], "Python's objects")
    finally:
        tracemalloc.stop()


def speed(subject: CalculatorUnderTest) -> Iterator[Measured]:
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


def _wandering(subject: CalculatorUnderTest) -> Callable[[], None]:
    """A call of one calculator with positions that it has not seen."""
    calculator, atoms = subject.another(), subject.molecule
    start, random = atoms.positions.copy(), np.random.default_rng(0)

    def call() -> None:
        atoms.positions = start + random.uniform(-0.01, 0.01, start.shape)
        ask(calculator, atoms)

    return call


def _growth(call: Callable[[], None], n_calls: int, size: Callable[[], int], what: str) -> Measured:
    samples = []
    for n in range(n_calls):
        if n >= WARM_UP * n_calls and n % max(1, n_calls // SAMPLES) == 0:
            gc.collect()
            samples.append((n, size()))
        call()
    grown = _slope(np.array(samples, float)) * MEMORY_CALLS
    return Measured(max(grown, 0.0) / 1e6, MEMORY_BYTES / 1e6, "MB", f"{what}, {n_calls} calls as 10,000")


def _slope(points: np.ndarray) -> float:
    """Bytes per call: the median of the slopes between all pairs of samples (Theil and Sen).

    One page that the allocator takes, or a cache that grows once, moves a least-squares line; this not.
    """
    first, second = np.triu_indices(len(points), 1)
    steps = points[second] - points[first]
    return float(np.median(steps[:, 1] / steps[:, 0]))

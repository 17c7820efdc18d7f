"""Memory and speed."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import numpy as np
from ase import units

from asecalc_ml.conformance.bounds import MEMORY_BYTES, MEMORY_CALLS
from asecalc_ml.conformance.dynamics import warm
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.subject import Subject, ask

WARM_UP = 0.25  # part of the calls in which caches fill
SAMPLES = 20
SPEED_STEPS = 200


def memory(subject: Subject) -> Iterator[Measured]:
    """Growth of the process over calls with ever new positions, as over 10,000 of them."""
    import psutil

    process = psutil.Process()
    calculator, atoms = subject.another(), subject.molecule
    start, random = atoms.positions.copy(), np.random.default_rng(0)
    n_calls = subject.effort.memory_calls
    sizes = []
    for call in range(n_calls):
        atoms.positions = start + random.uniform(-0.01, 0.01, start.shape)
        ask(calculator, atoms)
        if call >= WARM_UP * n_calls and call % max(1, n_calls // SAMPLES) == 0:
            gc.collect()
            sizes.append((call, process.memory_info().rss))
    grown = _slope(np.array(sizes, float)) * MEMORY_CALLS
    yield Measured(max(grown, 0.0) / 1e6, MEMORY_BYTES / 1e6, "MB", f"per 10,000 calls, from {n_calls}")


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


def _slope(points: np.ndarray) -> float:
    """Bytes per call: the median of the slopes between all pairs of samples (Theil and Sen).

    One page that the allocator takes, or a cache that grows once, moves a least-squares line; this not.
    """
    first, second = np.triu_indices(len(points), 1)
    steps = points[second] - points[first]
    return float(np.median(steps[:, 1] / steps[:, 0]))

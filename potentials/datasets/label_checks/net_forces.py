"""Sums of the forces of a frame, which are zero for any potential that depends on distances alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from asecalc_ml.potentials.datasets.label_checks.labelled import Labelled

#: Largest sum of a frame's forces in units of F_rms √(3 n_atoms), which is 1 for forces independent of each
#: other. Tightly converged calculations have below 0.001, liquid water 0.02 and the ionic liquid 0.13.
NET_FORCE = 0.3
#: Errors of a component that are expected of any calculation, eV/Å.
NOISE_EV_A = 0.01


@dataclass(frozen=True)
class NetForces:
    """Sums of the forces of a frame."""

    forces_rms: float | None
    largest: float | None
    largest_frame: int | None
    suspicious: np.ndarray


def measure_net_forces(labels: Labelled) -> NetForces:
    """Root mean square force component and sums of forces, eV/Å; frames without forces do not count."""
    squares, net = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    for index in range(len(labels)):
        forces = labels.forces(index)
        squares[index], net[index] = (forces**2).sum(), np.linalg.norm(forces.sum(axis=0))
    # F_rms of a component over all frames with forces.
    known = np.isfinite(squares)
    if not known.any():
        return NetForces(None, None, None, np.empty(0, int))
    rms = float(np.sqrt(squares[known].sum() / (3 * labels.n_atoms[known].sum())))
    # Sums of 3 n independent components grow with F_rms √(3n).
    allowed = np.sqrt(3 * labels.n_atoms) * max(NET_FORCE * rms, NOISE_EV_A)
    worst = int(np.argmax(np.where(known, net, -1.0)))
    too_large = np.where(known, net, 0.0) > allowed
    return NetForces(rms, float(net[worst]), worst, np.flatnonzero(too_large & (labels.n_atoms > 1)))


def net_force_warnings(net: NetForces, labels: Labelled) -> Iterator[str]:
    """Forces that do not add up to zero."""
    if net.largest_frame is None or not len(net.suspicious):
        return
    count = "a frame" if len(net.suspicious) == 1 else f"{len(net.suspicious)} frames"
    yield (
        f"forces of {count} do not add up to zero, {labels.names[net.largest_frame]} "
        f"has {net.largest:.3g} eV/Å in all: no potential that depends on distances can have that. Look for "
        "fixed atoms whose forces were set to zero, an external field, or noise"
    )

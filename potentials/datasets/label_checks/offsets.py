"""Frames whose energies have another zero than those of near frames: outliers, methods, units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, eye_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from asecalc_ml.potentials.datasets.label_checks.clusters import CLUSTERS, deviation, two_clusters
from asecalc_ml.potentials.datasets.label_checks.forces import FEWEST_PAIRS
from asecalc_ml.potentials.datasets.label_checks.labelled import Labelled
from asecalc_ml.potentials.datasets.label_checks.near import NearPairs
from asecalc_ml.potentials.datasets.label_checks.units import mixed_units_text, units_of_ratio

#: A single frame is off its neighbors by so many median deviations (in none of the sets tried by more than
#: 17) and so many eV: other electronic states, which near frames may truly have, lie lower.
OUTLIER, OUTLIER_EV = 40.0, 3.0
BEYOND_ERROR = 2.0  # times what the forces may be off by, at the median pair
#: Smallest offset of a part of the frames, eV, and smallest share that is a part.
OFFSET_EV, SMALLEST_CLUSTER = 0.5, 0.05
#: Pairs between the two parts, in units of what chance gives. Frames of another method lie among the others;
#: those of another state lie apart (0.4 for bent nitronium ions), and none lies so many eV higher.
CROSSING, BEYOND_STATES_EV = 0.6, 10.0


@dataclass(frozen=True)
class Offset:
    """Frames whose energies have another zero than those of their neighbors."""

    frames: np.ndarray
    others: np.ndarray
    size_eV: float


def find_offsets(pairs: NearPairs, slope: float) -> list[Offset]:
    """Frames whose energies differ from those of near frames by more than the forces explain."""
    if len(pairs) < FEWEST_PAIRS:
        return []
    ids, a, b = pairs.renumbered()
    # What the forces leave of each energy difference, and the zero of each frame that fits it.
    unexplained = pairs.difference - slope * pairs.work
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(ids), len(ids)))
    zero = _zeros(a, b, unexplained, len(ids))
    # Only frames that pairs connect can be compared.
    n_parts, part = connected_components(graph, directed=False)
    offsets = []
    for index in range(n_parts):
        members = np.flatnonzero(part == index)
        if len(members) >= FEWEST_PAIRS:
            offsets += _offsets_among(ids, members, zero, a, b, pairs.error)
    return offsets


def _zeros(a: np.ndarray, b: np.ndarray, unexplained: np.ndarray, n: int) -> np.ndarray:
    """Energy of each frame less what forces explain, eV: least absolute deviations, by reweighting."""
    weights, zero = np.ones(len(a)), np.zeros(n)
    for _ in range(15):
        # Weighted least squares: L z = p with the graph's Laplacian L and what pulls at each frame, p.
        off = coo_array((weights, (a, b)), shape=(n, n))
        degrees = np.bincount(a, weights, n) + np.bincount(b, weights, n)
        laplacian = (coo_array((degrees, (range(n), range(n)))) - off - off.T + 1e-9 * eye_array(n)).tocsc()
        pull = np.bincount(b, weights * unexplained, n) - np.bincount(a, weights * unexplained, n)
        zero = spsolve(laplacian, pull)
        # Weights 1 / |residual| make the squares absolute deviations.
        left = np.abs(unexplained - zero[b] + zero[a])
        weights = 1 / np.maximum(left, 0.5 * np.median(left) + 1e-9)
        weights /= weights.mean()
    return zero


def _offsets_among(
    ids: np.ndarray,
    members: np.ndarray,
    zero: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    error: np.ndarray,
) -> list[Offset]:
    values = zero[members] - np.median(zero[members])
    spread = deviation(values)
    # Two clusters of zeros, far enough apart and large enough: a part with another method or unit.
    upper, distance, separation = two_clusters(values)
    share = min(upper.mean(), 1 - upper.mean())
    if share >= SMALLEST_CLUSTER and separation > CLUSTERS and distance > OFFSET_EV:
        few = upper if upper.mean() <= 0.5 else ~upper
        inside = np.zeros(len(ids), bool)
        inside[members[few]] = True
        # Pairs across the two parts, over what chance gives, and their error.
        crosses = (inside[a] != inside[b]) & np.isin(a, members)
        crossing = crosses.sum() / np.isin(a, members).sum() / (2 * share * (1 - share))
        known = distance > BEYOND_ERROR * np.median(error[crosses])
        if known and (crossing > CROSSING or distance > BEYOND_STATES_EV):
            return [Offset(ids[members[few]], ids[members[~few]], distance * (1 if few is upper else -1))]
        return []
    # Otherwise single frames far from the rest, beyond what their forces may be off by.
    far = np.abs(values) > max(OUTLIER * spread, OUTLIER_EV)
    for k in np.flatnonzero(far):
        of_frame = error[(a == members[k]) | (b == members[k])]
        far[k] = abs(values[k]) > BEYOND_ERROR * np.median(of_frame)
    return [Offset(ids[members[[k]]], ids[members[~far]], float(values[k])) for k in np.flatnonzero(far)]


def misfit_of(pairs: NearPairs, slope: float, offsets: list[Offset]) -> float:
    """Sum of absolute energy differences that forces and offsets leave, of pairs with forces."""
    pairs = pairs[pairs.with_forces]
    left = pairs.difference - slope * pairs.work
    for offset in offsets:
        left -= offset.size_eV * (
            np.isin(pairs.b, offset.frames).astype(int) - np.isin(pairs.a, offset.frames)
        )
    return float(np.abs(left).sum())


def offset_warnings(offsets: list[Offset], labels: Labelled) -> Iterator[str]:
    """Frames off their neighbors, in words: each cluster, and the worst of single frames."""
    single = [offset for offset in offsets if len(offset.frames) == 1]
    for offset in offsets:
        if len(offset.frames) > 1:
            yield _offset_text(offset, labels)
    if single:
        worst = max(single, key=lambda offset: abs(offset.size_eV))
        count = "the energy of a frame is" if len(single) == 1 else f"energies of {len(single)} frames are"
        yield (
            f"{count} off those of near frames by more than forces explain: {labels.names[worst.frames[0]]} "
            f"by {worst.size_eV:+.4g} eV. Leave it out, or label it anew"
        )


def _offset_text(offset: Offset, labels: Labelled) -> str:
    medians = [float(np.median(labels.energies[part])) for part in (offset.frames, offset.others)]
    n_frames = len(offset.frames) + len(offset.others)
    units = units_of_ratio(*medians)
    if units:
        return mixed_units_text(labels.names[offset.frames[0]], len(offset.frames), n_frames, units)
    return (
        f"energies of {len(offset.frames)} of {n_frames} frames compared (the first is "
        f"{labels.names[offset.frames[0]]}) lie {offset.size_eV:+.4g} eV off those of near frames, which "
        "forces do not explain: another method or another zero? Label all frames alike"
    )

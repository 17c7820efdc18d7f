r"""Roughness of a property over a representation: the index ROGI.

M. Aldeghi, D. E. Graff et al., J. Chem. Inf. Model. 62, 4660 (2022). Structures are merged into clusters of
growing diameter t (complete linkage; distances over the largest possible one), each cluster's values replaced
by their mean. The dispersion of what is left, σ_t, falls from σ_0 to 0; a rough property loses it at once, a
smooth one only where clusters are as large as the whole set:

.. math:: \mathrm{ROGI} = \int_0^1 2 (\sigma_0 - \sigma_t) \, dt

with values scaled to 0 to 1, so that 2σ ≤ 1. σ_t changes at merges alone, and the integral of its steps is
exact here. The authors' code takes the trapezoidal rule over merges at least 0.01 apart, which differs where
a merge is followed by a long gap.

ROGI-XD compares representations of different dimension, in which distances are of different size
(D. E. Graff, E. O. Pyzer-Knapp, K. E. Jordan, E. I. Shakhnovich, C. W. Coley, Digital Discovery 2, 1452
(2023)): the number of clusters n_c takes the place of their diameter,

.. math:: \mathrm{ROGI\text{-}XD} = 2\sigma_0 - \int_0^1 2\sigma \, dx, \qquad
          x = 1 - \frac{\log n_c}{\log N},

by the trapezoidal rule over all diameters at which clusters merge, as the authors do. It depends on the order
of distances alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.integrate import trapezoid
from scipy.spatial.distance import pdist, squareform

from asecalc_ml.analysis.maps.options import MapOptions
from asecalc_ml.analysis.maps.results import MapQuantity, Roughness


def measure(
    points: Mapping[str, np.ndarray], quantities: list[MapQuantity], options: MapOptions
) -> list[Roughness]:
    """Of every number that is known at all points, but for the frame's."""
    n_points = len(next(iter(points.values())))
    spread = np.linspace(0, n_points - 1, min(n_points, options.roughness_points)).round().astype(int)
    measured = [quantity for quantity in quantities if quantity.is_known_number]
    indices = []
    for name, rows in points.items():
        for metric in _metrics(name, options.metrics):
            distances = relative_distances(rows[spread], metric)
            for quantity in measured:
                values = np.array(quantity.values)[spread]
                error, error_xd = standard_errors(values, distances, options.bootstraps, options.seed)
                indices.append(
                    Roughness(
                        representation=name,
                        metric=metric,
                        quantity=quantity.name,
                        rogi=roughness_index(values, distances),
                        error=error,
                        rogi_xd=roughness_index_xd(values, distances),
                        error_xd=error_xd,
                        n_points=len(spread),
                    )
                )
    return indices


def _metrics(representation: str, metrics: Sequence[str]) -> Sequence[str]:
    """Tanimoto's for bits, those asked for else."""
    return ["tanimoto"] if metrics and representation == "morgan" else metrics


def roughness_index(values: np.ndarray, distances: np.ndarray) -> float:
    """ROGI of a property.

    Parameters
    ----------
    values : array, shape (n,)
        The property, in any unit; scaled here.
    distances : array, shape (n (n - 1) / 2,)
        Between all pairs, in scipy's condensed order, as parts of the largest possible one.

    Returns
    -------
    float
        0 (as smooth as can be) to 1; 0 for a constant.

    Examples
    --------
    >>> round(roughness_index([0, 1, 0, 1], [0.01, 1, 1, 1, 1, 0.01]), 2)  # pairs of opposites
    0.99
    """
    diameters, dispersions = _merged(values, distances)
    return _rogi(diameters, dispersions)


def roughness_index_xd(values: np.ndarray, distances: np.ndarray) -> float:
    """ROGI-XD of a property, which compares representations of different dimension.

    Parameters
    ----------
    values : array, shape (n,)
        The property, in any unit; scaled here.
    distances : array, shape (n (n - 1) / 2,)
        Between all pairs, in scipy's condensed order, in any unit.

    Returns
    -------
    float
        0 (as smooth as can be) to 1; 0 for a constant. It depends on n: compare for one number of points.

    Examples
    --------
    >>> round(roughness_index_xd([0, 1, 0, 1], [0.01, 1, 1, 1, 1, 0.01]), 2)  # pairs of opposites
    0.75
    """
    return _rogi_xd(*_merged(values, distances))


def standard_errors(
    values: np.ndarray, distances: np.ndarray, n_samples: int, seed: int
) -> tuple[float | None, float | None]:
    """Standard errors of ROGI and ROGI-XD: standard deviations over random halves of the points.

    An index of n/2 of n points, drawn without replacement, varies about that of all points as the index of n
    points varies about that of the whole population (the delete-n/2 jackknife). Samples drawn with
    replacement would hold copies of points, which are merged at no loss.

    Returns
    -------
    tuple of float or None
        None without samples.
    """
    if n_samples == 0:
        return None, None
    rng, square, n_points = np.random.default_rng(seed), squareform(distances), len(values)
    indices = []
    for _ in range(n_samples):
        # half of the points, and the distances between them in condensed order
        drawn = rng.choice(n_points, size=n_points // 2, replace=False)
        sample = square[np.ix_(drawn, drawn)]
        merged = _merged(values[drawn], sample[np.triu_indices(len(drawn), k=1)])
        indices.append((_rogi(*merged), _rogi_xd(*merged)))
    rogi, rogi_xd = np.std(indices, axis=0).tolist()
    return rogi, rogi_xd


def _merged(values: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Diameters t_0 = 0 ≤ t_1 ≤ … of merges by complete linkage, and 2σ before the first and after each."""
    merges = linkage(np.asarray(distances, dtype=float), method="complete")
    dispersions = _dispersions(_scaled(np.asarray(values, dtype=float)), merges)
    return np.array([0.0, *merges[:, 2]]), dispersions


def _rogi(diameters: np.ndarray, dispersions: np.ndarray) -> float:
    # ∫ 2σ_t dt is a sum over the steps (t_k − t_{k−1}) 2σ before merge k; behind the last one σ is 0
    return float(dispersions[0] - np.diff(diameters) @ dispersions[:-1])


def _rogi_xd(diameters: np.ndarray, dispersions: np.ndarray) -> float:
    n_points = len(dispersions)
    # merges of one diameter are one step, and the points as they are come before those of diameter 0
    is_last = np.append(diameters[:-1] < diameters[1:], True)
    is_last[0] = True
    n_clusters = n_points - np.arange(n_points)[is_last]
    x = 1 - np.log(n_clusters) / np.log(n_points)
    return float(dispersions[0] - trapezoid(dispersions[is_last], x))


def relative_distances(points: np.ndarray, metric: str) -> np.ndarray:
    """Distances between all pairs as parts of the largest possible one, in scipy's condensed order.

    The largest possible one is that of opposite corners of the box that holds all points; 2 for cosine, 1 for
    Tanimoto's of bits.
    """
    if metric == "tanimoto":
        return pdist(points.astype(bool), "jaccard")
    distances, sides = pdist(points, metric), np.ptp(points, axis=0)
    # distance of opposite corners of the bounding box
    largest = {"euclidean": np.linalg.norm(sides), "cityblock": sides.sum(), "cosine": 2.0}[metric]
    return distances / largest if largest > 0 else distances


def _scaled(values: np.ndarray) -> np.ndarray:
    size = np.ptp(values)
    return (values - values.min()) / size if size > 0 else np.zeros_like(values)


def _dispersions(scaled: np.ndarray, merges: np.ndarray) -> np.ndarray:
    """2σ before the first merge and after each, every point at its cluster's mean.

    A merge of n_a points of mean m_a with n_b of m_b takes n_a n_b / (n_a + n_b) (m_a - m_b)² off the sum of
    squares.
    """
    n_points = len(scaled)
    # number of points and mean of each cluster: single points first, then merged ones as they appear
    sizes, means = [1] * n_points, scaled.tolist()
    lost = []
    for first, second in merges[:, :2].astype(int):
        n_a, n_b, m_a, m_b = sizes[first], sizes[second], means[first], means[second]
        lost.append(n_a * n_b / (n_a + n_b) * (m_a - m_b) ** 2)
        sizes.append(n_a + n_b)
        means.append((n_a * m_a + n_b * m_b) / (n_a + n_b))
    # sum of squares N σ² that is left after each merge
    squares = n_points * scaled.var() - np.cumsum([0.0, *lost])
    squares[-1] = 0.0
    return 2 * np.sqrt(np.clip(squares, 0.0, None) / n_points)

"""Spatial autocorrelation: whether values of points that lie close together are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Autocorrelation:
    """How alike the values of neighbors are, and how alike they are after shuffling.

    Parameters
    ----------
    morans_i : float
        Moran's I: the covariance of a value with the mean of its neighbors' values, over the variance.
        1 where neighbors are equal, −1/(n − 1) on average where values lie at random.
    shuffled_mean, shuffled_std : float
        Mean and standard deviation of I over shuffled values.
    p_value : float
        Share of shuffled values with an I at least as large, the unshuffled one counted.
    difference : float
        Mean absolute difference between a value and its neighbors', in the unit of the values.
    mean_difference : float
        The same between any two points, which shuffled values have on average.
    """

    morans_i: float
    shuffled_mean: float
    shuffled_std: float
    p_value: float
    difference: float
    mean_difference: float


def nearest_neighbors(points: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Numbers of the nearest other points of each point, by Euclidean distance.

    Parameters
    ----------
    points : array, shape (n_points, n_dimensions)
    n_neighbors : int
        Below n_points.

    Returns
    -------
    array, shape (n_points, n_neighbors)
    """
    from scipy.spatial import cKDTree

    _, rows = cKDTree(points).query(points, k=n_neighbors + 1)
    # without the point itself, which is not the first where others lie on the same place
    is_self = rows == np.arange(len(points))[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    return rows[~is_self].reshape(len(points), n_neighbors)


def spatial_autocorrelation(
    values: ArrayLike, neighbors: np.ndarray, n_shuffles: int = 99, seed: int = 0
) -> Autocorrelation:
    r"""Moran's I of values over a graph of nearest neighbors, and the mean difference between neighbors.

    .. math:: I = \frac{\sum_i z_i \frac1k \sum_{j \in N(i)} z_j}{\sum_i z_i^2}, \qquad z = x - \bar x

    Parameters
    ----------
    values : array, shape (n_points,)
    neighbors : array, shape (n_points, k)
        From :func:`nearest_neighbors`.
    n_shuffles : int
        Random orders of the values, for the distribution without any relation to the points.
    seed : int
        Of the random orders.

    References
    ----------
    P. A. P. Moran, Biometrika 37, 17 (1950), with weights 1/k.

    Examples
    --------
    >>> line = np.arange(100.0)[:, None]
    >>> found = spatial_autocorrelation(line[:, 0], nearest_neighbors(line, 2))
    >>> round(found.morans_i, 2), found.p_value
    (1.0, 0.01)
    """
    centred = np.asarray(values, dtype=float)
    centred = centred - centred.mean()
    rng = np.random.default_rng(seed)
    index = _morans_i(centred, neighbors)
    shuffled = np.array([_morans_i(rng.permutation(centred), neighbors) for _ in range(n_shuffles)])
    return Autocorrelation(
        morans_i=index,
        shuffled_mean=float(shuffled.mean()),
        shuffled_std=float(shuffled.std()),
        p_value=float(1 + (shuffled >= index).sum()) / (n_shuffles + 1),
        difference=float(np.abs(centred[neighbors] - centred[:, None]).mean()),
        mean_difference=_mean_difference(centred),
    )


def _morans_i(centred: np.ndarray, neighbors: np.ndarray) -> float:
    """Moran's I; zero for a constant."""
    square = centred @ centred
    return float(centred @ centred[neighbors].mean(axis=1) / square) if square > 0 else 0.0


def _mean_difference(values: np.ndarray) -> float:
    """Mean of |x_i − x_j| over all pairs."""
    # in sorted order x_k is the larger one in k pairs, and the smaller one in n − 1 − k
    n_points = len(values)
    signs = 2 * np.arange(n_points) - (n_points - 1)
    return float(signs @ np.sort(values)) / (n_points * (n_points - 1) / 2)

"""Similarity of the values of neighboring points, in a representation and in its projections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Literal

import numpy as np

from asecalc_ml.analysis.maps.options import MapOptions
from asecalc_ml.analysis.maps.results import MapQuantity, NeighborSimilarity, Projection
from asecalc_ml.statistics.spatial import nearest_neighbors, spatial_autocorrelation


def compare_neighbors(
    points: Mapping[str, np.ndarray],
    projections: Iterable[Projection],
    quantities: list[MapQuantity],
    options: MapOptions,
) -> list[NeighborSimilarity]:
    """Values of each number at nearest neighbors, against the same values in random orders.

    An empty list where no comparison is asked for, or there are fewer points than neighbors.
    """
    n_points = len(next(iter(points.values())))
    if options.shuffles == 0 or n_points <= options.neighbors:
        return []
    spaces: list[tuple[str, Literal["none", "pca", "umap"], np.ndarray]] = [
        (name, "none", rows) for name, rows in points.items()
    ]
    spaces += [(one.representation, one.method, np.array(one.points)) for one in projections]
    similarities = []
    for representation, projection, rows in spaces:
        neighbors = nearest_neighbors(rows.astype(float), options.neighbors)
        for quantity in quantities:
            if quantity.is_known_number:
                values = np.array(quantity.values, dtype=float)
                found = spatial_autocorrelation(values, neighbors, options.shuffles, options.seed)
                similarities.append(
                    NeighborSimilarity(
                        representation=representation,
                        projection=projection,
                        quantity=quantity.name,
                        unit=quantity.unit,
                        n_neighbors=options.neighbors,
                        n_points=n_points,
                        **asdict(found),
                    )
                )
    return similarities

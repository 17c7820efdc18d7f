"""From many dimensions to two or three."""

from __future__ import annotations

import warnings

import numpy as np

from asecalc_ml.analysis.maps.options import MapOptions
from asecalc_ml.analysis.maps.results import Projection
from asecalc_ml.errors import AnalysisError


def project(representation: str, points: np.ndarray, method: str, options: MapOptions) -> Projection:
    """A representation in two or three dimensions.

    Parameters
    ----------
    representation : str
    points : array, shape (n_points, n_dimensions)
        Neither scaled nor whitened: a dimension counts as far as it varies.
    method : {"pca", "umap"}
    options : MapOptions
    """
    if method == "pca":
        projected, explained = principal_components(points, options.dimensions)
    else:
        projected, explained = _umap(points, options), None
    return Projection(
        representation=representation,
        method=method,
        points=[tuple(row) for row in projected.tolist()],
        explained=explained,
    )


def principal_components(points: np.ndarray, n_axes: int = 2) -> tuple[np.ndarray, tuple[float, ...]]:
    """Coordinates along the directions of largest variance, and the share of the variance of each.

    The largest coordinate by size is positive in each, so that pictures are the same from run to run.
    """
    # X − ⟨X⟩ = U S Vᵀ; coordinates along the principal directions are U S
    centred = points - points.mean(axis=0)
    left, singular_values, _ = np.linalg.svd(centred, full_matrices=False)
    projected, n_known = np.zeros((len(points), n_axes)), min(n_axes, len(singular_values))
    projected[:, :n_known] = (left * singular_values)[:, :n_known]
    # variance along each axis is S²/N; its share needs no N
    variances, total = np.zeros(n_axes), (singular_values**2).sum()
    variances[:n_known] = singular_values[:n_known] ** 2
    shares = variances / total if total > 0 else variances
    # the sign of an axis is arbitrary: the largest coordinate becomes positive
    largest = projected[np.abs(projected).argmax(axis=0), np.arange(n_axes)]
    return projected * np.where(largest < 0, -1, 1), tuple(shares.tolist())


def _umap(points: np.ndarray, options: MapOptions) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError as error:
        raise AnalysisError(
            "projection 'umap' needs the package umap-learn",
            name="umap",
            remedy="pip install 'asecalc-ml[explain]', or take projections: pca",
        ) from error
    if len(points) <= options.neighbors:
        raise AnalysisError(
            f"UMAP with {options.neighbors} neighbors needs more than {len(points)} points",
            name="neighbors",
            value=options.neighbors,
            allowed=f"below {len(points)}",
            remedy="lower `neighbors`, give more structures, or take projections: pca",
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")  # a seed makes it serial, and says so
        umap = UMAP(options.neighbors, options.dimensions, random_state=options.seed)
        projected = umap.fit_transform(points)
    return np.asarray(projected, dtype=float)

"""Scatter plots of a map, and bars of roughness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.base import Panel
from asecalc_ml.analysis.figures import GREY, PALETTE
from asecalc_ml.analysis.number_text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.maps.results import MapQuantity, Projection, RepresentationMap

ROUGHNESS = "roughness"
TITLES = {
    "features": "last layer",
    "soap": "SOAP",
    "coulomb-matrix": "Coulomb matrix",
    "morgan": "Morgan's fingerprint",
}
METHODS = {"pca": "PCA", "umap": "UMAP"}
MOST_NAMES = 12  # beyond it a legend is longer than its figure


def panels(result: RepresentationMap) -> list[Panel]:
    """One for each projection and quantity, and the roughness."""
    drawn = [
        Panel(
            key=f"{projection.key}-{quantity.name}",
            title=f"{METHODS[projection.method]} of {TITLES[projection.representation]}: {quantity.name}",
            caption=f"{result.points}, coloured by {quantity.title}. {_axes_in_words(projection)}"
            f"{_similarity_in_words(result, projection, quantity)}",
        )
        for projection in result.projections
        for quantity in result.quantities
    ]
    if result.roughness:
        caption = (
            "0: near points have near values; 1: opposite ones. Compare representations, not metrics. "
            "Lines are twice the standard error."
        )
        drawn.append(Panel(key=ROUGHNESS, title="Roughness (ROGI)", caption=caption))
    return drawn


def draw(result: RepresentationMap, ax: Axes, panel: str) -> None:
    """Draw one of :func:`panels`."""
    if panel == ROUGHNESS:
        _roughness(result, ax)
        return
    projection = next(candidate for candidate in result.projections if panel.startswith(f"{candidate.key}-"))
    quantity = result.of(panel.removeprefix(f"{projection.key}-"))
    points = np.array(projection.points)
    (_numbers if quantity.is_number else _names)(ax, points, quantity)
    labels = [f"{METHODS[projection.method]} {axis}" for axis in (1, 2)]
    if projection.explained is not None:
        labels = [
            f"{label} ({percent(share)})" for label, share in zip(labels, projection.explained, strict=False)
        ]
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.grid(visible=False)


def _axes_in_words(projection: Projection) -> str:
    if projection.explained is None and projection.n_axes == 3:
        return "The first two of three axes; near points are near in the representation in all three."
    if projection.explained is None:
        return "Near points are near in the representation; axes and long distances have no meaning."
    axes = "two axes" if projection.n_axes == 2 else "three axes, of which the first two are drawn,"
    return f"The {axes} hold {percent(sum(projection.explained))} of the variance."


def _similarity_in_words(result: RepresentationMap, projection: Projection, quantity: MapQuantity) -> str:
    """How alike values of neighbors are there, empty where it is not known."""
    for similarity in result.neighbor_similarity:
        place = (similarity.representation, similarity.projection, similarity.quantity)
        if place == (projection.representation, projection.method, quantity.name):
            return (
                f" Moran's I of {similarity.n_neighbors} neighbors is {similarity.morans_i:.2f} "
                f"({similarity.shuffled_mean:.2f} ± {similarity.shuffled_std:.2f} shuffled)."
            )
    return ""


def _numbers(ax: Axes, points: np.ndarray, quantity: MapQuantity) -> None:
    values = np.array([np.nan if value is None else value for value in quantity.values])
    known = np.isfinite(values)
    ax.scatter(
        points[~known, 0], points[~known, 1], s=_size(points), color=GREY, linewidths=0, rasterized=True
    )
    low, high = np.percentile(values[known], [2, 98])  # a few outliers would leave the others one colour
    style = {"c": values[known], "cmap": "cividis", "vmin": low, "vmax": high}
    drawn = ax.scatter(
        points[known, 0], points[known, 1], s=_size(points), linewidths=0, rasterized=True, **style
    )
    unit = f" ({quantity.unit})" if quantity.unit else ""
    ax.figure.colorbar(drawn, ax=ax, label=f"{quantity.name}{unit}", extend="both")


def _names(ax: Axes, points: np.ndarray, quantity: MapQuantity) -> None:
    names = np.array(quantity.values)
    common = sorted(set(names), key=lambda name: (-(names == name).sum(), name))
    for name, color in zip(common, (PALETTE * len(common))[:MOST_NAMES], strict=False):
        ax.scatter(
            points[names == name, 0],
            points[names == name, 1],
            s=_size(points),
            color=color,
            label=name,
            linewidths=0,
            rasterized=True,
        )
    if len(common) > MOST_NAMES:
        rest = np.isin(names, common[MOST_NAMES:])
        others = f"{len(common) - MOST_NAMES} others"
        ax.scatter(
            points[rest, 0],
            points[rest, 1],
            s=_size(points),
            color=GREY,
            label=others,
            linewidths=0,
            rasterized=True,
        )
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=1.5, handletextpad=0.2)


def _size(points: np.ndarray) -> float:
    """Area of a point: smaller where there are many."""
    return float(np.clip(8000 / len(points), 3, 30))


def _roughness(result: RepresentationMap, ax: Axes) -> None:
    """A group of bars for each quantity and metric, a bar for each representation."""
    groups = list(dict.fromkeys((roughness.quantity, roughness.metric) for roughness in result.roughness))
    kinds = list(dict.fromkeys(roughness.representation for roughness in result.roughness))
    height = 0.8 / len(kinds)
    for number, (kind, color) in enumerate(zip(kinds, PALETTE, strict=False)):
        own = [roughness for roughness in result.roughness if roughness.representation == kind]
        places = [
            groups.index((roughness.quantity, roughness.metric)) + (number + 0.5) * height - 0.4
            for roughness in own
        ]
        errors = [2 * (roughness.error or 0.0) for roughness in own]
        ax.barh(
            places,
            [roughness.rogi for roughness in own],
            height,
            xerr=errors,
            color=color,
            label=TITLES[kind],
            error_kw={"lw": 1},
        )
    ax.set(xlabel="ROGI", xlim=(0, None), yticks=range(len(groups)))
    ax.set_yticklabels([f"{quantity}, {metric}" for quantity, metric in groups])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    if len(kinds) > 1:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(kinds))

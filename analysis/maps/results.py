"""A map of representations: frozen, written as JSON and CSV, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml._lazy import renamed
from asecalc_ml.analysis.base import Panel, Record, Result, Table, unknown_part_error
from asecalc_ml.analysis.figures import write_figures
from asecalc_ml.analysis.maps import figures
from asecalc_ml.analysis.maps.options import Level

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class MapQuantity(Record):
    """Something that every point has one of."""

    name: str
    title: str
    unit: str = Field(description="empty where there is none")
    values: list[float | None] | list[str] = Field(description="numbers, None where unknown; or names")

    @property
    def is_number(self) -> bool:
        return not any(isinstance(value, str) for value in self.values)

    @property
    def is_known_number(self) -> bool:
        """True if all points have a number, other than the number of the frame."""
        return self.is_number and self.name != "frame" and None not in self.values

    @property
    def label(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


class Projection(Record):
    """Points of a representation in two or three dimensions."""

    representation: str
    method: Literal["pca", "umap"]
    points: list[tuple[float, ...]]
    explained: tuple[float, ...] | None = Field(
        description="shares of the variance along the axes; None for UMAP, whose axes have no meaning"
    )

    @property
    def key(self) -> str:
        return f"{self.representation}-{self.method}"

    @property
    def n_axes(self) -> int:
        return len(self.points[0])


class Roughness(Record):
    """ROGI of a quantity over a representation, for one metric."""

    representation: str
    metric: str
    quantity: str
    rogi: float = Field(description="0 is smooth, 1 as rough as can be")
    error: float | None = Field(description="standard error of ROGI")
    rogi_xd: float | None = Field(
        None, description="ROGI-XD, over the logarithm of the number of clusters in place of their diameter"
    )
    error_xd: float | None = Field(None, description="standard error of ROGI-XD")
    n_points: int


class NeighborSimilarity(Record):
    """How alike the values of a quantity are at neighboring points."""

    representation: str
    projection: Literal["none", "pca", "umap"] = Field(
        description="space in which neighbors are near; none: that of the representation itself"
    )
    quantity: str
    unit: str
    morans_i: float = Field(
        description="Moran's I: correlation of a value with the mean of its neighbors' values; 1 where "
        "neighbors are equal, about 0 at random"
    )
    shuffled_mean: float = Field(description="mean of I over random orders of the values")
    shuffled_std: float = Field(description="standard deviation of I over random orders of the values")
    p_value: float = Field(description="share of random orders with an I at least as large")
    difference: float = Field(description="mean absolute difference between neighbors, in the unit")
    mean_difference: float = Field(description="the same between any two points")
    n_neighbors: int
    n_points: int


class RepresentationMap(Result):
    """Structures, or their atoms, where a representation puts them.

    Examples
    --------
    >>> from asecalc_ml.analysis import maps
    >>> from asecalc_ml.structure.loading import load_structure
    >>> ethanol = load_structure("ethanol")
    >>> found = maps.draw_map("torchmdnet-ethanol", [ethanol], level="atoms", metrics=[])
    >>> len(found.projections[0].points)
    9
    """

    analysis: Literal["map"] = "map"
    model: str = Field(description="name of the model")
    model_hash: str | None = Field(description="SHA-256 of the model file")
    architecture: str
    level: Level
    n_structures: int
    quantities: list[MapQuantity]
    projections: list[Projection]
    roughness: list[Roughness]
    neighbor_similarity: list[NeighborSimilarity] = Field(
        [], description="of each number, in the representation and in each projection"
    )

    @property
    def points(self) -> str:
        """What a point is, in words."""
        return f"{len(self.projections[0].points)} {self.level}"

    def of(self, name: str) -> MapQuantity:
        """A quantity by its name.

        Raises
        ------
        AnalysisError
            If the map has none of it.
        """
        known = {quantity.name: quantity for quantity in self.quantities}
        if name not in known:
            raise unknown_part_error("this map", "quantity", name, known)
        return known[name]

    def panels(self) -> list[Panel]:
        return figures.panels(self)

    def _draw(self, ax: Axes, panel: str) -> None:
        figures.draw(self, ax, panel)

    def tables(self) -> list[Table]:
        tables = []
        if self.roughness:
            tables.append(self._roughness_table())
        if self.neighbor_similarity:
            tables.append(self._neighbor_table())
        return tables

    def _roughness_table(self) -> Table:
        rows = [
            [
                roughness.representation,
                roughness.metric,
                roughness.quantity,
                roughness.rogi,
                roughness.error,
                roughness.rogi_xd,
                roughness.error_xd,
                roughness.n_points,
            ]
            for roughness in self.roughness
        ]
        return Table(
            key="roughness",
            title="Roughness (ROGI)",
            columns=[
                "representation",
                "metric",
                "quantity",
                "ROGI",
                "standard error",
                "ROGI-XD",
                "its standard error",
                "points",
            ],
            rows=rows,
            caption="0 where near points have near values, 1 where they are opposite. ROGI is comparable "
            "between representations for one metric and one quantity, not between metrics; ROGI-XD between "
            "all representations and metrics for one quantity and one number of points.",
        )

    def _neighbor_table(self) -> Table:
        rows = [
            [
                similarity.representation,
                similarity.projection,
                similarity.quantity,
                similarity.morans_i,
                similarity.shuffled_mean,
                similarity.shuffled_std,
                similarity.p_value,
                similarity.difference,
                similarity.mean_difference,
                similarity.unit,
            ]
            for similarity in self.neighbor_similarity
        ]
        return Table(
            key="neighbors",
            title="Values of neighbors",
            columns=[
                "representation",
                "projection",
                "quantity",
                "Moran's I",
                "shuffled",
                "std of shuffled",
                "p",
                "difference of neighbors",
                "difference of any two",
                "unit",
            ],
            rows=rows,
            caption=f"{self.neighbor_similarity[0].n_neighbors} nearest neighbors. Moran's I is 1 where "
            "neighbors have equal values and about 0 where values lie at random, as the shuffled ones do.",
        )

    def data(self) -> list[Table]:
        axes = [(projection, axis) for projection in self.projections for axis in range(projection.n_axes)]
        columns = [
            *([point[axis] for point in projection.points] for projection, axis in axes),
            *(quantity.values for quantity in self.quantities),
        ]
        names = [f"{projection.key} {axis + 1}" for projection, axis in axes]
        return [
            Table(
                key="points",
                title="Points",
                columns=[*names, *(quantity.label for quantity in self.quantities)],
                rows=[list(row) for row in zip(*columns, strict=True)],
            )
        ]

    def write(self, directory: str | Path) -> list[Path]:
        """Write JSON, CSV, and each figure as PNG; the paths."""
        return [*super().write(directory), *write_figures(self, directory)]


__getattr__ = renamed(__name__, {"Quantity": "MapQuantity"})

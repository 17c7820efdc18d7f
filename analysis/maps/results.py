"""A map of representations: frozen, written as JSON and CSV, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml._lazy import renamed
from asecalc_ml.analysis.base import Panel, Record, Result, Table, unknown_part_error
from asecalc_ml.analysis.figures import png
from asecalc_ml.analysis.maps import figures
from asecalc_ml.analysis.maps.options import Level
from asecalc_ml.files.writing import write_whole

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
    def label(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


class Projection(Record):
    """Points of a representation in a plane."""

    representation: str
    method: Literal["pca", "umap"]
    points: list[tuple[float, float]]
    explained: tuple[float, float] | None = Field(
        description="shares of the variance along the axes; None for UMAP, whose axes have no meaning"
    )

    @property
    def key(self) -> str:
        return f"{self.representation}-{self.method}"


class Roughness(Record):
    """ROGI of a quantity over a representation, for one metric."""

    representation: str
    metric: str
    quantity: str
    rogi: float = Field(description="0 is smooth, 1 as rough as can be")
    error: float | None = Field(description="standard deviation over samples drawn with replacement")
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
        if not self.roughness:
            return []
        rows = [
            [
                roughness.representation,
                roughness.metric,
                roughness.quantity,
                roughness.rogi,
                roughness.error,
                roughness.n_points,
            ]
            for roughness in self.roughness
        ]
        return [
            Table(
                key="roughness",
                title="Roughness (ROGI)",
                columns=["representation", "metric", "quantity", "ROGI", "standard error", "points"],
                rows=rows,
                caption="0 where near points have near values, 1 where they are opposite. Comparable between "
                "representations for one metric and one quantity, not between metrics.",
            )
        ]

    def data(self) -> list[Table]:
        axes = [f"{one.key} {axis}" for one in self.projections for axis in (1, 2)]
        columns = [
            *([p[axis] for p in one.points] for one in self.projections for axis in (0, 1)),
            *(one.values for one in self.quantities),
        ]
        return [
            Table(
                key="points",
                title="Points",
                columns=[*axes, *(one.label for one in self.quantities)],
                rows=[list(row) for row in zip(*columns, strict=True)],
            )
        ]

    def write(self, directory: str | Path) -> list[Path]:
        """As for every result: JSON and CSV; and each figure as PNG beside them."""
        paths = super().write(directory)
        for panel in self.panels():
            paths.append(Path(directory) / f"{self.analysis}-{panel.key}.png")
            write_whole(paths[-1], png(self, panel.key))
        return paths


__getattr__ = renamed(__name__, {"Quantity": "MapQuantity"})

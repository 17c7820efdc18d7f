"""Predicted against labelled values of a property model: frozen, written as JSON, CSV and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from asecalc_ml.analysis.base import Panel, Record, Result, Table
from asecalc_ml.analysis.figures import BLUE, INK, VERMILION, write_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.targets.target import Quantity

#: Beyond so many points single ones are drawn fainter.
MANY = 1000


class ParityQuantity(Record):
    """Labels and predictions of one quantity, a row for each structure that has the label."""

    name: str
    unit: str = Field(description="empty for a number without a unit")
    components: list[str] = Field(description="names of components; an empty name for a scalar")
    structures: list[str] = Field(description="file and number of each structure")
    labelled: list[list[float]] = Field(description="in the unit, a number for each component")
    predicted: list[list[float]] = Field(description="in the unit, a number for each component")

    @classmethod
    def of(
        cls, quantity: Quantity, structures: Sequence[str], labelled: np.ndarray, predicted: np.ndarray
    ) -> ParityQuantity:
        """From arrays.

        Parameters
        ----------
        quantity : Quantity
        structures : sequence of str
        labelled, predicted : ndarray, shape (n_structures, n_components)
        """
        return cls(
            name=quantity.name,
            unit=quantity.unit,
            components=list(quantity.components),
            structures=list(structures),
            labelled=labelled.tolist(),
            predicted=predicted.tolist(),
        )

    @property
    def mae(self) -> float:
        """Mean absolute error of a component."""
        return float(np.abs(np.array(self.predicted) - np.array(self.labelled)).mean())

    @property
    def r2(self) -> float | None:
        """Coefficient of determination, over all components; None where all labels are the same."""
        labelled, predicted = np.array(self.labelled), np.array(self.predicted)
        variance = ((labelled - labelled.mean()) ** 2).mean()
        return float(1 - ((predicted - labelled) ** 2).mean() / variance) if variance > 0 else None

    @property
    def in_unit(self) -> str:
        """Unit in brackets behind a name."""
        return f" ({self.unit})" if self.unit else ""


class Parity(Result):
    """Predictions of a model beside labels."""

    analysis: Literal["parity"] = "parity"
    model: str = Field(description="name of the model")
    on: str = Field(description="name of the data")
    quantities: list[ParityQuantity]

    def panels(self) -> list[Panel]:
        return [
            Panel(
                key=quantity.name,
                title=f"{quantity.name} by {self.model}",
                caption=f"{len(quantity.structures)} structures of {self.on}; on the line a prediction "
                "equals its label.",
            )
            for quantity in self.quantities
        ]

    def _draw(self, ax: Axes, panel: str) -> None:
        draw(ax, next(quantity for quantity in self.quantities if quantity.name == panel))

    def data(self) -> list[Table]:
        return [_table(quantity) for quantity in self.quantities]

    def write(self, directory: str | Path) -> list[Path]:
        """Write JSON, CSV, and each figure as PNG; the paths."""
        return [*super().write(directory), *write_figures(self, directory)]


def draw(ax: Axes, quantity: ParityQuantity) -> None:
    """Draw predicted against labelled values, all components alike, with the line of equality."""
    labelled, predicted = np.ravel(quantity.labelled), np.ravel(quantity.predicted)
    lowest, highest = (extreme([*labelled, *predicted]) for extreme in (min, max))
    margin = 0.05 * (highest - lowest) or 1.0
    limits = (lowest - margin, highest + margin)
    few = len(labelled) < MANY
    ax.plot(limits, limits, color=VERMILION, linewidth=1.0, zorder=1)
    ax.plot(
        labelled, predicted, ".", color=BLUE, markersize=4 if few else 2.5, alpha=0.6 if few else 0.25,
        markeredgewidth=0, zorder=2,
    )  # fmt: skip
    unit = f" {quantity.unit}" if quantity.unit else ""
    lines = [f"MAE {quantity.mae:.3g}{unit}", f"{len(quantity.structures)} structures"]
    if quantity.r2 is not None:
        lines.insert(1, f"R² {quantity.r2:.4g}")
    ax.text(0.04, 0.96, "\n".join(lines), transform=ax.transAxes, va="top", color=INK, fontsize=9)
    ax.set(
        xlabel=f"labelled {quantity.name}{quantity.in_unit}",
        ylabel=f"predicted {quantity.name}{quantity.in_unit}",
        xlim=limits,
        ylim=limits,
        aspect="equal",
    )
    ax.grid(visible=True, axis="both")


def _table(quantity: ParityQuantity) -> Table:
    columns = [
        f"{kind} {component}".strip() + quantity.in_unit
        for kind in ("labelled", "predicted")
        for component in quantity.components
    ]
    rows = zip(quantity.structures, quantity.labelled, quantity.predicted, strict=True)
    return Table(
        key=quantity.name,
        title=f"Labelled and predicted {quantity.name}",
        columns=["structure", *columns],
        rows=[[structure, *labelled, *predicted] for structure, labelled, predicted in rows],
    )

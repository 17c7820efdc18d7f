"""The figure of a transfer test: distributions of model and reference, one over the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.analysis.figures import BLUE, GREY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.transfer.records import TransferDistribution


def draw_transfer(ax: Axes, distribution: TransferDistribution) -> None:
    """Densities of model (line) and reference (dashed), and the range of single reference runs (grey)."""
    width = distribution.reference.width
    low, high = np.array(distribution.band).T
    edges = (distribution.band_start + np.arange(len(low) + 1)) * width
    ax.stairs(high, edges, baseline=low, fill=True, color=GREY, alpha=0.4, label="single reference runs")
    reference = distribution.reference
    ax.stairs(
        reference.density,
        reference.edges,
        color=INK,
        linewidth=1.2,
        linestyle=(0, (4, 2)),
        label="reference",
        zorder=4,
    )
    limits = list(edges[[0, -1]])
    if distribution.model is not None:
        ax.stairs(
            distribution.model.density, distribution.model.edges, color=BLUE, linewidth=1.6, label="model"
        )
        limits += list(distribution.model.edges[[0, -1]])
    margin = 0.04 * (max(limits) - min(limits))
    ax.set(xlabel=f"{distribution.quantity} ({distribution.unit})", ylabel=f"density (1/{distribution.unit})")
    ax.set_xlim(min(limits) - margin, max(limits) + margin)
    if distribution.period is not None:
        ax.set(xlim=(-distribution.period / 2, distribution.period / 2), xticks=range(-180, 181, 60))
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the legend
    ax.legend(loc="upper left", ncols=3, borderaxespad=0.0, columnspacing=1.0, handlelength=1.4)

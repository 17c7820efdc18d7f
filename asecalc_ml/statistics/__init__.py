"""Averages of correlated series with their errors, and histograms."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.statistics.time_series import (
        MAX_BLOCKS,
        MIN_BLOCKS,
        TOO_SHORT,
        BlockAverage,
        CondensedSeries,
        Drift,
        ThinnedSeries,
        autocorrelation,
        autocorrelation_time,
        block_average,
        block_means,
        circular_average,
        linear_drift,
        slowest_time,
    )

__all__ = [
    "MAX_BLOCKS",
    "MIN_BLOCKS",
    "TOO_SHORT",
    "BlockAverage",
    "CondensedSeries",
    "Drift",
    "ThinnedSeries",
    "autocorrelation",
    "autocorrelation_time",
    "block_average",
    "block_means",
    "circular_average",
    "linear_drift",
    "slowest_time",
]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.statistics.time_series"))
